"""What the verbs are given: particles, tables of names, points of the latent space."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tomodrgn.config import LinearConfig, VaeConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import Float32
    from lightning_fabric import Fabric

    from tomodrgn.particles.particle_set import ParticleSet
    from tomodrgn.training.run import Run

__all__ = [
    "ChoiceOptions",
    "DeviceOptions",
    "Devices",
    "Input",
    "InputOptions",
    "latent_points",
    "linear_options",
    "read_column",
    "read_ids",
    "read_reference",
    "read_table",
    "slice_ends",
]

VOXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where a model is computed."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of device."""
    devices: int = 1
    """Number of devices (processes) of each node, which share the work."""
    num_nodes: int = 1
    """Number of nodes."""

    def launch(self) -> Fabric:
        """All processes that share the work, of which this is one."""
        from tomodrgn.config import TrainConfig
        from tomodrgn.training.devices import launch

        # What is decoded or encoded for keeps is computed in float32.
        return launch(TrainConfig(**vars(self), precision="32-true"))


Devices = Annotated[DeviceOptions | None, Parameter(name="*")]


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

    def keywords(self) -> dict[str, Any]:
        """The options as `read_particles` names them."""
        options = {name: value for name, value in vars(self).items() if name not in ("datadir", "box")}
        return {**options, "datadir": self.datadir or None, "box_px": self.box}

    def read(self, path: Path, *, check_stacks: bool = True) -> ParticleSet:
        """The particles of a STAR file."""
        from tomodrgn.particles.read import read_particles

        return read_particles(path, check_stacks=check_stacks, **self.keywords())


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions:
    """Which particles and images of a file are used: those that all choices name."""

    particle_ids: Path | None = None
    """CSV with a column particle_id: use these particles only, in the order of the file."""
    first: int | None = None
    """Use so many particles only: the first of the file, or of those listed."""
    max_dose: float | None = None
    """Use images with an exposure of at most this, in e/A^2."""
    tilts: str | None = None
    """Use images A to B - 1 of each particle in order of exposure, written A:B, counted from 0."""

    def of(self, particles: ParticleSet) -> ParticleSet:
        """The chosen part of a set; the set itself if nothing is chosen.

        Raises
        ------
        KeyError, ValueError
            If a particle of the list is unknown, or nothing is left.
        """
        from tomodrgn.particles.choice import up_to_dose, within_order

        if self.particle_ids is not None:
            particles = particles.subset(read_ids(self.particle_ids))
        if self.first is not None:
            if self.first < 1:
                raise ValueError(f"Got --first {self.first}, expected 1 or more. Choose another number.")
            particles = particles.subset(particles.particle_id[: self.first])
        keep = within_order(particles, *slice_ends(self.tilts))
        if self.max_dose is not None:
            keep &= up_to_dose(particles, self.max_dose)
        return particles if keep.all() else particles.subset_images(keep)


def slice_ends(text: str | None) -> tuple[int | None, int | None]:
    """The ends of a slice A:B, either of which may be left out."""
    if text is None:
        return None, None
    found = re.fullmatch(r"(\d*):(\d*)", text)
    if found is None:
        raise ValueError(f"Got --tilts {text}, expected A:B, such as 0:20 for the 20 images of least exposure.")
    first, end = (int(number) if number else None for number in found.groups())
    return first, end


