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
    table = json.loads(
        view.ask("explorer.table[[explorer.x, explorer.y]].set_axis(['x', 'y'], axis=1).to_json(orient='index')")
    )
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


def open_explorer(open_cells, run):
    """An explorer of the run on a page, with points and surface drawn."""
    view = open_cells(IMPORTS, f"explorer = td.widgets.LatentExplorer({str(run)!r})\nexplorer")
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=60_000)
    view.until(lambda: coloured(view.picture(canvas)).sum(), lambda n: n > 200, 60)
    surface = view.page.locator(".tomodrgn-map canvas").first
    view.until(lambda: coloured(view.picture(surface)).sum(), lambda n: n > 500, 60)
    return view, canvas, surface


def click_points(view, canvas, names) -> None:
    """Click particles with the mouse, one after the other."""
    for name in names:
        x, y = places(view, canvas)[name]
        view.page.mouse.move(x, y, steps=4)
        view.page.wait_for_timeout(400)  # the scatter finds the point under the mouse
        view.page.mouse.click(x, y)
        view.until(lambda name=name: view.ask("explorer.picked, explorer.path"), lambda said, name=name: name in said)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two pictures are alike but for a few pixels."""
    return bool((a != b).any(axis=-1).mean() < 0.001)


def test_a_click_shows_the_map_and_two_clicks_play_a_path(open_cells, linear_run):
    view, canvas, surface = open_explorer(open_cells, linear_run)
    before = view.picture(surface)
    name, other = lonely(places(view, canvas))[:2]
    click_points(view, canvas, [name])
    assert view.until(lambda: view.ask("explorer.maps.title"), lambda t: name in t, 30) == f"map at {name}"
    shown = view.until(lambda: view.picture(surface), lambda p: not same(p, before), 30)
    own = "explorer.maps.stack.labels.loc['1', ['z1', 'z2', 'z3']].tolist()"
    mean = f"explorer.run.latents().aligned_to(__import__('numpy').array(['{name}'])).mu[0].tolist()"
    assert json.loads(view.ask(own)) == pytest.approx(json.loads(view.ask(mean)), abs=1e-5)
    assert view.ask("explorer.selection.particle_ids") == "()"  # a click does not choose
    view.shot("explorer-click")

    view.choose("tomodrgn-click", "draws a path")
    click_points(view, canvas, [name, other])
    assert view.until(lambda: view.ask("explorer.path"), lambda p: other in p) == repr((name, other))
    view.until(lambda: view.ask("explorer.maps.title"), lambda t: t == f"path from {name} to {other}", 30)
    seen = {view.until(lambda: view.ask("explorer.maps.viewer.map_name"), lambda n: n not in ("1", "path_000"), 30)}
    for _ in range(2):
        seen.add(view.until(lambda: view.ask("explorer.maps.viewer.map_name"), lambda n: n not in seen, 30))
    assert len(seen) == 3
    assert seen <= {f"path_{i:03d}" for i in range(12)}
    view.until(lambda: view.picture(surface), lambda p: not same(p, shown), 30)
    drawn = view.picture(canvas)
    orange = (np.abs(drawn.astype(int) - (0xD5, 0x5E, 0x00)) < 40).all(axis=-1)
    assert orange.sum() > 60  # the path is drawn between the points
    view.shot("explorer-path")
    view.dark()
    for part in (canvas, surface):
        view.until(lambda part=part: int(view.picture(part)[-8:, :8].max()), lambda brightest: brightest < 60, 30)
    view.shot("explorer-dark")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
