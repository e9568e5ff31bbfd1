"""A run started in its own process: start, watch, stop, survive the notebook."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.command import command_line, run_arguments, source_arguments, training_verb
from tomodrgn.training.lock import LockHolder, hold_run, lock_holder
from tomodrgn.training.resume import FREE, resumed_options
from tomodrgn.training.run import Run, check_new_run

__all__ = ["TrainingJob", "start_training"]

LOG = "log.txt"
LONGEST_LINE = 2048  # of a log, in bytes, whose last lines are wanted
POLL_SECONDS = 0.1


def start_training(
    particles: ParticleSet | Path | str | None,
    run: Path | str,
    *,
    model: VaeConfig | LinearConfig | None = None,
    preprocess: PreprocessConfig | None = None,
    training: TrainConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingJob:
    """Start ``tomodrgn train`` in a process of its own, which lives on when the notebook ends.

    Parameters
    ----------
    particles
        A STAR file, or a whole data set as `read_particles` gave it; None resumes with the file the run was made of.
    run
        Folder of the run; what the process prints goes to ``log.txt`` in it.
    model, preprocess, training
        Options. A resumed run keeps its own, but for `epochs`, which may be raised; others are refused.
    resume
        Go on with an existing run where it was stopped; after its last finished epoch if it was killed.
    overwrite
        Replace an existing run.

    Returns
    -------
    The job. Wrong input is found by the process: see `TrainingJob.state` and `TrainingJob.log`.

    Raises
    ------
    FileExistsError
        If the folder holds a run and neither `resume` nor `overwrite` is given, or it holds other files.
    FileNotFoundError
        If a run shall be resumed that is not there.
    BlockingIOError
        If a process trains in that folder.
    ValueError
        If there are no particles for a new run, they are only a part of their file, or an option is not that of the
        run to be resumed.
    """
    folder = Path(run)
    if resume:
        existing = Run.open(folder)
        if isinstance(model, LinearConfig):
            raise ValueError(f"Got resume of {folder} with a linear model, expected overwrite: it is fitted anew.")
        asked = resumed_options(existing, model, preprocess, training)
        free = {name: getattr(asked, name) for name in FREE}
        changes = [[f"--{n.replace('_', '-')}", str(v)] for n, v in free.items() if v is not None]
        arguments = run_arguments(existing) if particles is None else source_arguments(particles, folder)
        verb = ["train", *arguments, *chain.from_iterable(changes), "--resume"]
        verb += ["--overwrite"] * overwrite
    else:
        if particles is None:
            raise ValueError(f"Got no particles for a new run in {folder}, expected those to train on. Give them.")
        check_new_run(folder, overwrite=overwrite)
        arguments = source_arguments(particles, folder)
        verb = training_verb(arguments, model, preprocess, training, overwrite=overwrite)
    with hold_run(folder) as lock:
        process = _spawn(verb, folder, resume)
        lock.name(LockHolder.of(process.pid))
    return TrainingJob(folder=folder, command=command_line(verb), process=process)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A training process and the folder it writes.

    Parameters
    ----------
    folder
        The run folder.
    command
        The same start as a line for a shell; empty if it was started elsewhere.
    process
        The process, if this interpreter started it.
    found_pid
        Number of a process on this machine that was training this folder when the job was attached to it.
    found_status
        What status.json said when the job was attached: of a process that has yet to say something, the words of an
        earlier one.
    """

    folder: Path
    command: str = ""
    process: subprocess.Popen | None = field(default=None, repr=False)
    found_pid: int | None = None
    found_status: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def attach(cls, run: Path | str) -> TrainingJob:
        """The job of a run folder, whoever started it, running or not; the folder need not exist yet."""
        said, holder = Run(Path(run), {}).status, lock_holder(run)
        pid = holder.pid if holder is not None and holder.is_here else None
        return cls(folder=Path(run), found_pid=pid, found_status=said)

    @property
    def pid(self) -> int | None:
        """Number of the process, if it lives and is on this machine."""
        if self.process is not None:
            return self.process.pid if self.process.poll() is None else None
        holder = lock_holder(self.folder)
        return holder.pid if holder is not None and holder.is_here else None

    @property
    def status(self) -> dict[str, Any]:
        """What the process last wrote to status.json; empty before it began."""
        return Run(self.folder, {}).status

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process: None while it runs, or if it was started elsewhere."""
        return None if self.process is None else self.process.poll()

    @property
    def running(self) -> bool:
        """Whether the process lives; of another machine's process, whether it has not said that it ended."""
        return self.pid is not None or (self.process is None and lock_holder(self.folder) is not None)

    @property
    def state(self) -> str:
        """``none``, ``starting``, ``running``, ``stopped``, ``finished``, ``failed`` or ``interrupted``.

        Interrupted is a process that ended without a word: killed, or the machine went down. None is a folder in which
        nobody has trained.
        """
        status, running = self.status, self.running
        number = self.found_pid if self.process is None else self.process.pid
        # The words of an earlier process do not count while (or after) another one runs.
        newer = self.process is None and status != self.found_status
        said = str(status.get("state", "none")) if number in (None, status.get("pid")) or newer else "none"
        if running:
            # Its last words come a little before its end.
            return "starting" if said == "none" else "running"
        if self.exit_code not in (None, 0) and said in ("none", "running"):
            return "interrupted" if (self.exit_code or 0) < 0 else "failed"
        return "interrupted" if said == "running" or (said == "none" and self.found_pid is not None) else said

    def log(self, lines: int | None = None) -> str:
        """What the process printed: all of it, or the last lines."""
        try:
            with (self.folder / LOG).open("rb") as file:
                if lines is not None:  # a log may be long: only its end is read
                    file.seek(max(file.seek(0, os.SEEK_END) - LONGEST_LINE * lines, 0))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return text if lines is None else "\n".join(text.splitlines()[-lines:] if lines else [])

    def stop(self) -> None:
        """Ask the process to stop: it ends the batch in hand, and keeps all that was done.

        Raises
        ------
        RuntimeError
            If it runs on another machine, or is this very process.
        """
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once; finished epochs are intact all the same.

        Raises
        ------
        RuntimeError
            If it runs on another machine, or is this very process.
        """
        self._signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the process has ended, and return its `state`.

        Parameters
        ----------
        timeout
            Longest wait, in seconds.

        Raises
        ------
        TimeoutError
            If it still runs then.
        RuntimeError
            If the training failed; the message has the last line of its log.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.running:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"Got a training in {self.folder} that still runs after {timeout:g} s. Wait longer.")
            time.sleep(POLL_SECONDS)
        state = self.state
        if state in ("failed", "interrupted"):
            how = self.failure().rstrip().removesuffix(".")
            raise RuntimeError(f"Got a training in {self.folder} that {how}. See {self.folder / LOG}.")
        return state

    def failure(self) -> str:
        """How the process ended, for people; empty unless it failed or was interrupted."""
        state = self.state
        if state not in ("failed", "interrupted"):
            return ""
        code = self.exit_code
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        ended = "ended without a word" if code is None else f"ended with exit code {code}"
        last = self.log(1) or str(self.status.get("error", ""))
        return f"{ended}: {last}" if last and state == "failed" else ended

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid == os.getpid():
            raise RuntimeError(f"Got a training in {self.folder} by this process itself. Interrupt it (Ctrl-C).")
        if pid is not None:
            os.kill(pid, number)
        elif self.running and (holder := lock_holder(self.folder)) is not None:
            raise RuntimeError(
                f"Got a training in {self.folder} that runs on {holder.host}, not on this machine. "
                f"Stop it there: kill {holder.pid}"
            )


def _spawn(verb: Sequence[str], folder: Path, resume: bool) -> subprocess.Popen:  # noqa: FBT001
    folder.mkdir(parents=True, exist_ok=True)
    # Waiting threads must not spin: the notebook and the browser use the same cores.
    # Kernels ask for colours as if they were terminals: a log has none, and no bars that are drawn again and again.
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    environment = {**kept, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with (folder / LOG).open("ab" if resume else "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tomodrgn", *verb],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
