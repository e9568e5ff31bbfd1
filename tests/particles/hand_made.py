"""Particle sets made by hand from arrays, without a STAR file: every quantity is what the test says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd

from tomodrgn.particles.particle_set import CtfParameters, ParticleSet, SourceStar


def particle_set(folder: Path, stacks: list[np.ndarray], **changes: object) -> ParticleSet:
    """One particle a stack (its images, in the type they are stored in), without CTF, dose, tilt, rotation or shift."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"p{i}.mrcs" for i in range(len(stacks)))
    for path, images in zip(paths, stacks, strict=True):
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(images)
            file.set_image_stack()
    counts = [len(images) for images in stacks]
    n, k = sum(counts), len(stacks)
    plain = ParticleSet(
        dialect="warp",
        particle_id=np.array([f"p{i}" for i in range(k)]),
        tomogram=np.full(k, "t"),
        half_set=np.zeros(k, dtype=int),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        rotations=np.tile(np.eye(3), (n, 1, 1)),
        shifts_px=np.zeros((n, 2)),
        ctf=None,
        dose_e_per_angst2=np.zeros(n),
        tilt_deg=np.zeros(n),
        image_scale=np.ones(n),
        stack_paths=paths,
        stack_index=np.repeat(np.arange(k), counts),
        slice_index=np.concatenate([np.arange(c) for c in counts]),
        box_px=stacks[0].shape[-1],
        pixel_size_angst=5.0,
        ctf_premultiplied=False,
        dose_weighted=False,
        invert=False,
        source=SourceStar(path=folder / "hand_made.star", particles={"": pd.DataFrame(index=range(n))},
                          particles_block=""),
        source_row=np.arange(n),
        source_slot=np.zeros(n, dtype=int),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def ctf_parameters(n: int, **changes: float) -> CtfParameters:
    """Astigmatic CTFs with phase shift, another defocus for every image."""
    step = 300.0 * np.arange(n)
    values = {
        "defocus_u_angst": 22000.0 + step, "defocus_v_angst": 18000.0 + step, "defocus_angle_deg": 30.0,
        "phase_shift_deg": 10.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.07,
    }  # fmt: skip
    return CtfParameters(**{name: np.full(n, value) for name, value in (values | changes).items()})


def blob_images(centres_xy: np.ndarray, heights: np.ndarray, box_px: int, width_px: float) -> np.ndarray:
    """Sums of normalised Gaussians (integral = height) at the given places from the centre, (n images, n blobs, 2)."""
    y, x = np.mgrid[:box_px, :box_px] - box_px // 2
    dx = x - centres_xy[..., 0, None, None]
    dy = y - centres_xy[..., 1, None, None]
    blobs = np.exp(-(dx**2 + dy**2) / (2 * width_px**2)) / (2 * np.pi * width_px**2)
    return np.einsum("b,nbyx->nyx", heights, blobs)


def blob_transform(
    coordinates: np.ndarray, centres_xyz: np.ndarray, heights: np.ndarray, width_px: float
) -> np.ndarray:
    """Fourier transform, in closed form, of 3-D Gaussians at the given points: complex values at (m, 3) frequencies."""
    envelope = np.exp(-2 * (np.pi * width_px) ** 2 * (coordinates**2).sum(axis=1))
    return envelope * (np.exp(-2j * np.pi * coordinates @ centres_xyz.T) @ heights)
