"""Euler angles, tilt projections and shifts become rotations.

Conventions, said once: coordinates are xyz columns, right-handed; angles are degrees. A rotation takes the
particle frame to the image frame, ``r_image = R @ r_particle``; a central Fourier slice has the coordinates
``lattice_xyz @ R`` (row vectors, that is R transposed acting on columns).
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial.transform import Rotation

__all__ = ["axis_rotation", "euler_to_rotation", "rotation_to_euler"]


def axis_rotation(axis: str, angle_deg: Float[np.ndarray, " n"] | float) -> Float64[np.ndarray, "n 3 3"]:
    """Active right-handed rotations about one axis.

    Parameters
    ----------
    axis
        ``"x"``, ``"y"`` or ``"z"``.
    angle_deg
        Angles in degrees.

    Raises
    ------
    ValueError
        If the axis has another name.

    Examples
    --------
    A quarter turn about z takes x to y:

    >>> (axis_rotation("z", 90.0)[0] @ [1.0, 0.0, 0.0]).round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    if axis not in ("x", "y", "z"):
        raise ValueError(f"Got axis {axis!r}, expected 'x', 'y' or 'z'.")
    angle = np.deg2rad(np.atleast_1d(np.asarray(angle_deg, dtype=np.float64)))
    cos, sin = np.cos(angle), np.sin(angle)
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    rotation = np.zeros((len(angle), 3, 3))
    rotation[:, i, i] = 1.0
    rotation[:, j, j] = rotation[:, k, k] = cos
    rotation[:, k, j], rotation[:, j, k] = sin, -sin
    return rotation


def euler_to_rotation(
    rot_deg: Float[np.ndarray, " n"], tilt_deg: Float[np.ndarray, " n"], psi_deg: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 3 3"]:
    """Rotation of RELION's three Euler angles, ``A = Rz(-psi) Ry(-tilt) Rz(-rot)``.

    Parameters
    ----------
    rot_deg, tilt_deg, psi_deg
        rlnAngleRot, rlnAngleTilt and rlnAnglePsi in degrees, (n,).

    Returns
    -------
    Rotations (n, 3, 3) that take reference coordinates to those of the rotated particle: the matrix that RELION
    calls `Euler_angles2matrix` (Heymann, Chagoyen & Belnap 2005, ZYZ convention).

    Examples
    --------
    With rot = 90 the reference's y axis is seen along the image's x axis:

    >>> import numpy as np
    >>> a = euler_to_rotation(np.array([90.0]), np.array([0.0]), np.array([0.0]))[0]
    >>> (a @ [0.0, 1.0, 0.0]).round(6).tolist()
    [1.0, 0.0, 0.0]
    """
    minus = [-np.asarray(angle, dtype=np.float64) for angle in (rot_deg, tilt_deg, psi_deg)]
    return axis_rotation("z", minus[2]) @ axis_rotation("y", minus[1]) @ axis_rotation("z", minus[0])


def rotation_to_euler(rotations: Float[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, "3 n"]:
    """RELION's rot, tilt and psi in degrees of rotations; the inverse of `euler_to_rotation`.

    Where tilt is 0 or 180 degrees, rot and psi are not determined by themselves; psi is 0 then.

    Examples
    --------
    >>> a = euler_to_rotation(np.array([10.0]), np.array([70.0]), np.array([-25.5]))
    >>> rotation_to_euler(a).round(6).ravel().tolist()
    [10.0, 70.0, -25.5]
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")
        transposed = np.asarray(rotations, dtype=np.float64).transpose(0, 2, 1)
        return Rotation.from_matrix(transposed).as_euler("ZYZ", degrees=True).T
