"""Script in a data set does nothing in a real browser: explorer, hover, colour legend, particles, monitor, report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.hostile_set import hostile_run

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
    assert (view.tracebacks(), [url for url in view.refused if not url.endswith("/x")]) == ([], [])


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
