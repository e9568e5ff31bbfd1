"""The gallery as a person uses it: look, click, tick and label with mouse and keyboard; linked with the explorer."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tomodrgn as td

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def coloured(picture: np.ndarray) -> np.ndarray:
    """Which pixels are neither grey nor white."""
    return np.ptp(picture.astype(int), axis=-1) > 40


def blue(view, what) -> int:
    """Pixels of surfaces."""
    picture = view.picture(what).astype(int)
    return int(((picture[..., 2] - picture[..., 0]) > 25).sum())


CELLS = (
    "import json, tomodrgn as td\nrun = td.Run.open({run!r})",
    "explorer = td.widgets.LatentExplorer(run, height=320, maps=False)\nexplorer",
    "gallery = td.widgets.VolumeGallery.of_run(run, 5, selection=explorer.selection)\ngallery.wait(60)\ngallery",
)


def opened(open_cells, run):
    view = open_cells(*(cell.replace("{run!r}", repr(str(run))) for cell in CELLS))
    tiles = view.page.locator(".tomodrgn-tile")
    view.until(tiles.count, lambda n: n == 5, 60)
    for i in range(5):
        view.until(lambda i=i: blue(view, tiles.nth(i).locator("img")), lambda n: n > 300, 60)
    return view, tiles


def test_a_lasso_marks_the_same_particles_in_gallery_and_table(open_cells, linear_run):
    view, tiles = opened(open_cells, linear_run)
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.scroll_into_view_if_needed()
    view.until(lambda: coloured(view.picture(canvas)).sum(), lambda n: n > 200, 60)
    view.page.get_by_text("Table of the chosen particles").click()
    view.lasso(canvas, [(0.5, 0.005), (0.995, 0.005), (0.995, 0.995), (0.5, 0.995), (0.5, 0.2)])
    asked = "json.dumps(explorer.selection.particle_ids)"
    chosen = set(json.loads(view.until(lambda: view.ask(asked), lambda t: len(json.loads(t)) > 3, 20)))
    rows = view.page.locator(".tomodrgn-table tbody tr")
    view.until(rows.count, lambda n: n == len(chosen), 20)
    assert {rows.nth(i).locator("td").first.inner_text() for i in range(len(chosen))} == chosen
    view.shot("gallery-lasso-table")
    members = json.loads(view.ask("gallery.members.to_json()"))
    for i in range(5):
        name = tiles.nth(i).locator(".tomodrgn-tile-text").inner_text()
        own = {particle for particle, of in members.items() if of == name}
        note = f"{len(own & chosen)} of {len(own)}" if own & chosen else str(len(own))
        view.until(tiles.nth(i).locator(".tomodrgn-tile-note").inner_text, lambda text, note=note: text == note, 10)
    # A category of the colour column, chosen as by a click on its legend.
    view.choose("tomodrgn-colour", "userGridSquare")
    view.page.locator(".tomodrgn-value-choose").first.click()
    wanted = "sum(explorer.table['userGridSquare'] == explorer.chooser.value)"
    view.until(lambda: view.ask("len(explorer.selection)"), lambda n: n == view.ask(wanted), 20)
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])


def test_a_label_reaches_the_written_star(open_cells, linear_run, tmp_path):
    view, tiles = opened(open_cells, linear_run)
    note = view.page.locator(".tomodrgn-gallery-note")

    # With the keyboard: Tab from the picture to the tick, Space; Tab to the label, type.
    tiles.nth(0).locator(".tomodrgn-tile-open").focus()
    view.page.keyboard.press("Tab")
    view.page.keyboard.press("Space")
    assert view.until(lambda: view.ask("gallery.ticked"), lambda t: t != "()", 10) == "('cluster_000',)"
    view.page.keyboard.press("Tab")
    view.page.keyboard.type("50S dd")  # a shortcut of JupyterLab would delete the cell
    view.page.keyboard.press("Enter")
    view.until(lambda: view.ask("gallery.labels"), lambda t: t == "{'cluster_000': '50S dd'}", 10)
    # With the mouse: two ticks, one button.
    tiles.nth(0).locator(".tomodrgn-tile-tick").uncheck()
    for i in (1, 2):
        tiles.nth(i).locator(".tomodrgn-tile-tick").check()
    view.page.locator(".tomodrgn-junk").click()
    labels = "{'cluster_000': '50S dd', 'cluster_001': 'junk', 'cluster_002': 'junk'}"
    view.until(lambda: view.ask("gallery.labels"), lambda t: t == labels, 10)
    view.page.locator(".tomodrgn-choose-ticked").click()
    junk = set(json.loads(view.ask("json.dumps(gallery.particles_of(['cluster_001', 'cluster_002']))")))
    view.until(lambda: view.ask("len(explorer.selection)"), lambda n: int(n) == len(junk), 10)
    view.shot("gallery-labelled")

    path = tmp_path / "labelled.star"
    name = view.page.locator(".tomodrgn-star-path input")
    name.fill(str(path))
    view.page.locator(".tomodrgn-write-star").click()
    note.get_by_text("written to").wait_for(timeout=20_000)
    table = td.read_particles(path, check_stacks=False).frame()
    assert set(table.index[table["tomodrgnLabel"] == "junk"]) == junk
    own = set(json.loads(view.ask("json.dumps(gallery.particles_of(['cluster_000']))")))
    assert set(table.index[table["tomodrgnLabel"] == "50S dd"]) == own
    assert (table["tomodrgnLabel"] != "").sum() == len(junk | own)
    view.page.locator(".tomodrgn-write-star").click()
    note.get_by_text("exists already").wait_for(timeout=20_000)  # told in place

    # A level draws all pictures anew; a click shows the map large, at that level.
    picture = tiles.nth(3).locator("img")
    before = blue(view, picture)
    level = view.page.locator(".tomodrgn-gallery-level .noUi-handle")
    level.focus()
    for _ in range(12):
        view.page.keyboard.press("ArrowLeft")
    view.until(lambda: blue(view, picture), lambda n: n > 1.05 * before, 30)
    tiles.nth(3).locator(".tomodrgn-tile-open").click()
    large = view.page.locator(".tomodrgn-gallery .tomodrgn-map canvas").first
    view.until(lambda: coloured(view.picture(large)).sum(), lambda n: n > 1000, 60)
    assert view.ask("gallery.viewer.map_name") == "cluster_003"
    view.shot("gallery-large")
    view.dark()
    tiles.nth(0).scroll_into_view_if_needed()
    view.page.wait_for_timeout(800)
    view.shot("gallery-dark")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
