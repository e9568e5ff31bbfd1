"""Maps placed in the tomogram of their particles: matrices, the sum of the placed maps, and which hand fits.

A map is placed by ``x_tomogram = A (x_map - c) + position`` with x in angstrom from the centre of the first voxel, A
from reference to tomogram, and c the centre of the box, voxel d // 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from scipy import ndimage

from tomodrgn.imaging import resolution
from tomodrgn.particles.position_set import Positions

__all__ = ["HandScore", "place_maps", "render_tomogram", "score_hands"]

SCORED_PARTICLES = 200
SCORE_RADIUS = 0.8  # of the half box, within which maps and tomogram are compared


def place_maps(positions: Positions, box_px: int, voxel_size_angst: float) -> Float64[np.ndarray, "k 4 4"]:
    """Affine matrices from a map of each particle to its tomogram.

    Both sides are in angstrom, order xyz, from the centre of the first voxel. They act on columns (x, y, z, 1).

    Parameters
    ----------
    box_px, voxel_size_angst
        Side of the maps and of their voxels.
    """
    affine = np.zeros((len(positions), 4, 4))
    affine[:, :3, :3] = positions.rotations
    centre = np.full(3, (box_px // 2) * voxel_size_angst)
    affine[:, :3, 3] = positions.position_angst - positions.rotations @ centre
    affine[:, 3, 3] = 1
    return affine


def render_tomogram(
    positions: Positions,
    maps: Float32[np.ndarray, "v d d d"],
    voxel_size_angst: float,
    *,
    shape_zyx: tuple[int, int, int],
    tomogram_voxel_angst: float,
    map_of: Int64[np.ndarray, " k"] | None = None,
) -> Float32[np.ndarray, "z y x"]:
    """The sum of the placed maps, as a tomogram without noise.

    Each map is cut to the sphere within its box and sampled with trilinear interpolation; before that, detail that the
    tomogram's voxels cannot hold is taken out. Besides the tomogram, memory is that of one box.

    Parameters
    ----------
    positions
        Particles of one tomogram.
    maps
        One map for all, or several.
    shape_zyx, tomogram_voxel_angst
        Shape of the tomogram and side of its voxels.
    map_of
        Which of the maps each particle has; the first if not given.
    """
    tomogram = np.zeros(shape_zyx, dtype=np.float32)
    box = maps.shape[-1]
    if tomogram_voxel_angst > voxel_size_angst:
        maps = resolution.lowpass_filter(torch.from_numpy(maps), 2 * tomogram_voxel_angst, voxel_size_angst).numpy()
    radius = (box // 2 - 1) * voxel_size_angst
    which = np.zeros(len(positions), dtype=np.int64) if map_of is None else map_of
    for position, rotation, index in zip(positions.position_angst, positions.rotations, which, strict=True):
        low = np.floor((position - radius) / tomogram_voxel_angst).astype(int).clip(min=0)
        high = np.ceil((position + radius) / tomogram_voxel_angst).astype(int) + 1
        high = np.minimum(high, shape_zyx[::-1])
        if (low >= high).any():
            continue
        axes = [np.arange(a, b) * tomogram_voxel_angst - p for a, b, p in zip(low, high, position, strict=True)]
        offset = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # (x, y, z, 3), angstrom from the particle
        inside = np.square(offset).sum(axis=-1) <= radius**2
        at = offset[inside] @ rotation / voxel_size_angst + box // 2  # inverse turn: rows times A is A^T times columns
        values = np.zeros(inside.shape, dtype=np.float32)
        values[inside] = ndimage.map_coordinates(maps[index], at[:, ::-1].T, order=1)
        part = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
        tomogram[part] += values.transpose(2, 1, 0)
    return tomogram


@dataclass(frozen=True, kw_only=True)
class HandScore:
    """How a map and its mirror image fit a tomogram at the places of the particles.

    Parameters
    ----------
    same, mirrored
        Mean correlation of the map, and of the map with z mirrored, with the tomogram about each particle. Both are
        given for the contrast of the tomogram that fits better: `dark` if density is dark there.
    dark
        Whether density is dark in the tomogram.
    n_particles
        Number of particles whose whole surroundings lie in the tomogram, and that were compared.
    """

    same: float
    mirrored: float
    dark: bool
    n_particles: int

    @property
    def mirrored_is_better(self) -> bool:
        """Whether the mirror image fits better."""
        return self.mirrored > self.same

    def __str__(self) -> str:
        better = "the mirror image" if self.mirrored_is_better else "the map as it is"
        contrast = "dark" if self.dark else "bright"
        return (
            f"{better} fits the tomogram better (correlation {self.same:.3f} as it is, {self.mirrored:.3f} mirrored; "
            f"density is {contrast}; {self.n_particles} particles)"
        )


def score_hands(
    tomogram: Float[np.ndarray, "z y x"],
    tomogram_voxel_angst: float,
    positions: Positions,
    volume: Float32[np.ndarray, "d d d"],
    *,
    voxel_size_angst: float,
    seed: int = 0,
) -> HandScore:
    """Compare a map and its mirror image with a tomogram at the places of particles.

    Parameters
    ----------
    tomogram
        Any real array, such as a memory map; only the surroundings of the particles are read.
    positions
        Particles of this tomogram; of more than 200, so many are drawn.
    volume
        Map, axes zyx, with voxels of `voxel_size_angst`.
    seed
        Draws the particles.

    Raises
    ------
    ValueError
        If no particle lies in the tomogram with all that is compared.
    """
    box = volume.shape[0]
    axis = (np.arange(box) - box // 2) * voxel_size_angst
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")[::-1], axis=-1)  # zyx places, xyz offsets
    inside = np.square(grid).sum(axis=-1) <= (SCORE_RADIUS * (box // 2) * voxel_size_angst) ** 2
    offsets = grid[inside]
    hands = [_standardised(one[inside]) for one in (volume, resolution.mirror(volume))]
    rows = np.random.default_rng(seed).permutation(len(positions))[:SCORED_PARTICLES]
    scores = []
    for position, rotation in zip(positions.position_angst[rows], positions.rotations[rows], strict=True):
        at = ((offsets @ rotation.T + position) / tomogram_voxel_angst)[:, ::-1]
        low, high = np.floor(at.min(axis=0)).astype(int), np.ceil(at.max(axis=0)).astype(int) + 1
        if (low < 0).any() or (high > tomogram.shape).any():
            continue
        part = np.asarray(tomogram[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], dtype=np.float32)
        seen = _standardised(ndimage.map_coordinates(part, (at - low).T, order=1))
        scores.append([float((seen * hand).mean()) for hand in hands])
    if not scores:
        raise ValueError(
            f"Got a tomogram of {' x '.join(map(str, tomogram.shape[::-1]))} voxels of {tomogram_voxel_angst:g} A with "
            f"none of {len(positions)} particles in it, expected some. Check which tomogram it is, and its voxel size."
        )
    same, mirrored = np.mean(scores, axis=0)
    dark = bool(same + mirrored < 0)
    sign = -1 if dark else 1
    return HandScore(same=float(sign * same), mirrored=float(sign * mirrored), dark=dark, n_particles=len(scores))


def _standardised(values: np.ndarray) -> Float64[np.ndarray, " m"]:
    centred = values.astype(np.float64) - values.mean(dtype=np.float64)
    return centred / max(float(centred.std()), 1e-30)
