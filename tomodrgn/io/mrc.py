"""MRC files: volumes with their voxel size; image stacks as read-only memory maps.

The format is that of Cheng et al. 2015 (MRC2014, 10.1016/j.jsb.2015.04.002), read with the tolerance that real stacks
need: a zero MAP field (Warp 1), either byte order, unsigned bytes as marked by IMOD. The header is checked against the
size of the file before anything is allocated.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from jaxtyping import Float32, Num

from tomodrgn.io.atomic import replacing

__all__ = [
    "MrcHeader",
    "open_stack",
    "open_tomogram",
    "read_header",
    "read_volume",
    "write_stack",
    "write_stack_in_pieces",
    "write_tomogram",
    "write_volume",
]

HEADER_BYTES = 1024
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
IMOD_STAMP = 1146047817


@dataclass(frozen=True, kw_only=True)
class MrcHeader:
    """What the header of an MRC file says, checked against the size of the file.

    Parameters
    ----------
    path
        The file.
    shape_zyx
        Number of sections, rows and columns.
    dtype
        Type of the stored numbers, with byte order.
    data_offset
        Position of the first number in the file, in bytes.
    voxel_size_angst
        Size of a pixel along x, or 0 where the header does not say.
    """

    path: Path
    shape_zyx: tuple[int, int, int]
    dtype: np.dtype
    data_offset: int
    voxel_size_angst: float


def read_header(path: Path | str) -> MrcHeader:
    """Read and check the header of an MRC file (1,024 bytes).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no MRC file, has a mode that is not read, or is shorter than its header says.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            size = file.seek(0, 2)
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise FileNotFoundError(f"Got MRC file {path}, where there is no file. Check the path.") from None
    if len(head) < HEADER_BYTES:
        raise ValueError(f"Got {path} of {size} bytes, expected an MRC file of at least 1024. Copy the file again.")
    order = _byte_order(head)
    nx, ny, nz, mode = struct.unpack_from(f"{order}4i", head)
    if min(nx, ny, nz) < 1:
        raise ValueError(f"Got {path} with the size {nx} x {ny} x {nz}, expected an MRC file. Write or copy it again.")
    if mode not in DTYPES:
        raise ValueError(
            f"Got {path} with MRC mode {mode}, expected 0, 1, 2, 6 or 12 (real numbers). "
            "Convert the file to mode 2 (float32)."
        )
    extension = struct.unpack_from(f"{order}i", head, 92)[0]
    kind = "u1" if mode == 0 and _unsigned_bytes(head, order) else DTYPES[mode]
    dtype = np.dtype(kind).newbyteorder("<" if order == "<" else ">")
    needed = HEADER_BYTES + extension + nx * ny * nz * dtype.itemsize
    if extension < 0 or needed > size:
        raise ValueError(
            f"Got {path} of {size} bytes, expected {needed} for {nz} images of {nx} x {ny} {dtype.name} numbers. "
            "The file is cut short or damaged: copy or write it again."
        )
    mx = struct.unpack_from(f"{order}i", head, 28)[0]
    cell_x = struct.unpack_from(f"{order}f", head, 40)[0]
    voxel = cell_x / mx if mx > 0 and np.isfinite(cell_x) and cell_x > 0 else 0.0
    return MrcHeader(
        path=path, shape_zyx=(nz, ny, nx), dtype=dtype, data_offset=HEADER_BYTES + extension, voxel_size_angst=voxel
    )


def _byte_order(head: bytes) -> str:
    """``<`` or ``>``: by the machine stamp, else by which order gives a sane mode and size."""
    stamp = {0x44: "<", 0x11: ">"}.get(head[212])
    if stamp is not None:
        return stamp
    nx, ny, nz, mode = struct.unpack_from("<4i", head)
    return "<" if 0 <= mode < 256 and min(nx, ny, nz) > 0 and nx < 1 << 16 else ">"


def _unsigned_bytes(head: bytes, order: str) -> bool:
    """Whether IMOD marked mode 0 as unsigned."""
    stamp, flags = struct.unpack_from(f"{order}2i", head, 152)
    return stamp == IMOD_STAMP and not flags & 1


def _map(header: MrcHeader) -> np.memmap:
    return np.memmap(header.path, dtype=header.dtype, mode="r", offset=header.data_offset, shape=header.shape_zyx)


def check_box(header: MrcHeader) -> int:
    """Side of the square images of a stack.

    Raises
    ------
    ValueError
        If the images are not square or their side is odd.
    """
    nz, ny, nx = header.shape_zyx
    if nx != ny or nx % 2:
        raise ValueError(
            f"Got {header.path} with {nz} images of {nx} x {ny} {header.dtype.name} numbers, expected square images of "
            "an even side. Extract the particles again with an even box."
        )
    return nx


def open_stack(path: Path | str) -> Num[np.ndarray, "n d d"]:
    """A stack of square images as a read-only memory map in the type of the file (modes 0, 1, 2, 6 and 12).

    Convert to float32 before any arithmetic.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_header`; ValueError also for images that are not square or have an odd side.
    """
    header = read_header(path)
    check_box(header)
    return _map(header)


