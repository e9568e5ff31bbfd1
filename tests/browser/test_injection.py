"""Script in the texts of a data set does nothing in a real browser, in no view and not in the reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.hostile_set import EVIL, hostile_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Elements that the texts of the data set would have become, in the page, its frames and shadow roots.
FOUND = """() => {
    const found = [];
    const look = root => {
        for (const element of root.querySelectorAll('*')) {
            const text = element.tagName + ' ' + [...element.attributes].map(a => a.name + '=' + a.value).join(' ');
            const runs = [...element.attributes].some(a => a.name.startsWith('on') && a.value.includes('pwned'));
            const script = element.tagName === 'SCRIPT' && element.textContent.trim().startsWith('window.pwned');
            if (runs || script || (element.tagName === 'IMG' && element.getAttribute('src') === 'x')) found.push(text);
            if (element.shadowRoot) look(element.shadowRoot);
        }
    };
    look(document);
    return [String(window.pwned), ...found];
}"""


def test_script_in_every_text_does_nothing(open_cells, browser, tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    view = open_cells(
        f"import tomodrgn as td\nrun = td.Run.open({str(run.folder)!r})",
        "explorer = td.widgets.LatentExplorer(run)\nexplorer",
        "viewer = td.widgets.ParticleViewer(run.particles)\nviewer",
        "monitor = td.widgets.TrainingMonitor(None, run.folder)\nmonitor",
        seconds=240,
    )
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=90_000)
    assert view.page.evaluate(FOUND) == ["undefined"]
    for column in ("tomogram", "userNote", "rlnGroupName", "userScript"):
        view.ask(f"setattr(explorer, 'colour', {column!r})")
        view.page.wait_for_timeout(700)
        box = canvas.bounding_box()
        for step in range(1, 8):  # hover across the points
            view.page.mouse.move(
                box["x"] + box["width"] * step / 8, box["y"] + box["height"] * (0.3 + step / 20), steps=6
            )
        assert view.page.evaluate(FOUND) == ["undefined"], column
    view.ask("explorer.selection.query(explorer.table, \"userNote contains 'img'\")")
    view.ask("explorer.selection.save(run, 'mine')")
    view.page.wait_for_timeout(1000)
    assert view.page.evaluate(FOUND) == ["undefined"]
    assert "<img src=x" in view.page.locator("body").inner_text()
    view.shot("injection")
    assert (view.tracebacks(), view.refused) == ([], [])


PLACES = """
import numpy as np, pandas as pd, tomodrgn as td
from pathlib import Path
from tomodrgn.io.mrc import write_volume
from tomodrgn.particles.position_set import Positions
run = td.Run.open({folder!r})
ids, tomogram = run.particles.particle_id, run.particles.tomogram
places = np.random.default_rng(0).uniform(30, 290, (len(ids), 3))
turns = np.tile(np.eye(3), (len(ids), 1, 1))
table = pd.DataFrame(index=range(len(ids)))
positions = Positions(particle_id=ids, tomogram=tomogram, position_angst=places, rotations=turns, kind='relion5',
                      path=Path('x.star'), source=table)
volume = Path({folder!r}).parent / (str(tomogram[0]) + '.mrc')
write_volume(volume, np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32), 10.0)
"""


def test_gallery_and_tomogram_of_a_hostile_set(open_cells, tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    view = open_cells(
        PLACES.format(folder=str(run.folder)),
        "shown = td.widgets.TomogramViewer(run, tomograms={tomogram[0]: volume}, positions=positions)\nshown",
        f"maps = td.generate_volumes(run, pd.DataFrame({{'z1': [0., 1.], 'z2': [0., 1.]}}, index=['a', {EVIL!r}]))\n"
        "gallery = td.widgets.VolumeGallery(maps)\ngallery.wait(60)\ngallery",
        seconds=240,
    )
    view.page.locator(".tomodrgn-tile").nth(1).wait_for(timeout=60_000)
    for column in ("tomogram", "userNote", "rlnGroupName", "userScript"):
        view.ask(f"setattr(shown, 'colour', {column!r})")
        view.page.wait_for_timeout(500)
        assert view.page.evaluate(FOUND) == ["undefined"], column
    view.ask("setattr(shown, 'tomogram', str(tomogram[-1]))")  # which has no volume
    view.ask(f"setattr(gallery, 'labels', dict.fromkeys(maps.names, {EVIL!r}))")
    view.page.wait_for_timeout(2000)
    assert view.page.evaluate(FOUND) == ["undefined"]
    assert EVIL in view.page.locator(".tomodrgn-tile-text").nth(1).inner_text()
    view.shot("injection-tomogram")
    assert (view.tracebacks(), view.refused) == ([], [])


def test_report_of_a_hostile_set(browser, tmp_path: Path) -> None:
    from tomodrgn.cli import run_command

    run = hostile_run(tmp_path)
    star, data = run.settings["source"]["path"], tmp_path / "page.html"
    assert run_command(["info", star, "--report", str(data)]) == 0
    assert run_command(["analyze", str(run.folder), "--kmeans", "2"]) == 0
    context = browser.new_context()
    try:
        for path in (data, run.folder / "analysis/report.html"):
            page = context.new_page()
            page.goto(path.as_uri())
            page.wait_for_timeout(500)
            assert page.evaluate(FOUND) == ["undefined"], path
            shown = page.locator("body").inner_text()
        assert "<img src=x" in shown  # of the run, whose page names columns and tomograms
    finally:
        context.close()
