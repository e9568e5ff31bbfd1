"""A page that is too slow for anywidget: all widgets come nevertheless, hear Python and are heard."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# anywidget's two seconds are over at once, so that no widget is in time.
NO_PATIENCE = """
    window.widgetsInVain = 0;
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (milliseconds) => {
        if (milliseconds !== 2000) return timeout(milliseconds);
        window.widgetsInVain += 1;
        return timeout(0);
    };
"""
CELLS = (
    "import tomodrgn as td\nfrom tomodrgn.widgets.plotly_figure import figure_widget\nrun = td.Run.open({run!r})",
    "figure = figure_widget({'type': 'scatter', 'x': [0, 1], 'y': [0, 1]})\nfigure",
    "explorer = td.widgets.LatentExplorer(run, height=320, maps=False)\nexplorer",
    "gallery = td.widgets.VolumeGallery.of_run(run, 3, selection=explorer.selection)\ngallery.wait(60)\ngallery",
)


def test_widgets_that_come_late(open_cells, linear_run):
    view = open_cells(*(cell.replace("{run!r}", repr(str(linear_run))) for cell in CELLS), script=NO_PATIENCE)
    page = view.page
    tiles = page.locator(".tomodrgn-tile")
    view.until(tiles.count, lambda n: n == 3, 60)
    # From Python to the page: pictures and labels of tiles, the title of a figure.
    drawn = "[...document.querySelectorAll('.tomodrgn-tile img')].filter(image => image.naturalWidth > 0).length"
    view.until(lambda: page.evaluate(drawn), lambda n: n == 3, 60)
    view.ask("setattr(gallery, 'labels', {'cluster_001': 'told later'})")
    view.until(tiles.nth(1).locator(".tomodrgn-tile-label").input_value, lambda text: text == "told later", 20)
    view.ask("setattr(figure.layout, 'title', 'a later title')")
    page.locator(".tomodrgn-figure").get_by_text("a later title").wait_for(timeout=60_000)
    # From the page to Python, and back to the scatter.
    tiles.nth(2).locator(".tomodrgn-tile-tick").check()
    assert view.until(lambda: view.ask("gallery.ticked"), lambda t: t != "()", 20) == "('cluster_002',)"
    scatter = page.locator(".tomodrgn-scatter canvas").first
    view.light()
    assert view.until(lambda: view.picture(scatter).mean(), lambda grey: grey > 200, 60)
    view.dark()
    assert view.until(lambda: view.picture(scatter).mean(), lambda grey: grey < 100, 60)
    view.shot("slow-page-dark")
    assert page.evaluate("window.widgetsInVain") >= 6
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
