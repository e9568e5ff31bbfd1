"""The explorer as a person uses it: clicks, paths, colours, epochs, the panel of maps beside the points."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IMPORTS = "import json, tomodrgn as td"


def coloured(picture: np.ndarray) -> np.ndarray:
    """Which pixels are neither grey nor white."""
    return np.ptp(picture.astype(int), axis=-1) > 40


def places(view, canvas) -> dict[str, tuple[float, float]]:
    """Where each particle is on the page, as jupyter-scatter draws its two axes."""
    table = json.loads(view.ask("explorer.table[[explorer.x, explorer.y]].set_axis(['x', 'y'], axis=1).to_json(orient='index')"))
    spans = json.loads(view.ask("json.dumps([explorer._points.span(explorer.x), explorer._points.span(explorer.y)])"))
    box, distance = canvas.bounding_box(), float(view.ask("explorer.scatter.widget.camera_distance"))
    side = box["height"] / distance  # jupyter-scatter draws the two spans as a square about the middle
    (x_low, x_high), (y_low, y_high) = spans
    return {
        name: (
            box["x"] + box["width"] / 2 + side * ((place["x"] - x_low) / (x_high - x_low) - 0.5),
            box["y"] + box["height"] / 2 - side * ((place["y"] - y_low) / (y_high - y_low) - 0.5),
        )
        for name, place in table.items()
    }


def lonely(found: dict[str, tuple[float, float]]) -> list[str]:
    """Names by how far the next point is, the loneliest first."""
    names, where = list(found), np.array(list(found.values()))
    distance = np.linalg.norm(where[:, None] - where, axis=-1)
    np.fill_diagonal(distance, np.inf)
    return [names[i] for i in np.argsort(-distance.min(axis=0))]


def test_look(open_cells, linear_run):
    view = open_cells(IMPORTS, f"explorer = td.widgets.LatentExplorer({str(linear_run)!r})\nexplorer")
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=60_000)
    view.until(lambda: coloured(view.picture(canvas)).sum(), lambda n: n > 200, 60)
    surface = view.page.locator(".tomodrgn-map canvas").first
    view.until(lambda: coloured(view.picture(surface)).sum(), lambda n: n > 500, 60)
    view.page.wait_for_timeout(1500)
    view.shot("look")
    where = places(view, canvas)
    for name in lonely(where)[:3]:
        x, y = where[name]
        view.page.mouse.move(x, y, steps=4)
        view.page.wait_for_timeout(300)
        view.page.mouse.click(x, y)
        view.page.wait_for_timeout(1500)
        print(name, view.ask("explorer.picked"), view.ask("explorer.maps.title"), view.ask("explorer.message"))
    view.shot("clicked")
    print(canvas.bounding_box())
    view.choose("tomodrgn-click", "draws a path")
    for name in lonely(where)[:2]:
        x, y = where[name]
        view.page.mouse.move(x, y, steps=4)
        view.page.wait_for_timeout(300)
        view.page.mouse.click(x, y)
        view.page.wait_for_timeout(1500)
    print(view.ask("explorer.path"), view.ask("explorer.message"), view.ask("explorer.maps.title"))
    view.page.wait_for_timeout(3000)
    view.shot("path")
    print(view.ask("explorer.maps.viewer.map_name"))
    view.dark()
    view.page.wait_for_timeout(1500)
    view.shot("dark")
    print(view.tracebacks(), view.refused, view.console)
