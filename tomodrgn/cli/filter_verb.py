"""The verb that writes a part of a data set, with columns added."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tomodrgn.cli.inputs import InputOptions, read_column, read_ids, read_table, slice_ends

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["filter_particles"]

Many = Parameter(negative=())


def filter_particles(
    particles: Path,
    out: Path,
    /,
    *,
    particle_ids: Path | None = None,
    tomogram: Annotated[tuple[str, ...], Many] = (),
    labels: str | None = None,
    keep: Annotated[tuple[str, ...], Many] = (),
    random_subset: Literal[1, 2] | None = None,
    seed: int = 0,
    invert: Annotated[bool, Parameter(negative=())] = False,
    max_dose: float | None = None,
    tilts: str | None = None,
    images: Path | None = None,
    add_latents: Path | None = None,
    add_column: Annotated[tuple[str, ...], Many] = (),
    as_images: Annotated[bool, Parameter(negative=())] = False,
    datadir: Annotated[tuple[Path, ...], Many] = (),
    dialect: str | None = None,
    pixel_size_angst: float | None = None,
    stack: Path | None = None,
    phase_unit: Literal["deg", "rad"] | None = None,
    tilt_column: str | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write chosen particles, or images of them, to a file of the same dialect with every column kept.

    A particle is written if every choice names it.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    out
        File to be written.
    particle_ids
        CSV with a column particle_id: keep these particles. `tomodrgn info FILE --ids` writes such a file.
    tomogram
        Keep the particles of this tomogram; may be given several times.
    labels
        CSV with the columns particle_id and label, as FILE.csv or FILE.csv:COLUMN; with --keep. Particles that are
        not in it are not kept (with --invert they are).
    keep
        Keep the particles with this label; may be given several times.
    random_subset
        Keep one half of the particles: that of the source (rlnRandomSubset) where it names both, else drawn by --seed.
    seed
        Draws the halves where the source names none.
    invert
        Keep the particles that the choices above do not name (nothing is done to contrast).
    max_dose
        Keep images with an exposure of at most this, in e/A^2.
    tilts
        Keep images A to B - 1 of each particle in order of exposure, written A:B, counted from 0.
    images
        CSV with the columns particle_id and tilt: keep these images. `tomodrgn info FILE --images` writes such a file.
    add_latents
        Run folder or .npz file of latents, to be added as columns tomodrgnLatent1, tomodrgnLatent2 ...
    add_column
        Column of a CSV to be added, as FILE.csv:COLUMN; cluster becomes tomodrgnCluster, names that begin with tomodrgn
        or rln stay. May be given several times.
    as_images
        Write a table of our own with one row an image, which holds any choice of images.
    datadir
        Folder searched for image stacks; may be given several times.
    dialect
        Input dialect, if it is not recognised.
    pixel_size_angst
        Size of a pixel of the images, in place of that of the file; with --as-images.
    stack
        Image stack of a cisTEM or emClarity file that does not name it.
    phase_unit
        Unit of cisTEM's phase shifts.
    tilt_column
        Column of tilt angles in degrees, for image series that hold none; with --as-images.
    overwrite
        Replace a file that is there already.
    """
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.particles.choice import half_sets
    from tomodrgn.particles.own_files import refuse_own_files
    from tomodrgn.particles.write_back import write_particles

    refuse_existing(out, overwrite=overwrite)
    by_image = max_dose is not None or tilts is not None or images is not None
    choices = bool(particle_ids or tomogram or labels or keep or random_subset or by_image)
    if not (choices or add_latents or add_column or as_images):
        raise ValueError("Got no choice of particles or images, expected one, such as --particle-ids. See --help.")
    order = slice_ends(tilts)
    options = InputOptions(
        datadir=datadir,
        dialect=dialect,
        pixel_size_angst=pixel_size_angst,
        stack=stack,
        phase_unit=phase_unit,
        tilt_column=tilt_column,
    )
    source = _read(options, particles, by_image=by_image, as_images=as_images)
    refuse_own_files(source, [out])
    chosen = _all_of(
        _named(source, particle_ids, tomogram),
        _labelled(source, labels, keep),
        None if random_subset is None else half_sets(source, seed=seed) == random_subset,
    )
    if invert and chosen is None:
        raise ValueError("Got --invert without a choice of particles, expected one, such as --particle-ids.")
    kept = source
    if by_image:
        kept = source.subset_images(_chosen_images(source, max_dose, order, images))
    if chosen is not None:
        names = set(source.particle_id[chosen ^ invert]) & set(kept.particle_id)
        kept = kept.subset(names)
    columns = _columns(kept, add_latents, add_column)
    write_particles(kept, out, overwrite=overwrite, columns=columns, as_images=as_images)
    print(f"wrote {len(kept)} of {len(source)} particles, {kept.n_images} of {source.n_images} images to {out}")


