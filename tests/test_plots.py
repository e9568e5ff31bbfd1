"""Figures hold the numbers they were given, with axes named; nothing is shown or left open."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from tomodrgn import plots
from tomodrgn.analysis.landscape import reduce_volumes


@pytest.fixture
def curve() -> pd.DataFrame:
    angst = np.array([np.inf, 40.0, 20.0, 40 / 3, 10.0])
    return pd.DataFrame({"shell": range(5), "resolution_angst": angst, "fsc": [1, 0.9, 0.6, 0.2, 0.0]})


def dots(axes) -> list[np.ndarray]:
    return [np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)]


def test_fsc_curves_are_drawn_over_frequency_and_named_in_angstrom(curve):
    (axes,) = plots.plot_fsc(curve.assign(fsc_mirrored=curve["fsc"] / 2)).axes
    drawn = {line.get_label(): line for line in axes.lines if line.get_label().startswith("fsc")}
    assert set(drawn) == {"fsc", "fsc_mirrored"}
    np.testing.assert_allclose(drawn["fsc"].get_xdata(), [0, 0.025, 0.05, 0.075, 0.1])
    np.testing.assert_allclose(drawn["fsc"].get_ydata(), curve["fsc"])
    np.testing.assert_allclose(drawn["fsc_mirrored"].get_ydata(), curve["fsc"] / 2)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["40", "20", "13", "10"]
    assert axes.get_xlabel() == "resolution (Å)"
    assert any(np.allclose(line.get_ydata(), 0.143) for line in axes.lines)


def test_history_draws_both_losses_of_every_split():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 1, 2],
            "split": ["train"] * 2 + ["test"] * 2,
            "reconstruction": [3.0, 2, 4, 5],
            "kl": [0.1, 0.2, 0.3, 0.4],
        }
    )
    left, right = plots.plot_history(history).axes
    assert {line.get_label(): list(line.get_ydata()) for line in left.lines} == {"train": [3, 2], "test": [4, 5]}
    assert {line.get_label(): list(line.get_ydata()) for line in right.lines} == {
        "train": [0.1, 0.2],
        "test": [0.3, 0.4],
    }
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "reconstruction loss")


@pytest.fixture
def points() -> pd.DataFrame:
    return pd.DataFrame({"PC1": [1.0, 2.0, 3.0], "PC2": [4.0, 5.0, 6.0], "PC3": 0.0}, index=["a", "b", "c"])


def test_latents_are_drawn_by_their_first_two_columns(points):
    (axes,) = plots.plot_latents(points).axes
    (found,) = dots(axes)
    np.testing.assert_array_equal(found, points[["PC1", "PC2"]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("PC1", "PC2")


def test_colours_follow_particle_ids_not_rows(points):
    score = pd.Series([30.0, 10.0, 20.0, 99.0], index=["c", "a", "b", "z"], name="score")
    axes, bar = plots.plot_latents(points, score).axes
    (drawn,) = (c for c in axes.collections if isinstance(c, PathCollection))
    np.testing.assert_array_equal(drawn.get_array(), [10, 20, 30])
    assert bar.get_ylabel() == "score"
    with pytest.raises(KeyError):
        plots.plot_latents(points, score.iloc[:2])


def test_groups_have_a_legend_and_particles_without_one_are_drawn(points):
    group = pd.Series(["open", None, "shut"], index=["b", "c", "a"], name="state", dtype=object)
    (axes,) = plots.plot_latents(points, group).axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[:2] == ["open", "shut"]
    assert sum(len(d) for d in dots(axes)) == 3
    assert axes.get_legend().get_title().get_text() == "state"


def test_maps_are_drawn_as_their_sums_along_z_y_and_x():
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    figure = plots.plot_volume_projections(maps, ["first", "second"])
    assert len(figure.axes) == 6
    for i, axes in enumerate(figure.axes):
        np.testing.assert_allclose(axes.images[0].get_array(), maps[i // 3].sum(axis=i % 3), rtol=1e-6)
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["first", "second"]
    with pytest.raises(ValueError, match="zip"):
        plots.plot_volume_projections(maps, ["one"])


def test_figures_are_saved_under_their_names(tmp_path, curve, points):
    folder = tmp_path / "new" / "figures"
    paths = plots.save_figures(folder, fsc=plots.plot_fsc(curve), latents=plots.plot_latents(points))
    assert paths == [folder / "fsc.png", folder / "latents.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_figures_are_not_left_with_pyplot(curve):
    """Figures belong to their caller: none stays open, and no window system is asked for."""
    plots.plot_fsc(curve)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


# --- figures of the analysis ------------------------------------------------------------------------------------------


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


ODD = ["a$b^$", "<b>&amp;", "$\\frac$", "{0}%s", "C:\\x"]


def test_names_are_drawn_as_they_are_written(points):
    """Dollar signs would be read as formulas, and fail."""
    table = pd.DataFrame([{"column": c, "axis": "z$1$", "strength": 0.2, "p_family": 1.0} for c in ODD])
    counts = pd.DataFrame([{"tomogram": c, "class": k, "n_particles": 1, "p_value": 1.0} for c in ODD for k in ODD])
    around = pd.DataFrame([{"class": c, "neighbour_class": k, "ratio": 1.0, "p_family": 1.0} for c in ODD for k in ODD])
    group = pd.Series(ODD[:3], index=points.index, name="x$y^$")
    chosen = np.array([True, False, True])
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    for figure in (
        plots.plot_associations(table),
        plots.plot_tomogram_classes(counts),
        plots.plot_class_neighbours(around),
        plots.plot_latents(points, group),
        plots.plot_latents(points, group.map({name: i for i, name in enumerate(ODD)})),
        plots.plot_embedding(points[["PC1", "PC2"]], group),
        plots.plot_histogram(group, chosen),
        plots.plot_map_differences(maps, ODD[:2]),
        plots.plot_volume_projections(maps, ODD[:2]),
        plots.plot_map_correlations(pd.DataFrame(np.eye(2), index=ODD[:2], columns=ODD[:2])),
    ):
        assert plots.figure_png(figure).startswith(b"\x89PNG")
    label = plots.plot_associations(table).axes[0].get_yticklabels()[0]
    assert label.get_text().replace("\\$", "$") in ODD


def test_weak_associations_are_not_painted_as_findings():
    table = pd.DataFrame([{"column": "a", "axis": f"z{i}", "strength": 0.02 * i, "p_family": 1.0} for i in (1, 2)])
    assert plots.plot_associations(table).axes[0].images[0].get_clim() == (0, 0.1)
    strong = plots.plot_associations(table.assign(strength=[0.1, 0.6], p_family=[1.0, 0.01]))
    assert strong.axes[0].images[0].get_clim() == (0, 0.6)
    np.testing.assert_array_equal(dots(strong.axes[0])[0], [[1, 0]])


def test_maps_are_compared_with_the_mean_of_their_group():
    maps = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((4, 2, 2, 2), np.float32)
    left, right = plots.plot_map_differences(maps, list("abcd"), groups=[0, 0, 1, 1]).axes
    shown = np.ma.filled(np.ma.masked_invalid(right.images[0].get_array()), np.nan)
    assert sorted(np.unique(shown[np.isfinite(shown)])) == [-1, 1]  # half a unit, along two voxels
    assert [t.get_text() for t in left.get_yticklabels()] == list("abcd")
    whole = np.ma.filled(np.ma.masked_invalid(left.images[0].get_array()), np.nan)
    np.testing.assert_array_equal(whole[:2, :2], 0)
    np.testing.assert_array_equal(whole[-2:, -2:], 6)


def test_pictures_of_maps_keep_their_axes():
    volume = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    whole = np.asarray(plots.plot_map_differences(volume, ["a"]).axes[0].images[0].get_array())
    for axis, first in enumerate((0, 6, 12)):
        np.testing.assert_allclose(whole[:, first : first + 4][::-1], volume[0].sum(axis=axis), rtol=1e-5)


def test_a_path_is_drawn_through_its_particles(points):
    path = pd.DataFrame({"particle_id": ["c", "a"], "n_particles": [4, 7], "density": [0.5, 1.0]})
    left, right, density = plots.plot_path(points, path).axes
    np.testing.assert_array_equal(np.stack(left.lines[0].get_data(), axis=1), [[3, 6], [1, 4]])
    assert [bar.get_height() for bar in right.patches] == [4, 7]
    assert list(density.lines[0].get_ydata()) == [0.5, 1.0]


def test_the_space_of_maps_is_drawn_by_label_with_its_components():
    maps = np.random.default_rng(0).normal(size=(6, 4, 4, 4)).astype(np.float32)
    found = reduce_volumes(maps, list("abcdef"), n_components=2)
    figure = plots.plot_landscape(found, pd.Series([0, 0, 0, 1, 1, 1], index=list("fedcba")))
    scatter, *panes = figure.axes
    np.testing.assert_allclose(dots(scatter)[0], found.coordinates.loc[["d", "e", "f"]])
    assert texts(scatter) == ["0", "1"]
    assert len(panes) == 6
    np.testing.assert_allclose(panes[1].images[0].get_array(), found.components[0].sum(axis=1), rtol=1e-5)


def test_occupancy_says_which_share_has_the_mass():
    occupancy = pd.DataFrame({"arm": [0.0, 0.1, 2.0, 2.1], "all": [1.0, 1.0, 1.1, 0.9]})
    shares = pd.DataFrame(
        {"share": [0.5, 0.3], "threshold": [1.0, 1.0], "two_modes": [True, False]}, index=list(occupancy)
    )
    arm, whole = plots.plot_occupancy(occupancy, shares).axes
    assert (arm.get_title(), whole.get_title()) == ("arm: 50% have it", "all: no two modes")
    assert sum(bar.get_height() for bar in arm.patches) == 4
    assert [list(line.get_xdata()) for line in arm.lines] == [[1.0, 1.0]]
    assert not whole.lines


def test_outliers_are_counted_even_beyond_the_picture():
    scores = pd.DataFrame(
        {"z_norm_score": [0.0, 1.0, np.inf], "width_score": [0.0, 4.0, 0.0], "outlier": [False, True, True]}
    )
    (axes,) = plots.plot_outliers(scores).axes
    assert [len(d) for d in dots(axes)] == [1, 1]
    assert texts(axes) == ["others (1)", "outliers (2)"]


def test_curves_of_half_maps_and_slices_of_local_resolution():
    table = pd.DataFrame(
        {"resolution_angst": [np.inf, 20, 10], "unmasked": [1, 0.5, 0.1], "masked": [1, 0.7, 0.2],
         "randomised": [1, 0.2, 0.1], "corrected": [1, 0.6, 0.0]}
    )  # fmt: skip
    (axes,) = plots.plot_half_map_fsc(table).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn["corrected"] == [1, 0.6, 0.0]
    assert drawn["masked, phases randomised"] == [1, 0.2, 0.1]
    local = np.random.default_rng(0).uniform(8, 20, (6, 6, 6)).astype(np.float32)
    local[0] = np.nan
    panes = plots.plot_local_resolution(local).axes
    for axis in range(3):
        np.testing.assert_array_equal(panes[axis].images[0].get_array().filled(np.nan), local.take(3, axis=axis))
    assert sum(bar.get_height() for bar in panes[3].patches) == np.isfinite(local).sum()
    assert plots.figure_png(plots.plot_local_resolution(np.full((4, 4, 4), np.nan, np.float32)))


def test_neighbours_that_come_back_and_classes_beyond_chance_are_marked():
    pairs = pd.DataFrame({"distance_angst": [10.0, 20, 30], "angle_deg": [5.0, 6, 7], "recurrent": [True, False, True]})
    (axes,) = plots.plot_recurrent_pairs(pairs).axes
    others, back = dots(axes)
    np.testing.assert_array_equal(others, [[20, 6]])
    np.testing.assert_array_equal(back, [[10, 5], [30, 7]])
    assert len(plots.plot_recurrent_pairs(pairs.iloc[:0]).axes) == 1
    table = pd.DataFrame(
        [
            (a, b, r, p)
            for a, b, r, p in [("x", "x", 2.0, 0.01), ("x", "y", 0.1, 1), ("y", "x", 0.1, 1), ("y", "y", 1, 1)]
        ],
        columns=["class", "neighbour_class", "ratio", "p_family"],
    )
    matrix, _ = plots.plot_class_neighbours(table).axes
    np.testing.assert_allclose(matrix.images[0].get_array(), [[1, -2], [-2, 0]])
    np.testing.assert_array_equal(dots(matrix)[0], [[0, 0]])
