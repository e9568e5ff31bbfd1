"""Ensembles of maps with a known answer: a body, and masses that some of the maps have."""

from __future__ import annotations

import numpy as np

BOX, VOXEL, BODY, MASS = 24, 4.0, 6.0, 6.0  # the last three in angstrom
PLACES = {"knob": (28.0, 0.0, 0.0), "stalk": (0.0, -26.0, 8.0)}  # xyz in angstrom from the box centre


def blob(centre_xyz_angst: tuple[float, float, float], sigma_angst: float) -> np.ndarray:
    axis = (np.arange(BOX) - BOX // 2) * VOXEL
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    square = sum((a - c) ** 2 for a, c in zip((x, y, z), centre_xyz_angst, strict=True))
    return np.exp(-0.5 * square / sigma_angst**2).astype(np.float32)


def planted_maps(
    seed: int, shares: dict[str, float], n: int = 200, noise: float = 0.1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Maps of mean zero on a common body; and which of them have each mass."""
    rng = np.random.default_rng(seed)
    has = {name: rng.permutation(n) < round(share * n) for name, share in shares.items()}
    maps = np.repeat(blob((0, 0, 0), BODY)[None], n, axis=0)
    for name, present in has.items():
        maps += present[:, None, None, None] * blob(PLACES[name], MASS)
    maps += (noise * rng.normal(size=maps.shape)).astype(np.float32)
    return (maps - maps.mean(axis=(1, 2, 3), keepdims=True)).astype(np.float32), has