def _read(options: InputOptions, path: Path, *, by_image: bool, as_images: bool) -> ParticleSet:
    """The particles; their stacks are needed only where images are taken out of a particle's own stack."""
    from tomodrgn.particles.stack_files import MissingStacksError

    try:
        return options.read(path, check_stacks=by_image or as_images)
    except MissingStacksError:
        found = None if as_images else options.read(path, check_stacks=False)
        if found is None or found.source.optimisation_set:
            raise
        return found


def _all_of(*choices: np.ndarray | None) -> np.ndarray | None:
    """What all choices name; None if there is no choice."""
    import numpy as np

    given = [choice for choice in choices if choice is not None]
    return np.logical_and.reduce(given) if given else None


def _named(source: ParticleSet, particle_ids: Path | None, tomograms: tuple[str, ...]) -> np.ndarray | None:
    """Particles of a list and of tomograms."""
    import numpy as np

    from tomodrgn.particles.choice import in_tomograms

    listed = None
    if particle_ids is not None:
        listed = np.zeros(len(source), dtype=bool)
        listed[source.positions_of(read_ids(particle_ids))] = True
    return _all_of(listed, in_tomograms(source, tomograms) if tomograms else None)


def _labelled(source: ParticleSet, labels: str | None, keep: tuple[str, ...]) -> np.ndarray | None:
    from tomodrgn.particles.choice import with_label

    if (labels is None) != (not keep):
        raise ValueError("Got one of --labels and --keep, expected both: a CSV file and the label to keep.")
    return None if labels is None else with_label(source, read_column(labels), keep)


def _chosen_images(
    source: ParticleSet, max_dose: float | None, order: tuple[int | None, int | None], images: Path | None
) -> np.ndarray:
    from tomodrgn.particles.choice import listed_images, up_to_dose, within_order

    chosen = within_order(source, *order)
    if max_dose is not None:
        chosen &= up_to_dose(source, max_dose)
    if images is not None:
        chosen &= listed_images(source, read_table(images))
    return chosen


def _columns(kept: ParticleSet, latents: Path | None, columns: tuple[str, ...]) -> pd.DataFrame | None:
    """The columns to add, indexed by particle_id."""
    import pandas as pd

    tables: list[pd.DataFrame] = []
    if latents is not None:
        from tomodrgn.particles.latents import Latents
        from tomodrgn.training.run import Run

        known = Run.open(latents).latents() if latents.is_dir() else Latents.load(latents)
        tables.append(known.aligned_to(kept.particle_id).star_columns())
    for text in columns:
        column = read_column(text)
        missing = [str(name) for name in kept.particle_id if name not in column.index]
        if missing:
            raise KeyError(
                f"Got {text} without {len(missing)} of {len(kept)} particles, first {missing[:3]}. "
                "Give a row for each particle_id."
            )
        tables.append(column.loc[kept.particle_id].to_frame(_star_name(str(column.name))))
    return pd.concat(tables, axis=1) if tables else None


def _star_name(name: str) -> str:
    """Label of a column in a STAR file: our own, unless the name is a label already."""
    if name.startswith(("tomodrgn", "rln")):
        return name
    words = re.findall(r"[A-Za-z0-9]+", name)
    return "tomodrgn" + "".join(word[0].upper() + word[1:] for word in words)
