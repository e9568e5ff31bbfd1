"""The same verbs from a shell, for batch queues and for the widgets that start them.

Exit codes: 0 done, 1 the work failed, 2 the input or the options are wrong, 130 interrupted (Ctrl-C).
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from tomodrgn import __version__
from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig

if TYPE_CHECKING:
    import pandas as pd

    from tomodrgn.particles.particle_set import ParticleSet
    from tomodrgn.training.run import Run
    from tomodrgn.training.train import TrainProgress

__all__ = ["app", "main"]

app = App(
    name="tomodrgn",
    help="Structural heterogeneity of particles in cryo-electron tomograms, learned from their tilt images.",
    version=__version__,
)
Flat = Parameter(name="*")
INPUT_ERRORS = (ValueError, KeyError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the STAR file and its image stacks are read."""

    datadir: Annotated[tuple[Path, ...], Parameter(negative=())] = ()
    """Folder searched for image stacks; may be given several times."""
    dialect: str | None = None
    """Input dialect, if it is not recognised: warp, cryosrpnt or warptools."""
    ctf_premultiplied: Annotated[bool | None, Parameter(negative="--no-ctf-premultiplied")] = None
    """Whether images were multiplied by their CTF; by default as the dialect or the file says."""
    dose_weighted: Annotated[bool | None, Parameter(negative="--no-dose-weighted")] = None
    """Whether images were dose weighted; by default as the dialect or the file says."""
    invert: Annotated[bool | None, Parameter(negative="--no-invert")] = None
    """Whether contrast must be inverted; by default as the dialect says."""

    def read(self, path: Path, *, check_stacks: bool = True) -> ParticleSet:
        """The particles of a STAR file."""
        from tomodrgn.particles.read import read_particles

        return read_particles(
            path,
            datadir=list(self.datadir) or None,
            dialect=self.dialect,
            ctf_premultiplied=self.ctf_premultiplied,
            dose_weighted=self.dose_weighted,
            invert=self.invert,
            check_stacks=check_stacks,
        )


Input = Annotated[InputOptions | None, Flat]


