"""Script in the text of a data set stays text: in the pages that are written and in the HTML of every widget."""

from __future__ import annotations

import html.parser
from collections.abc import Iterator
from pathlib import Path

import ipywidgets
import pytest

import tomodrgn as td
from tests.robustness.hostile_set import EVIL, hostile_run
from tomodrgn.cli import run_command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


class Elements(html.parser.HTMLParser):
    """Elements of a page that would run something of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text = " ".join(f"{name}={value}" for name, value in attrs)
        on = any(name.startswith("on") for name, _ in attrs)
        if tag in ("img", "svg", "script", "iframe") and ("pwned" in text or on or ("src", "x") in attrs):
            self.found.append(f"<{tag} {text}>")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and "pwned" in data and "</script" in data.lower():
            self.found.append(data[:100])


def harm(text: str) -> list[str]:
    parser = Elements()
    parser.feed(text)
    return parser.found


def test_harm_is_seen() -> None:
    assert harm(f"<p>{EVIL}</p>")
    assert harm("<svg/onload=window.pwned=2>")
    assert not harm("<p>&lt;img src=x onerror=window.pwned=1&gt;</p>")


def html_of(widget: ipywidgets.Widget) -> Iterator[str]:
    """The HTML of a widget and of all within it."""
    if isinstance(widget, ipywidgets.HTML | ipywidgets.HTMLMath):
        yield widget.value
        yield widget.description if getattr(widget, "description_allow_html", False) else ""
    for child in getattr(widget, "children", ()):
        yield from html_of(child)


def test_pages_show_text(run: td.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    star = run.particles.source.path
    datadir = run.settings["source"]["datadir"] or [str(Path(run.settings["source"]["path"]).parent)]
    page = tmp_path / "data.html"
    assert run_command(["info", str(star), "--report", str(page), "--datadir", datadir[0]]) == 0
    assert harm(page.read_text()) == []
    assert run_command(["analyze", str(run.folder), "--kmeans", "2"]) == 0
    text = (run.folder / "analysis/report.html").read_text()
    assert harm(text) == []
    assert "&lt;img" in text
    capsys.readouterr()


def test_widgets_show_text(run: td.Run) -> None:
    explorer = td.widgets.LatentExplorer(run)
    viewer = td.widgets.ParticleViewer(run.particles)
    monitor = td.widgets.TrainingMonitor(None, run.folder)
    try:
        viewer.show(list(run.particles.particle_id[:2])) if hasattr(viewer, "show") else None
        for column in ("tomogram", "rlnGroupName", "rlnMicrographName"):
            explorer.colour = column
        explorer.selection.query(explorer.table, f"rlnGroupName != '{EVIL}'")
        for widget in (explorer, viewer, monitor):
            for text in html_of(widget):
                assert harm(text) == [], text[:300]
    finally:
        monitor.close()
