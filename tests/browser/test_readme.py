"""From `git clone` to a lasso on a latent scatter, with nothing but what the README says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser

from tests.browser.lab import CHECKOUT, Notebook
from tests.browser.test_quickstart import NAME, SMALL, cell_with, coloured, start

pytestmark = [pytest.mark.browser, pytest.mark.slow]

INSTALL_SECONDS, START_SECONDS = 1500, 120


def line_of_readme(words: str) -> str:
    """The one line of code in the README with these words."""
    blocks = re.findall(r"```\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (line,) = [line for block in blocks for line in block.splitlines() if words in line]
    return line


def cloned(folder: Path) -> Path:
    """A clone of the checkout; of a copy without a history, its files."""
    if (CHECKOUT / ".git").exists():
        subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(folder)], check=True)
    else:
        shutil.copytree(CHECKOUT, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    return folder


@contextmanager
def typed(command: str, folder: Path, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A line typed into a shell, and ended with all that it started."""
    with log.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield shell
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(30)


def wait_for(pattern: str, log: Path, shell: subprocess.Popen, seconds: float) -> str:
    """What the pattern finds in what was printed, as soon as it is there."""
    end = time.monotonic() + seconds
    while not (found := re.search(pattern, log.read_text(errors="replace"))):
        assert shell.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.5)
    return found.group(0)


def test_from_the_clone_to_the_lasso(browser: Browser, tmp_path: Path) -> None:
    clone, venv, log = cloned(tmp_path / "clone"), tmp_path / "venv", tmp_path / "shell.log"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONPATH", "VIRTUAL_ENV", "XAUTHORITY")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment |= {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    # The driver's handle on the page; and no question about news.
    config = tmp_path / "JUPYTER_CONFIG_DIR"
    news = config / "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    (config / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))

    with typed(line_of_readme("tomodrgn lab my_project"), clone, environment, log) as shell:
        address = wait_for(r"http://(127\.0\.0\.1|localhost):\d+/\S*token=\w+", log, shell, INSTALL_SECONDS)
        assert "ssh" in log.read_text()  # no display: the line for a tunnel
        # A smaller set than a reader would have, in the one cell of parameters.
        copy = clone / "my_project" / NAME
        notebook = nbformat.read(copy, as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source += "".join(f"\n{key} = {value!r}" for key, value in SMALL.items())
        nbformat.write(notebook, copy)
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        view = Notebook(context.new_page(), copy.parent, tmp_path)
        view.guard(re.match(r"http://[^/]+", address).group(0))
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                view.open(address)
                break
            except Exception:  # the server says its address a little before it answers
                if time.monotonic() > end:
                    raise
                time.sleep(1)
        start(view)
        view.until(lambda: view.ask("monitor.state"), lambda state: state == "finished", 240)
        view.run_cells(cell_with("td.Run.open"), cell_with("LatentExplorer"))
        canvas = view.page.locator(".tomodrgn-scatter canvas").first
        canvas.wait_for(timeout=60_000)
        view.until(lambda: view.picture(canvas), lambda p: coloured(p).sum() > 200, 60)
        view.lasso(canvas, [(0.5, 0.005), (0.995, 0.005), (0.995, 0.995), (0.5, 0.995), (0.5, 0.2)])
        chosen = view.until(lambda: int(view.ask("len(explorer.selection)")), lambda n: n > 0, 20)
        view.page.get_by_text(f"{chosen} of {SMALL['n_particles']} particles chosen").wait_for(timeout=10_000)
        assert view.ask("__import__('tomodrgn').__file__").startswith(str(venv))
        assert (view.tracebacks(), view.refused) == ([], [])
        context.close()
