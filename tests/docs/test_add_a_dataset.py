""" "A new dataset in ten minutes" of docs/data.md, followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from following import MICRO, PYTHON, ROOT, page, run

from adasid_exp.commands.adasid import dispatch

PAGE = page("data.md")
SECTION = re.search(r"^## A new dataset in ten minutes$(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)[1]  # type: ignore[index]
IMPORTS = "from pathlib import Path\nimport numpy as np\nimport polars as pl\n"
"""As in the page's first example."""


@pytest.mark.slow
def test_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("conf", "src", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    export, mend = (found["text"] for found in PYTHON.finditer(SECTION))
    names: dict[str, object] = {}
    exec(IMPORTS + export, names)
    assert dispatch(["data", "validate", "data/shop"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    promised = re.search(r"```console\n(.*?)```", SECTION, re.DOTALL)[1].strip().splitlines()  # type: ignore[index]
    for line in promised:
        assert " ".join(line.split()) in said
    exec(mend, names)
    assert dispatch(["data", "validate", "data/shop"]) == 0
    assert "all is well" in capsys.readouterr().out
    command = re.search(r"^adasid run (.*)$", SECTION, re.MULTILINE)[1]  # type: ignore[index]
    done = run(tmp_path, "adasid_exp", *command.split(), *MICRO)
    assert done.returncode == 0, done.stderr
    assert "retrieve tables-ada_sid-item_softmax" in done.stderr