def read_volume(path: Path | str) -> tuple[Float32[np.ndarray, "d d d"], float]:
    """Read a cubic map.

    Returns
    -------
    The map, axis order zyx, and the size of its voxels in angstrom (0 where the header does not say).

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_header`; ValueError also for a map that is not a cube, has an odd side, or voxels that are no finite
        numbers.
    """
    header = read_header(path)
    nz, ny, nx = header.shape_zyx
    if not nz == ny == nx or nx % 2:
        raise ValueError(
            f"Got {path} of {nx} x {ny} x {nz} voxels, expected a cube of an even side. Crop or pad the map to a cube."
        )
    volume = np.array(_map(header), dtype=np.float32)
    if not np.isfinite(volume).all():
        unfit = int(volume.size - np.isfinite(volume).sum())
        raise ValueError(
            f"Got {path} with {unfit} voxels that are no finite numbers, expected a map. Write or copy it again."
        )
    return volume, header.voxel_size_angst


def open_tomogram(path: Path | str) -> tuple[Num[np.ndarray, "z y x"], float]:
    """A volume of any shape as a read-only memory map in the type of the file.

    Returns
    -------
    The volume, axis order zyx, and the size of its voxels in angstrom (0 where the header does not say).

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_header`.
    """
    header = read_header(path)
    return _map(header), header.voxel_size_angst


def write_volume(
    path: Path | str, volume: Num[np.ndarray, "z y x"], voxel_size_angst: float, *, overwrite: bool = False
) -> None:
    """Write a cubic map (axis order zyx) as float32 with its voxel size.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If the map is not a cube.
    """
    volume = np.asarray(volume, dtype=np.float32)
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise ValueError(f"Got a map of shape {volume.shape} for {path}, expected a cube (d, d, d). Crop or pad it.")
    with replacing(path, overwrite=overwrite) as temporary, mrcfile.new(temporary, overwrite=True) as file:
        file.set_data(volume)
        file.set_volume()
        file.voxel_size = voxel_size_angst


def write_tomogram(
    path: Path | str, volume: Num[np.ndarray, "z y x"], voxel_size_angst: float, *, overwrite: bool = False
) -> None:
    """Write a volume of any shape (axis order zyx) with its voxel size.

    8-bit and 16-bit integers, float16 and float32 keep their type, any other type becomes float32.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If the array has not three axes.
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or not volume.size:
        raise ValueError(f"Got a tomogram of shape {volume.shape} for {path}, expected (z, y, x). Give a volume.")
    if volume.dtype not in (np.int8, np.int16, np.uint16, np.float16, np.float32):
        volume = volume.astype(np.float32)
    with replacing(path, overwrite=overwrite) as temporary, mrcfile.new(temporary, overwrite=True) as file:
        file.set_data(volume)
        file.set_volume()
        file.voxel_size = voxel_size_angst


def write_stack(
    path: Path | str, images: Num[np.ndarray, "n y x"], pixel_size_angst: float, *, overwrite: bool = False
) -> None:
    """Write a stack of square images; float16 and float32 keep their type, any other type becomes float32.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If the images are not square.
    """
    images = np.asarray(images)
    if images.ndim != 3 or images.shape[1] != images.shape[2] or not len(images):
        raise ValueError(f"Got images of shape {images.shape} for {path}, expected (n, d, d). Give a stack of squares.")
    if images.dtype not in (np.float16, np.float32):
        images = images.astype(np.float32)
    with replacing(path, overwrite=overwrite) as temporary, mrcfile.new(temporary, overwrite=True) as file:
        file.set_data(images)
        file.set_image_stack()
        file.voxel_size = pixel_size_angst


def write_stack_in_pieces(
    path: Path | str,
    pieces: Iterable[np.ndarray],
    shape_zyx: tuple[int, int, int],
    *,
    dtype: np.dtype | type,
    pixel_size_angst: float,
    overwrite: bool = False,
) -> None:
    """Write a stack of square images, larger than memory if need be, piece after piece.

    Parameters
    ----------
    pieces
        The images in order, (n, d, d) each; together as many as `shape_zyx` says.
    dtype
        float16 or float32: the type that is stored.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    OverflowError
        If a finite value is too large for the type.
    """
    mode = {np.dtype(np.float16): 12, np.dtype(np.float32): 2}[np.dtype(dtype)]
    count, lowest, highest, total, squares = 0, np.inf, -np.inf, 0.0, 0.0
    with (
        replacing(path, overwrite=overwrite) as temporary,
        mrcfile.new_mmap(temporary, shape_zyx, mrc_mode=mode, overwrite=True) as file,
    ):
        for piece in pieces:
            with np.errstate(over="ignore"):
                stored = np.asarray(piece).astype(dtype)
            lost = np.isinf(stored) & np.isfinite(piece)
            if lost.any():
                image = count + int(np.argmax(lost.any(axis=(1, 2)))) + 1
                raise OverflowError(
                    f"Got a value of {np.abs(piece[lost]).max():g} in image {image} for {path}, expected at most "
                    f"{np.finfo(stored.dtype).max:g} for {stored.dtype.name}. "
                    "Convert the source stack to mode 2 (float32)."
                )
            file.data[count : count + len(piece)] = stored
            count += len(piece)
            lowest, highest = min(lowest, stored.min()), max(highest, stored.max())
            total += stored.sum(dtype=np.float64)
            squares += np.square(stored, dtype=np.float64).sum()
        mean = total / np.prod(shape_zyx)
        file.set_image_stack()
        file.voxel_size = pixel_size_angst
        header = file.header
        header.dmin, header.dmax, header.dmean = lowest, highest, mean
        header.rms = np.sqrt(max(squares / np.prod(shape_zyx) - mean**2, 0.0))
