"""The verb that writes image stacks anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tomodrgn.cli.inputs import InputOptions
from tomodrgn.cli.output import stack_bar

__all__ = ["downsample"]


def downsample(
    particles: Path,
    out_dir: Path,
    /,
    *,
    box: int,
    datadir: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    dialect: str | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write Fourier-cropped image stacks, and the STAR file that belongs to them.

    An interrupted call is taken up by the same command. To crop without writing, give --box to the other commands.

    Parameters
    ----------
    particles
        STAR file of image rows, or an optimisation set.
    out_dir
        Folder for the STAR file and the stacks, in the folders that they have now.
    box
        New side of the images in pixels, even; the field of view stays.
    datadir
        Folder searched for image stacks; may be given several times.
    dialect
        Input dialect, if it is not recognised.
    overwrite
        Replace files that are there already.
    """
    from tomodrgn.particles.downsample import downsample_particles

    source = InputOptions(datadir=datadir, dialect=dialect).read(particles)
    with stack_bar("downsampling") as progress:
        made = downsample_particles(source, out_dir, box_px=box, overwrite=overwrite, progress=progress)
    print(f"wrote {len(made)} particles, {made.n_images} images of {made.box_px} px, {made.pixel_size_angst:.4g} A/px, "
          f"to {made.source.path}")  # fmt: skip
