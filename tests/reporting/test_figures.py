"""Figures: the palette is distinct, a picture's bytes do not change from one writing to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from adasid_exp.reporting.figures import DASHES, MARKERS, PALETTE, canvas, line_style, save

pytest.importorskip("matplotlib")


def drawn(folder: Path) -> list[Path]:
    figure, axes = canvas(3, 2, "a title")
    for number, axis in enumerate(axes):
        axis.plot([0, 1], [number, 1], marker=MARKERS[number], label="a curve", **line_style(number))
        axis.legend()
    return save(figure, folder / "deep" / "pic.v1")


def test_the_same_picture_has_the_same_bytes_as_svg_and_png(tmp_path: Path) -> None:
    first, second = drawn(tmp_path / "a"), drawn(tmp_path / "b")
    assert [path.name for path in first] == ["pic.v1.svg", "pic.v1.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_text().lstrip().startswith("<?xml")
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_a_canvas_has_the_panels_asked_for() -> None:
    figure, axes = canvas(3, 2, "")
    assert len(axes) == len(figure.axes) == 3
    assert len(canvas(1, 4, "")[1]) == 1


def test_curves_are_told_apart() -> None:
    styles = [tuple(map(str, line_style(number).values())) for number in range(len(PALETTE) * len(DASHES))]
    assert len(set(styles)) == len(styles)
    assert len(set(PALETTE)) == len(PALETTE)
