"""Image stacks of fewer, larger pixels on disk, and the STAR text that belongs to them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch

from tomodrgn.imaging import fourier
from tomodrgn.io import mrc
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.particles.own_files import refuse_own_files
from tomodrgn.particles.particle_set import ParticleSet, SourceStar
from tomodrgn.particles.read import read_particles
from tomodrgn.particles.write_back import file_names, kept_rows, name_prefix, write_particles

__all__ = ["DEPENDENT_COLUMNS", "DependentColumns", "downsample_particles", "with_larger_pixels"]

UNFINISHED = "downsample-unfinished.json"
PIXELS_AT_ONCE = 2**23


@dataclass(frozen=True, kw_only=True)
class DependentColumns:
    """The columns of a dialect that depend on the size of a pixel.

    Parameters
    ----------
    pixel_size
        Size of a pixel; the first of them that the file has is multiplied by the factor.
    binning
        Binning, multiplied by the factor.
    lengths_px
        Lengths in pixels of the extracted image, divided by the factor.
    box
        Side of the images.
    image_name
        Where image stacks are named.
    """

    pixel_size: tuple[str, ...] = ("rlnImagePixelSize", "rlnDetectorPixelSize")
    binning: tuple[str, ...] = ()
    lengths_px: tuple[str, ...] = ()
    box: tuple[str, ...] = ("rlnImageSize",)
    image_name: str = "rlnImageName"


CISTEM = DependentColumns(pixel_size=("cisTEMPixelSize",), box=(), image_name="cisTEMStackFilename")
ORIGINS_PX = tuple(f"rlnOrigin{axis}{prior}" for prior in ("", "Prior") for axis in "XYZ")
COORDINATES_PX = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
# Columns in angstrom never change. Coordinates are pixels of the extracted images in sets of WarpTools and
# NextPYP alone: those of RELION are pixels of the tilt series, those of image series pixels of micrographs.
DEPENDENT_COLUMNS: Mapping[str, DependentColumns] = MappingProxyType(
    {
        "warp": DependentColumns(lengths_px=ORIGINS_PX),
        "cryosrpnt": DependentColumns(lengths_px=ORIGINS_PX),
        "warptools": DependentColumns(
            binning=("rlnTomoSubtomogramBinning",), lengths_px=(*ORIGINS_PX, *COORDINATES_PX)
        ),
        "relion5": DependentColumns(binning=("rlnTomoSubtomogramBinning",), lengths_px=ORIGINS_PX),
        "nextpyp_relion5": DependentColumns(
            binning=("rlnTomoSubtomogramBinning",), lengths_px=(*ORIGINS_PX, *COORDINATES_PX)
        ),
        "nextpyp": DependentColumns(lengths_px=ORIGINS_PX),
        "cistem": CISTEM,
        "emclarity": CISTEM,
        "tomodrgn": DependentColumns(),
    }
)


def downsample_particles(
    particles: ParticleSet,
    out_dir: Path | str,
    *,
    box_px: int,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ParticleSet:
    """Write the images of a set with larger pixels, and its STAR text with all columns that depend on their size.

    Images are Fourier-cropped without a window (see `fourier.fourier_crop`; pixel values keep their size). Every
    stack that a particle needs is written whole, below `out_dir` under the name and in the folders that it has now;
    float16 stays float16, any other type becomes float32. A few images are in memory at a time. The STAR file is
    written last, under its own name (an optimisation set as by `write_particles`). Work that was interrupted is taken
    up by the same call: stacks that are done are kept.

    Parameters
    ----------
    particles
        All particles of a file, or some; read at their own box or at any other.
    out_dir
        Folder for the STAR file and the stacks.
    box_px
        New side: even, from 8, and smaller than that of the images on disk.
    overwrite
        Whether files already there may be replaced.
    progress
        Called with the number of stacks done and of all stacks.

    Returns
    -------
    The new set, read from the files written.

    Raises
    ------
    FileExistsError
        If the folder holds one of the files and `overwrite` is False; nothing is written then.
    OverflowError
        If a value is too large for a float16 stack.
    ValueError
        If the box is out of range, `out_dir` is where the images (or STAR files) themselves are, or images were taken
        out of particles whose stacks hold visible images only.
    """
    out_dir = Path(out_dir)
    small = particles.cropped_to(box_px)
    if box_px == particles.stack_box_px:
        raise ValueError(
            f"Got box {box_px} px for {particles.source.path}, whose images have that box already, expected a smaller "
            "one. Choose another box."
        )
    kept_rows(particles)
    stacks = _new_stacks(particles)
    star = out_dir / particles.source.path.name
    marker = {
        "box_px": box_px, "pixel_size_angst": small.pixel_size_angst, "source": str(_absolute(particles.source.path)),
        "stacks": {str(name): str(_absolute(particles.stack_paths[stack])) for stack, name in stacks.items()},
    }  # fmt: skip
    stars = [out_dir / name for name in (file_names(star) if particles.source.optimisation_set else (star.name,))]
    refuse_own_files(particles, [*stars, *(out_dir / name for name in stacks.values())])
    resumed = _unfinished(out_dir) == marker
    if not resumed:
        for path in [*stars, *(out_dir / name for name in stacks.values())]:
            refuse_existing(path, overwrite=overwrite)
        with replacing(out_dir / UNFINISHED) as temporary:
            temporary.write_text(json.dumps(marker, indent=2) + "\n")
    for path in stars:  # those of an earlier set, which must not name the new images
        path.unlink(missing_ok=True)
    for done, (stack, name) in enumerate(stacks.items(), start=1):
        source = particles.stack_paths[stack]
        if not (resumed and _is_done(out_dir / name, source, box_px)):
            _write_small_stack(source, out_dir / name, box_px=box_px, pixel_size_angst=small.pixel_size_angst)
        if progress is not None:
            progress(done, len(stacks))
    prefix = name_prefix(particles.source, out_dir)
    names = {stack: Path(prefix) / name for stack, name in stacks.items()}
    renamed = replace(small, source=with_larger_pixels(small, names))
    write_particles(renamed, star, overwrite=overwrite, copy_tilt_series=True)
    (out_dir / UNFINISHED).unlink()
    given = particles.source.options
    options = {
        **given.settings(),
        "dialect": particles.dialect,
        **{name: getattr(particles, name) for name in ("ctf_premultiplied", "dose_weighted", "invert")},
        "pixel_size_angst": given.pixel_size_angst and small.pixel_size_angst,
        "stack": given.stack and out_dir / next(iter(stacks.values())),
    }
    return read_particles(star, **options)


def with_larger_pixels(particles: ParticleSet, stacks: Mapping[int, Path]) -> SourceStar:
    """The STAR text of a cropped set, as if its images had been extracted with that box; other cells are not touched.

    Parameters
    ----------
    particles
        Cropped with `ParticleSet.cropped_to`.
    stacks
        New name of each stack in use, as the new STAR file is to have it.

    Raises
    ------
    ValueError
        If the columns of the dialect are not known.
    """
    source = particles.source
    if particles.dialect not in DEPENDENT_COLUMNS:
        raise ValueError(
            f"Got particles of dialect {particles.dialect!r}, expected one of {', '.join(DEPENDENT_COLUMNS)}. "
            "Read the particles with box_px instead."
        )
    columns = DEPENDENT_COLUMNS[particles.dialect]
    factor = particles.stack_box_px / particles.box_px
    present = {column for block in source.particles.values() for column in block}
    pixel_size = next((name for name in columns.pixel_size if name in present), None)
    factors = dict.fromkeys(columns.binning, factor) | dict.fromkeys(columns.lengths_px, 1 / factor)
    if pixel_size is not None:
        factors[pixel_size] = factor
    blocks = {}
    for name, block in source.particles.items():
        changed = {str(column): _scaled(block[column], factors[column]) for column in block if column in factors}
        changed |= {column: _all(str(particles.box_px), block[column]) for column in columns.box if column in block}
        if name == source.particles_block and columns.image_name in block:
            changed[columns.image_name] = _renamed_images(particles, stacks, columns.image_name)
        blocks[name] = block.assign(**changed)
        blocks[name].attrs.update(block.attrs)
    return replace(source, particles=blocks)


def _scaled(column: pd.Series, factor: float) -> pd.Series:
    """Numbers times the factor, in the fewest digits that read back as the same number; other text as it is."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan) * factor
    texts = [repr(float(n)) if np.isfinite(n) else text for n, text in zip(numbers, column, strict=True)]
    return pd.Series(texts, index=column.index, dtype=column.dtype)


