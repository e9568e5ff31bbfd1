"""Verbs of the analysis: analyze, validate and mapback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tomodrgn.cli.inputs import read_column, read_ids

__all__ = ["analyze", "mapback", "validate"]


def analyze(
    run: Path,
    /,
    *,
    epoch: int | None = None,
    kmeans: int | None = None,
    mask: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    reference: Path | None = None,
    positions: Path | None = None,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Analyze a run: clusters, maps, associations, epochs, tomograms; into RUN/analysis, with report.html.

    Parameters
    ----------
    run
        Run folder.
    epoch
        Epoch to analyze; the last if not given.
    kmeans
        Number of clusters; that of the best Gaussian mixture (BIC) if not given.
    mask
        Measure the occupancy of this mask (MRC) in the map of every particle; may be given several times.
    reference
        A map (MRC) to which the maps of each epoch are compared.
    positions
        File with the positions of the particles in their tomograms, if that which the run was trained on has none.
    seed
        Of every random step.
    overwrite
        Replace an earlier analysis.
    """
    from tomodrgn.analysis.analysis_files import refuse_analyzed
    from tomodrgn.analysis.run_analysis import analyze_run
    from tomodrgn.particles.positions import read_positions
    from tomodrgn.report import write_run_report
    from tomodrgn.training.run import Run

    opened = Run.open(run)
    refuse_analyzed(opened, overwrite=overwrite)
    names = [path.stem for path in mask]
    if len(set(names)) < len(names):
        raise ValueError(f"Got masks of one name, {names}, expected each name once. Rename a file.")
    found = analyze_run(
        opened,
        epoch=epoch,
        n_clusters=kmeans,
        masks=dict(zip(names, mask, strict=True)),
        reference=reference,
        positions=None if positions is None else read_positions(positions),
        seed=seed,
        tell=lambda line: print(line, flush=True),
    )
    folder = found.save(overwrite=overwrite)
    page = write_run_report(found, folder / "report.html", overwrite=overwrite)
    print(f"\nepochs: {found.epochs.verdict}")
    if found.validation is not None:
        print(f"largest cluster: {found.validation.verdict}")
    for warning in found.warnings:
        print(f"take care, {warning}")
    print(f"wrote {page}, tables beside it, and maps to {opened.folder / 'volumes'}")


def validate(
    run: Path,
    out_dir: Path,
    /,
    *,
    particle_ids: Path,
    epoch: int | None = None,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Reconstruct a selection and all other particles from images and poses, beside the maps that the run decodes.

    Parameters
    ----------
    run
        Run folder.
    out_dir
        Folder for the maps (MRC), fsc.csv and verdict.txt.
    particle_ids
        CSV of the selection (column particle_id).
    epoch
        Epoch whose latents and weights are used; the last if not given.
    seed
        Draws particles and half sets.
    overwrite
        Replace files that are there already.
    """
    from tomodrgn.analysis.validation import validate_selection
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.training.run import Run

    opened = Run.open(run)
    refuse_existing(out_dir / "fsc.csv", overwrite=overwrite)
    found = validate_selection(opened, read_ids(particle_ids), epoch=epoch, seed=seed)
    found.save(out_dir, overwrite=overwrite)
    print(f"{found.verdict}\nwrote maps and FSC curves to {out_dir}")


def mapback(
    run: Path,
    out_dir: Path,
    /,
    *,
    positions: Path | None = None,
    maps: Literal["one", "class", "particle"] = "class",
    labels: str | None = None,
    colour_by: str | None = None,
    particle_ids: Path | None = None,
    tomograms: Path | None = None,
    epoch: int | None = None,
    box: int | None = None,
    max_maps: int = 500,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Put particles and their maps back into their tomograms: ChimeraX scripts, maps, markers, STAR files.

    Parameters
    ----------
    run
        Run folder.
    out_dir
        Folder to write to.
    positions
        File that the particles were extracted from, if that which the run was trained on has no positions.
    maps
        One map for all particles, one a class, or one a particle.
    labels
        Class of each particle: FILE.csv:COLUMN, or FILE.csv with the column label; the clusters of `tomodrgn analyze`
        if not given.
    colour_by
        Column of the particles that gives the colours; the class if not given.
    particle_ids
        Place only the particles named in this CSV (column particle_id).
    tomograms
        Folder of tomograms (MRC), matched by name: scripts open them, and both hands are scored against them.
    epoch
        Epoch whose latents and weights are used; the last if not given.
    box
        Side of the maps in voxels; that of the images if not given, 64 at most.
    max_maps
        Most maps that a script opens.
    overwrite
        Replace files that are there already.
    """
    from tomodrgn.analysis.mapback import map_back
    from tomodrgn.particles.positions import read_positions

    found = map_back(
        run,
        out_dir,
        positions=None if positions is None else read_positions(positions),
        maps=maps,
        labels=None if labels is None else read_column(labels),
        colour_by=colour_by,
        particle_ids=None if particle_ids is None else read_ids(particle_ids),
        tomograms=tomograms,
        epoch=epoch,
        box_px=box,
        max_maps=max_maps,
        overwrite=overwrite,
        tell=lambda line: print(line, flush=True),
    )
    for series, score in found.hands.items():
        print(f"{series}: {score}")
    print(f"placed {len(found.table)} particles in {len(found.scripts)} tomograms; open {found.scripts[0]} in ChimeraX")
