"""The verbs of a run and its maps: each reads its input, calls one function, and says what was written."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tomodrgn.cli.inputs import (
    ChoiceOptions,
    DeviceOptions,
    Devices,
    Input,
    InputOptions,
    latent_points,
    linear_options,
    read_ids,
    read_reference,
)
from tomodrgn.cli.output import ProgressBar, fit_line, print_comparison, print_table, run_line, stage_bar
from tomodrgn.cli.run_log import RunLog
from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig

__all__ = ["backproject", "demo", "embed", "generate", "train"]

Flat = Parameter(name="*")


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
    choice: Annotated[ChoiceOptions | None, Flat] = None,
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
        Go on with the run folder where it was stopped (after the last finished epoch if it was killed), with the same
        images, also of a file that holds more, and the same options; --epochs may be raised.
    overwrite
        Replace a run that is there already.
    """
    linear = linear_options(model, vae, linear, resume=resume)
    stop = stop_on_terminate()
    with RunLog(run, add=resume) as log:
        used = (choice or ChoiceOptions()).of((data or InputOptions()).read(particles))
        if linear is not None:
            from tomodrgn.training.linear_run import fit_linear

            with stage_bar("fitting", log) as tell:
                fitted = fit_linear(
                    used,
                    run,
                    linear,
                    preprocess=preprocess,
                    training=training,
                    overwrite=overwrite,
                    progress=tell,
                    should_stop=stop,
                )
            log.last_line(fit_line(fitted))
            return
        from tomodrgn.training.resume import images_of_run
        from tomodrgn.training.run import Run
        from tomodrgn.training.train import train as train_run

        used = images_of_run(Run.open(run), used) if resume else used
        with ProgressBar("training", log) as progress:
            finished = train_run(
                used,
                run,
                model=vae,
                preprocess=preprocess,
                training=training,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
                should_stop=stop,
            )
        log.last_line(run_line(finished))


def embed(
    run: Path,
    particles: Path,
    out: Path,
    /,
    *,
    data: Input = None,
    on: Devices = None,
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
        Output .npz file: particle_id, mu, logvar, and of a linear run covariance.
    epoch
        Epoch whose weights are used; the last if not given. A linear run has epoch 1 only.
    overwrite
        Replace a file that is there already.
    """
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.training.embed import embed_particles
    from tomodrgn.training.run import Run

    opened = Run.open(run)
    refuse_existing(out, overwrite=overwrite)
    options = data or InputOptions()
    fabric = (on or DeviceOptions()).launch()
    latents = embed_particles(opened, options.read(particles), epoch=epoch, fabric=fabric)
    if fabric.is_global_zero:
        latents.save(out, overwrite=overwrite)
        print(f"wrote {len(latents)} latents of {latents.z_dim} dimensions to {out}")


def generate(
    run: Path,
    out_dir: Path,
    /,
    *,
    on: Devices = None,
    kmeans: int | None = None,
    particle_ids: Path | None = None,
    latents: Path | None = None,
    pc: int | None = None,
    box: int | None = None,
    lowpass_angst: float | None = None,
    bfactor_angst2: float = 0.0,
    flip: Annotated[bool, Parameter(negative=())] = False,
    invert: Annotated[bool, Parameter(negative=())] = False,
    epoch: int | None = None,
    batch_size: int = 16,
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
    bfactor_angst2
        B-factor applied to the maps; below 0 sharpens.
    flip
        Mirror the maps.
    invert
        Change the sign of the maps, for programs that want density dark.
    epoch
        Epoch whose weights are used; the last if not given.
    batch_size
        Number of maps decoded at once; fewer take less memory.
    seed
        Seed of k-means.
    overwrite
        Replace maps that are there already.
    """
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.training.run import Run
    from tomodrgn.volumes.generate import generate_volumes

    opened = Run.open(run)
    refuse_existing(out_dir / "volumes.csv", overwrite=overwrite)
    points = latent_points(opened, kmeans, particle_ids, latents, pc=pc, epoch=epoch, seed=seed)
    fabric = (on or DeviceOptions()).launch()
    stack = generate_volumes(
        opened,
        points,
        epoch=epoch,
        box_px=box,
        lowpass_angst=lowpass_angst,
        bfactor_angst2=bfactor_angst2,
        flip=flip,
        invert=invert,
        batch_size=batch_size,
        fabric=fabric,
    )
    if fabric.is_global_zero:
        paths, side = stack.save(out_dir, overwrite=overwrite), stack.maps.shape[-1]
        print(f"wrote {len(paths)} maps of box {side}, {stack.voxel_size_angst:.3f} A/voxel, to {out_dir}")


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
