"""Follow binder/ step by step as mybinder.org would, then run every notebook with 2 GB of memory on one core.

``python tests/benchmarks/binder.py`` needs Linux, the Python of binder/runtime.txt and a package index; nothing of the
project need be installed. In a clean folder and environment it copies the checkout, checks the packages of apt.txt (as
root with --install-apt, installs them), installs requirements.txt, runs postBuild, starts JupyterLab by start, and
executes the notebooks with the parameters that a reader finds, buttons pressed. Server, kernels and trainings together
are held to --memory-mib by a control group (as root), or else each process by its data segment; what is printed as peak
is the memory of all of them that cannot be given back (no file cache), sampled five times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MIB = 2**20
GROUP = "tomodrgn-binder"
# Executes a notebook, as JupyterLab would, with its buttons pressed.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
for cell in notebook.cells:
    if "parameters" in cell.metadata.get("tags", []):
        pressed = {k: v for k, v in cell.metadata.get("nbmake", {}).get("mock", {}).items() if v is True}
        cell.source += "".join(f"\\n{name} = {value!r}" for name, value in pressed.items())
NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
told = [output.text for output in outputs if output.get("name") == "stderr"]
sys.exit("warnings: " + "".join(told) if told else 0)
"""


class MemoryLimit:
    """Holds processes to an amount of memory together, and samples what they take."""

    def __init__(self, limit: int) -> None:
        self.limit, self.folder, self.peak = limit, None, 0
        unified, legacy = Path("/sys/fs/cgroup/cgroup.controllers"), Path("/sys/fs/cgroup/memory")
        root = legacy if legacy.is_dir() else Path("/sys/fs/cgroup") if unified.is_file() else None
        name, stat = ("memory.limit_in_bytes", "total_rss") if root == legacy else ("memory.max", "anon")
        self._stat = stat
        try:
            if root is not None:
                folder = root / f"{GROUP}-{os.getpid()}"
                folder.mkdir(exist_ok=True)
                (folder / name).write_text(str(limit))
                self.folder = folder
        except OSError:
            self.folder = None
        self._done = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def enforced_by(self) -> str:
        return f"control group {self.folder}" if self.folder else "data segment of each process (no control group)"

    def join(self) -> None:
        """In the child, before it runs: one core, and the limit."""
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))

    def now(self) -> int:
        """Bytes taken now."""
        if self.folder is not None:
            rows = (line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
            return next(int(value) for name, value in rows if name == self._stat)
        return sum(_resident(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit() and _is_ours(p))

    def _sample(self) -> None:
        while not self._done.wait(0.2):
            self.peak = max(self.peak, self.now())

    def close(self) -> None:
        self._done.set()
        time.sleep(0.5)
        if self.folder is not None:
            try:
                self.folder.rmdir()
            except OSError as error:
                print(f"left {self.folder}: {error}")


def _is_ours(process: Path) -> bool:
    try:
        return f"{GROUP}=1".encode() in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _resident(pid: int) -> int:
    """Bytes that a process has for itself."""
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(row.split()[1]) for row in rows if row.startswith("RssAnon")), 0)


def apt_packages(*, install: bool) -> None:
    """Say which packages are there; those that Debian or Ubuntu does not know are an error."""
    names = (CHECKOUT / "binder/apt.txt").read_text().split()
    if install:
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *names], check=True)
    unknown = [n for n in names if subprocess.run(["apt-cache", "show", n], capture_output=True).returncode]
    there = [n for n in names if subprocess.run(["dpkg", "-s", n], capture_output=True).returncode == 0]
    if unknown:
        sys.exit(f"apt.txt names packages that are not known here: {', '.join(unknown)}")
    print(f"apt.txt: all {len(names)} packages are known, {len(there)} are installed")


def copied_checkout(folder: Path) -> Path:
    """The files of the checkout that are not ignored, as a clone has them."""
    listed = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    for name in names:
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
    return folder


