"""Pictures show the numbers they are given: read back off the artists, or held against sklearn's PCA."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from adasid_exp.reporting.media import (
    alignment_curve,
    codeword_map,
    codewords_of,
    pictures,
    pixels,
    principal_plane,
    slots_by_popularity,
    usage_heatmap,
)


def test_the_plane_is_that_of_sklearns_pca_up_to_sign():
    points = np.random.default_rng(0).normal(size=(40, 6)) * np.arange(1, 7)
    plane, kept = principal_plane(points)
    reference = PCA(2).fit(points)
    assert np.abs(plane) == pytest.approx(np.abs(reference.transform(points)), abs=1e-9)
    assert kept == pytest.approx(reference.explained_variance_ratio_)
    assert principal_plane(points)[0] == pytest.approx(plane)  # signs are chosen, not met with


def test_points_on_a_line_lie_on_the_first_axis():
    plane, kept = principal_plane(np.array([[0.0], [1.0], [2.0]]))
    assert plane == pytest.approx(np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    assert kept == pytest.approx([1.0, 0.0])


def test_codewords_come_slot_by_slot_in_number_order_and_helpers_stay_out():
    levels = {f"autoencoders.0.quantizer.levels.{n}.words": np.full((1, 2, 3), float(n)) for n in (10, 2, 0)}
    helper = {"alignment.autoencoder.quantizer.levels.0.words": np.full((1, 2, 3), -1.0)}
    other = {"encoder.0.weight": np.ones((3, 3)), "router.words": np.ones((3, 3))}
    assert [slot[0, 0] for slot in codewords_of({**helper, **levels, **other})] == [0.0, 2.0, 10.0]


def test_simvq_codewords_are_basis_times_map():
    basis, linear = np.arange(6.0).reshape(1, 2, 3), 2 * np.eye(3)[None]
    (slot,) = codewords_of({"codebook.basis": basis, "codebook.map": linear})
    assert slot == pytest.approx(2 * basis[0])


def test_the_heatmap_shows_use_over_even_use_in_order_and_marks_dead_codes():
    figure = usage_heatmap([np.array([0, 6, 2]), np.array([1, 3])], ("text", "behavior"))
    (image,) = figure.axes[0].images
    shown = image.get_array()
    assert shown.filled(-1.0) == pytest.approx(np.array([[6 / (8 / 3), 2 / (8 / 3), 0.0], [1.5, 0.5, -1.0]]))
    crosses = figure.axes[0].lines[0].get_xydata()
    assert crosses.tolist() == [[2.0, 0.0]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0 text", "1 behavior"]


def test_router_activity_is_the_mean_of_each_tenth_by_count():
    count = np.arange(20)[::-1]
    slots = 10 - np.arange(20) // 2  # two items a tenth, the most popular first
    axis = slots_by_popularity(slots, count).axes[0]
    assert axis.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]


def test_the_alignment_curve_goes_through_the_items_in_order_of_richness():
    axis = alignment_curve(np.array([0.5, 0.0, 1.0]), np.array([0.3, 0.1, 1.0])).axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[0.0, 0.1], [0.5, 0.3], [1.0, 1.0]]


def test_every_slot_has_a_look_of_its_own():
    words = [np.random.default_rng(slot).normal(size=(4, 3)) for slot in range(18)]
    axis = codeword_map(words).axes[0]
    looks = {(tuple(dots.get_facecolor()[0]), dots.get_paths()[0].vertices.tobytes()) for dots in axis.collections}
    assert len(looks) == len(words)


def test_pixels_are_the_figure():
    image = pixels(alignment_curve(np.array([0.0, 1.0]), np.array([0.0, 1.0])))
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert (image == 255).all(axis=2).mean() > 0.5  # white paper
    assert ((image == np.array([0xD5, 0x5E, 0x00])).all(axis=2)).any()  # and the curve on it


def test_a_folder_without_pictures_has_none(tmp_path):
    assert pictures(tmp_path) == {}
