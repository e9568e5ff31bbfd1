"""Particles in tomograms with a known answer: random, in pairs of one geometry, in classes that come together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from tomodrgn.particles.position_set import Positions

SIZE_ANGST = np.array([4000.0, 4000.0, 1200.0])


def as_positions(places: np.ndarray, rotations: np.ndarray, tomogram: np.ndarray) -> Positions:
    return Positions(
        particle_id=np.array([f"p{i}" for i in range(len(places))]),
        tomogram=np.asarray(tomogram, dtype=np.str_),
        position_angst=np.asarray(places, dtype=np.float64),
        rotations=np.asarray(rotations, dtype=np.float64),
        kind="relion5",
        path=Path("planted.star"),
        source=pd.DataFrame(index=range(len(places))),
    )


def random_positions(seed: int, n: int = 300, n_tomograms: int = 3) -> Positions:
    """Random places and orientations."""
    rng = np.random.default_rng(seed)
    tomogram = np.array([f"TS_{i % n_tomograms:02d}" for i in range(n)])
    return as_positions(rng.uniform(size=(n, 3)) * SIZE_ANGST, Rotation.random(n, rng=rng).as_matrix(), tomogram)


def planted_pairs(seed: int, n_pairs: int = 30, n: int = 300) -> tuple[Positions, set[tuple[str, str]]]:
    """The same with particles n - 1, n - 2 ... put beside 0, 1 ... in one geometry, give or take; and those pairs."""
    rng = np.random.default_rng(seed + 500)
    random = random_positions(seed, n)
    places, rotations, tomogram = (np.array(a) for a in (random.position_angst, random.rotations, random.tomogram))
    turn = Rotation.from_euler("ZYZ", [40, 60, 10], degrees=True).as_matrix()
    names = set()
    for i in range(n_pairs):
        j = n - 1 - i
        places[j] = places[i] + rotations[i] @ (np.array([180.0, 60.0, -40.0]) + rng.normal(size=3) * 8)
        rotations[j] = rotations[i] @ turn @ Rotation.from_rotvec(rng.normal(size=3) * 0.08).as_matrix()
        tomogram[j] = tomogram[i]
        names |= {(f"p{i}", f"p{j}"), (f"p{j}", f"p{i}")}
    return as_positions(places, rotations, tomogram), names
