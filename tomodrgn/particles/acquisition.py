"""Acquisition: what a simulated microscope recorded of which particle.

Tilt images stand in one order here, that of `Acquisition.image_particle` and `image_tilt`: particle by particle, by
rising tilt angle. Letters in shapes: m tomograms, t tilts, k particles, n images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.spatial.transform import Rotation

__all__ = ["Acquisition", "draw_acquisition"]

VOLTAGE_KV, CS_MM, AMPLITUDE_CONTRAST = 300.0, 2.7, 0.07
# Side and thickness of the tomograms.
FIELD_ANGST, THICKNESS_ANGST = 7200.0, 1800.0


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Tilt series of several tomograms, and the particles in them.

    Parameters
    ----------
    tomograms
        Names of the tomograms, (m,).
    size_px
        Size xyz of every tomogram in pixels of the extracted images, (3,).
    tilt_deg, dose_e_per_angst2
        Angle of every tilt, rising, and exposure of the specimen before it, (t,).
    tilt_rotations
        Tomogram to tilt image, (m, t, 3, 3).
    defocus
        Defocus U and V at the tomogram's centre in angstrom, and angle of astigmatism in degrees, (m, t, 3).
    has_ctf
        If not, images are those of an ideal phase plate: CTF -1 at all frequencies.
    tomogram
        Number of the tomogram of each particle, rising, (k,).
    euler_deg
        rlnAngleRot, Tilt and Psi of each particle in its tomogram, (k, 3).
    coordinate_px, origin_angst
        The particle lies at coordinate - origin, xyz from the corner of the tomogram, (k, 3).
    visible
        Tilts recorded of each particle, (k, t).
    half_set, ice_thickness_angst
        Columns of the user, (k,).
    grid_square
        Column of the user, one text a tomogram, (m,).
    pixel_size_angst
        Size of a pixel of the extracted images.
    """

    tomograms: np.ndarray
    size_px: Int64[np.ndarray, "3"]
    tilt_deg: Float64[np.ndarray, " t"]
    dose_e_per_angst2: Float64[np.ndarray, " t"]
    tilt_rotations: Float64[np.ndarray, "m t 3 3"]
    defocus: Float64[np.ndarray, "m t 3"]
    has_ctf: bool
    tomogram: Int64[np.ndarray, " k"]
    euler_deg: Float64[np.ndarray, "k 3"]
    coordinate_px: Float64[np.ndarray, "k 3"]
    origin_angst: Float64[np.ndarray, "k 3"]
    visible: Bool[np.ndarray, "k t"]
    half_set: Int64[np.ndarray, " k"]
    ice_thickness_angst: Float64[np.ndarray, " k"]
    grid_square: np.ndarray
    pixel_size_angst: float

    @property
    def image_particle(self) -> Int64[np.ndarray, " n"]:
        """Number of the particle of each image."""
        return np.nonzero(self.visible)[0]

    @property
    def image_tilt(self) -> Int64[np.ndarray, " n"]:
        """Number of the tilt of each image."""
        return np.nonzero(self.visible)[1]

    @property
    def image_tilt_rotations(self) -> Float64[np.ndarray, "n 3 3"]:
        """Tomogram to image."""
        return self.tilt_rotations[self.tomogram[self.image_particle], self.image_tilt]

    @property
    def rotations(self) -> Float64[np.ndarray, "n 3 3"]:
        """Particle frame to image frame, acting on xyz columns."""
        particle = Rotation.from_euler("ZYZ", self.euler_deg, degrees=True).inv().as_matrix()
        return self.image_tilt_rotations @ particle[self.image_particle]

    @property
    def shifts_px(self) -> Float64[np.ndarray, "n 2"]:
        """RELION origins, xy: moving the image by +shift brings the particle to the centre of the box."""
        origin = self.origin_angst[self.image_particle]
        return np.einsum("nij,nj->ni", self.image_tilt_rotations, origin)[:, :2] / self.pixel_size_angst

    @property
    def centred_angst(self) -> Float64[np.ndarray, "n 3"]:
        """Position of the particle of each image from the tomogram's centre, xyz of the image."""
        position = self.coordinate_px * self.pixel_size_angst - self.origin_angst
        position -= self.size_px * self.pixel_size_angst / 2
        return np.einsum("nij,nj->ni", self.image_tilt_rotations, position[self.image_particle])

    @property
    def image_defocus(self) -> Float64[np.ndarray, "n 3"]:
        """Defocus U and V in angstrom and angle in degrees, with the particle's depth added as Warp does."""
        defocus = self.defocus[self.tomogram[self.image_particle], self.image_tilt].copy()
        if self.has_ctf:
            defocus[:, :2] += self.centred_angst[:, 2:]
        return defocus

    @property
    def optics(self) -> tuple[float, float, float]:
        """Voltage in kV, spherical aberration in mm, amplitude contrast."""
        return (VOLTAGE_KV, CS_MM, AMPLITUDE_CONTRAST) if self.has_ctf else (VOLTAGE_KV, 0.0, 1.0)

    @property
    def ctf_table(self) -> Float32[np.ndarray, "n 7"]:
        """Columns in the order of `CtfParameters`."""
        voltage, cs, contrast = self.optics
        constant = np.tile([0.0, voltage, cs, contrast], (len(self.image_tilt), 1))
        return np.concatenate([self.image_defocus, constant], axis=1).astype(np.float32)

    @property
    def dose_step_e_per_angst2(self) -> float:
        """Exposure of one tilt."""
        return float(np.diff(np.sort(self.dose_e_per_angst2)).min()) if len(self.tilt_deg) > 1 else 0.0