def find_python() -> str:
    """The interpreter that binder/runtime.txt asks for."""
    wanted = (CHECKOUT / "binder/runtime.txt").read_text().strip().replace("-", "")
    found = shutil.which(wanted) or (sys.executable if f"python3.{sys.version_info[1]}" == wanted else None)
    return found or sys.exit(f"{wanted} was not found")


class Steps:
    """Runs steps, keeps and prints their time and peak."""

    def __init__(self, limit: MemoryLimit) -> None:
        self.limit, self.rows, self.failed = limit, [], False

    def run(self, name: str, work: Callable[[], int]) -> None:
        self.limit.peak, began = 0, time.monotonic()
        code = work()
        row = {"step": name, "seconds": round(time.monotonic() - began, 1), "peak_mib": self.limit.peak // MIB}
        self.rows.append({**row, "ok": code == 0})
        self.failed |= code != 0
        result = "ok" if code == 0 else "FAILED"
        print(f"{name:32} {row['seconds']:8.1f} s {row['peak_mib']:6d} MiB  {result}", flush=True)


def start_server(command: list[str], port: int, limit: MemoryLimit, **place: object) -> subprocess.Popen:
    """Start JupyterLab and wait until it answers."""
    server = subprocess.Popen(command, preexec_fn=limit.join, start_new_session=True, **place)  # noqa: PLW1509
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/lab", timeout=10).close()
            return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    server.kill()
    sys.exit("JupyterLab did not answer within 120 s")


def main() -> None:
    """Build, start, run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("--install-apt", action="store_true")
    parser.add_argument("--folder", type=Path, help="build here, and keep it; a build that is there is used again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tomodrgn-binder-"))
    limit = MemoryLimit(options.memory_mib * MIB)
    steps = Steps(limit)
    try:
        print(f"{options.memory_mib} MiB on one core, by {limit.enforced_by()}", flush=True)
        apt_packages(install=options.install_apt)
        build_and_run(folder, steps, limit)
    finally:
        limit.close()
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    peak = max(row["peak_mib"] for row in steps.rows)
    print(f"highest peak {peak} MiB of {options.memory_mib}; {'FAILED' if steps.failed else 'ok'}")
    if options.json:
        options.json.write_text(json.dumps({"limit": limit.enforced_by(), "steps": steps.rows}, indent=2) + "\n")
    sys.exit(steps.failed)


def build_and_run(folder: Path, steps: Steps, limit: MemoryLimit) -> None:
    """What repo2docker does in order, then the notebooks."""
    home, venv = folder / "home", folder / "venv"
    kept = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.endswith("_proxy")}
    path = f"{venv}/bin:/usr/local/bin:/usr/bin:/bin"
    environment = {**kept, "PATH": path, "HOME": str(home), "LANG": "C.UTF-8", GROUP: "1"}
    place = {"cwd": home, "env": environment}

    def build(*command: str) -> Callable[[], int]:
        return lambda: subprocess.run(command, **place).returncode

    copied_checkout(home)
    if not (venv / "built").exists():
        subprocess.run([find_python(), "-m", "venv", str(venv)], check=True)
        steps.run(
            "requirements.txt",
            build(f"{venv}/bin/python", "-m", "pip", "install", "-q", "-r", "binder/requirements.txt"),
        )
        steps.run("postBuild", build("bash", "binder/postBuild"))
        if steps.failed:
            return
        (venv / "built").touch()
        size = sum(p.lstat().st_size for p in venv.rglob("*") if p.is_file())
        print(f"environment: {size / 1e9:.2f} GB on disk", flush=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lab = [
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=",
    ]
    servers: list[subprocess.Popen] = []

    def start() -> int:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        servers.append(start_server(["bash", "binder/start", *lab], port, limit, **place, **quiet))
        return 0

    try:
        steps.run("JupyterLab answers", start)
        for notebook in sorted((home / "notebooks").glob("*.ipynb")):
            run = {**place, "cwd": notebook.parent, "preexec_fn": limit.join}
            command = [f"{venv}/bin/python", "-c", EXECUTE, notebook.name]
            steps.run(notebook.stem, lambda: subprocess.run(command, **run).returncode)  # noqa: B023
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


if __name__ == "__main__":
    main()
