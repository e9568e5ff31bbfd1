"""Colours of particles on light and dark pages: the same in all views, and none that cannot be seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tomodrgn.analysis.palette import CATEGORY_COLOURS, column_rgb
from tomodrgn.widgets import LatentExplorer, TomogramViewer
from tomodrgn.widgets.colours import colour_column
from tomodrgn.widgets.page_theme import PageTheme

DARK, LIGHT = "#111111", "#ffffff"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dark")
    particles = td.simulate_particles(folder / "data", n_particles=24, n_tilts=5, snr=0.3, dialect="warptools")
    return td.fit_linear(particles, folder / "run", td.LinearConfig(n_components=3))


@pytest.fixture
def theme():
    yield PageTheme.shared()
    PageTheme.shared().background = LIGHT


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    """Contrast of two colours (WCAG 2.1, relative luminance)."""
    found = []
    for colour in (first, second):
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        found.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(found) + 0.05) / (min(found) + 0.05)


@pytest.mark.parametrize("values", [np.linspace(0.0, 1.0, 50), list("abcdefghijkl")])
def test_no_colour_is_lost_in_the_dark(values):
    column = pd.Series(values)
    for dark in (True, False):
        colours = [rgb(colour) for colour in colour_column(column, dark=dark).colours]
        for found in (colours, column_rgb(column, dark=dark)):
            assert (min(contrast(colour, rgb(DARK)) for colour in found) > 3) == dark
    assert len(set(colour_column(pd.Series(list("abcdefghijkl")), dark=True).colours)) == len(CATEGORY_COLOURS)


def test_all_views_change_their_colours_with_the_page(run, theme):
    explorer = LatentExplorer(run, maps=False)
    viewer = TomogramViewer(run, selection=explorer.selection)
    explorer.colour = viewer.colour = "z1"
    explorer.space.z = "PC3"
    for background in (DARK, LIGHT):
        theme.background = background
        wanted = [rgb(colour) for colour in colour_column(explorer.table["z1"], dark=background == DARK).colours]
        np.testing.assert_allclose(np.array(explorer.scatter.color()["map"])[:, :3], wanted, atol=1e-6)
        lowest = explorer.table["z1"].to_numpy().argmin()
        drawn = [int(part) for part in explorer.space.figure.data[0].marker.color[lowest][4:-1].split(",")]
        np.testing.assert_allclose(np.array(drawn) / 255, wanted[0], atol=0.02)
        own = viewer.table["z1"].loc[list(viewer._own().particle_id)].to_numpy()
        low, high = float(explorer.table["z1"].min()), float(explorer.table["z1"].max())
        step = round((own[0] - low) / (high - low) * (len(wanted) - 1))
        np.testing.assert_allclose(rgb(viewer._colours[0]), wanted[step], atol=0.03)


def test_colours_that_were_refused_do_not_break_the_change(run, theme):
    explorer, other = LatentExplorer(run, maps=False), LatentExplorer(run, maps=False)
    explorer.colour = other.colour = "z1"
    explorer.colour_limits = (1.0, 0.0)
    assert "expected two numbers" in explorer.message
    theme.background = DARK
    for each in (explorer, other):
        wanted = colour_column(each.table["z1"], dark=True).colours
        np.testing.assert_allclose(each.scatter.color()["map"][0][:3], rgb(wanted[0]), atol=1e-6)
