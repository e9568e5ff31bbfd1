"""`tomodrgn lab`: what it copies and what it leaves, and a real server that only this machine reaches."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tomodrgn.cli import lab_verb, notebook_copies, run_command, servers
from tomodrgn.cli.notebook_copies import QUICKSTART, copy_notebooks, shipped_notebooks


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package's folder of three files, which a later version may change."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name in (QUICKSTART, "01_more.ipynb", "PAGE.md"):
        (folder / name).write_text(f"first {name}")
    monkeypatch.setattr(notebook_copies, "shipped_notebooks", lambda: folder)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_projects_own_notebooks_are_found(tmp_path):
    wanted = {path.name for path in shipped_notebooks().iterdir() if path.suffix in (".ipynb", ".md")}
    assert QUICKSTART in wanted
    assert set(copy_notebooks(tmp_path / "work").copied) == wanted == names(tmp_path / "work")


def test_what_the_user_changed_is_kept_and_the_rest_renewed(shipped, tmp_path):
    work = tmp_path / "work"
    assert copy_notebooks(work).copied == (QUICKSTART, "01_more.ipynb", "PAGE.md")
    assert copy_notebooks(work) == notebook_copies.NotebookCopies(copied=(), kept=())

    (work / "data.star").write_text("mine")
    (work / QUICKSTART).write_text("my notes")
    for path in shipped.iterdir():
        path.write_text(f"second {path.name}")
    found = copy_notebooks(work)
    assert found.kept == (QUICKSTART,)
    assert found.copied == ("01_more.ipynb", "PAGE.md")
    assert (work / QUICKSTART).read_text() == "my notes"
    assert (work / "01_more.ipynb").read_text() == "second 01_more.ipynb"
    assert (work / "data.star").read_text() == "mine"

    (work / QUICKSTART).unlink()
    assert copy_notebooks(work).copied == (QUICKSTART,)


@pytest.mark.parametrize("record", ["", "no json", "[1]"])
def test_files_of_like_names_are_kept_without_a_record(shipped, tmp_path, record):
    work = tmp_path / "work"
    work.mkdir()
    (work / "PAGE.md").write_text("of another program")
    (work / notebook_copies.RECORD).write_text(record)
    assert copy_notebooks(work).kept == ("PAGE.md",)
    assert copy_notebooks(work).kept == ("PAGE.md",)
    assert (work / "PAGE.md").read_text() == "of another program"


def test_the_checkouts_own_folder_is_left_alone(shipped):
    assert copy_notebooks(shipped) == notebook_copies.NotebookCopies(copied=(), kept=())
    assert not (shipped / notebook_copies.RECORD).exists()


def test_an_installation_without_notebooks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook_copies, "PACKAGE", tmp_path / "tomodrgn")
    with pytest.raises(FileNotFoundError, match="Install it again"):
        copy_notebooks(tmp_path / "work")


@pytest.fixture
def served(monkeypatch):
    """What would be served, in place of a server."""
    calls = []
    monkeypatch.setattr(lab_verb, "serve", lambda module, options, *, token: calls.append((module, options, token)))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_the_tunnel_is_told_where_there_is_no_display(tmp_path, served, capsys):
    assert run_command(["lab", str(tmp_path)]) == 0
    ((module, options, token),) = served
    text = capsys.readouterr().out
    port = re.search(r"ssh -N -L (\d+):127\.0\.0\.1:\1 \S+@\S+", text)[1]
    assert f"http://127.0.0.1:{port}/lab/tree/{QUICKSTART}?token={token}" in text
    assert module == "jupyterlab"
    assert {"--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"} <= set(options)
    assert len(token) >= 32
    assert not any(token in option for option in options)


@pytest.mark.parametrize(
    ("environment", "options", "browser"),
    [
        ({"DISPLAY": ":0"}, [], True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, [], True),
        ({"DISPLAY": ":0"}, ["--no-browser"], False),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, [], False),
    ],
)
def test_a_browser_is_opened_where_it_can_be_seen(tmp_path, served, monkeypatch, capsys, environment, options, browser):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run_command(["lab", str(tmp_path), *options]) == 0
    assert ("--no-browser" not in served[0][1]) == browser
    assert ("ssh -N" in capsys.readouterr().out) == ("SSH_CONNECTION" in environment)


def test_a_missing_extra_is_named_before_anything_is_copied(tmp_path, served, monkeypatch, capsys):
    monkeypatch.setattr(lab_verb, "MODULES", ("jupyterlab", "no_such_module"))
    assert run_command(["lab", str(tmp_path / "work")]) == 1
    error = capsys.readouterr().err
    assert "Got no no_such_module" in error
    assert '".[notebook]"' in error
    assert not (tmp_path / "work").exists()
    assert served == []


def test_a_port_in_use_is_refused_and_passed_over(tmp_path, served, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_command(["lab", str(tmp_path), "--port", str(port)]) == 2
        assert "in use" in capsys.readouterr().err
    assert run_command(["lab", str(tmp_path), "--port", "99999"]) == 2
    assert "from 1 to 65535" in capsys.readouterr().err
    assert served == []
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not count
        try:
            taken.bind(("127.0.0.1", servers.FIRST_PORT))
            taken.listen()
        except OSError:
            pass  # another server has it: just as good
        assert servers.free_port() > servers.FIRST_PORT


def test_a_file_is_no_folder(tmp_path, served, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(["lab", str(tmp_path / "file")]) == 2
    assert "Name a folder" in capsys.readouterr().err


def status_of(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def listening(port: int) -> set[str]:
    """Local addresses, in hexadecimal, that are listened on at a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and int(address.split(":")[1], 16) == port:
                found.add(address.split(":")[0])
    return found


@pytest.mark.slow
def test_a_real_server_on_this_machine_only_behind_its_token(tmp_path):
    port = servers.free_port()
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "HOME": str(tmp_path)}
    environment.pop("DISPLAY", None)
    command = [sys.executable, "-m", "tomodrgn", "lab", str(tmp_path / "work"), "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            end = time.monotonic() + 120
            while not (found := re.search(r"http://\S+token=\w+", (tmp_path / "log").read_text())) or not status_of(
                found[0]
            ):
                assert server.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()  # noqa: PT018
                time.sleep(0.5)
            address, token = f"http://127.0.0.1:{port}", found[0].split("token=")[1]
            assert status_of(f"{address}/api/contents") == 403
            assert status_of(f"{address}/api/contents/{QUICKSTART}?token={token}") == 200
            assert status_of(found[0]) == 200
            if Path("/proc/net/tcp").exists():
                assert listening(port) == {"0100007F"}
            assert token not in Path(f"/proc/{server.pid}/cmdline").read_text()
        finally:
            server.terminate()
            server.wait(30)
    assert "Error" not in (tmp_path / "log").read_text()
