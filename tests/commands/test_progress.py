"""What a person sees on a terminal while a stage trains, and after Ctrl-C; quiet everywhere else."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from adasid_exp.data.pieces import wants_bar
from adasid_exp.stages import progress
from adasid_exp.stages.progress import clock, rows_bar, spent, waiting

EPOCHS = 1500
MICRO = (
    "data=toy", "data.users=150", "data.items=80", "data.classes=8", "scale.codebook_size=8", "scale.length=3",
    "scale.width={hidden:16,latent:16,code:8}", f"tokenizer.fit.epochs={EPOCHS}", "tokenizer.fit.save_every=1",
)  # fmt: skip
FRAME = re.compile(
    r"tokenize toy-rq_vae-retrieval \S+ +(?P<percent>\d+) % +epoch (?P<epoch>\d+)/(?P<epochs>\d+)"
    r"  (?P<rate>[\d.]+) steps/s  loss (?P<loss>[\d.]+)  (?:(?P<minutes>\d+):)?(?P<seconds>\d+)(?: s)? left"
    r"  peak (?P<peak>[\d.]+) GiB"
)


def on_a_terminal(command: list[str], runs: Path) -> tuple[int, str]:
    """Runs a command on a pseudo terminal, presses Ctrl-C once its bar has moved; exit code and what was shown."""
    child, screen = pty.fork()
    if child == 0:
        os.environ |= {"ADASID_RUNS": str(runs), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": "150"}
        os.execv(command[0], command)
    shown, pressed, deadline = b"", False, time.monotonic() + 200
    while time.monotonic() < deadline:
        if not pressed and shown.count(b" left  peak") >= 4:
            os.write(screen, b"\x03")
            pressed = True
        if select.select([screen], [], [], 0.2)[0]:
            try:
                part = os.read(screen, 1 << 16)
            except OSError:  # Linux says so when the last process closes the terminal
                break
            if not part:
                break
            shown += part
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), plain


@pytest.mark.slow
def test_the_bar_of_a_training_and_what_ctrl_c_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adasid_exp", "stage=tokenize", "tokenizer=rq_vae", *MICRO]
    code, shown = on_a_terminal(command, tmp_path)
    assert code == 130, shown[-500:]
    frames = [found.groupdict() for found in FRAME.finditer(shown)]
    assert len(frames) >= 3, shown[-500:]
    for frame in frames:  # 80 items are one step an epoch
        done, rate = int(frame["epoch"]), float(frame["rate"])
        assert int(frame["epochs"]) == EPOCHS
        assert int(frame["percent"]) == pytest.approx(100 * done / EPOCHS, abs=1)
        left = 60 * int(frame["minutes"] or 0) + int(frame["seconds"])
        assert left == pytest.approx((EPOCHS - done) / rate, rel=0.02, abs=1)  # law: what is left over the rate
        assert 0.05 < float(frame["peak"]) < 16
    epochs = [int(frame["epoch"]) for frame in frames]
    assert epochs == sorted(epochs)
    last = " ".join(shown.split("stopped; ")[1].split())
    saved = re.search(rf"epoch (\d+) of {EPOCHS} of tokenize toy-rq_vae-retrieval is saved in (\S+);", last)
    assert saved, last
    assert int(saved[1]) >= epochs[-1] - 1  # every epoch is saved
    assert Path(saved[2]).is_file()
    assert "to go on: python -m adasid_exp stage=tokenize tokenizer=rq_vae" in last
    assert "Traceback" not in shown


def test_a_bar_of_rows_shows_late_and_says_how_fast(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "Console", partial(Console, force_terminal=True, width=150))
    with rows_bar("encoding items", 100, "items", wanted=True) as tell:
        now[0] = 1.0
        tell(25)
        assert capfd.readouterr().err == ""  # not for what takes a moment
        now[0] = 4.0
        tell(50)
    assert "50 of 100 items  12 items/s  4 s left" in capfd.readouterr().err  # 50 in 4 s


def test_nothing_is_drawn_where_nobody_looks(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with rows_bar("encoding", 3, "items", wanted=False) as tell, waiting("statistics", wanted=False):
        tell(1)
        tell(3)
    assert capfd.readouterr() == ("", "")
    assert not wants_bar("auto")  # pytest's stderr is no terminal
    assert wants_bar(True)
    assert not wants_bar(False)


def test_time_as_people_write_it() -> None:
    assert [clock(3.4), clock(59.6), clock(61), clock(3723)] == ["3 s", "1:00", "1:01", "1:02:03"]
    assert [spent(0.34), spent(75)] == ["0.3 s", "1:15"]
