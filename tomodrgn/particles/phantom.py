"""Phantom: a molecule made of Gaussian blobs, whose projections are known exactly.

The projection of an isotropic three-dimensional Gaussian along any direction is a two-dimensional Gaussian of the same
width and mass, so projections are summed in real space: no interpolation, and nothing shared with the Fourier slices
that the rest of the package computes. Letters in shapes: s states, g blobs, n images, d box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from scipy.spatial.transform import Rotation
from torch import Tensor

__all__ = ["Phantom", "project_blobs", "states_phantom"]

# Widths of blobs in pixels, and radius of the molecule as a fraction of the half box.
SIGMA_PX = (1.2, 1.6)
SUPPORT = 0.65


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A molecule of Gaussian blobs in several states, with one domain that swings about a hinge.

    Parameters
    ----------
    centres_angst
        Positions xyz of the blobs with the moving domain at rest, from the particle's centre, in angstrom, (g, 3).
    sigmas_angst
        Standard deviations of the blobs in angstrom, (g,).
    masses
        Integral of each blob in each state, 0 where the state lacks it, (s, g).
    moving
        Whether a blob belongs to the moving domain, (g,).
    hinge_angst, hinge_axis
        A point of the axis about which the domain swings, xyz in angstrom, and its unit vector, (3,).
    swing_deg
        Angle between the two ends of the motion; the domain at rest is in the middle.
    radius_angst
        Radius of the sphere that holds the molecule in every state and position, in angstrom.
    """

    centres_angst: Float64[np.ndarray, "g 3"]
    sigmas_angst: Float64[np.ndarray, " g"]
    masses: Float64[np.ndarray, "s g"]
    moving: Bool[np.ndarray, " g"]
    hinge_angst: Float64[np.ndarray, "3"]
    hinge_axis: Float64[np.ndarray, "3"]
    swing_deg: float
    radius_angst: float

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.masses)

    def positions_angst(self, parameter: Float[np.ndarray, " n"]) -> Float64[np.ndarray, "n g 3"]:
        """Positions of the blobs for values of the motion from 0 to 1 (0.5 is rest), xyz in angstrom, (n, g, 3)."""
        angle_deg = (np.asarray(parameter, dtype=np.float64) - 0.5) * self.swing_deg
        swing = Rotation.from_rotvec(angle_deg[:, None] * self.hinge_axis, degrees=True).as_matrix()  # (n, 3, 3)
        moved = np.einsum("nij,gj->ngi", swing, self.centres_angst - self.hinge_angst) + self.hinge_angst
        return np.where(self.moving[:, None], moved, self.centres_angst)

    def volume(
        self, state: int, parameter: float = 0.5, *, box_px: int, pixel_size_angst: float
    ) -> Float32[np.ndarray, "d d d"]:
        """Density of a state, mass per voxel, axes zyx, centre at index d // 2, (d, d, d).

        Parameters
        ----------
        state
            Number of the state, from 0.
        parameter
            Position of the moving domain, from 0 to 1.
        box_px, pixel_size_angst
            Side of the map in voxels, and the size of a voxel.
        """
        centres_px = self.positions_angst(np.array([parameter]))[0] / pixel_size_angst
        sigmas_px = self.sigmas_angst / pixel_size_angst
        grid = np.arange(box_px) - box_px // 2
        offset = (grid - centres_px[:, :, None]) / sigmas_px[:, None, None]  # (g, 3, d)
        profile = np.exp(-0.5 * offset**2) / (math.sqrt(2 * math.pi) * sigmas_px[:, None, None])
        x, y, z = profile.transpose(1, 0, 2)
        planes = np.einsum("g,gz,gy->gzy", self.masses[state], z, y).reshape(len(sigmas_px), -1)
        return (planes.T @ x).reshape((box_px,) * 3).astype(np.float32)


def project_blobs(
    centres_xy_px: Float[Tensor, "n g 2"], sigmas_px: Float[Tensor, " g"], masses: Float[Tensor, "n g"], box_px: int
) -> Float[Tensor, "n d d"]:
    """Images of Gaussian blobs, mass per pixel: each is the product of a profile along x and one along y.

    Parameters
    ----------
    centres_xy_px
        Positions in the image, order xy, in pixels from the centre index d // 2, (n, g, 2).
    sigmas_px
        Standard deviations in pixels, (g,).
    masses
        Integral of each blob in each image, (n, g).
    box_px
        Side d of the images; the pixel at row i and column j has the position (j - d // 2, i - d // 2).

    Examples
    --------
    >>> image = project_blobs(torch.tensor([[[2.0, -1.0]]]), torch.tensor([1.0]), torch.tensor([[5.0]]), 16)[0]
    >>> divmod(int(image.argmax()), 16), round(float(image.sum()), 3)
    ((7, 10), 5.0)
    """
    grid = torch.arange(box_px, dtype=centres_xy_px.dtype, device=centres_xy_px.device) - box_px // 2
    offset = (centres_xy_px.transpose(1, 2)[..., None] - grid) / sigmas_px[:, None]  # (n, 2, g, d)
    profile = torch.exp(-0.5 * offset.square()) / (math.sqrt(2 * math.pi) * sigmas_px[:, None])
    x, y = profile.unbind(1)
    return (y * masses[..., None]).transpose(1, 2) @ x


