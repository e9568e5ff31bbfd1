"""Servers that a browser is pointed at: on this machine only, behind a token, and how to reach them from elsewhere."""

from __future__ import annotations

import getpass
import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

__all__ = ["ADDRESS", "Place", "free_port", "has_display", "need_modules", "serve", "tunnel_lines"]

ADDRESS = "127.0.0.1"
FIRST_PORT, PORTS = 8888, 50


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens, and what it asks of who comes.

    Parameters
    ----------
    port
        Its port on this machine.
    page
        Path of its first page, beginning with a slash.
    token
        What the address must carry; drawn anew for each server.
    """

    port: int
    page: str
    token: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)

    @property
    def url(self) -> str:
        """Address of the first page, with the token."""
        return f"http://{ADDRESS}:{self.port}{self.page}?token={self.token}"


def need_modules(names: Iterable[str], what: str) -> None:
    """Refuse to go on without modules of the notebook extra.

    Raises
    ------
    RuntimeError
        If one is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"Got no {', '.join(missing)}, expected the packages of the notebook extra, which {what} needs. "
            'In the checkout of tomodrgn: python -m pip install ".[notebook]"'
        )


def free_port(wanted: int | None = None) -> int:
    """A port of this machine that nobody listens on: the one wanted, else the first from 8888 on.

    Raises
    ------
    ValueError
        If the port wanted is taken or no port.
    RuntimeError
        If none of those tried is free.
    """
    if wanted is not None and not 1 <= wanted <= 65535:
        raise ValueError(f"Got port {wanted}, expected one from 1 to 65535. Choose another, or give no --port.")
    candidates = range(FIRST_PORT, FIRST_PORT + PORTS) if wanted is None else [wanted]
    for port in candidates:
        with socket.socket() as probe:
            # As servers do, so that connections that have just ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return port
    if wanted is not None:
        raise ValueError(f"Got port {wanted}, which is in use. Choose another, or give no --port.")
    raise RuntimeError(f"Got no free port from {FIRST_PORT} to {candidates[-1]}. Give another with --port.")


def has_display() -> bool:
    """Whether a browser on this machine could be seen by who asks: not from another machine, not without a screen."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def tunnel_lines(place: Place) -> list[str]:
    """What to type on one's own machine to reach a server of this one."""
    host = socket.getfqdn() or socket.gethostname()
    return [
        "No display here. On the machine where you sit, in a terminal of its own, type",
        f"    ssh -N -L {place.port}:{ADDRESS}:{place.port} {_user()}@{host}",
        "(or the name by which you reach this machine), and open",
        f"    {place.url}",
    ]


def serve(module: str, options: Sequence[str], *, token: str) -> NoReturn:
    """Become a server: a module of this interpreter, which from here on answers signals and gives the exit code.

    The token goes by the environment, where other users of the machine cannot see it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", module, *options]
    os.execve(sys.executable, command, {**os.environ, "JUPYTER_TOKEN": token})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "USER"