def _all(text: str, column: pd.Series) -> pd.Series:
    return pd.Series(text, index=column.index, dtype=column.dtype)


def _renamed_images(particles: ParticleSet, stacks: Mapping[int, Path], column: str) -> pd.Series:
    """Names of images (``number@`` kept) for the rows in use."""
    names = particles.source.rows[column]
    rows, first = np.unique(particles.source_row, return_index=True)
    texts = names.to_numpy(dtype=object, copy=True)
    for row, stack in zip(rows, particles.stack_index[first], strict=True):
        number, at, _ = str(texts[row]).rpartition("@")
        texts[row] = f"{number}{at}{stacks[int(stack)].as_posix()}"
    return pd.Series(texts, index=names.index, dtype=names.dtype)


def _new_stacks(particles: ParticleSet) -> dict[int, Path]:
    """For each stack in use its path below the new folder: as below the STAR file, or below all stacks' folder."""
    paths = [_absolute(path) for path in particles.stack_paths]
    home = _absolute(particles.source.particles_path).parent
    if not all(path.is_relative_to(home) for path in paths):
        home = Path(os.path.commonpath([path.parent for path in paths]))
    return {int(stack): paths[stack].relative_to(home) for stack in np.unique(particles.stack_index)}


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links are kept)


def _unfinished(out_dir: Path) -> dict[str, object]:
    """What an interrupted call meant to do here; empty if there was none."""
    try:
        return dict(json.loads((out_dir / UNFINISHED).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def _is_done(path: Path, source: Path, box_px: int) -> bool:
    """Whether the small stack is there, and no older than its source; it was renamed into place when it was whole."""
    if not path.is_file() or path.stat().st_mtime_ns < source.stat().st_mtime_ns:
        return False
    return mrc.read_header(path).shape_zyx == (mrc.read_header(source).shape_zyx[0], box_px, box_px)


def _write_small_stack(source: Path, path: Path, *, box_px: int, pixel_size_angst: float) -> None:
    images = mrc.open_stack(source)

    def pieces() -> Iterator[np.ndarray]:
        step = max(1, PIXELS_AT_ONCE // images.shape[1] ** 2)
        for first in range(0, len(images), step):
            piece = torch.from_numpy(images[first : first + step].astype(np.float32))
            yield fourier.fourier_crop(piece, box_px).numpy()

    mrc.write_stack_in_pieces(
        path,
        pieces(),
        (len(images), box_px, box_px),
        dtype=np.float16 if images.dtype.newbyteorder("=") == np.float16 else np.float32,
        pixel_size_angst=pixel_size_angst,
        overwrite=True,
    )