@app.command
def info(particles: Path, /, *, data: Input = None, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Say what a STAR file holds.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    as_json
        Print JSON.
    """
    from tomodrgn.particles.read import describe_particles

    facts = describe_particles((data or InputOptions()).read(particles))
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    tilts, dose, angles = facts["tilts_per_particle"], facts["dose_range_e_per_angst2"], facts["tilt_range_deg"]
    yes_no = {True: "yes", False: "no"}
    rows = {
        "dialect": DIALECT_TITLES.get(facts["dialect"], facts["dialect"]),
        "particles": facts["particles"],
        "tomograms": facts["tomograms"],
        "images": facts["images"],
        "box": f"{facts['box_px']} px",
        "pixel size": f"{facts['pixel_size_angst']} angstrom/px",
        "CTF premultiplied": yes_no[facts["ctf_premultiplied"]],
        "dose weighted": yes_no[facts["dose_weighted"]],
        "tilts per particle": f"min {tilts['min']}, median {tilts['median']:g}, max {tilts['max']}",
        "dose": f"{dose[0]:g} to {dose[1]:g} e/A^2",
        "tilt": f"{angles[0]:.1f} to {angles[1]:.1f} degrees",
        "columns": ", ".join(facts["columns"]),
    }
    _print_table(rows)


DIALECT_TITLES = {"warp": "Warp v1 / M image series", "cryosrpnt": "cryoSRPNT", "warptools": "WarpTools"}


@app.command
def train(
    particles: Path,
    run: Path,
    /,
    *,
    model: Literal["vae"] = "vae",
    vae: Annotated[VaeConfig | None, Flat] = None,
    preprocess: Annotated[PreprocessConfig | None, Flat] = None,
    training: Annotated[TrainConfig | None, Flat] = None,
    data: Input = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train a model on tilt images and keep every epoch in a run folder.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    run
        Run folder to be made.
    model
        Kind of model.
    resume
        Go on after the last finished epoch of the run folder.
    overwrite
        Replace a run that is there already.
    """
    from tomodrgn.training.train import train as train_run

    stop = _stop_on_terminate()
    with _progress_bar("training") as progress:
        finished = train_run(
            (data or InputOptions()).read(particles),
            run,
            model=vae,
            preprocess=preprocess,
            training=training,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            should_stop=stop,
        )
    _report_run(finished)


@app.command
def embed(run: Path, particles: Path, out: Path, /, *, data: Input = None, epoch: int | None = None) -> None:
    """Write the latents of particles under a trained run.

    Parameters
    ----------
    run
        Run folder.
    particles
        STAR file of particles, in the training set or not.
    out
        Output .npz file: particle_id, mu, logvar.
    epoch
        Epoch whose weights are used; the last if not given.
    """
    from tomodrgn.training.embed import embed_particles
    from tomodrgn.training.run import Run

    opened = Run.open(run)
    options = data or InputOptions()
    latents = embed_particles(opened, options.read(particles), epoch=epoch)
    latents.save(out, overwrite=False)
    print(f"wrote {len(latents)} latents of {latents.z_dim} dimensions to {out}")


@app.command
def generate(
    run: Path,
    out_dir: Path,
    /,
    *,
    kmeans: int | None = None,
    particle_ids: Path | None = None,
    latents: Path | None = None,
    pc: int | None = None,
    box: int | None = None,
    lowpass_angst: float | None = None,
    flip: Annotated[bool, Parameter(negative=())] = False,
    epoch: int | None = None,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Decode maps at chosen points of the latent space.

    Parameters
    ----------
    run
        Run folder.
    out_dir
        Folder for the maps (MRC) and volumes.csv.
    kmeans
        Decode at the particles nearest to this many k-means centres.
    particle_ids
        Decode at the particles named in this CSV (column particle_id).
    latents
        Decode at the points of this CSV (columns z1, z2 ...).
    pc
        Decode along this principal component.
    box
        Side of the maps in voxels; that of the images if not given.
    lowpass_angst
        Remove detail finer than this resolution.
    flip
        Mirror the maps.
    epoch
        Epoch whose weights are used; the last if not given.
    seed
        Seed of k-means.
    overwrite
        Replace maps that are there already.
    """
    from tomodrgn.training.run import Run
    from tomodrgn.volumes.generate import generate_volumes

    opened = Run.open(run)
    points = _latent_points(opened, kmeans, particle_ids, latents, pc=pc, epoch=epoch, seed=seed)
    stack = generate_volumes(opened, points, epoch=epoch, box_px=box, lowpass_angst=lowpass_angst, flip=flip)
    paths = stack.save(out_dir, overwrite=overwrite)
    print(f"wrote {len(paths)} maps of box {stack.maps.shape[-1]}, {stack.voxel_size_angst:.3f} A/voxel, to {out_dir}")


@app.command
def backproject(
    particles: Path,
    out_dir: Path,
    /,
    *,
    data: Input = None,
    preprocess: Annotated[PreprocessConfig | None, Flat] = None,
    particle_ids: Path | None = None,
    reference: Path | None = None,
    flip: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Reconstruct particles from their images and poses, with half maps and FSC.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    out_dir
        Folder for the maps (MRC), fsc.csv and fsc.png.
    particle_ids
        Use only the particles named in this CSV (column particle_id).
    reference
        Map to compare with; both hands are scored and the better one is named.
    flip
        Mirror the maps.
    seed
        Draws the halves where the source names none.
    overwrite
        Replace maps that are there already.
    """
    from tomodrgn.io.mrc import read_volume
    from tomodrgn.plots import plot_fsc
    from tomodrgn.volumes.backproject import backproject as reconstruct

    chosen = (data or InputOptions()).read(particles)
    if particle_ids is not None:
        chosen = chosen.subset(_read_ids(particle_ids))
    known = None if reference is None else read_volume(reference)[0]
    result = reconstruct(chosen, preprocess=preprocess, flip=flip, seed=seed)
    comparison = None if known is None else result.compare(known)
    result.save(out_dir, overwrite=overwrite)
    plot_fsc(result.curve()).savefig(out_dir / "fsc.png", dpi=150)
    print(f"reconstructed {len(chosen)} particles, {chosen.n_images} images; half maps agree to "
          f"{result.resolution_angst:.1f} A (FSC 0.143); maps in {out_dir}")  # fmt: skip
    if comparison is not None:
        comparison.curve().to_csv(out_dir / "reference_fsc.csv", index=False)
        plot_fsc(comparison.curve()).savefig(out_dir / "reference_fsc.png", dpi=150)
        _report_comparison(comparison, flipped=flip)


@app.command(name="filter")
def filter_(
    particles: Path,
    out: Path,
    /,
    *,
    particle_ids: Path,
    invert: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the named particles to a STAR file of the same dialect, with every column kept.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    out
        STAR file to be written.
    particle_ids
        CSV with a column particle_id.
    invert
        Keep the particles that are not named.
    overwrite
        Replace a file that is there already.
    """
    from tomodrgn.particles.read import write_particles

    source = InputOptions().read(particles, check_stacks=False)
    kept = source.subset(_read_ids(particle_ids), invert=invert)
    write_particles(kept, out, overwrite=overwrite)
    print(f"wrote {len(kept)} of {len(source)} particles to {out}")


@app.command
def simulate(
    out_dir: Path,
    /,
    *,
    particles: int = 200,
    tilts: int = 11,
    box: int = 32,
    states: int = 3,
    snr: float = 0.05,
    dialect: Literal["warp", "warptools"] = "warp",
    continuous: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write tilt series with a known answer, and the answer beside them.

    Parameters
    ----------
    out_dir
        Folder to be made.
    particles
        Number of particles.
    tilts
        Number of tilts of a series; some are missing for some particles.
    box
        Side of the images in pixels.
    states
        Number of discrete states, mass present or absent.
    snr
        Signal-to-noise ratio of an image (ratio of variances).
    dialect
        Program whose files are imitated.
    continuous
        Add a continuous motion.
    seed
        Seed of everything random.
    overwrite
        Replace files that are there already.
    """
    from tomodrgn.particles.simulate import simulate_particles

    made = simulate_particles(
        out_dir,
        n_particles=particles,
        n_tilts=tilts,
        box_px=box,
        n_states=states,
        snr=snr,
        dialect=dialect,
        continuous=continuous,
        seed=seed,
        overwrite=overwrite,
    )
    print(f"wrote {len(made)} particles, {made.n_images} images to {made.source.path}; the truth is in {out_dir}/truth")


@app.command
def demo(
    out_dir: Path = Path("tomodrgn-demo"), /, *, overwrite: Annotated[bool, Parameter(negative=())] = False
) -> None:
    """Simulate, reconstruct, train, embed, cluster and decode; print how well the known answer was found.

    Parameters
    ----------
    out_dir
        Folder to be made.
    overwrite
        Replace an earlier demo.
    """
    from tomodrgn.demo import run_demo

    with _progress_bar("training") as progress:
        result = run_demo(out_dir, overwrite=overwrite, progress=progress, tell=lambda line: print(line, flush=True))
    print()
    _print_table(result.rows())


# --- helpers of the verbs ------------------------------------------------------------------------------------------


def _latent_points(
    run: Run,
    kmeans: int | None,
    particle_ids: Path | None,
    latents: Path | None,
    *,
    pc: int | None,
    epoch: int | None,
    seed: int,
) -> pd.DataFrame:
    import pandas as pd

    from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
    from tomodrgn.analysis.paths import traverse_latents

    if sum(choice is not None for choice in (kmeans, particle_ids, latents, pc)) != 1:
        raise ValueError("Got none or several of --kmeans, --particle-ids, --latents and --pc, expected one of them.")
    if latents is not None:
        points = _read_csv(latents)
        return points.set_index("name") if "name" in points else points.rename(index=lambda i: f"map_{i:03d}")
    known = run.latents(epoch)
    if kmeans is not None:
        return cluster_centres(known, cluster_latents(known, kmeans, seed=seed))
    if pc is not None:
        return traverse_latents(known, pc)
    ids = _read_ids(particle_ids) if particle_ids is not None else []
    chosen = known.aligned_to(pd.Index(ids).to_numpy()).frame()
    chosen = chosen[[c for c in chosen if not c.endswith("_std")]]
    return chosen.reset_index().rename(index=lambda i: f"particle_{i:05d}")


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"Got {path}, which does not exist. Give a CSV file.")
    try:
        return pd.read_csv(path, dtype={"particle_id": str, "name": str}, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"Got {path}, expected a CSV file ({error}).") from error


def _read_ids(path: Path) -> list[str]:
    table = _read_csv(path)
    if "particle_id" not in table:
        raise ValueError(
            f"Got {path} with the columns {list(table.columns)}, expected one named particle_id. "
            "Write a CSV file with that heading and one name a line."
        )
    return table["particle_id"].tolist()


def _report_run(run: Run) -> None:
    status = run.status
    print(f"{status.get('state')}: {len(run.epochs)} of {run.train_config.epochs} epochs in {run.folder}")
    if status.get("state") == "stopped":
        print("go on with the same command and --resume")


def _report_comparison(comparison: Any, *, flipped: bool) -> None:
    same, other = comparison.same, comparison.mirrored
    print("shell  " + " ".join(f"{i:5d}" for i in range(1, len(same))))
    print("FSC    " + " ".join(f"{v:5.2f}" for v in same[1:]))
    print("mirror " + " ".join(f"{v:5.2f}" for v in other[1:]))
    if comparison.mirrored_is_better:
        cure = "without --flip" if flipped else "with --flip"
        print(f"the other hand fits the reference better: run again {cure}")
    else:
        print("this hand fits the reference better")


def _print_table(rows: dict[str, object]) -> None:
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def _stop_on_terminate() -> Callable[[], bool]:
    """A question whether SIGTERM has come; batch queues send it before they end a job."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    return lambda: bool(asked)


class _progress_bar:  # noqa: N801  (used like a function)
    """A bar in the shell over all batches of a training, with the last loss."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
        # Only the bar is transient; without a terminal nothing is drawn.
        console = Console(stderr=True)
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
        )
        self._task, self._title = self._bar.add_task(title, total=None, loss=""), title

    def __enter__(self) -> Callable[[TrainProgress], None]:
        self._bar.__enter__()
        return self._show

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)

    def _show(self, state: TrainProgress) -> None:
        done = (state.epoch - 1) * state.batches + state.batch
        loss = f"loss {state.history['total'].iloc[-1]:.5f}" if len(state.history) else ""
        self._bar.update(
            self._task,
            completed=done,
            total=state.epochs * state.batches,
            description=f"{self._title}, epoch {state.epoch} of {state.epochs}",
            loss=loss,
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    logging.basicConfig(format="tomodrgn: %(levelname)s: %(message)s", level=logging.WARNING)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain(_option_message(error))
        return 2
    except INPUT_ERRORS as error:
        _complain(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; finished epochs are kept, and --resume goes on after the last one")
        return 130
    except (OSError, RuntimeError, ArithmeticError, MemoryError) as error:
        _complain(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _option_message(error: CycloptsError) -> str:
    """One line for a wrong option; of a pydantic error the option and what is wrong with it."""
    details = getattr(error, "exception_message", "") or str(error)
    lines = [line.strip() for line in details.splitlines() if line.strip()]
    if "validation error" in lines[0] and len(lines) >= 3:
        option = "--" + lines[1].replace("_", "-")
        return f"Got a wrong value of {option}: {lines[2].split(' [type=')[0]}. See `tomodrgn train --help`."
    return " ".join(lines) + " See `tomodrgn --help`."


def _complain(message: str) -> None:
    print(f"tomodrgn: {' '.join(message.split())}", file=sys.stderr)
