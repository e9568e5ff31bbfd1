"""A real JupyterLab in a real Chromium, shared by all browser tests; nothing outside this machine can be reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import CHECKOUT, CHROMIUM_FLAGS, Notebook, cells_notebook, open_in_lab, running_lab


@pytest.fixture(scope="session")
def lab_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of a JupyterLab on this machine, and the folder it serves."""
    folder = tmp_path_factory.mktemp("lab")
    with running_lab(folder, tmp_path_factory.mktemp("lab-state")) as address:
        yield address, folder


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=CHROMIUM_FLAGS)
        yield running
        running.close()


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
    shots = Path(os.environ.get("TOMODRGN_SCREENSHOTS", tmp_path))
    contexts = []

    def opened(notebook: nbformat.NotebookNode, name: str, script: str = "") -> Notebook:
        view = open_in_lab(browser, lab_url, notebook, name=name, shots=shots, script=script)
        contexts.append(view.page.context)
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

    def opened(*cells: str, seconds: float = 120, script: str = "") -> Notebook:
        view = show_notebook(cells_notebook(*cells), "cells.ipynb", script)
        view.run_cells(0, len(cells) - 1, seconds)
        return view

    return opened
