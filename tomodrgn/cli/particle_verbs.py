"""The verbs of particles: what a file holds, and particles with a known answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tomodrgn.cli.inputs import Input, InputOptions
from tomodrgn.cli.output import print_facts, print_run_facts, write_tables

__all__ = ["info", "simulate"]


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
    """Say what a file of particles holds, what was assumed on reading, and which stacks are missing; or all of a run.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set; or a run folder.
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

    if (particles / "run.json").is_file():
        _info_of_run(particles, as_json=as_json, outputs=[report, ids, images], data=data)
        return
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


def _info_of_run(folder: Path, *, as_json: bool, outputs: list[Path | None], data: InputOptions | None) -> None:
    from tomodrgn.training.run_facts import describe_run

    if any(outputs) or data is not None:
        raise ValueError(
            f"Got run {folder} with options that are for a file of particles, expected --json or none. Give "
            f"{folder / 'particles.star'}, or the file that it was trained on."
        )
    facts = describe_run(folder)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print_run_facts(facts)


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
    tomograms: Annotated[bool, Parameter(negative=())] = False,
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
    tomograms
        Write a volume of each tomogram, too, in reconstruction; binned 3 times, without missing wedge.
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
        tomograms=tomograms,
        seed=seed,
        overwrite=overwrite,
    )
    print(f"wrote {len(made)} particles, {made.n_images} images to {made.source.path}; the truth is in {out_dir}/truth")