def draw_acquisition(
    *,
    n_particles: int,
    n_tilts: int,
    n_tomograms: int,
    missing_tilts: int,
    max_tilt_deg: float,
    dose_per_tilt_e_per_angst2: float,
    defocus_range_angst: tuple[float, float],
    shift_std_px: float,
    box_px: int,
    pixel_size_angst: float,
    has_ctf: bool,
    rng: np.random.Generator,
) -> Acquisition:
    """Dose-symmetric tilt series of random particles; see `simulate_particles` for the parameters."""
    tilt_deg = np.linspace(-max_tilt_deg, max_tilt_deg, n_tilts) if n_tilts > 1 else np.zeros(1)
    tilt_deg = np.round(tilt_deg, 3)
    acquired = np.empty(n_tilts, dtype=np.int64)  # place of each tilt in time: 0, +3, -3, +6 ...
    acquired[np.lexsort((tilt_deg < 0, np.abs(tilt_deg)))] = np.arange(n_tilts)
    axis_deg = rng.normal(84.0, 0.5, n_tomograms)
    tilts = Rotation.from_euler("y", tilt_deg[:, None], degrees=True).as_matrix()
    size_px = np.maximum(np.round(np.array([FIELD_ANGST, FIELD_ANGST, THICKNESS_ANGST]) / pixel_size_angst), 2 * box_px)
    tomogram = np.sort(np.r_[np.arange(n_tomograms), rng.integers(n_tomograms, size=n_particles - n_tomograms)])
    missing = rng.integers(missing_tilts + 1, size=n_particles)
    rank = rng.random((n_particles, n_tilts)).argsort(axis=1).argsort(axis=1)
    thickness = rng.uniform(1000, THICKNESS_ANGST, n_tomograms)[tomogram]
    tilt_cosine = rng.uniform(-1, 1, n_particles)
    return Acquisition(
        tomograms=np.array([f"TS_{i + 1:03d}" for i in range(n_tomograms)]),
        size_px=size_px.astype(np.int64),
        tilt_deg=tilt_deg,
        dose_e_per_angst2=acquired * dose_per_tilt_e_per_angst2,
        tilt_rotations=np.einsum(
            "mij,tjk->mtik", Rotation.from_euler("z", axis_deg[:, None], degrees=True).as_matrix(), tilts
        ),
        defocus=_draw_defocus(n_tomograms, n_tilts, defocus_range_angst, rng) * has_ctf,
        has_ctf=has_ctf,
        tomogram=tomogram,
        euler_deg=np.stack(
            [
                rng.uniform(-180, 180, n_particles),
                np.rad2deg(np.arccos(tilt_cosine)),
                rng.uniform(-180, 180, n_particles),
            ],
            axis=1,
        ),
        coordinate_px=rng.uniform(box_px / 2, size_px - box_px / 2, (n_particles, 3)),
        origin_angst=rng.normal(0, shift_std_px * pixel_size_angst, (n_particles, 3)),
        visible=rank >= missing[:, None],
        half_set=rng.permutation(np.arange(n_particles) % 2 + 1),
        ice_thickness_angst=thickness + rng.normal(0, 30, n_particles),
        grid_square=np.array([f"square_{'ABCDEFGH'[i % 8]}{i // 8 + 1}" for i in range(n_tomograms)]),
        pixel_size_angst=pixel_size_angst,
    )


def _draw_defocus(
    n_tomograms: int, n_tilts: int, defocus_range_angst: tuple[float, float], rng: np.random.Generator
) -> Float64[np.ndarray, "m t 3"]:
    """Fits as they scatter: one defocus a tomogram, some 200 angstrom of error and of astigmatism a tilt."""
    mean = rng.uniform(*defocus_range_angst, (n_tomograms, 1)) + rng.normal(0, 200, (n_tomograms, n_tilts))
    half_difference = np.abs(rng.normal(200, 100, (n_tomograms, n_tilts)))
    angle = rng.uniform(0, 180, (n_tomograms, 1)) + rng.normal(0, 10, (n_tomograms, n_tilts))
    return np.stack([mean + half_difference, mean - half_difference, angle % 180], axis=-1)
