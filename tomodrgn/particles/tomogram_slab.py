"""Slabs of a tomogram: averaged over a thickness, read from the file as they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Num

from tomodrgn.io.mrc import open_tomogram

__all__ = ["PLANES", "Plane", "Slab", "TomogramVolume", "slab_limits"]

Plane = Literal["xy", "xz", "yz"]
# Axes (0 is x) to the right and up, and across.
PLANES: dict[str, tuple[int, int, int]] = {"xy": (0, 1, 2), "xz": (0, 2, 1), "yz": (1, 2, 0)}


@dataclass(frozen=True, kw_only=True)
class Slab:
    """A picture of a slab, averaged across.

    Parameters
    ----------
    values
        Mean density, rows upwards and columns to the right as `PLANES` says.
    low_angst, high_angst
        Edges of the picture (right, up), in angstrom from the centre of the first voxel: outer edges of pixels.
    n_slices
        Number of slices that were averaged.
    """

    values: Float32[np.ndarray, "r c"]
    low_angst: tuple[float, float]
    high_angst: tuple[float, float]
    n_slices: int


class TomogramVolume:
    """A volume on the disk, any shape and binning; only what a slab needs is read, slice after slice.

    Slabs across z are read at one go. Those across x touch every row of the file, which takes long in a file that is
    much larger than memory, but holds no more than a slice of it.

    Parameters
    ----------
    path
        MRC file.
    voxel_size_angst
        Size of a voxel, where the header says none or a wrong one.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged, or no voxel size is known.
    """

    def __init__(self, path: Path | str, voxel_size_angst: float | None = None) -> None:
        self.path = Path(path)
        self._volume: Num[np.ndarray, "z y x"]
        self._volume, own = open_tomogram(self.path)
        self.voxel_size_angst = own if voxel_size_angst is None else float(voxel_size_angst)
        if not self.voxel_size_angst > 0:
            raise ValueError(
                f"Got tomogram {self.path} without a voxel size in its header, expected one in angstrom. Give it "
                "(voxel_size_angst)."
            )

    @property
    def size_xyz(self) -> tuple[int, int, int]:
        """Number of voxels along x, y and z."""
        nz, ny, nx = self._volume.shape
        return nx, ny, nz

    @property
    def values(self) -> Num[np.ndarray, "z y x"]:
        """The volume itself: a read-only memory map in the type of the file."""
        return self._volume

    @property
    def last_voxel_angst(self) -> Float64[np.ndarray, "3"]:
        """Centre of the last voxel, xyz."""
        return (np.array(self.size_xyz) - 1.0) * self.voxel_size_angst

    def slab(self, plane: Plane, centre_angst: float, thickness_angst: float, *, most_px: int = 800) -> Slab:
        """The mean of the slices whose centres lie in a slab; the nearest slice, if none does.

        Parameters
        ----------
        plane
            Plane of the picture.
        centre_angst, thickness_angst
            Middle of the slab along the third axis, from the centre of the first voxel, and its thickness.
        most_px
            Longest side of the picture: voxels are averaged in squares where there are more.
        """
        right, up, across = PLANES[plane]
        first, last = slab_limits(centre_angst, thickness_angst, self.voxel_size_angst, self.size_xyz[across])
        step = -(-max(self.size_xyz[right], self.size_xyz[up]) // most_px)
        total: np.ndarray | None = None
        for index in range(first, last + 1):
            part = _binned(np.asarray(self._slice(across, index), dtype=np.float32), step)
            total = part if total is None else total + part
        n_slices = last - first + 1
        values = np.float32(1 / n_slices) * total if total is not None else np.zeros((1, 1), np.float32)
        rows, columns = values.shape
        half = 0.5 * self.voxel_size_angst
        width, height = columns * step * self.voxel_size_angst, rows * step * self.voxel_size_angst
        return Slab(
            values=values, low_angst=(-half, -half), high_angst=(width - half, height - half), n_slices=n_slices
        )

    def contrast(self, plane: Plane, thickness_angst: float) -> tuple[float, float]:
        """Densities for black and white: all but 0.5 % at either end, of a slab in the middle of the tomogram."""
        middle = 0.5 * float(self.last_voxel_angst[PLANES[plane][2]])
        values = self.slab(plane, middle, thickness_angst, most_px=400).values
        known = values[np.isfinite(values)]
        if not len(known):
            return 0.0, 1.0
        low, high = np.percentile(known, [0.5, 99.5])
        return float(low), float(high) if high > low else float(low) + 1.0

    def _slice(self, across: int, index: int) -> np.ndarray:
        """One slice, axes (up, right)."""
        if across == 2:
            return self._volume[index]
        return self._volume[:, index] if across == 1 else self._volume[:, :, index]


def slab_limits(centre_angst: float, thickness_angst: float, voxel_angst: float, n: int) -> tuple[int, int]:
    """First and last slice of a slab of n slices.

    Examples
    --------
    >>> slab_limits(100.0, 40.0, 10.0, 50), slab_limits(103.0, 2.0, 10.0, 50), slab_limits(-90.0, 10.0, 10.0, 50)
    ((8, 12), (10, 10), (0, 0))
    """
    first = int(np.ceil((centre_angst - 0.5 * thickness_angst) / voxel_angst - 1e-9))
    last = int(np.floor((centre_angst + 0.5 * thickness_angst) / voxel_angst + 1e-9))
    if first > last:
        first = last = round(centre_angst / voxel_angst)
    return int(np.clip(first, 0, n - 1)), int(np.clip(last, 0, n - 1))


def _binned(picture: np.ndarray, step: int) -> np.ndarray:
    """Means of squares of pixels; what is left over at the far edges is cut off, if there is more."""
    if step == 1:
        return picture
    rows, columns = (max(n // step, 1) for n in picture.shape)
    cut = picture[: rows * step, : columns * step]
    if cut.shape[0] < step or cut.shape[1] < step:
        cut = np.pad(cut, [(0, max(step - n, 0)) for n in cut.shape], mode="edge")
    return cut.reshape(rows, step, columns, step).mean(axis=(1, 3))
