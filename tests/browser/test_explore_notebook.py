"""The notebook of the latent space as a reader meets it, from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.browser.test_explorer import click_points, coloured, lonely, places

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "03_explore_latents.ipynb"
CELLS = json.loads((Path(__file__).resolve().parents[2] / "notebooks" / NAME).read_text(encoding="utf-8"))["cells"]
CHOSEN = "__import__('json').dumps(explorer.selection.particle_ids)"


def cell_with(text: str) -> int:
    """Number of the first code cell with this text."""
    return next(i for i, c in enumerate(CELLS) if c["cell_type"] == "code" and text in "".join(c["source"]))


def test_from_top_to_bottom(open_notebook, linear_run):
    view = open_notebook(NAME, run_dir=str(linear_run))
    view.run_cells(0, cell_with("LatentExplorer"))
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=180_000)
    plain = view.until(lambda: view.picture(canvas), lambda p: coloured(p).sum() > 200, 60)

    # Colour, click, lasso, save.
    view.choose("tomodrgn-colour", "userGridSquare")
    view.until(lambda: view.picture(canvas), lambda p: (p != plain).any(axis=-1).sum() > 100, 20)
    view.choose("tomodrgn-colour", "cluster")
    view.ask("globals().update(json=__import__('json'))")  # which `places` asks with
    name = lonely(places(view, canvas))[0]
    click_points(view, canvas, [name])
    view.until(lambda: view.ask("explorer.maps.title"), lambda title: name in title, 30)
    surface = view.page.locator(".tomodrgn-map canvas").first
    view.until(lambda: coloured(view.picture(surface)).sum(), lambda n: n > 500, 60)
    view.picture(canvas)
    view.lasso(canvas, [(0.5, 0.005), (0.995, 0.005), (0.995, 0.995), (0.5, 0.995), (0.5, 0.2)])
    chosen = json.loads(view.until(lambda: view.ask(CHOSEN), lambda text: len(json.loads(text)) > 0, 20))
    axis = json.loads(view.ask("explorer.table[explorer.x].to_json()"))
    middle = (min(axis.values()) + max(axis.values())) / 2
    assert np.mean([axis[particle] > middle for particle in chosen]) > 0.95
    field = view.page.locator(".tomodrgn-selection-name input").first
    field.fill("right")
    field.press("Tab")
    view.page.locator(".tomodrgn-selection .tomodrgn-save").first.click()
    kept = linear_run / "selections/right.csv"
    view.until(kept.is_file, bool, 20)
    assert set(kept.read_text().split()[1:]) == set(chosen)
    view.shot("explore-notebook")

    # A UMAP of its own process becomes the axes.
    view.page.locator(".tomodrgn-umap").first.click()
    view.until(lambda: view.ask("explorer.x"), lambda x: x == "UMAP1", 240)

    # The rest: typed gestures, tilt images of the choice, associations, number of clusters.
    view.run_cells(cell_with("explorer.colour ="), len(CELLS) - 1, 240)
    typed = json.loads(view.ask(CHOSEN))
    assert len(typed) > 0
    assert view.ask("(clusters[list(explorer.selection.particle_ids)] == 0).all()") == "True"
    images = view.page.locator(".tomodrgn-tilt-images").first
    images.scroll_into_view_if_needed()
    view.until(lambda: np.std(view.picture(images)), lambda spread: spread > 10, 60)
    assert json.loads(view.ask("__import__('json').dumps(list(viewer.shown))")) == typed[:2]
    figures = view.page.locator(".jp-OutputArea img")
    assert figures.count() >= 2
    view.shot("explore-notebook-end")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
