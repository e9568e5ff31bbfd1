"""Watches a run folder: progress, losses, latents, maps, log; start, stop and resume."""

from __future__ import annotations

import html
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
import pandas as pd
import traitlets

from tomodrgn.config import TrainConfig
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.command import command_line, command_of_run, source_arguments, training_verb
from tomodrgn.training.job import TrainingJob, start_training
from tomodrgn.training.lock import lock_holder
from tomodrgn.training.pace import training_pace
from tomodrgn.training.run import Run
from tomodrgn.training.run_files import HISTORY_COLUMNS
from tomodrgn.widgets.config_form import ConfigForm
from tomodrgn.widgets.epoch_view import EpochView
from tomodrgn.widgets.fit_facts import FitFacts
from tomodrgn.widgets.in_place import command_shown, file_stamp, shown_in, told
from tomodrgn.widgets.log_tail import LogTail
from tomodrgn.widgets.loss_curves import LossCurves
from tomodrgn.widgets.plotly_figure import figure_style
from tomodrgn.widgets.progress_text import host_text, pace_text, state_text

__all__ = ["TrainingMonitor"]

BAR_STYLES = {"finished": "success", "failed": "danger", "interrupted": "danger", "stopped": "warning"}


class TrainingMonitor(ipywidgets.VBox):
    """Starts, watches and stops the training of a run folder. The training is a process of its own.

    A new monitor of the same folder takes over from an earlier one in the same kernel, which then watches no more.

    Parameters
    ----------
    particles
        What is trained on, as for `start_training`; None watches, stops and resumes only.
    run
        The run folder: to be made, being written, or finished; whoever trains it, here or on another machine.
    form
        Where the options come from; None takes the defaults.
    poll_seconds
        How often the folder is looked at.

    Attributes
    ----------
    state
        As of `TrainingJob.state`; or ``gone``, of a folder that was moved or deleted.
    epoch, epochs
        Number of finished epochs, and of those asked for.
    message
        What went wrong; empty when all is well.
    command
        The line for a shell that starts the same training; of a run that is only watched, the one that makes it.
    overwrite
        Whether `start` may replace an earlier run.
    curves, epoch_view, fit
        The losses; latents and maps after any epoch; what a linear fit found.
    job
        The training process.
    """

    state = traitlets.Unicode("none", read_only=True)
    epoch = traitlets.Int(0, read_only=True)
    epochs = traitlets.Int(0, read_only=True)
    message = traitlets.Unicode("", read_only=True)
    command = traitlets.Unicode("", read_only=True)
    overwrite = traitlets.Bool(default_value=False)
    log_scale = traitlets.Bool(default_value=False)

    _watchers: ClassVar[dict[Path, weakref.ref[TrainingMonitor]]] = {}

    def __init__(
        self,
        particles: ParticleSet | Path | str | None,
        run: Path | str,
        form: ConfigForm | None = None,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self.particles, self.folder, self.form = particles, Path(run), form
        self.job = TrainingJob.attach(self.folder)
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._said = self._trouble = ""
        self._was_there = self._stopping = False
        self._run: Run | None = None
        self._history = pd.DataFrame(columns=HISTORY_COLUMNS)
        self._read_run: tuple[int, ...] = ()
        self._read_history: tuple[int, ...] = ()
        self._first_status: dict[str, Any] = {}
        super().__init__(self._build())
        self._give_paths()
        self._take_over()
        self.refresh()
        threading.Thread(target=self._watch, args=(poll_seconds,), name="TrainingMonitor", daemon=True).start()

    def _build(self) -> list[ipywidgets.Widget]:
        self._start = self._button("Start", "play", self.start)
        self._stop = self._button("Stop", "stop", self.stop)
        self._kill = self._button("Stop at once", "times", self.kill)
        self._kill.tooltip = "End the process now: the epoch in hand is lost, finished epochs are kept"
        self._resume = self._button("Resume", "step-forward", self.resume)
        self._replace = ipywidgets.Checkbox(
            description="replace the earlier run", indent=False, layout=ipywidgets.Layout(width="200px")
        )
        self._replace.add_class("tomodrgn-replace")
        ipywidgets.link((self, "overwrite"), (self._replace, "value"))
        self._bar = ipywidgets.FloatProgress(min=0, max=1, layout=ipywidgets.Layout(width="300px"))
        line = ipywidgets.Layout(min_height="26px")
        self._text, self._pace, self._error = (ipywidgets.HTML(layout=line) for _ in range(3))
        for widget, name in ((self._text, "state"), (self._pace, "pace"), (self._error, "message")):
            widget.add_class(f"tomodrgn-{name}")
        self.curves, self.fit, self.epoch_view, self._log = LossCurves(), FitFacts(), EpochView(), LogTail()
        ipywidgets.link((self, "log_scale"), (self.curves, "log_scale"))
        self._left = ipywidgets.VBox([self.curves], layout=ipywidgets.Layout(min_height="400px", flex="0 0 auto"))
        self._command = ipywidgets.HTML(layout=ipywidgets.Layout(width="960px"))
        self._command.add_class("tomodrgn-command")
        middle = ipywidgets.Layout(align_items="center")
        self.add_class("tomodrgn-monitor")
        return [
            figure_style(),
            ipywidgets.HBox([self._start, self._stop, self._resume, self._replace, self._kill], layout=middle),
            ipywidgets.HBox([self._bar, self._text], layout=middle),
            self._pace,
            self._error,
            ipywidgets.HBox([self._left, self.epoch_view]),
            self.epoch_view.maps,
            self._command,
            self._log,
        ]

    def _button(self, title: str, icon: str, action: Callable[[], None]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=title, icon=icon, layout=ipywidgets.Layout(width="110px"))
        button.add_class(f"tomodrgn-{title.lower().replace(' ', '-')}")
        button.on_click(lambda _: self._attempt(action))
        return button

    def _attempt(self, action: Callable[[], None]) -> None:
        """What a button does: an error is shown in place."""
        try:
            action()
        except Exception as error:
            self._say(told(error))

    @property
    def losses(self) -> Any:
        """The figure of the losses."""
        return self.curves.figure

    @property
    def latents(self) -> Any:
        """The figure of the latents."""
        return self.epoch_view.figure

    def start(self) -> None:
        """Start a training with the options of the form.

        Raises
        ------
        FileExistsError
            If the folder holds a run and `overwrite` is False.
        BlockingIOError, ValueError
            See `start_training`; or if there are no particles, or an option of the form is wrong.
        """
        if self.particles is None:
            raise ValueError("Got no particles, expected those to train on. Give them to TrainingMonitor.")
        model, preprocess, training = self._chosen()
        options: dict[str, Any] = {"model": model, "preprocess": preprocess, "training": training}
        self._follow(start_training(self.particles, self.folder, overwrite=self.overwrite, **options))

    def resume(self) -> None:
        """Go on where the training was stopped; more epochs in the form are added, other options stay as they were.

        Raises
        ------
        FileNotFoundError, BlockingIOError, ValueError
            See `start_training`.
        """
        training = self._chosen()[2] if self.form is not None else None
        asked = 1 if training is None else training.epochs
        training = TrainConfig(epochs=max(asked, Run.open(self.folder).train_config.epochs))
        self._follow(start_training(self.particles, self.folder, training=training, resume=True))

    def stop(self) -> None:
        """Ask the training to stop after the batch in hand; all that was done is kept."""
        self.job.stop()
        self._stopping = True
        self.refresh()

    def kill(self) -> None:
        """End the training at once; finished epochs are kept."""
        self.job.kill()
        self.refresh()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end of the training; see `TrainingJob.wait`."""
        try:
            return self.job.wait(timeout)
        finally:
            self.refresh()

    def close(self) -> None:
        """Stop watching. The training goes on."""
        self._closed.set()
        super().close()

    def refresh(self) -> None:
        """Look at the folder now."""
        with self._lock:
            try:
                self._trouble = ""
                self._look()
            except Exception as error:
                # The run may be replaced while it is read: the next look will do.
                self._trouble = told(error)
            self._show_message()

    def _look(self) -> None:
        self._attach_again()
        job, status, state = self.job, self.job.status, self.job.state
        there = self.folder.is_dir()
        self._was_there |= there
        if self._was_there and not there:
            self._trouble = (
                f"Got run folder {self.folder}, which is no longer there, expected it where it was: it was moved or "
                "deleted. Put it back, or make a monitor of its new place."
            )
            state = "gone"
        else:
            self._read()
            if state in ("failed", "interrupted") and state != self.state:
                self._say(f"Got a training that {job.failure()}.")
            self._log.draw(job)
        self._show_state(state, status)

    def _attach_again(self) -> None:
        """Follow a training that somebody else has begun in this folder since."""
        job, holder = self.job, lock_holder(self.folder)
        known = job.found_pid if job.process is None else job.process.pid
        if holder is None or holder.pid == known or (job.process is not None and job.process.poll() is None):
            return
        if holder.is_here or job.process is not None:
            self.job = TrainingJob.attach(self.folder)

    def _read(self) -> None:
        """Read and draw what has changed."""
        stamp = file_stamp(self.folder / "run.json")
        if stamp != self._read_run:
            self._run = Run.open(self.folder) if stamp else None
            linear = self._run is not None and self._run.kind == "linear"
            self._left.children = [self.fit if linear else self.curves]
            if linear and self._run is not None:
                self.fit.draw(self._run)
            self._write_command()
            self._read_run = stamp
        run, stamp = self._run, file_stamp(self.folder / "history.csv")
        if run is None:
            self.epoch_view.clear()
        if stamp != self._read_history or run is None:
            self._history = Run(self.folder, {}).history
            self.curves.draw(self._history)
            self._read_history = stamp
        if run is not None:
            self.epoch_view.look(run)

    def _show_state(self, state: str, status: dict[str, Any]) -> None:
        job, history = self.job, self._history
        done = int(history["epoch"].max()) if len(history) else 0
        asked = int(status.get("epochs", self.epochs or done))
        self.set_trait("epoch", done)
        self.set_trait("epochs", asked)
        running = job.running
        self._stopping &= running
        if (status.get("pid"), status.get("epoch")) != tuple(map(self._first_status.get, ("pid", "epoch"))):
            self._first_status = status
        particles = self.epoch_view.n_particles or status.get("batches", 0) * self._batch_size()
        pace = training_pace(history, status if state == "running" else {}, self._first_status, particles)
        part = status.get("batch", 0) / max(status.get("batches", 1), 1) if state == "running" else 0.0
        self._bar.value = 1.0 if state == "finished" else min((done + part) / max(asked, 1), 1.0)
        self._bar.bar_style = BAR_STYLES.get(state, "info")
        linear = self._run is not None and self._run.kind == "linear"
        text = state_text(state, (done, asked), status, linear=linear)
        self._text.value = html.escape(text + ("; stopping after the batch in hand" if self._stopping else ""))
        holder = lock_holder(self.folder) if running else None
        parts = ["" if linear else pace_text(state, pace, history), host_text(holder, status, pace)]
        self._pace.value = html.escape(" · ".join(filter(None, parts)))
        self._enable(running)
        self.set_trait("state", state)  # last, so that who waits for it finds the rest in place

    def _enable(self, running: bool) -> None:  # noqa: FBT001
        exists = self._run is not None and (self.folder / "run.json").is_file()
        wrong = self.form is not None and bool(self.form.errors)
        self._start.disabled = running or self.particles is None or wrong
        self._stop.disabled = not running or self._stopping
        self._resume.disabled = running or not exists or (self._run is not None and self._run.kind == "linear")
        self._replace.layout.visibility = (
            "visible" if exists and not running and self.particles is not None else "hidden"
        )
        self._kill.layout.visibility = "visible" if self._stopping else "hidden"

    def _batch_size(self) -> int:
        return 0 if self._run is None else self._run.train_config.batch_size

    def _chosen(self) -> tuple[Any, Any, Any]:
        return self.form.chosen if self.form is not None else (None, None, None)

    def _follow(self, job: TrainingJob) -> None:
        self.job, self._stopping = job, False
        self._say("")
        self.refresh()

    def _give_paths(self) -> None:
        """Tell the form what its command trains on, and where."""
        if self.particles is not None:
            try:
                self._arguments = tuple(source_arguments(self.particles, self.folder))
            except ValueError as error:
                self._say(told(error))
                self._arguments = ("PARTICLES.star", str(self.folder))
            if self.form is not None:
                self.form.arguments = self._arguments
        if self.form is not None:
            self.form.observe(self._changed_form, names=["configs", "errors"])
        self._write_command()

    def _changed_form(self, change: dict) -> None:
        self._write_command()
        self._enable(self.job.running)

    @traitlets.observe("overwrite")
    def _write_command(self, change: dict | None = None) -> None:
        line = ""
        if self.particles is None:
            line = command_of_run(self._run) if self._run is not None else ""
        elif self.form is None or not self.form.errors:
            line = command_line(training_verb(self._arguments, *self._chosen(), overwrite=self.overwrite))
        self.set_trait("command", line)
        wrong = self.form is not None and ", ".join(self.form.errors)
        self._command.value = command_shown(line or (f"correct first: {wrong}" if wrong else ""))

    def _take_over(self) -> None:
        place = self.folder.resolve()
        earlier = self._watchers.get(place)
        other = None if earlier is None else earlier()
        if other is not None:
            other.retire()
        self._watchers[place] = weakref.ref(self)

    def retire(self) -> None:
        """Watch no more, and say so; the training goes on."""
        if not self._closed.is_set():
            self._closed.set()
            self._say("Another monitor of this folder was made, which watches from now on.")

    def _watch(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            self.refresh()

    def _say(self, message: str) -> None:
        self._said = message
        self._show_message()

    def _show_message(self) -> None:
        text = self._trouble or self._said
        self.set_trait("message", text)
        self._error.value = shown_in(text)
