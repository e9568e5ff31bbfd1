"""A run as an app: its views served as a page by Voila, for people who do not read code."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from tomodrgn.cli.servers import ADDRESS, Place

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
    cell: dict[str, object] = {
        "cell_type": "code",
        "id": "views",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]})


def serve_app(folder: Path, place: Place, *, browser: bool) -> None:
    """Serve the views of a run at a place of this machine, until Ctrl-C or SIGTERM.

    Every page that is opened has a kernel and a choice of particles of its own; the token is asked for first.

    Parameters
    ----------
    folder
        A run folder.
    place
        Port and token.
    browser
        Open a browser.
    """
    from voila.app import Voila

    os.environ[RUN_VARIABLE] = str(folder.resolve())  # the kernel of each page has it
    with tempfile.TemporaryDirectory(prefix="tomodrgn-app-") as temporary:
        path = Path(temporary) / f"tomodrgn {folder.resolve().name}.ipynb"  # its name is the title of the page
        path.write_text(app_notebook(), encoding="utf-8")
        options = [f"--Voila.ip={ADDRESS}", f"--port={place.port}", "--show_tracebacks=True"]
        options += ["--Application.log_level=WARN", *([] if browser else ["--no-browser"])]
        # The token goes as an argument of the function, where other users of the machine cannot see it.
        Voila.launch_instance(argv=[str(path), *options], token=place.token)
