"""A run as an app: its views served as a page by Voila, for people who do not read code."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from pathlib import Path

from tomodrgn.training.run import Run

__all__ = ["app_notebook", "serve_app"]

RUN_VARIABLE = "TOMODRGN_APP_RUN"


def app_notebook() -> str:
    """The notebook behind the page, as JSON: one cell that lays out the views of the run named in the environment.

    Examples
    --------
    >>> json.loads(app_notebook())["nbformat"]
    4
    """
    source = f"import os\n\nimport tomodrgn as td\n\ntd.widgets.explore(os.environ[{RUN_VARIABLE!r}])"
    cell = {"cell_type": "code", "id": "views", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]})


def serve_app(run: Path | str, *, port: int = 8866, browser: bool = True, dark: bool = False) -> None:
    """Serve the views of a run on this machine (127.0.0.1) until Ctrl-C.

    Every page has a kernel, so a choice of its own. Only who has the token in the address printed may open one.

    Parameters
    ----------
    run
        A run folder.
    port
        Port; the next free one is taken if it is in use.
    browser
        Open a browser.
    dark
        Dark colours.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is no run.
    ImportError
        If Voila is not installed.
    """
    folder = Run.open(run).folder.resolve()
    if importlib.util.find_spec("voila") is None:
        raise ImportError('Got no Voila, which serves the app. In the checkout: python -m pip install ".[notebook]"')
    from voila.app import Voila

    os.environ[RUN_VARIABLE] = str(folder)  # the kernel of each page has it
    with tempfile.TemporaryDirectory(prefix="tomodrgn-app-") as place:
        # The name of the notebook is the title of the page.
        path = Path(place) / f"tomodrgn {folder.name}.ipynb"
        path.write_text(app_notebook(), encoding="utf-8")
        options = ["--Voila.ip=127.0.0.1", f"--port={port}", "--Voila.auto_token=True", "--show_tracebacks=True"]
        options += [f"--theme={'dark' if dark else 'light'}", *([] if browser else ["--no-browser"])]
        Voila.launch_instance(argv=[str(path), *options])
