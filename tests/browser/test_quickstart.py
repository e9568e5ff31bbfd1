"""The quickstart notebook as a user meets it: mouse, pixels and all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tomodrgn.training.run import Run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "00_quickstart.ipynb"
SMALL = {"n_particles": 60, "n_tilts": 9, "epochs": 8}
TRACE = """() => { const plot = [...document.querySelectorAll('.js-plotly-plot')][0]; return [...plot.data[0].y]; }"""


def cell_with(text: str) -> int:
    """Number of the first cell with this text."""
    notebook = json.loads((Path(__file__).resolve().parents[2] / "notebooks" / NAME).read_text())
    return next(i for i, cell in enumerate(notebook["cells"]) if text in "".join(cell["source"]))


def colours(picture: np.ndarray) -> int:
    """Number of different colours."""
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def coloured(picture: np.ndarray) -> np.ndarray:
    """Which pixels are neither grey nor white."""
    return np.ptp(picture.astype(int), axis=-1) > 40


def start(view) -> None:
    monitor = cell_with("TrainingMonitor")
    view.run_cells(0, monitor)
    button = view.page.locator(".tomodrgn-start")
    button.scroll_into_view_if_needed()
    view.page.wait_for_selector(".js-plotly-plot .modebar", state="attached", timeout=60_000)
    button.click()


def test_from_the_start_button_to_the_isosurface(open_notebook):
    view = open_notebook(NAME, **SMALL)
    start(view)

    # The loss curve grows while the notebook is free for other work.
    counts = [len(view.page.evaluate(TRACE))]
    for _ in range(2):
        counts.append(len(view.until(lambda: view.page.evaluate(TRACE), lambda y: len(y) > counts[-1], 90)))
    assert counts[0] < counts[1] < counts[2]
    assert view.ask("1 + 1") == "2"
    view.shot("training")
    view.until(lambda: view.ask("monitor.state"), lambda state: state == "finished", 120)
    losses = view.until(lambda: view.page.evaluate(TRACE), lambda y: len(y) == SMALL["epochs"], 10)
    assert losses == pytest.approx(Run.open(view.folder / "quickstart/run").history["reconstruction"].tolist())
    scatter = view.page.locator(".js-plotly-plot").nth(1)
    points = scatter.locator(".scatterlayer path.point")  # every particle, and the three whose maps are shown
    view.until(points.count, lambda n: n == SMALL["n_particles"] + 3, 20)
    assert coloured(view.picture(scatter)).sum() > 100
    view.shot("finished")

    # No button sends a chart to the outside.
    buttons = view.page.eval_on_selector_all(".modebar-btn", "all => all.map(b => b.dataset.title || '')")
    assert len(buttons) >= 6
    assert [title for title in buttons if "hare" in title or "loud" in title or "plotly" in title.lower()] == []

    explore(view)
    isosurface(view)
    assert view.tracebacks() == []
    assert view.refused == []
    assert view.console == []


CHOSEN = "__import__('json').dumps(explorer.selection.particle_ids)"


def explore(view) -> None:
    """Colour by a column of text, and choose points with a lasso."""
    cell = cell_with("LatentExplorer")
    view.run_cells(cell_with("td.Run.open"), cell)
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=60_000)
    before = view.until(lambda: view.picture(canvas), lambda p: coloured(p).sum() > 200, 60)
    view.shot("explorer")
    view.choose("tomodrgn-colour", "userGridSquare")
    assert view.ask("explorer.colour") == "userGridSquare"
    text = view.until(lambda: view.picture(canvas), lambda p: (p != before).any(axis=-1).sum() > 200, 20)
    assert coloured(text).sum() > 200
    view.shot("explorer-text")
    view.choose("tomodrgn-colour", "PC1")
    view.until(lambda: view.picture(canvas), lambda p: (p != text).any(axis=-1).sum() > 200, 20)
    view.choose("tomodrgn-colour", "userGridSquare")
    view.until(lambda: view.picture(canvas), lambda p: (p != text).any(axis=-1).mean() < 0.01, 20)

    hover(view, canvas)

    # A lasso around the right half of the picture chooses the particles there, and no others.
    view.lasso(canvas, [(0.5, 0.005), (0.995, 0.005), (0.995, 0.995), (0.5, 0.995), (0.5, 0.2)])
    chosen = view.until(lambda: int(view.ask("len(explorer.selection)")), lambda n: n > 0, 20)
    view.page.get_by_text(f"{chosen} of {SMALL['n_particles']} particles chosen").wait_for(timeout=10_000)
    place = json.loads(view.ask("explorer.table['PC1'].to_json()"))
    height = json.loads(view.ask("explorer.table['PC2'].to_json()"))
    names = set(json.loads(view.ask(CHOSEN)))
    low, high = min(place.values()), max(place.values())
    middle, unsure = (low + high) / 2, 0.02 * (high - low)
    # The outermost points lie on the picture's edge, where the lasso cannot go round them.
    bottom, top = min(height.values()), max(height.values())
    edge = 0.02 * (top - bottom)
    within = {name for name, y in height.items() if bottom + edge < y < top - edge and place[name] < high - unsure}
    assert {name for name in within if place[name] > middle + unsure} <= names
    assert {name for name, x in place.items() if x < middle - unsure} & names == set()
    view.shot("lasso")
    view.ask("explorer.select(particles.particle_id[:5])")
    view.page.get_by_text(f"5 of {SMALL['n_particles']} particles chosen").wait_for(timeout=10_000)

    # A typed condition chooses; Undo brings back what was chosen before; a mistake is told in place.
    query = view.page.locator(".tomodrgn-query input").first
    query.fill("PC1 > 0")
    query.press("Enter")
    wanted = {name for name, x in place.items() if x > 0}
    chosen = view.until(lambda: json.loads(view.ask(CHOSEN)), lambda names: len(names) != 5, 20)
    assert set(chosen) == wanted
    view.page.get_by_text(f"{len(wanted)} of {SMALL['n_particles']} particles chosen (query: PC1 > 0)").wait_for()
    view.shot("query")
    view.page.locator(".tomodrgn-undo").first.click()
    assert len(view.until(lambda: json.loads(view.ask(CHOSEN)), lambda names: len(names) == 5, 20)) == 5
    view.page.locator(".tomodrgn-redo").first.click()
    assert set(view.until(lambda: json.loads(view.ask(CHOSEN)), lambda names: len(names) != 5, 20)) == wanted
    query.fill("nothing > 0")
    query.press("Enter")
    view.page.get_by_text("Got query 'nothing > 0' with the column 'nothing', which is not there").wait_for()
    view.page.locator(".tomodrgn-undo").first.click()
    assert len(view.until(lambda: json.loads(view.ask(CHOSEN)), lambda names: len(names) == 5, 20)) == 5


def hover(view, canvas) -> None:
    """The mouse over a point tells the particle, and how sure its place is."""
    box, names = canvas.bounding_box(), json.loads(view.ask("__import__('json').dumps(particles.particle_id.tolist())"))
    rows, columns = np.nonzero(coloured(view.picture(canvas)))
    tip = view.page.get_by_text("z1 ").filter(has_text="±").first

    def over_a_point() -> bool:
        for i in np.linspace(0, len(rows) - 1, 12).astype(int):
            view.page.mouse.move(box["x"] + float(columns[i]), box["y"] + float(rows[i]), steps=3)
            view.page.wait_for_timeout(400)
            if tip.is_visible():
                return True
        return False

    view.until(over_a_point, bool, 60)
    assert tip.inner_text().split()[0] in names
    view.shot("hover")


def isosurface(view) -> None:
    """A surface is drawn, and shrinks when the level rises."""
    view.run_cells(cell_with("explorer.selection"), cell_with("maps.save"))
    assert "5 of 60 particles" in view.ask("f'{len(kept)} of {len(particles)} particles'")
    canvas = view.page.locator(".tomodrgn-map canvas").last  # that of the viewer: the explorer above has one as well
    canvas.wait_for(timeout=60_000)
    level = view.page.locator(".tomodrgn-level .noUi-handle").last
    level.focus()
    high = view.until(lambda: coloured(view.picture(canvas)).sum(), lambda n: n > 1000, 60)
    assert colours(view.picture(canvas)) > 100
    view.shot("isosurface")
    before = float(view.ask("viewer.level"))
    level.focus()
    for _ in range(12):
        view.page.keyboard.press("ArrowLeft")
    assert float(view.until(lambda: view.ask("viewer.level"), lambda x: float(x) < before - 0.9, 20)) > 0
    low = view.until(lambda: coloured(view.picture(canvas)).sum(), lambda n: n > 1.1 * high, 30)
    view.ask(f"setattr(viewer, 'level', {before})")
    view.until(lambda: coloured(view.picture(canvas)).sum(), lambda n: 0 < n < 0.9 * low, 30)


def test_stop_button_stops_a_real_training(open_notebook):
    view = open_notebook(NAME, **SMALL | {"epochs": 2000})
    start(view)
    view.until(lambda: view.ask("monitor.epoch"), lambda n: int(n) >= 1, 90)
    process = int(view.ask("monitor.job.pid"))
    assert Path(f"/proc/{process}").exists()
    view.page.locator(".tomodrgn-stop").click()
    view.until(lambda: view.ask("monitor.state"), lambda state: state == "stopped", 60)
    view.until(lambda: view.ask("monitor.job.running"), lambda running: running == "False", 30)
    done = Run.open(view.folder / "quickstart/run").epochs
    assert 1 <= len(done) < 2000
    view.shot("stopped")
    view.until(lambda: view.page.locator(".tomodrgn-stop").is_disabled(), lambda disabled: disabled, 20)
    view.until(lambda: view.page.locator(".tomodrgn-resume").is_enabled(), lambda enabled: enabled, 20)
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
