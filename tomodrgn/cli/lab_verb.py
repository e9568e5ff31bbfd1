"""The verb that opens the notebooks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tomodrgn.cli.app_server import serve_app
from tomodrgn.cli.notebook_copies import QUICKSTART, copy_notebooks
from tomodrgn.cli.servers import ADDRESS, Place, free_port, has_display, need_modules, serve, tunnel_lines

__all__ = ["lab"]

MODULES = ("jupyterlab", "ipykernel", "ipywidgets", "anywidget", "jscatter", "k3d", "plotly")


def lab(
    folder: Path = Path(),
    /,
    *,
    app: Path | None = None,
    port: int | None = None,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
) -> None:
    """Copy the notebooks into a folder, beside your data, and open JupyterLab there, on the quickstart.

    Notebooks that you changed are left as they are. The server listens on this machine only, and asks for a token.

    Parameters
    ----------
    folder
        Where to work: made if it is not there; this one if not given.
    app
        Serve the views of this run as a page without code (Voila), rather than notebooks; FOLDER is not needed then.
    port
        Port to listen on; the first free one from 8888 on if not given.
    browser
        Open a browser; without a display the line for an ssh tunnel is printed instead.
    """
    need_modules(MODULES, "`tomodrgn lab`")
    shown = browser and has_display()
    if app is not None:
        from tomodrgn.training.run import Run  # the help of all verbs is to be light

        need_modules(["voila"], "`tomodrgn lab --app`")
        run, place = Run.open(app), Place(port=free_port(port), page="/")
        _tell(place)
        serve_app(run.folder, place, browser=shown)
        return
    place = Place(port=free_port(port), page=f"/lab/tree/{QUICKSTART}")
    copies = copy_notebooks(folder)
    if copies.copied:
        print(f"copied to {folder.resolve()}: {', '.join(copies.copied)}")
    if copies.kept:
        print(f"kept as you changed them: {', '.join(copies.kept)}")
    _tell(place)
    serve("jupyterlab", lab_options(place, folder, browser=shown), token=place.token)


def _tell(place: Place) -> None:
    """How to reach the server."""
    lines = [f"open {place.url}"] if has_display() else tunnel_lines(place)
    print(*lines, "Ctrl-C here ends it.", sep="\n", flush=True)


def lab_options(place: Place, folder: Path, *, browser: bool) -> list[str]:
    """Options of JupyterLab that serve a folder at a place, to this machine only."""
    options = [
        str(folder.resolve() / QUICKSTART),
        f"--ServerApp.ip={ADDRESS}",
        f"--ServerApp.port={place.port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder.resolve()}",
        "--Application.log_level=WARN",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if not browser:
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, for instance; the token guards it all the same
        options.append("--allow-root")
    return options
