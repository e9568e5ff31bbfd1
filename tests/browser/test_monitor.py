"""The form and the training monitor as a person meets them: typing, starting, reloading, looking back."""

from __future__ import annotations

import numpy as np
import pytest

from tomodrgn.training.run import Run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DATA = """
import tomodrgn as td
particles = td.simulate_particles("data", n_particles=60, n_tilts=9, snr=0.3, seed=0, overwrite=True)
form = td.widgets.ConfigForm(
    td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=32, decoder_layers=1, encoder_layers=1),
    td.TrainConfig(epochs=2000, batch_size=8, held_out_fraction=0.2),
    td.PreprocessConfig(max_radius=0.25),
)
form
"""
MONITOR = """
monitor = td.widgets.TrainingMonitor(particles, "run", form)
monitor
"""
# Of the traces of the losses, by name.
TRACE = """(name) => { const plots = [...document.querySelectorAll('.js-plotly-plot')];
    const trace = plots.flatMap(plot => plot.data).find(trace => trace.name === name);
    return trace ? [...trace.y] : []; }"""


def coloured(picture: np.ndarray) -> int:
    """Number of pixels that are neither grey nor white."""
    return int((np.ptp(picture.astype(int), axis=-1) > 40).sum())


def curve(view, name: str = "reconstruction") -> list[float]:
    return view.page.evaluate(TRACE, name)


def grown(view, before: int, name: str = "reconstruction") -> list[float]:
    return view.until(lambda: curve(view, name), lambda y: len(y) > before, 90)


def pictures_drawn(view) -> list[int]:
    """Coloured pixels of each of the three pictures of maps."""
    tiles = view.page.locator(".tomodrgn-epoch-map")
    return [coloured(view.picture(tiles.nth(i))) for i in range(tiles.count())]


def test_form_checks_what_is_typed_and_tells_the_command(open_cells):
    view = open_cells(DATA, MONITOR)
    start = view.page.locator(".tomodrgn-start")
    start.wait_for(timeout=60_000)
    command, epochs = view.page.locator(".tomodrgn-command").first, view.page.locator(".tomodrgn-option-epochs input")
    assert "--epochs 2000" in command.inner_text()
    rows = view.page.locator(".tomodrgn-option-batch_size").bounding_box()
    epochs.fill("0")  # one key after another is not needed: every change counts
    note = view.page.locator(".tomodrgn-note-epochs")
    note.get_by_text("greater than or equal to 1").wait_for(timeout=10_000)
    view.until(start.is_disabled, bool, 10)
    command.get_by_text("correct first: epochs").wait_for(timeout=10_000)
    assert view.page.locator(".tomodrgn-option-batch_size").bounding_box() == rows, "the rows below moved"
    view.shot("monitor-wrong")
    epochs.press("End")
    epochs.press("Backspace")
    epochs.press_sequentially("17")
    view.until(start.is_enabled, bool, 10)
    assert note.locator("span").count() == 1
    for place in (command, view.page.locator(".tomodrgn-monitor .tomodrgn-command")):
        place.get_by_text("--epochs 17").wait_for(timeout=10_000)
    assert view.ask("monitor.command == form.command and monitor.command.endswith('--held-out-fraction 0.2')") == "True"
    view.page.locator(".lm-Accordion-child, .jupyter-widget-Collapse").first.wait_for()
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])


