"""What the verbs print, and the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from tomodrgn.cli.run_log import RunLog
    from tomodrgn.particles.inspection import Inspection
    from tomodrgn.training.linear_run import LinearProgress
    from tomodrgn.training.run import Run
    from tomodrgn.training.train import TrainProgress
    from tomodrgn.volumes.backproject import ReferenceComparison

__all__ = [
    "ProgressBar",
    "epoch_line",
    "fit_line",
    "print_comparison",
    "print_facts",
    "print_run_facts",
    "print_table",
    "run_line",
    "stack_bar",
    "stage_bar",
    "write_tables",
]


def run_line(run: Run) -> str:
    """How far a training came."""
    status = run.status
    part = (
        f", batches of the next: {status['batch']}," if status.get("state") == "stopped" and "batch" in status else ""
    )
    line = f"{status.get('state')}: {len(run.epochs)} of {run.train_config.epochs} epochs{part} in {run.folder}"
    return line + "\ngo on with the same command and --resume" * (status.get("state") == "stopped")


def fit_line(run: Run) -> str:
    """What a linear fit found."""
    if not run.fit:
        return f"{run.status.get('state')}: no fit in {run.folder}; the same command fits it"
    found, resolution = run.fit, run.settings["pixel_size_angst"] / run.fit["radius_per_px"]
    return (
        f"finished in {found['seconds']:.1f} s: components: {run.z_dim}, to {resolution:.1f} A, in {run.folder}; "
        f"held-out tilts suggest {found['suggested_components'] or 'none: there may be nothing to be found'}"
    )


def print_comparison(comparison: ReferenceComparison, *, flipped: bool) -> None:
    """FSC of both hands against a reference, and which of them fits."""
    same, other = comparison.same, comparison.mirrored
    print("shell  " + " ".join(f"{i:5d}" for i in range(1, len(same))))
    print("FSC    " + " ".join(f"{v:5.2f}" for v in same[1:]))
    print("mirror " + " ".join(f"{v:5.2f}" for v in other[1:]))
    if comparison.mirrored_is_better:
        cure = "without --flip" if flipped else "with --flip"
        print(f"the other hand fits the reference better: run again {cure}")
    else:
        print("this hand fits the reference better")


def print_facts(facts: dict[str, Any]) -> None:
    """What `describe_particles` tells."""
    from tomodrgn.particles.dialect import DIALECTS

    tilts, dose, angles = facts["tilts_per_particle"], facts["dose_range_e_per_angst2"], facts["tilt_range_deg"]
    yes_no = {True: "yes", False: "no"}
    on_disk, stacks = facts["stack_box_px"], facts["image_stacks"]
    cropped = f", Fourier-cropped from {on_disk} px" if on_disk != facts["box_px"] else ""
    rows = {
        "dialect": DIALECTS[facts["dialect"]],
        "particles": facts["particles"],
        "tomograms": facts["tomograms"],
        "images": facts["images"],
        "image stacks": str(stacks["number"]),
        "box": f"{facts['box_px']} px" + cropped if on_disk else "unknown, as the image stacks are missing",
        "pixel size": f"{facts['pixel_size_angst']} angstrom/px",
        "CTF premultiplied": yes_no[facts["ctf_premultiplied"]],
        "dose weighted": yes_no[facts["dose_weighted"]],
        "contrast inverted": yes_no[facts["invert"]] + " (on reading)",
        "tilts per particle": f"min {tilts['min']}, median {tilts['median']:g}, max {tilts['max']}",
        "dose": "unknown" if dose[0] is None else f"{dose[0]:g} to {dose[1]:g} e/A^2",
        "tilt": "unknown" if angles[0] is None else f"{angles[0]:.1f} to {angles[1]:.1f} degrees",
        "columns": ", ".join(facts["columns"]),
    }
    if stacks["missing"]:
        rows["image stacks"] = (
            f"{stacks['missing']} of {stacks['number']} are missing, first {stacks['first_missing']}; say where they "
            f"are: {stacks['option']}"
        )
    print_table(rows)
    for remark in facts["remarks"]:
        print(f"remark: {remark}")
    if "images_say" in facts:
        print(facts["images_say"])
        for warning in facts["warnings"]:
            print(f"warning: {warning}")


def print_run_facts(facts: dict[str, Any]) -> None:
    """What `describe_run` tells."""
    particles, process = facts["particles"], facts["process"]
    count = f"{facts['epochs']} of {facts['epochs_wanted']}"
    fit = facts["fit"] or {}
    held = "" if process is None else f" (process {process['pid']} on {process['host']})"
    cropped = particles["stack_box_px"]
    rows = {
        "run": facts["run"],
        "model": facts["kind"] + ("" if facts["z_dim"] is None else f", latent dimensions: {facts['z_dim']}"),
        "state": facts["state"] + held + (f": {facts['error']}" if facts["error"] else ""),
        "created": f"{facts['created']} by tomodrgn {facts['tomodrgn']}",
        "epochs": f"{count}, {facts['seconds']:.1f} s",
        **{
            f"losses ({split})": ", ".join(f"{name} {value:.6g}" for name, value in losses.items())
            for split, losses in facts["losses"].items()
        },
        "held-out tilts suggest": fit and f"components: {fit['suggested_components']}",
        "particles": f"{particles['path']} ({particles['number'] or 'not yet counted'})",
        "images": f"box {particles['box_px']} px" + f", of {cropped} px on disk" * (cropped != particles["box_px"])
        + f", {particles['pixel_size_angst']:g} angstrom/px, at most {particles['most_tilts']} tilts",
        "dialect": particles["dialect"],
        "options": ", ".join(f"{name}={value}" for name, value in facts["options"].items()) or "all at their defaults",
        **{name: ", ".join(facts[name]) for name in ("analyses", "volumes", "selections")},
        "on disk": f"{facts['bytes'] / 2**20:.1f} MiB",
    }  # fmt: skip
    print_table({name: value for name, value in rows.items() if value})
    for remark in fit.get("remarks", []):
        print(f"remark: {remark}")


def write_tables(found: Inspection, *, ids: Path | None, images: Path | None, overwrite: bool) -> list[Path]:
    """Write the particles and the images of a file as CSV files where asked for, and name the CSV files.

    Where stacks are missing, the place of an image in its stack is not known and left out.
    """
    from tomodrgn.io.atomic import replacing
    from tomodrgn.particles.choice import image_list, particle_list

    tables = []
    if ids is not None:
        tables.append((ids, particle_list(found.particles)))
    if images is not None:
        unknown = [] if found.missing is None else ["stack", "slice"]
        tables.append((images, image_list(found.particles).drop(columns=unknown)))
    for path, table in tables:
        with replacing(path, overwrite=overwrite) as temporary:
            table.to_csv(temporary, index=False)
    return [path for path, _ in tables]


def print_table(rows: dict[str, object]) -> None:
    """Two columns: names and values."""
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def epoch_line(history: pd.DataFrame, epochs: int) -> str:
    """The last epoch of a history in one line: losses of the trained tilts and, where there are any, of the held-out.

    Parameters
    ----------
    history
        As of `Run.history`, not empty.
    epochs
        Number of epochs wanted.
    """
    last = history[history["epoch"] == history["epoch"].iloc[-1]].set_index("split")
    trained = last.loc["train"]
    parts = [f"reconstruction {trained['reconstruction']:.5f}", f"KL {trained['kl']:.5f}"]
    if "test" in last.index:
        parts.append(f"held-out tilts {last.loc['test', 'reconstruction']:.5f}")
    return f"epoch {trained['epoch']:.0f} of {epochs}: {', '.join(parts)}, {trained['seconds']:.1f} s"


class ProgressBar:
    """A bar in the shell over all batches of a training; without a terminal, as in a log, a line for each epoch."""

    def __init__(self, title: str, log: RunLog | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
        console = Console(stderr=True)
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
        )
        self._task, self._title = self._bar.add_task(title, total=None, loss=""), title
        self._lines, self._log = not console.is_terminal, log

    def __enter__(self) -> ProgressBar:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)

    def __call__(self, state: TrainProgress) -> None:
        """Show how far a training has come."""
        if self._log is not None:
            self._log.begin()
        if len(state.history) and state.history["epoch"].iloc[-1] == state.epoch:
            line = epoch_line(state.history, state.epochs)
            if self._lines:
                print(line, flush=True)
            if self._log is not None:
                self._log.line(line)
        done = (state.epoch - 1) * state.batches + state.batch
        trained = state.history[state.history["split"] == "train"]
        loss = f"loss {trained['total'].iloc[-1]:.5f}" if len(trained) else ""
        self._bar.update(
            self._task,
            completed=done,
            total=state.epochs * state.batches,
            description=f"{self._title}, epoch {state.epoch} of {state.epochs}",
            loss=loss,
        )


@contextmanager
def stage_bar(title: str, log: RunLog) -> Iterator[Callable[[LinearProgress], None]]:
    """A bar in the shell over the stages of a linear fit."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def tell(state: LinearProgress) -> None:
            log.begin()
            log.line(f"stage {state.stage} of at most {state.stages}")
            bar.update(task, completed=state.stage, total=state.stages)

        yield tell


@contextmanager
def stack_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar in the shell over image stacks, told how many are done and how many there are."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