def states_phantom(
    n_states: int = 3,
    *,
    seed: int,
    mass_difference: float = 0.15,
    swing_deg: float = 80.0,
    box_px: int = 32,
    pixel_size_angst: float = 8.0,
) -> Phantom:
    """An asymmetric molecule: a core with a hinged domain, and one lobe more in each state than in the state before.

    The molecule lies within 0.65 of the half box in all states and positions. Blobs are 1.2 to 1.6 pixels wide, so
    that maps have detail up to Nyquist; a larger box holds more of them.

    Parameters
    ----------
    n_states
        Number of states; state i is the core and i lobes.
    seed
        Every random choice follows from it.
    mass_difference
        Mass of each lobe, as a fraction of the mass of the core (with its domain).
    swing_deg
        Angle over which the domain moves as the parameter goes from 0 to 1.
    box_px, pixel_size_angst
        The box for which the molecule is made, and its pixel size.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    _check(n_states, mass_difference, box_px)
    rng = np.random.default_rng(seed)
    sigma_px = min(1.0, box_px / 24) * np.array(SIGMA_PX)
    limit = SUPPORT * box_px / 2 - 2 * sigma_px[1]  # radius that holds the centres of all blobs, px
    n_core = round(48 * max(box_px / 32, 0.5) ** 1.5)
    n_domain, n_lobe = max(n_core // 5, 3), max(round(n_core * mass_difference), 3)
    directions = _spread_directions(n_states, rng)
    axis = np.cross(directions[0], rng.standard_normal(3))
    along = rng.uniform(0.5, 1.0, n_domain)[:, None] * limit
    parts = [
        _ball(n_core - n_domain, 0.65 * limit, rng),
        directions[0] * along + _ball(n_domain, 0.12 * limit, rng),
        *(0.75 * limit * direction + _ball(n_lobe, 0.25 * limit, rng) for direction in directions[1:]),
    ]
    part = np.repeat(np.arange(len(parts)), [len(blobs) for blobs in parts])
    weight = rng.uniform(0.6, 1.4, len(part))
    lobe = np.maximum(part - 1, 0)  # 0 for the core and its domain
    weight /= np.bincount(lobe, weight)[lobe]
    weight[lobe > 0] *= mass_difference
    centres = np.concatenate(parts)
    centre_of_mass = weight[lobe == 0] @ centres[lobe == 0]
    phantom = Phantom(
        centres_angst=(centres - centre_of_mass) * pixel_size_angst,
        sigmas_angst=rng.uniform(sigma_px[0], sigma_px[1], len(part)) * pixel_size_angst,
        masses=np.where(lobe <= np.arange(n_states)[:, None], weight, 0.0),
        moving=part == 1,
        hinge_angst=(0.45 * limit * directions[0] - centre_of_mass) * pixel_size_angst,
        hinge_axis=axis / np.linalg.norm(axis),
        swing_deg=swing_deg,
        radius_angst=SUPPORT * box_px / 2 * pixel_size_angst,
    )
    return _shrunk(phantom, limit * pixel_size_angst)


def _check(n_states: int, mass_difference: float, box_px: int) -> None:
    if n_states < 1:
        raise ValueError(f"Got n_states {n_states}, expected 1 or more. Choose the number of states.")
    if not 0 < mass_difference <= 1:
        raise ValueError(f"Got mass_difference {mass_difference}, expected above 0, at most 1. Choose such a fraction.")
    if box_px < 12 or box_px % 2:
        raise ValueError(f"Got a box of {box_px} px, expected an even number from 12. Choose such a box.")


def _ball(n: int, radius: float, rng: np.random.Generator) -> Float64[np.ndarray, "n 3"]:
    """Random points in a ball, evenly spread over its volume."""
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * radius * rng.uniform(0, 1, (n, 1)) ** (1 / 3)


def _spread_directions(n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 3"]:
    """Random unit vectors, each the one of 50 that is farthest from those before it."""
    chosen = np.zeros((0, 3))
    for _ in range(n):
        candidates = rng.standard_normal((50, 3))
        candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
        nearest = (candidates @ chosen.T).max(axis=1, initial=-1.0)
        chosen = np.vstack([chosen, candidates[np.argmin(nearest)]])
    return chosen


def _shrunk(phantom: Phantom, limit_angst: float) -> Phantom:
    """The phantom with all centres drawn in, if need be, to lie within the limit throughout the motion."""
    farthest = np.linalg.norm(phantom.positions_angst(np.linspace(0, 1, 9)), axis=-1).max()
    factor = min(1.0, limit_angst / farthest)
    return replace(phantom, centres_angst=phantom.centres_angst * factor, hinge_angst=phantom.hinge_angst * factor)
