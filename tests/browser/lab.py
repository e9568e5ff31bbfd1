"""A real JupyterLab on this machine, and a notebook in it that a browser drives."""

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
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, Route

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
    # WebGL on the processor.
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
]  # fmt: skip
START_SECONDS = 120
NO_FAULTS = (
    # The canvas of jupyter-scatter, where drawing takes longer than what changes it.
    "Ignoring draw call as the previous draw call has not yet finished",
    # anywidget of a widget that is late on a slow page: it is brought back, as test_slow_page.py shows.
    "[anywidget] Failed to initialize model.",
)
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"


@contextmanager
def running_lab(folder: Path, state: Path, *, threads: int = 1) -> Iterator[str]:
    """Address of a JupyterLab that serves a folder to this machine, and ends with the block; kernels have `threads`.

    Raises
    ------
    RuntimeError
        If it does not start; with the end of its log.
    """
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
        "OMP_NUM_THREADS": str(threads),
    }
    log = (state / "lab.log").open("wb")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError) as error:
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((state / "lab.log").read_text()[-3000:]) from error
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


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
        self.page.on("console", lambda message: self._hear(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._hear(str(error)))

    def _hear(self, text: str) -> None:
        if not any(remark in text for remark in NO_FAULTS):
            self.console.append(text)

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

    def keep_busy(self, seconds: float) -> None:
        """Have the kernel sleep, and do not wait for it."""
        self.page.evaluate(
            f"""code => {{
                window.kernelSleeps = true;
                const future = {KERNEL}.requestExecute({{code, store_history: false}});
                future.done.then(() => {{ window.kernelSleeps = false; }});
            }}""",
            f"__import__('time').sleep({seconds})",
        )

    def is_busy(self) -> bool:
        """Whether the kernel still sleeps. (Its status does not tell: widgets may speak to it beside a cell.)"""
        return bool(self.page.evaluate("window.kernelSleeps"))

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
        """Change JupyterLab to its dark theme; it stays, for the pages of later tests, too."""
        self._theme("Dark")

    def light(self) -> None:
        """Change JupyterLab to its light theme."""
        self._theme("Light")

    def _theme(self, name: str) -> None:
        command = f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {name}'}})"
        self.page.evaluate(command)
        light = str(name == "Light").lower()
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached", timeout=20_000)

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


def cells_notebook(*cells: str) -> nbformat.NotebookNode:
    """A notebook of the given code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def open_in_lab(
    browser: Browser,
    place: tuple[str, Path],
    notebook: nbformat.NotebookNode,
    *,
    name: str,
    shots: Path,
    script: str = "",
) -> Notebook:
    """Open a notebook in a window of its own; `place` is the address of a JupyterLab and the folder it serves.

    The page runs `script` before any other.
    """
    address, served = place
    folder = served / f"{len(list(served.iterdir())):02d}"
    folder.mkdir()
    nbformat.write(notebook, folder / name)
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.add_init_script(script)
    view = Notebook(context.new_page(), folder, shots)
    view.guard(address)
    view.open(f"{address}/lab/tree/{folder.name}/{name}?reset")
    return view
