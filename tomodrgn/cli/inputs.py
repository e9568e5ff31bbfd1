"""What the verbs are given: particles, tables of names, points of the latent space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import Float32

    from tomodrgn.particles.particle_set import ParticleSet
    from tomodrgn.training.run import Run

__all__ = ["Input", "InputOptions", "latent_points", "read_ids", "read_reference"]

VOXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the STAR file and its image stacks are read."""

    datadir: Annotated[tuple[Path, ...], Parameter(negative=())] = ()
    """Folder searched for image stacks; may be given several times."""
    dialect: str | None = None
    """Input dialect, if it is not recognised: warptools, relion5, nextpyp_relion5, warp, cryosrpnt, nextpyp, cistem,
    emclarity or tomodrgn."""
    ctf_premultiplied: Annotated[bool | None, Parameter(negative="--no-ctf-premultiplied")] = None
    """Whether images were multiplied by their CTF; by default as the dialect or the file says."""
    dose_weighted: Annotated[bool | None, Parameter(negative="--no-dose-weighted")] = None
    """Whether images were dose weighted; by default as the dialect or the file says."""
    invert: Annotated[bool | None, Parameter(negative="--no-invert")] = None
    """Whether contrast must be inverted; by default as the dialect says."""
    defocus_hand: Literal["auto", 1, -1, 0] = "auto"
    """Hand of local defocus in an optimisation set, in place of rlnTomoHand; 0 leaves local defocus out."""
    pixel_size_angst: float | None = None
    """Size of a pixel of the images, in place of that of the file."""
    stack: Path | None = None
    """Image stack of a cisTEM or emClarity file that does not name it."""
    phase_unit: Literal["deg", "rad"] | None = None
    """Unit of cisTEM's phase shifts."""
    tilt_column: str | None = None
    """Column of tilt angles in degrees, for image series that hold none."""

    box: int | None = None
    """Side in pixels to which images are Fourier-cropped when they are used; the field of view stays. By default that
    of the images."""

    def read(self, path: Path, *, check_stacks: bool = True) -> ParticleSet:
        """The particles of a STAR file."""
        from tomodrgn.particles.read import read_particles

        options = {name: value for name, value in vars(self).items() if name not in ("datadir", "box")}
        return read_particles(path, datadir=self.datadir or None, box_px=self.box, check_stacks=check_stacks, **options)


Input = Annotated[InputOptions | None, Parameter(name="*")]


def latent_points(
    run: Run,
    kmeans: int | None,
    particle_ids: Path | None,
    latents: Path | None,
    *,
    pc: int | None,
    epoch: int | None,
    seed: int,
) -> pd.DataFrame:
    """The points named by exactly one of `kmeans`, `particle_ids`, `latents` and `pc`; see `generate`."""
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
    ids = read_ids(particle_ids) if particle_ids is not None else []
    chosen = known.aligned_to(pd.Index(ids).to_numpy()).frame().filter(regex="^z[0-9]+$")
    return chosen.reset_index().rename(index=lambda i: f"particle_{i:05d}")


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"Got {path}, which does not exist. Give a CSV file.")
    try:
        return pd.read_csv(path, dtype={"particle_id": str, "name": str}, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"Got {path}, expected a CSV file ({error}).") from error


def read_reference(path: Path, particles: ParticleSet) -> Float32[np.ndarray, "d d d"]:
    """A map on the grid of the images: same box, and the same pixel size where its header has one (within 1 %).

    Raises
    ------
    FileNotFoundError, ValueError
        If it cannot be read, or has another grid.
    """
    from tomodrgn.io.mrc import read_volume

    volume, voxel_size_angst = read_volume(path)
    box_px, pixel_size_angst = particles.box_px, particles.pixel_size_angst
    other_size = voxel_size_angst > 0 and abs(voxel_size_angst / pixel_size_angst - 1) > VOXEL_SIZE_TOLERANCE
    if volume.shape[0] != box_px or other_size:
        raise ValueError(
            f"Got reference {path} of {volume.shape[0]} px and {voxel_size_angst:g} angstrom/px, expected those of the "
            f"images, {box_px} px and {pixel_size_angst:g} angstrom/px. Resample it to their box and pixel size."
        )
    return volume


def read_ids(path: Path) -> list[str]:
    """The column particle_id of a CSV file."""
    table = _read_csv(path)
    if "particle_id" not in table:
        raise ValueError(
            f"Got {path} with the columns {list(table.columns)}, expected one named particle_id. "
            "Write a CSV file with that heading and one name a line."
        )
    return table["particle_id"].tolist()
