"""Verbs of the analysis: analyze and validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tomodrgn.cli.inputs import read_ids

__all__ = ["analyze", "validate"]


def analyze(
    run: Path,
    /,
    *,
    epoch: int | None = None,
    kmeans: int | None = None,
    mask: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
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
    positions
        File with the positions of the particles in their tomograms, for the distances of neighbours.
    seed
        Of every random step.
    overwrite
        Replace an earlier analysis.
    """
    from tomodrgn.analysis.run_analysis import analyze_run, refuse_analyzed
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

    refuse_existing(out_dir / "fsc.csv", overwrite=overwrite)
    found = validate_selection(run, read_ids(particle_ids), epoch=epoch, seed=seed)
    found.save(out_dir, overwrite=overwrite)
    print(f"{found.verdict}\nwrote maps and FSC curves to {out_dir}")
