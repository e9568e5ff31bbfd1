"""Watches a run folder: progress, losses, latents; start, stop and resume."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import traitlets

from tomodrgn.analysis.latent_space import reduce_latents
from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.job import TrainingJob, start_training
from tomodrgn.training.run import Run
from tomodrgn.widgets.config_form import ConfigForm
from tomodrgn.widgets.explorer_table import same_signs
from tomodrgn.widgets.plotly_figure import figure_widget

__all__ = ["TrainingMonitor"]

LOG_LINES = 8
BAR_STYLES = {"finished": "success", "failed": "danger", "interrupted": "danger", "stopped": "warning"}


class TrainingMonitor(ipywidgets.VBox):
    """Starts, watches and stops the training of a run folder. The training is a process of its own.

    Parameters
    ----------
    particles
        What is trained on, as for `start_training`; None only watches.
    run
        The run folder: to be made, being written, or finished.
    form
        Where the options come from; None takes the defaults.
    poll_seconds
        How often the folder is looked at.

    Attributes
    ----------
    state
        As of `TrainingJob.state`.
    epoch, epochs
        Number of finished epochs, and of those asked for.
    message
        What went wrong; empty when all is well.
    overwrite
        Whether `start` may replace an earlier run.
    log_scale
        Whether the axis of the losses is logarithmic.
    job
        The training process.
    """

    state = traitlets.Unicode("none", read_only=True)
    epoch = traitlets.Int(0, read_only=True)
    epochs = traitlets.Int(0, read_only=True)
    message = traitlets.Unicode("", read_only=True)
    overwrite = traitlets.Bool(False)
    log_scale = traitlets.Bool(False)

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
        self._drawn_history: tuple[int, ...] = ()
        self._drawn_latents: tuple[int, ...] = ()
        self._axes: pd.DataFrame | None = None
        super().__init__(self._build())
        self.refresh()
        threading.Thread(target=self._watch, args=(poll_seconds,), name="TrainingMonitor", daemon=True).start()

    def _build(self) -> list[ipywidgets.Widget]:
        self._start = self._button("Start", "play", self.start)
        self._stop = self._button("Stop", "stop", self.stop)
        self._resume = self._button("Resume", "step-forward", self.resume)
        replace = ipywidgets.Checkbox(description="replace the earlier run", indent=False)
        self._replace = replace
        ipywidgets.link((self, "overwrite"), (replace, "value"))
        self._bar = ipywidgets.FloatProgress(min=0, max=1, layout=ipywidgets.Layout(width="300px"))
        self._text, self._error = ipywidgets.HTML(), ipywidgets.HTML()
        self.losses = figure_widget(
            go.Scatter(x=[], y=[], name="reconstruction", mode="lines+markers"),
            go.Scatter(x=[], y=[], name="KL", mode="lines+markers", yaxis="y2", line={"dash": "dot"}),
            width=500,
            title={"text": "Losses", "x": 0.02},
            legend={"orientation": "h", "x": 0.25, "y": 1.18},
            xaxis={"title": "epoch"},
            yaxis={"title": "reconstruction", "tickformat": ".3~g"},
            yaxis2={
                "title": "KL divergence",
                "overlaying": "y",
                "side": "right",
                "showgrid": False,
                "tickformat": ".2~g",
            },
        )
        self.losses.update_layout(margin={"r": 70})
        self.latents = figure_widget(
            go.Scattergl(x=[], y=[], mode="markers", marker={"size": 4, "opacity": 0.7}),
            width=400,
            title={"text": "Latents", "x": 0.02},
            xaxis={"title": "PC1"},
            yaxis={"title": "PC2"},
        )
        log_scale = ipywidgets.Checkbox(description="logarithmic losses", indent=False)
        ipywidgets.link((self, "log_scale"), (log_scale, "value"))
        self._details = ipywidgets.HTML()
        folded = ipywidgets.Accordion([self._details], titles=("Shell command and log",), selected_index=None)
        middle = ipywidgets.Layout(align_items="center")
        return [
            ipywidgets.HBox([self._start, self._stop, self._resume, replace], layout=middle),
            ipywidgets.HBox([self._bar, self._text], layout=middle),
            self._error,
            ipywidgets.HBox([self.losses, self.latents]),
            log_scale,
            folded,
        ]

    def _button(self, title: str, icon: str, action: Callable[[], None]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=title, icon=icon, layout=ipywidgets.Layout(width="110px"))
        button.add_class(f"tomodrgn-{title.lower()}")
        button.on_click(lambda _: self._attempt(action))
        return button

    def _attempt(self, action: Callable[[], None]) -> None:
        """What a button does: an error is shown in place."""
        try:
            action()
        except Exception as error:
            self._say(str(error.args[0]) if error.args else type(error).__name__)

    def start(self) -> None:
        """Start a training with the options of the form.

        Raises
        ------
        FileExistsError
            If the folder holds a run and `overwrite` is False.
        BlockingIOError, ValueError
            See `start_training`; or if there are no particles, or an option of the form is wrong.
        """
        form = self.form or ConfigForm()
        kinds = {type(config) for config in form.configs}
        chosen = LinearConfig if LinearConfig in kinds else VaeConfig
        options = {
            name: form.value(kind) if kind in kinds else None
            for name, kind in (("model", chosen), ("preprocess", PreprocessConfig), ("training", TrainConfig))
        }
        job = start_training(self._given_particles(), self.folder, overwrite=self.overwrite, **options)  # type: ignore[arg-type]
        self._follow(job)

    def resume(self) -> None:
        """Go on after the last finished epoch; more epochs in the form are added, other options stay as they were.

        Raises
        ------
        FileNotFoundError, BlockingIOError, ValueError
            See `start_training`.
        """
        kinds = {type(config) for config in self.form.configs} if self.form is not None else set()
        asked = self.form.value(TrainConfig).epochs if self.form is not None and TrainConfig in kinds else 1
        training = TrainConfig(epochs=max(asked, Run.open(self.folder).train_config.epochs))
        self._follow(start_training(self._given_particles(), self.folder, training=training, resume=True))

    def stop(self) -> None:
        """Ask the training to stop after the batch in hand; finished epochs are kept."""
        self.job.stop()
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
                self._draw_history()
                self._draw_latents()
                self._show_state()
            except (OSError, ValueError, KeyError) as error:
                # The run may be replaced while it is read: the next look will do.
                self._text.value = html.escape(str(error))

    def _follow(self, job: TrainingJob) -> None:
        self.job = job
        self._say("")
        self.refresh()

    def _given_particles(self) -> ParticleSet | Path | str:
        if self.particles is None:
            raise ValueError("Got no particles, expected those to train on. Give them to TrainingMonitor.")
        return self.particles

    def _watch(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            self.refresh()

    def _say(self, message: str) -> None:
        self.set_trait("message", message)
        colour = "color: var(--jp-error-color1, #c62828)"
        self._error.value = f'<span style="{colour}">{html.escape(message)}</span>' if message else ""

    def _show_state(self) -> None:
        job, status = self.job, self.job.status
        state = job.state
        if state in ("failed", "interrupted") and state != self.state:
            self._say(f"The training {job.failure()}.")
        present = Run(self.folder, {}).history
        done = int(present["epoch"].max()) if len(present) else 0
        asked = int(status.get("epochs", self.epochs or done))
        self.set_trait("epoch", done)
        self.set_trait("epochs", asked)
        part = status.get("batch", 0) / max(status.get("batches", 1), 1) if state == "running" else 0.0
        self._bar.value = 1.0 if state == "finished" else min((done + part) / max(asked, 1), 1.0)
        self._bar.bar_style = BAR_STYLES.get(state, "info")
        self._text.value = html.escape(_progress_text(state, (done, asked), status, present))
        exists = (self.folder / "run.json").is_file()
        self._start.disabled = job.running or self.particles is None
        self._stop.disabled = not job.running
        self._resume.disabled = job.running or not exists or self.particles is None
        self._replace.layout.visibility = "visible" if exists and not job.running else "hidden"
        log = html.escape(job.log(LOG_LINES)) or "nothing printed yet"
        command = f"<pre>$ {html.escape(job.command)}</pre>" if job.command else ""
        self._details.value = f"{command}<pre>{log}</pre>"
        self.set_trait("state", state)  # last, so that who waits for it finds the rest in place

    def _draw_history(self) -> None:
        stamp = _stamp(self.folder / "history.csv")
        if stamp == self._drawn_history:
            return
        history = Run(self.folder, {}).history
        rows = history[history["split"] == "train"] if len(history) else history
        with self.losses.batch_update():
            for trace, column in zip(self.losses.data, ("reconstruction", "kl"), strict=True):
                trace.x, trace.y = rows["epoch"].to_numpy(dtype=float), rows[column].to_numpy(dtype=float)
        self._drawn_history = stamp

    def _draw_latents(self) -> None:
        run = Run(self.folder, {})
        history = run.history
        if not len(history):
            if self._drawn_latents:
                self._drawn_latents, self._axes = (), None
                self.latents.data[0].update(x=[], y=[])
            return
        epoch = int(history["epoch"].max())
        path = run.folder / "epochs" / f"{epoch:04d}" / "latents.npz"
        stamp = _stamp(path)
        if stamp == self._drawn_latents:
            return
        latents = run.latents(epoch)
        if latents.z_dim:
            points = same_signs(reduce_latents(latents), self._axes)
            shares = points.attrs["explained_variance_ratio"]
            values = np.zeros((len(points), 2), dtype=np.float32)
            values[:, : points.shape[1]] = points
            with self.latents.batch_update():
                self.latents.data[0].update(x=values[:, 0], y=values[:, 1])
                self.latents.layout.title.text = f"Latents after epoch {epoch}"
                for axis, name, share in zip(("xaxis", "yaxis"), points.columns, shares, strict=False):
                    self.latents.layout[axis].title.text = f"{name} ({share:.0%})"
            self._axes = points
        self._drawn_latents = stamp

    @traitlets.observe("log_scale")
    def _rescale(self, change: dict) -> None:
        kind = "log" if change["new"] else "linear"
        self.losses.update_layout(yaxis_type=kind, yaxis2_type=kind)


def _progress_text(state: str, epochs: tuple[int, int], status: dict, history: pd.DataFrame) -> str:
    done, asked = epochs
    if state == "none":
        return "not started"
    if state == "starting":
        return "starting: reading particles"
    text = f"{state}: {done} of {asked} epochs"
    if state == "running":
        text += f", batch {status.get('batch', 0)} of {status.get('batches', 0)}"
        if len(history):
            text += f"; about {(asked - done) * history['seconds'].tail(5).mean():.0f} s left"
    return text


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written anew."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
