"""Figures hold the numbers they were given, with axes named; nothing is shown or left open."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from tomodrgn import plots


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
