"""A real JupyterLab in a real Chromium, shared by all browser tests; nothing outside this machine can be reached."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, Route, sync_playwright

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
    # WebGL on the processor.
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
]  # fmt: skip
START_SECONDS = 120
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"


@pytest.fixture(scope="session")
def lab_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of a JupyterLab on this machine, and the folder it serves."""
    folder, state = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("lab-state")
    news = state / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
        "--ServerApp.disable_check_xsrf=True", "--expose-app-in-browser", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
        f"--ServerApp.root_dir={folder}", f"--LabApp.workspaces_dir={state}/workspaces",
        f"--LabApp.user_settings_dir={state}/settings",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": f"{state}/config",
        "JUPYTER_DATA_DIR": f"{state}/data",
        "IPYTHONDIR": f"{state}/ipython",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")])),
        "OMP_NUM_THREADS": "1",
    }
    log = (state / "lab.log").open("wb")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None or time.monotonic() > end:
                    pytest.fail((state / "lab.log").read_text()[-3000:])
                time.sleep(0.2)
        yield address, folder
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=CHROMIUM_FLAGS)
        yield running
        running.close()


class Notebook:
    """A notebook open in JupyterLab: run its cells, ask its kernel, look at its pixels."""

    def __init__(self, page: Page, folder: Path, shots: Path) -> None:
        self.page, self.folder, self.shots = page, folder, shots
        self.refused: list[str] = []
        self.console: list[str] = []

    def guard(self, address: str) -> None:
        """Refuse, and remember, every request to the outside; remember what goes wrong in the page."""

        def route(route: Route, request: Request) -> None:
            if request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                self.refused.append(request.url)
                route.abort()

        self.page.context.route("**/*", route)
        sockets = address.replace("http", "ws", 1)
        self.page.on("websocket", lambda ws: None if ws.url.startswith(sockets) else self.refused.append(ws.url))
        self.page.on("console", lambda m: self.console.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))

    def open(self, url: str) -> None:
        """Load the page and wait for its kernel."""
        self.page.goto(url, wait_until="domcontentloaded")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Wait until the notebook is there and its kernel has nothing to do."""
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        self.page.wait_for_function(f"() => {KERNEL}?.status === 'idle'", timeout=60_000)

    def run_cells(self, first: int, last: int, seconds: float = 120) -> None:
        """Run cells, from the first up to and with the last, and wait until all have run.

        Raises
        ------
        AssertionError
            If one of them failed.
        """
        self.page.evaluate(
            """async ([first, last]) => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.deselectAll();
                for (let i = first; i <= last; i++) {
                    notebook.activeCellIndex = i;
                    window.jupyterapp.commands.execute('notebook:run-cell');
                }
            }""",
            [first, last],
        )
        self.page.wait_for_function(
            """([first, last]) => window.jupyterapp.shell.currentWidget.content.widgets.slice(first, last + 1).every(
                cell => cell.model.type !== 'code' || (cell.model.executionCount !== null
                    && cell.model.executionState !== 'running'))""",
            arg=[first, last],
            timeout=1000 * seconds,
        )
        assert self.tracebacks() == []

    def tracebacks(self) -> list[str]:
        """Error outputs of all cells."""
        return self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap(cell =>
                cell.model.type === 'code' ? cell.model.outputs.toJSON().filter(o => o.output_type === 'error')
                    .map(o => o.ename + ': ' + o.evalue) : [])"""
        )

    def ask(self, expression: str) -> str:
        """The value of a Python expression in the kernel, as text."""
        return self.page.evaluate(
            f"""async (code) => {{
                const future = {KERNEL}.requestExecute({{code, store_history: false}});
                let text = '';
                future.onIOPub = message => {{
                    if (message.header.msg_type === 'stream') text += message.content.text;
                    if (message.header.msg_type === 'error') text += message.content.evalue;
                }};
                await future.done;
                return text;
            }}""",
            f"print({expression}, end='')",
        )

    def until(self, question, wanted, seconds: float = 60):
        """Ask again until the answer is as wanted; return it."""
        end = time.monotonic() + seconds
        while not wanted(answer := question()):
            if time.monotonic() > end:
                self.shot("in-vain")
                pytest.fail(f"waited {seconds} s in vain; last answer: {answer!r}")
            self.page.wait_for_timeout(250)
        return answer

    def picture(self, what: Locator) -> np.ndarray:
        """What a part of the page looks like, (height, width, 3)."""
        what.scroll_into_view_if_needed()
        return np.asarray(Image.open(io.BytesIO(what.screenshot())).convert("RGB"))

    def dark(self) -> None:
        """Change JupyterLab to its dark theme."""
        self.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        self.page.wait_for_selector("body[data-jp-theme-light='false']", state="attached", timeout=20_000)

    def shot(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.screenshot(path=self.shots / f"{name}.png")

    def lasso(self, what: Locator, corners: list[tuple[float, float]]) -> None:
        """Draw a line with the mouse through places of a part of the page, given as shares of its width and height."""
        box = what.bounding_box()
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=12)
        self.page.mouse.up()

    def choose(self, name: str, option: str) -> None:
        """Choose an option of a dropdown, by the class name of its widget."""
        box = self.page.locator(f".{name} select")
        box.scroll_into_view_if_needed()
        box.select_option(option)


@pytest.fixture(scope="session")
def linear_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a linear model of 60 simulated particles in three states, four tomograms."""
    import tomodrgn as td

    folder = tmp_path_factory.mktemp("linear")
    particles = td.simulate_particles(folder / "data", n_particles=60, n_tilts=9, snr=0.3, seed=0)
    return td.fit_linear(particles, folder / "run", td.LinearConfig(n_components=3)).folder


@pytest.fixture
def show_notebook(lab_url: tuple[str, Path], browser: Browser, tmp_path: Path):
    """Opens a notebook in a window of its own, from a folder of its own."""
    address, folder = lab_url
    shots = Path(os.environ.get("TOMODRGN_SCREENSHOTS", tmp_path))
    contexts = []

    def opened(notebook: nbformat.NotebookNode, name: str) -> Notebook:
        place = folder / f"{len(list(folder.iterdir())):02d}"
        place.mkdir()
        nbformat.write(notebook, place / name)
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        contexts.append(context)
        view = Notebook(context.new_page(), place, shots)
        view.guard(address)
        view.open(f"{address}/lab/tree/{place.name}/{name}?reset")
        return view

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def open_notebook(show_notebook):
    """Opens a copy of a notebook of the project with other parameters."""

    def opened(name: str, **parameters: object) -> Notebook:
        notebook = nbformat.read(CHECKOUT / "notebooks" / name, as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
        return show_notebook(notebook, name)

    return opened


@pytest.fixture
def open_cells(show_notebook):
    """Opens a notebook of the given code cells, runs them all, and has their widgets on the page."""

    def opened(*cells: str, seconds: float = 120) -> Notebook:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        view = show_notebook(notebook, "cells.ipynb")
        view.run_cells(0, len(cells) - 1, seconds)
        return view

    return opened
