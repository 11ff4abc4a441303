"""The source distribution is whole: what is built from it is what is built from the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
OF_THE_HOUSE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "mkdocs.yml")


def built(kind: str, where: Path, out: Path) -> Path:
    """The one file that hatchling makes of a tree, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=where, check=True, capture_output=True)
    (found,) = [*out.glob("*.whl"), *out.glob("*.tar.gz")]
    return found


@pytest.mark.slow
def test_a_wheel_from_the_sdist_is_the_wheel_from_the_checkout(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", CHECKOUT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    missing = [
        name
        for name in (*OF_THE_HOUSE, "docs/index.md", "docs/hooks", "tests/conftest.py")
        if not (tree / name).exists()
    ]
    assert not missing
    wheels = [built("wheel", where, tmp_path / name) for name, where in (("ours", CHECKOUT), ("theirs", tree))]
    ours, theirs = ({entry.filename: entry.CRC for entry in zipfile.ZipFile(wheel).infolist()} for wheel in wheels)
    assert ours == theirs


def test_the_wheel_carries_types_and_what_pages_are_made_from(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(built("wheel", CHECKOUT, tmp_path)).namelist())
    assert "adasid_exp/py.typed" in names
    source = CHECKOUT / "src"
    shipped = {path.relative_to(source).as_posix() for path in (source / "adasid_exp").rglob("*") if path.is_file()}
    left_out = {name for name in shipped - names if "__pycache__" not in name}
    assert not left_out, "files of the package that the wheel lacks"
