"""ParticleSet: all particles and all their tilt images, in one order, under one identity.

Images are sorted by particle and `offsets` cuts them: the images of particle ``i`` are rows
``offsets[i]:offsets[i + 1]`` of every per-image array. Letters in shapes: k particles, n images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int, Int64

from tomodrgn.particles.read_options import ReadOptions

__all__ = ["CtfParameters", "ParticleSet", "SourceStar"]


@dataclass(frozen=True, kw_only=True)
class CtfParameters:
    """The contrast transfer function of n images, one value an image.

    Units are those of RELION's STAR columns: defocus in angstrom (positive is underfocus), angles in
    degrees, acceleration voltage in kilovolt, spherical aberration in millimetre. Kept as read-only float32.
    """

    defocus_u_angst: Float[np.ndarray, " n"]
    defocus_v_angst: Float[np.ndarray, " n"]
    defocus_angle_deg: Float[np.ndarray, " n"]
    phase_shift_deg: Float[np.ndarray, " n"]
    voltage_kv: Float[np.ndarray, " n"]
    cs_mm: Float[np.ndarray, " n"]
    amplitude_contrast: Float[np.ndarray, " n"]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _frozen(getattr(self, field.name), np.float32))

    def __len__(self) -> int:
        return len(self.defocus_u_angst)

    def take(self, images: np.ndarray) -> CtfParameters:
        """The parameters of the given image rows (integer or boolean index)."""
        return CtfParameters(**{f.name: getattr(self, f.name)[images] for f in dataclasses.fields(self)})

    def table(self) -> Float32[np.ndarray, "n 7"]:
        """All parameters as columns, in the order of the fields."""
        return np.stack([getattr(self, f.name) for f in dataclasses.fields(self)], axis=1)


@dataclass(frozen=True, kw_only=True)
class SourceStar:
    """The STAR text that a ParticleSet was read from, whole and unchanged, so that it can be written back.

    Parameters
    ----------
    path
        The file given by the user (for an optimisation set: that file, not the particles file).
    particles
        Blocks of the file that holds the particle or image rows: name to frame of text cells.
    particles_block
        Name of the block in `particles` whose rows `ParticleSet.source_row` counts.
    tomograms
        Blocks of the tomograms file of an optimisation set; empty for image series.
    tilt_series
        For tomograms whose tilts are in a file of their own (RELION 5): that file and its blocks, by tomogram.
    optimisation_set
        Blocks of the optimisation set file itself; empty for image series.
    datadir
        Folders searched for image stacks, beside the place of the STAR file.
    particles_file
        The file that `particles` came from; None if that is `path`.
    tomograms_file
        The file that `tomograms` came from, if there is one.
    options
        What the user said of the data set.
    """

    path: Path
    particles: dict[str, pd.DataFrame]
    particles_block: str
    tomograms: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    tilt_series: dict[str, tuple[Path, dict[str, pd.DataFrame]]] = dataclasses.field(default_factory=dict)
    optimisation_set: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    datadir: tuple[Path, ...] = ()
    particles_file: Path | None = None
    tomograms_file: Path | None = None
    options: ReadOptions = dataclasses.field(default_factory=ReadOptions)

    @property
    def particles_path(self) -> Path:
        """The file that holds the particle or image rows."""
        return self.path if self.particles_file is None else self.particles_file

    @property
    def rows(self) -> pd.DataFrame:
        """The block of particle or image rows, as text."""
        return self.particles[self.particles_block]


@dataclass(frozen=True, kw_only=True)
class ParticleSet:
    """Everything known about the particles of one data set except the pixels themselves.

    Arrays are kept as read-only float32 and int64 (half_set as int8).

    Parameters
    ----------
    dialect
        Name of the input dialect: ``"warp"``, ``"cryosrpnt"``, ``"warptools"`` ...
    particle_id
        Unique, stable names, (k,) text; made from the source's own unique columns.
    tomogram
        Tomogram name of each particle, (k,) text; empty text where unknown.
    half_set
        1 or 2 for each particle, 0 where unknown, (k,).
    offsets
        Image rows of particle i are ``offsets[i]:offsets[i + 1]``, (k + 1,).
    rotations
        Particle frame to image frame, acting on xyz columns, (n, 3, 3). A Fourier slice is
        ``lattice_xyz @ rotation``.
    shifts_px
        RELION origins, xy, in pixels of the extracted image, (n, 2): moving the image by +shift puts the
        particle at the box centre (index n // 2).
    ctf
        Contrast transfer parameters of every image, or None for images without a CTF.
    dose_e_per_angst2
        Accumulated exposure of every image, (n,).
    tilt_deg
        Tilt angle of every image, (n,); NaN where unknown.
    image_scale
        Factor by which upstream software multiplied each image (rlnCtfScalefactor of weighted images), (n,).
    stack_paths, stack_index, slice_index
        Image j is the 0-based slice ``slice_index[j]`` of ``stack_paths[stack_index[j]]``.
    box_px, pixel_size_angst
        Side of the square images in pixels, and the size of a pixel; see `cropped_to`.
    ctf_premultiplied, dose_weighted
        Whether upstream software multiplied the images by their CTF, and by exposure filter and `image_scale`.
    invert
        Whether pixel values must be multiplied by -1 to agree with the sign of the CTF used here.
    source, source_row, source_slot
        The STAR text; the row of each image (or of its particle) in it, (n,); and for particle-row dialects the
        position of the image in the particle's list of visible frames, (n,), else 0.
    stack_box_px
        Side of the images on disk; 0 stands for `box_px`.

    Raises
    ------
    ValueError
        If lengths do not agree, identifiers repeat, or a particle has no image.
    """

    dialect: str
    particle_id: np.ndarray
    tomogram: np.ndarray
    half_set: Int[np.ndarray, " k"]
    offsets: Int[np.ndarray, " k+1"]
    rotations: Float[np.ndarray, "n 3 3"]
    shifts_px: Float[np.ndarray, "n 2"]
    ctf: CtfParameters | None
    dose_e_per_angst2: Float[np.ndarray, " n"]
    tilt_deg: Float[np.ndarray, " n"]
    image_scale: Float[np.ndarray, " n"]
    stack_paths: tuple[Path, ...]
    stack_index: Int[np.ndarray, " n"]
    slice_index: Int[np.ndarray, " n"]
    box_px: int
    pixel_size_angst: float
    ctf_premultiplied: bool
    dose_weighted: bool
    invert: bool
    source: SourceStar
    source_row: Int[np.ndarray, " n"]
    source_slot: Int[np.ndarray, " n"]
    stack_box_px: int = 0

    def __post_init__(self) -> None:
        for name in ("rotations", "shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.float32))
        for name in ("offsets", "stack_index", "slice_index", "source_row", "source_slot"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.int64))
        object.__setattr__(self, "half_set", _frozen(self.half_set, np.int8))
        object.__setattr__(self, "stack_box_px", self.stack_box_px or self.box_px)
        for name in ("particle_id", "tomogram"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.str_))
        self._check()

    def _check(self) -> None:
        k, n = len(self.particle_id), len(self.rotations)
        if self.offsets.shape != (k + 1,) or (k and (self.offsets[0] != 0 or self.offsets[-1] != n)):
            raise ValueError(
                f"Got offsets that do not cut {n} images into {k} particles. Give k + 1 offsets from 0 to n."
            )
        if k and np.diff(self.offsets).min() < 1:
            bad = str(self.particle_id[np.argmin(np.diff(self.offsets))])
            raise ValueError(f"Got particle {bad!r} without an image, expected at least one. Leave it out of the set.")
        for name in ("tomogram", "half_set"):
            if len(getattr(self, name)) != k:
                raise ValueError(
                    f"Got {len(getattr(self, name))} values of {name}, expected one for each of {k} particles."
                )
        for name in ("shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale", "stack_index", "slice_index",
                     "source_row", "source_slot"):  # fmt: skip
            if len(getattr(self, name)) != n:
                raise ValueError(
                    f"Got {len(getattr(self, name))} values of {name}, expected one for each of {n} images."
                )
        if self.ctf is not None and len(self.ctf) != n:
            raise ValueError(f"Got {len(self.ctf)} sets of CTF parameters, expected one for each of {n} images.")
        unique, counts = np.unique(self.particle_id, return_counts=True)
        if len(unique) != k:
            twice = str(unique[np.argmax(counts)])
            raise ValueError(f"Got particle_id {twice!r} {counts.max()} times, expected unique names. Rename one.")

    def __len__(self) -> int:
        return len(self.particle_id)

    @property
    def n_images(self) -> int:
        """Number of tilt images of all particles together."""
        return len(self.rotations)

    @property
    def tilt_counts(self) -> Int64[np.ndarray, " k"]:
        """Number of tilt images of each particle."""
        return np.diff(self.offsets)

    @property
    def image_particle(self) -> Int64[np.ndarray, " n"]:
        """Index of the particle that each image belongs to."""
        return np.repeat(np.arange(len(self)), self.tilt_counts)

    def positions_of(self, particle_ids: Iterable[str]) -> Int64[np.ndarray, " m"]:
        """Index in this set of each given particle, in the order given.

        Raises
        ------
        KeyError
            If one of the names is not in this set; the message says how many and which.
        """
        wanted = [str(name) for name in particle_ids]
        index = pd.Index(self.particle_id).get_indexer(wanted)
        missing = [name for name, i in zip(wanted, index, strict=True) if i < 0]
        if missing:
            raise KeyError(
                f"Got {len(missing)} of {len(wanted)} particle ids that are not among the {len(self)} particles of "
                f"{self.source.path}, first {missing[:3]}. Use ids of this data set (`tomodrgn info FILE "
                "--ids IDS.csv` writes them; `ParticleSet.particle_id`)."
            )
        return index.astype(np.int64)

    def subset(self, particle_ids: Iterable[str] | object, *, invert: bool = False) -> ParticleSet:
        """The particles with the given ids (or all others), in the order of this set.

        Parameters
        ----------
        particle_ids
            Names, or anything with an attribute `particle_ids` that holds names, such as a Selection.
        invert
            Keep the particles that are not named.

        Raises
        ------
        KeyError
            If a name is unknown.
        ValueError
            If no particle is left.
        """
        names = getattr(particle_ids, "particle_ids", particle_ids)
        chosen = np.zeros(len(self), dtype=bool)
        chosen[self.positions_of(names)] = True  # type: ignore[arg-type]
        return self._keep_images(np.repeat(chosen ^ invert, self.tilt_counts))

    def subset_images(self, keep: Bool[np.ndarray, " n"]) -> ParticleSet:
        """The images marked True; particles left without an image are dropped.

        Raises
        ------
        ValueError
            If `keep` has another length than there are images, or nothing is left.
        """
        keep = np.asarray(keep, dtype=bool)
        if keep.shape != (self.n_images,):
            raise ValueError(f"Got {keep.shape} flags, expected one for each of {self.n_images} images.")
        return self._keep_images(keep)

    def _keep_images(self, keep: np.ndarray) -> ParticleSet:
        counts = np.bincount(self.image_particle[keep], minlength=len(self))
        particles = counts > 0
        if not particles.any():
            raise ValueError(f"Got a choice that leaves none of the {len(self)} particles. Choose at least one.")
        per_image = ("rotations", "shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale", "stack_index",
                     "slice_index", "source_row", "source_slot")  # fmt: skip
        return dataclasses.replace(
            self,
            particle_id=self.particle_id[particles],
            tomogram=self.tomogram[particles],
            half_set=self.half_set[particles],
            offsets=np.concatenate([[0], np.cumsum(counts[particles])]),
            ctf=None if self.ctf is None else self.ctf.take(keep),
            **{name: getattr(self, name)[keep] for name in per_image},
        )

    def cropped_to(self, box_px: int) -> ParticleSet:
        """The same particles with images Fourier-cropped to `box_px` pixels when they are used.

        The field of view stays: pixels are larger, by `stack_box_px` / `box_px`, and detail beyond the new Nyquist is
        gone. `pixel_size_angst` and `shifts_px` follow; pixel values keep their size (see `fourier.fourier_crop`).

        Parameters
        ----------
        box_px
            Side of the images after the crop: even, from 8 to `stack_box_px`.

        Raises
        ------
        ValueError
            If it is not, or the box of the images is not known as their stacks were not opened.
        """
        if box_px == self.box_px:
            return self
        if not self.stack_box_px:
            raise ValueError(
                f"Got box {box_px} px for {self.source.path}, whose image stacks were not opened, expected a known box "
                "of the images. Read the particles with check_stacks=True."
            )
        if box_px % 2 or not 8 <= box_px <= self.stack_box_px:
            raise ValueError(
                f"Got box {box_px} px for {self.source.path}, expected an even number from 8 to {self.stack_box_px}, "
                "the side of the images in pixels. Choose another box."
            )
        factor = self.box_px / box_px
        return dataclasses.replace(
            self,
            box_px=box_px,
            pixel_size_angst=self.pixel_size_angst * factor,
            shifts_px=self.shifts_px / factor,
        )

    def images_of(self, particles: Sequence[int] | np.ndarray) -> Int64[np.ndarray, " m"]:
        """Image rows of the given particle positions, particle after particle."""
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in particles]
        return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)

    def frame(self) -> pd.DataFrame:
        """One row a particle, indexed by particle_id: every source column, numbers as numbers, names as text.

        For image-row dialects the row is that of the particle's first image. The columns `tomogram`, `half_set`
        and `n_tilts` are added.
        """
        rows = self.source.rows.iloc[self.source_row[self.offsets[:-1]]]
        table = numeric_columns(rows.set_axis(pd.Index(self.particle_id, name="particle_id")))
        added = {"tomogram": self.tomogram, "half_set": self.half_set, "n_tilts": self.tilt_counts}
        return table.drop(columns=[c for c in added if c in table]).assign(**added)


TEXT_COLUMNS = frozenset(
    {
        "rlnTomoName", "rlnTomoParticleName", "rlnGroupName", "rlnGroupNumber", "rlnMicrographName", "rlnOpticsGroup",
        "rlnOpticsGroupName", "rlnImageName", "rlnTomoVisibleFrames", "wrpSourceName", "tomodrgnParticleId",
        "cisTEMParticleGroup", "cisTEMStackFilename", "cisTEMOriginalImageFilename", "cisTEMReference3DFilename",
    }
)  # fmt: skip


def numeric_columns(text: pd.DataFrame) -> pd.DataFrame:
    """The same table with every column that holds only numbers converted; names in `TEXT_COLUMNS` stay text."""

    def convert(column: pd.Series) -> pd.Series:
        if column.name in TEXT_COLUMNS:
            return column
        numbers = pd.to_numeric(column, errors="coerce")
        written_nan = column.astype(str).str.lower().isin(["nan", "<na>"])
        return numbers if bool((numbers.notna() | written_nan).all()) else column

    return text.apply(convert, axis=0)


def _frozen(values: np.ndarray, dtype: type) -> np.ndarray:
    """A read-only contiguous array of the given type (a view where the input already is one)."""
    array: np.ndarray = np.ascontiguousarray(values, dtype=dtype)
    if array is values or array.base is values:
        array = array.view()
    array.flags.writeable = False
    return array