def linear_options(
    model: str, vae: VaeConfig | None, linear: LinearConfig | None, *, resume: bool
) -> LinearConfig | None:
    """Options of the linear model if that is asked for, otherwise None; --z-dim is its number of components.

    Raises
    ------
    ValueError
        If options of the other model were given, or a linear run shall be resumed.
    """
    given = vae.model_fields_set if vae is not None else set()
    own = linear.model_fields_set if linear is not None else set()
    other = own if model == "vae" else given - {"z_dim"}
    if other:
        kinds = ("linear", "vae") if model == "vae" else ("vae", "linear")
        raise ValueError(
            f"Got {', '.join(_flag(name) for name in sorted(other))} with --model {model}, expected them with --model "
            f"{kinds[0]} only. Leave them out, or choose that model."
        )
    if model == "vae":
        return None
    if resume:
        raise ValueError("Got --resume with --model linear, expected a new fit. Use --overwrite to fit that run anew.")
    options = linear or LinearConfig()
    if vae is None or "z_dim" not in given:
        return options
    if vae.z_dim < 1 or options.n_components not in (None, vae.z_dim):
        raise ValueError(
            f"Got --z-dim {vae.z_dim} with --model linear, expected at least 1, and the same as --n-components. "
            "Give one of them."
        )
    return options.model_copy(update={"n_components": vae.z_dim})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


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
    """The points named by exactly one of `kmeans`, `particle_ids`, `latents` and `pc`; see `generate`.

    A homogeneous run (no latent dimension) has one point, which needs no name.
    """
    import pandas as pd

    from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
    from tomodrgn.analysis.paths import traverse_latents
    from tomodrgn.volumes.volume_stack import check_map_names

    given = sum(choice is not None for choice in (kmeans, particle_ids, latents, pc))
    if not given and run.kind == "vae" and not run.z_dim:
        return pd.DataFrame(index=["map_000"])
    if given != 1:
        raise ValueError("Got none or several of --kmeans, --particle-ids, --latents and --pc, expected one of them.")
    if latents is not None:
        points = _read_csv(latents)
        points = points.set_index("name") if "name" in points else points.rename(index=lambda i: f"map_{i:03d}")
        check_map_names(points.index, str(latents))
        points.attrs["path"] = str(latents)
        return points
    known = run.latents(epoch)
    if kmeans is not None:
        return cluster_centres(known, cluster_latents(known, kmeans, seed=seed))
    if pc is not None:
        return traverse_latents(known, pc)
    ids = read_ids(particle_ids) if particle_ids is not None else []
    chosen = known.aligned_to(pd.Index(ids).to_numpy()).frame().filter(regex="^z[0-9]+$")
    return chosen.reset_index().rename(index=lambda i: f"particle_{i:05d}")


def _read_csv(path: Path, dtype: Any = None) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"Got {path}, which does not exist. Give a CSV file.")
    try:
        return pd.read_csv(path, dtype=dtype or {"particle_id": str, "name": str}, keep_default_na=False)
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


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file with one row for each of some particles or images: all cells are text, and one column is particle_id.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no CSV file, or it lacks the column or rows.
    """
    table = _read_csv(path, dtype=str)
    if "particle_id" not in table:
        raise ValueError(
            f"Got {path} with the columns {', '.join(map(str, table))}, expected one named particle_id. "
            "Write a CSV file with that heading and one name a line."
        )
    if table.empty:
        raise ValueError(f"Got {path} without a row, expected at least one particle_id. Add one.")
    return table


def read_ids(path: Path) -> list[str]:
    """The column particle_id of a CSV file."""
    return read_table(path)["particle_id"].tolist()


def read_column(text: str) -> pd.Series:
    """A column of a CSV file, as text indexed by particle_id.

    Parameters
    ----------
    text
        ``FILE.csv:COLUMN``; or ``FILE.csv``, whose column is `label`, or the only one beside particle_id.
    """
    file, colon, name = text.rpartition(":")
    file, name = (file, name) if colon and not Path(text).is_file() else (text, "")
    table = read_table(Path(file)).set_index("particle_id")
    if not name:
        name = "label" if "label" in table else str(table.columns[0]) if len(table.columns) == 1 else ""
    if name not in table:
        wanted = f"named {name}" if name else "named label"
        raise ValueError(
            f"Got {file} with the columns {', '.join(map(str, table)) or 'particle_id only'}, expected one {wanted}. "
            f"Name the column: {file}:COLUMN"
        )
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise ValueError(f"Got particle {twice!r} twice in {file}, expected one row for each. Remove the others.")
    return table[name]
