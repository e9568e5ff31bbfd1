"""Tomograms of a simulated acquisition: the density of every particle at its place, in its pose, plus noise.

They are not reconstructed from the tilt images: there is no missing wedge, no CTF and no fading with exposure in them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from tomodrgn.io import mrc
from tomodrgn.io.star import write_star
from tomodrgn.particles.acquisition import Acquisition
from tomodrgn.particles.simulated_images import Imager
from tomodrgn.particles.simulated_tables import columns_of, particle_names

__all__ = ["TOMOGRAM_FOLDER", "write_tomograms"]

TOMOGRAM_FOLDER = "reconstruction"
BINNING = 3  # of the pixels of the images
SNR = 0.5  # ratio of variances about the particles
DRAWN_SIGMAS = 4.0  # widths of a blob, beyond which nothing of it is drawn


def write_tomograms(out_dir: Path, imager: Imager, rng: np.random.Generator, *, with_positions: bool) -> list[Path]:
    """Write ``reconstruction/<tomogram>_<voxel>Apx.mrc`` (float16, density bright, noise of variance 1).

    Voxels are three pixels of the images wide. In the spheres about the particles the variance of the density is half
    that of the noise; without noise, as much.

    Parameters
    ----------
    out_dir
        Folder of the simulation.
    imager
        What was recorded of which particles.
    rng
        Draws the noise, tomogram by tomogram.
    with_positions
        Whether to write ``reconstruction/positions.star`` as well, for files of particles that have no positions.

    Returns
    -------
    The volumes.
    """
    options, a = imager.options, imager.acquisition
    voxel = BINNING * options.pixel_size_angst
    nx, ny, nz = (int(n) for n in -(-a.size_px // BINNING))
    paths = []
    for number, name in enumerate(a.tomograms):
        rows = np.flatnonzero(a.tomogram == number)
        density = _density(imager, rows, (nz, ny, nx), voxel)
        if options.noise:
            density += rng.standard_normal(density.shape, dtype=np.float32)
        paths.append(out_dir / TOMOGRAM_FOLDER / f"{name}_{voxel:.2f}Apx.mrc")
        mrc.write_tomogram(paths[-1], density.astype(np.float16), voxel)
    if with_positions:
        _write_positions(out_dir / TOMOGRAM_FOLDER / "positions.star", a, particle_names(a, options.dialect))
    return paths


def _places_angst(a: Acquisition, rows: np.ndarray) -> Float64[np.ndarray, "r 3"]:
    """Centres of particles, xyz from the centre of the first voxel."""
    return a.coordinate_px[rows] * a.pixel_size_angst - a.origin_angst[rows]


def _density(
    imager: Imager, rows: np.ndarray, shape_zyx: tuple[int, int, int], voxel_angst: float
) -> Float32[np.ndarray, "z y x"]:
    """The sum of the particles' blobs, each widened to what the voxels can hold, in units of the noise."""
    a, phantom, truth = imager.acquisition, imager.phantom, imager.conformations
    turns = Rotation.from_euler("ZYZ", a.euler_deg[rows], degrees=True).inv().as_matrix()
    places = _places_angst(a, rows)
    blobs = phantom.positions_angst(truth.parameter[rows])  # (r, g, 3)
    sigmas = np.sqrt(phantom.sigmas_angst**2 + (voxel_angst / 2) ** 2) / voxel_angst
    volume = np.zeros(shape_zyx, dtype=np.float32)
    inside = []
    for place, turn, own, label in zip(places, turns, blobs, truth.label[rows], strict=True):
        centres = (own @ turn.T + place) / voxel_angst
        part = _add(volume, centres, sigmas, phantom.masses[label])
        inside.append(volume[part][_sphere(part, place / voxel_angst, phantom.radius_angst / voxel_angst)])
    spread = math.sqrt(np.mean([values.var() for values in inside])) if inside else 1.0
    return volume * np.float32(math.sqrt(SNR) / max(spread, 1e-12))


def _add(volume: np.ndarray, centres: np.ndarray, sigmas: np.ndarray, masses: np.ndarray) -> tuple[slice, slice, slice]:
    """Add blobs (centres xyz and widths in voxels) where they are; the part of the volume that was touched."""
    size_xyz = np.array(volume.shape[::-1])
    low = np.floor((centres - DRAWN_SIGMAS * sigmas[:, None]).min(axis=0)).astype(int).clip(0, size_xyz)
    high = np.ceil((centres + DRAWN_SIGMAS * sigmas[:, None]).max(axis=0)).astype(int).clip(0, size_xyz - 1) + 1
    x, y, z = (
        np.exp(-0.5 * ((np.arange(low[i], high[i]) - centres[:, i, None]) / sigmas[:, None]) ** 2)
        / (math.sqrt(2 * math.pi) * sigmas[:, None])
        for i in range(3)
    )
    part = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
    volume[part] += np.einsum("g,gz,gy,gx->zyx", masses, z, y, x, optimize=True).astype(np.float32)
    return part


def _sphere(part: tuple[slice, slice, slice], centre_xyz: np.ndarray, radius: float) -> np.ndarray:
    """Which voxels of a part of the volume lie within the radius of a place, all in voxels."""
    z, y, x = np.ogrid[part]
    return (x - centre_xyz[0]) ** 2 + (y - centre_xyz[1]) ** 2 + (z - centre_xyz[2]) ** 2 <= radius**2


def _write_positions(path: Path, a: Acquisition, names: list[str]) -> None:
    """A volume series: pixels of the images from the centre of the first voxel."""
    rows = np.arange(len(a.tomogram))
    columns: dict[str, object] = {
        "rlnMicrographName": [f"{name}.tomostar" for name in a.tomograms[a.tomogram]],
        **columns_of([f"rlnCoordinate{axis}" for axis in "XYZ"], _places_angst(a, rows) / a.pixel_size_angst, 6),
        **columns_of(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), a.euler_deg, 7),
        "rlnPixelSize": f"{a.pixel_size_angst:.5f}",
        "tomodrgnParticleId": names,
    }
    write_star(path, {"particles": pd.DataFrame(columns).astype(str)})