def test_page_and_kernel_may_end_but_the_training_goes_on(open_cells):
    view = open_cells(DATA, MONITOR)
    start = view.page.locator(".tomodrgn-start")
    start.wait_for(timeout=60_000)
    start.click()
    first = grown(view, 1)
    assert len(grown(view, 1, "held-out tilts")) > 1
    view.until(lambda: pictures_drawn(view), lambda n: len(n) == 3 and min(n) > 200, 90)
    view.page.locator(".tomodrgn-pace").get_by_text(" left").wait_for(timeout=30_000)
    assert "particles/s" in view.page.locator(".tomodrgn-pace").inner_text()
    place = view.page.locator(".tomodrgn-log").bounding_box()
    view.shot("monitor-training")
    process = view.ask("monitor.job.pid")

    # The page is loaded again; the kernel lives on, and the cell is run again.
    view.page.reload(wait_until="domcontentloaded")
    view.wait_for_kernel()
    view.run_cells(1, 1)
    again = grown(view, len(first))
    assert again[: len(first)] == pytest.approx(first)
    assert view.ask("monitor.job.pid") == process
    assert view.ask("monitor.state") == "running"

    # The kernel is restarted as well: only the folder is left.
    view.page.evaluate(
        "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
    )
    view.wait_for_kernel()
    view.run_cells(0, 1)
    later = grown(view, len(again))
    assert later[: len(again)] == pytest.approx(again)
    assert view.ask("monitor.job.pid") == process
    assert view.ask("monitor.state") == "running"
    assert view.page.locator(".tomodrgn-start").is_disabled()
    view.until(lambda: pictures_drawn(view), lambda n: len(n) == 3 and min(n) > 200, 90)
    assert view.page.locator(".tomodrgn-log").bounding_box()["width"] == place["width"]
    view.dark()
    view.page.wait_for_timeout(1000)
    view.shot("monitor-dark")

    # An earlier epoch is looked at while the training goes on; then it is stopped.
    slider = view.page.locator(".tomodrgn-epoch .noUi-handle")
    slider.scroll_into_view_if_needed()
    slider.focus()
    view.page.keyboard.press("Home")
    view.until(lambda: view.ask("monitor.epoch_view.maps.epoch"), lambda n: n == "1", 60)
    assert view.ask("monitor.epoch_view.follow") == "False"
    view.page.get_by_text("Maps after epoch 1", exact=True).wait_for(timeout=10_000)
    grown(view, len(later))
    assert view.ask("monitor.epoch_view.epoch") == "1"
    view.page.locator(".tomodrgn-stop").click()
    view.until(lambda: view.ask("monitor.state"), lambda state: state == "stopped", 60)
    view.until(lambda: view.ask("monitor.job.running"), lambda running: running == "False", 30)
    history = Run.open(view.folder / "run").history.query("split == 'train'")
    assert view.until(lambda: curve(view), lambda y: len(y) == len(history), 20) == pytest.approx(
        history["reconstruction"].tolist()
    )
    view.page.locator(".tomodrgn-log-scale input").check()
    view.until(lambda: view.ask("monitor.losses.layout.yaxis.type"), lambda kind: kind == "log", 10)
    view.shot("monitor-stopped")

    # The folder is moved away: told in place, and found again.
    (view.folder / "run").rename(view.folder / "moved")
    view.page.locator(".tomodrgn-message").get_by_text("moved or deleted").wait_for(timeout=20_000)
    view.shot("monitor-gone")
    (view.folder / "moved").rename(view.folder / "run")
    view.until(lambda: view.ask("monitor.state"), lambda state: state == "stopped", 20)
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])


def test_a_linear_run_shows_what_held_out_tilts_tell(open_cells, linear_run):
    view = open_cells(
        "import tomodrgn as td", f"monitor = td.widgets.TrainingMonitor(None, {str(linear_run)!r})\nmonitor"
    )
    facts = view.page.locator(".tomodrgn-fit-facts")
    facts.get_by_text("3 components, to").wait_for(timeout=60_000)
    view.until(lambda: pictures_drawn(view), lambda n: len(n) == 3 and min(n) > 200, 60)
    plot = view.page.locator(".js-plotly-plot").first
    view.until(lambda: coloured(view.picture(plot)), lambda n: n > 300, 30)
    assert "--model linear" in view.page.locator(".tomodrgn-command").inner_text()
    view.shot("monitor-linear")
    view.dark()
    view.page.wait_for_timeout(1000)
    view.shot("monitor-linear-dark")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
