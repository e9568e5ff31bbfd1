"""The verbs: each reads its input, calls one function of the library, and says what was written."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from tomodrgn import __version__
from tomodrgn.cli.inputs import Input, InputOptions, latent_points, linear_options, read_ids, read_reference
from tomodrgn.cli.output import (
    ProgressBar,
    print_comparison,
    print_facts,
    print_fit,
    print_run,
    print_table,
    stage_bar,
    write_tables,
)
from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig

__all__ = ["app"]

app = App(
    name="tomodrgn",
    help="Structural heterogeneity of particles in cryo-electron tomograms, learned from their tilt images.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
Flat = Parameter(name="*")


@app.command
def info(
    particles: Path,
    /,
    *,
    data: Input = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    ids: Path | None = None,
    images: Path | None = None,
    report: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Say what a file of particles holds, what was assumed on reading, and which image stacks are missing.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    as_json
        Print JSON.
    ids
        CSV to be written with one row a particle: particle_id, tomogram, half_set, n_tilts.
    images
        CSV to be written with one row an image: particle_id, tilt, exposure, angle, stack, slice; tilt and slice (the
        place in the stack) are counted from 0.
    report
        HTML page to be written: whether the images agree with how they were read, and figures to judge by eye.
    overwrite
        Replace files that are there already.
    """
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.particles.inspection import inspect_particles
    from tomodrgn.particles.own_files import refuse_own_files

    for path in (report, ids, images):
        if path is not None:
            refuse_existing(path, overwrite=overwrite)
    found = inspect_particles(particles, **(data or InputOptions()).keywords())
    refuse_own_files(found.particles, [path for path in (report, ids, images) if path is not None])
    written = write_tables(found, ids=ids, images=images, overwrite=overwrite)
    facts = found.facts()
    if report is not None:
        from tomodrgn.report import too_few, write_data_report

        if found.missing is not None:
            raise found.missing
        check = write_data_report(found.particles, report, remarks=found.remarks, overwrite=overwrite)
        facts["images_say"] = too_few(found.particles) if check is None else f"{check.verdict} {check.best_setting}"
        facts["warnings"] = [] if check is None else check.warnings
        written.append(report)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    print_facts(facts)
    for path in written:
        print(f"wrote {path}")


@app.command
def train(
    particles: Path,
    run: Path,
    /,
    *,
    model: Literal["vae", "linear"] = "vae",
    vae: Annotated[VaeConfig | None, Flat] = None,
    linear: Annotated[LinearConfig | None, Flat] = None,
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
        Kind of model: an autoencoder, or the linear model, which takes seconds and of the options below those of its
        own, --z-dim (its number of components), --seed, --accelerator and those of the preprocessing.
    resume
        Go on after the last finished epoch of the run folder, with the same images and options; --epochs may be raised.
    overwrite
        Replace a run that is there already.
    """
    from tomodrgn.training.devices import is_first_process
    from tomodrgn.training.train import train as train_run

    linear = linear_options(model, vae, linear, resume=resume)
    stop = stop_on_terminate()
    if linear is not None:
        from tomodrgn.training.linear_run import fit_linear

        with stage_bar("fitting") as tell:
            fitted = fit_linear(
                (data or InputOptions()).read(particles),
                run,
                linear,
                preprocess=preprocess,
                training=training,
                overwrite=overwrite,
                progress=tell,
                should_stop=stop,
            )
        print_fit(fitted)
        return
    with ProgressBar("training") as progress:
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
    if is_first_process():
        print_run(finished)


@app.command
def embed(
    run: Path,
    particles: Path,
    out: Path,
    /,
    *,
    data: Input = None,
    epoch: int | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
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
    overwrite
        Replace a file that is there already.
    """
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.training.embed import embed_particles
    from tomodrgn.training.run import Run

    refuse_existing(out, overwrite=overwrite)
    opened = Run.open(run)
    options = data or InputOptions()
    latents = embed_particles(opened, options.read(particles), epoch=epoch)
    latents.save(out, overwrite=overwrite)
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
    """Decode maps at chosen points of the latent space; of a homogeneous run (--z-dim 0), its one map.

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
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.training.run import Run
    from tomodrgn.volumes.generate import generate_volumes

    refuse_existing(out_dir / "volumes.csv", overwrite=overwrite)
    opened = Run.open(run)
    points = latent_points(opened, kmeans, particle_ids, latents, pc=pc, epoch=epoch, seed=seed)
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
    from tomodrgn.io.atomic import refuse_existing, replacing
    from tomodrgn.plots import plot_fsc, save_figures
    from tomodrgn.volumes.backproject import OUTPUT_FILES
    from tomodrgn.volumes.backproject import backproject as reconstruct

    for name in (*OUTPUT_FILES, "reference_fsc.csv"):
        refuse_existing(out_dir / name, overwrite=overwrite)
    chosen = (data or InputOptions()).read(particles)
    if particle_ids is not None:
        chosen = chosen.subset(read_ids(particle_ids))
    known = None if reference is None else read_reference(reference, chosen)
    result = reconstruct(chosen, preprocess=preprocess, flip=flip, seed=seed)
    comparison = None if known is None else result.compare(known)
    result.save(out_dir, overwrite=overwrite)
    save_figures(out_dir, fsc=plot_fsc(result.curve()))
    print(f"reconstructed {len(chosen)} particles, {chosen.n_images} images; half maps agree to "
          f"{result.resolution_angst:.1f} A (FSC 0.143); maps in {out_dir}")  # fmt: skip
    if comparison is not None:
        with replacing(out_dir / "reference_fsc.csv") as temporary:
            comparison.curve().to_csv(temporary, index=False)
        save_figures(out_dir, reference_fsc=plot_fsc(comparison.curve()))
        print_comparison(comparison, flipped=flip)


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
    dialect: Literal[
        "warp", "warptools", "relion5", "nextpyp", "nextpyp_relion5", "cryosrpnt", "cistem", "emclarity"
    ] = "warp",
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
        Program whose files are imitated: one row an image (warp, nextpyp, cryosrpnt, cistem, emclarity) or an
        optimisation set (warptools, relion5, nextpyp_relion5).
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
    """Simulate, reconstruct, fit, train, cluster and decode; print how well the known answer was found, and when.

    Parameters
    ----------
    out_dir
        Folder to be made.
    overwrite
        Replace an earlier demo.
    """
    from tomodrgn.demo import run_demo

    with ProgressBar("training") as progress:
        result = run_demo(out_dir, overwrite=overwrite, progress=progress, tell=lambda line: print(line, flush=True))
    print()
    print_table(result.rows())


def stop_on_terminate() -> Callable[[], bool]:
    """A question whether SIGTERM has come; batch queues send it before they end a job."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    return lambda: bool(asked)
