"""A run started in its own process: start, watch, stop, survive the notebook."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.particles.optimisation_set import parse_mask
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles
from tomodrgn.training.lock import LockHolder, hold_run, lock_holder
from tomodrgn.training.resume import FREE, resumed_options
from tomodrgn.training.run import Run, check_new_run

__all__ = ["TrainingJob", "option_flags", "start_training"]

LOG = "log.txt"
POLL_SECONDS = 0.1


def start_training(
    particles: ParticleSet | Path | str,
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
        A STAR file, or a whole data set as `read_particles` gave it.
    run
        Folder of the run; what the process prints goes to ``log.txt`` in it.
    model, preprocess, training
        Options. A resumed run keeps its own, but for `epochs`, which may be raised; others are refused.
    resume
        Go on after the last finished epoch of an existing run.
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
        If the particles are only a part of their file, or an option is not that of the run to be resumed.
    """
    folder = Path(run)
    changes: list[str] = []
    if not resume:
        check_new_run(folder, overwrite=overwrite)
    else:
        existing = Run.open(folder)
        if isinstance(model, LinearConfig):
            raise ValueError(f"Got resume of {folder} with a linear model, expected overwrite: it is fitted anew.")
        asked = resumed_options(existing, model, preprocess, training)
        for name in FREE:
            value = getattr(asked, name)
            changes += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        model = preprocess = training = None
    verb = ["train", *_source_arguments(particles), *option_flags(model, preprocess, training), *changes]
    verb += ["--model", "linear"] * isinstance(model, LinearConfig)
    verb += ["--resume"] * resume + ["--overwrite"] * overwrite
    verb.insert(2, str(folder))
    with hold_run(folder) as lock:
        process = _spawn(verb, folder, resume)
        lock.name(LockHolder.of(process.pid))
    return TrainingJob(folder=folder, command=shlex.join(["tomodrgn", *verb]), process=process)


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
    """

    folder: Path
    command: str = ""
    process: subprocess.Popen | None = field(default=None, repr=False)
    found_pid: int | None = None

    @classmethod
    def attach(cls, run: Path | str) -> TrainingJob:
        """The job of a run folder, whoever started it, running or not; the folder need not exist yet."""
        holder = lock_holder(run)
        return cls(folder=Path(run), found_pid=holder.pid if holder is not None and holder.is_here else None)

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

        Interrupted is a process that ended without a word: killed, or the machine went down.
        """
        status, running = self.status, self.running
        number = self.found_pid if self.process is None else self.process.pid
        # The words of an earlier process do not count while (or after) another one runs.
        mine = number is None or status.get("pid") == number
        said = str(status.get("state", "none")) if mine else "none"
        if running:
            # Its last words come a little before its end.
            return "starting" if said == "none" else "running"
        if self.exit_code not in (None, 0) and said in ("none", "running"):
            return "interrupted" if (self.exit_code or 0) < 0 else "failed"
        return "interrupted" if said == "running" else said

    def log(self, lines: int | None = None) -> str:
        """What the process printed: all of it, or the last lines."""
        path = self.folder / LOG
        text = path.read_text(errors="replace") if path.is_file() else ""
        return text if lines is None else "\n".join(text.splitlines()[-lines:] if lines else [])

    def stop(self) -> None:
        """Ask the process to stop: it ends the batch in hand, and keeps all finished epochs.

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
            raise RuntimeError(f"Got a training in {self.folder} that {self.failure()}. See {self.folder / LOG}.")
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


def option_flags(*configs: VaeConfig | LinearConfig | PreprocessConfig | TrainConfig | None) -> list[str]:
    """The options that differ from their defaults, as flags of the command line.

    Examples
    --------
    >>> option_flags(VaeConfig(z_dim=4), PreprocessConfig(window=False), None)
    ['--z-dim', '4', '--no-window']
    """
    flags: list[str] = []
    for config in configs:
        for name, option in type(config).model_fields.items() if config is not None else ():
            value, flag = getattr(config, name), name.replace("_", "-")
            if value == option.default:
                continue
            if isinstance(value, bool):
                flags.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                flags += [f"--{flag}", str(value)]
    return flags


def _source_arguments(particles: ParticleSet | Path | str) -> list[str]:
    """The STAR file, and the flags that read it as it was read here."""
    if not isinstance(particles, ParticleSet):
        return [str(particles)]
    source = particles.source
    if not _is_whole(particles):
        raise ValueError(
            f"Got {len(particles)} particles, {particles.n_images} images, which are a part of {source.path}, expected "
            "a whole file. Write them with write_particles, and give that file (and the folder of the images as "
            "datadir)."
        )
    settings = {
        **source.options.settings(),
        "dialect": particles.dialect,
        **{name: getattr(particles, name) for name in ("ctf_premultiplied", "dose_weighted", "invert")},
    }
    flags = [text for folder in source.datadir for text in ("--datadir", str(folder))]
    for name, value in settings.items():
        flag = name.replace("_", "-")
        flags += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    if particles.box_px != particles.stack_box_px:
        flags += ["--box", str(particles.box_px)]
    return [str(source.path), *flags]


def _is_whole(particles: ParticleSet) -> bool:
    """Whether these are all images of the file."""
    rows = particles.source.rows
    expected = len(rows)
    if "rlnTomoVisibleFrames" in rows and particles.source.optimisation_set:
        expected = sum(int(np.sum(parse_mask(text))) for text in rows["rlnTomoVisibleFrames"])
    if particles.n_images == expected:
        return True
    # A reader may leave out rows of its own accord; only reading again tells.
    again = read_particles(particles.source.path, datadir=particles.source.datadir, check_stacks=False)
    return np.array_equal(again.particle_id, particles.particle_id) and again.n_images == particles.n_images


def _spawn(verb: Sequence[str], folder: Path, resume: bool) -> subprocess.Popen:  # noqa: FBT001
    folder.mkdir(parents=True, exist_ok=True)
    # Waiting threads must not spin: the notebook and the browser use the same cores.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with (folder / LOG).open("ab" if resume else "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tomodrgn", *verb],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
