"""Surfaces of maps at the places and in the orientations of their particles, one mesh for each map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

__all__ = ["Mesh", "merged_meshes", "surface_mesh"]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A surface of triangles.

    Parameters
    ----------
    vertices_zyx_angst
        Corners, (v, 3).
    triangles
        Rows of the corners of each triangle, (f, 3).
    normals_zyx
        Unit vectors that point out of the density, (v, 3).
    """

    vertices_zyx_angst: Float32[np.ndarray, "v 3"]
    triangles: Int64[np.ndarray, "f 3"]
    normals_zyx: Float32[np.ndarray, "v 3"]


def surface_mesh(volume: Float32[np.ndarray, "d d d"], level: float, voxel_size_angst: float, *, step: int = 1) -> Mesh:
    """The isosurface of a map (axes zyx) by marching cubes, in angstrom from the centre of its first voxel.

    Parameters
    ----------
    level
        In the unit of the map.
    step
        Take every so many-th voxel only, for a coarser mesh.

    Raises
    ------
    ValueError
        If the level lies outside the densities of the map.
    """
    from skimage.measure import marching_cubes

    low, high = float(volume.min()), float(volume.max())
    if not low < level < high:
        raise ValueError(
            f"Got level {level:g} for a map from {low:g} to {high:g}, expected one between. Change the level."
        )
    corners, triangles, normals, _ = marching_cubes(volume, level, spacing=(voxel_size_angst,) * 3, step_size=step)
    return Mesh(
        vertices_zyx_angst=corners.astype(np.float32),
        triangles=triangles.astype(np.int64),
        normals_zyx=normals.astype(np.float32),
    )


def merged_meshes(mesh: Mesh, affine_zyx: Float64[np.ndarray, "k 4 4"]) -> Mesh:
    """Copies of a mesh placed by matrices, as one mesh: one layer for hundreds of particles.

    Parameters
    ----------
    affine_zyx
        As of `MapBack.affine_zyx`: from map to tomogram, order zyx, in angstrom.
    """
    turns = affine_zyx[:, :3, :3].astype(np.float32)
    corners = np.einsum("kij,vj->kvi", turns, mesh.vertices_zyx_angst) + affine_zyx[:, None, :3, 3].astype(np.float32)
    normals = np.einsum("kij,vj->kvi", turns, mesh.normals_zyx)
    n = len(mesh.vertices_zyx_angst)
    triangles = mesh.triangles[None] + n * np.arange(len(affine_zyx))[:, None, None]
    return Mesh(
        vertices_zyx_angst=corners.reshape(-1, 3),
        triangles=triangles.reshape(-1, 3),
        normals_zyx=normals.reshape(-1, 3),
    )
