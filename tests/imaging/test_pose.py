"""Euler angles and tilts: hand-worked landings of points, and agreement with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomodrgn.imaging.pose import axis_rotation, euler_to_rotation


def rotate(rot: float, tilt: float, psi: float, point: list[float]) -> list[float]:
    rotation = euler_to_rotation(*[np.array([float(a)]) for a in (rot, tilt, psi)])[0]
    return [round(float(x), 9) + 0.0 for x in rotation @ point]


@pytest.mark.parametrize(
    ("axis", "point", "lands"),
    [
        ("x", [0, 1, 0], [0, 0, 1]),
        ("y", [0, 0, 1], [1, 0, 0]),
        ("z", [1, 0, 0], [0, 1, 0]),
    ],
)
def test_quarter_turns_are_right_handed(axis, point, lands):
    np.testing.assert_allclose(axis_rotation(axis, 90.0)[0] @ point, lands, atol=1e-12)


def test_one_angle_after_another_by_hand():
    """Rz(-rot) first, then Ry(-tilt), then Rz(-psi)."""
    assert rotate(90, 0, 0, [1, 0, 0]) == [0, -1, 0]
    assert rotate(0, 90, 0, [0, 0, 1]) == [-1, 0, 0]
    assert rotate(0, 90, 0, [1, 0, 0]) == [0, 0, 1]
    assert rotate(0, 0, 90, [1, 0, 0]) == [0, -1, 0]
    # (0, 2, 5): rot 90 takes it to (2, 0, 5); tilt 90 to (-5, 0, 2); psi 90 to (0, 5, 2).
    assert rotate(90, 90, 90, [0, 2, 5]) == [0, 5, 2]
    # Angles apart, the order shows: rot 90 takes x to -y, which tilt leaves; tilt takes x to z, which psi leaves.
    assert rotate(90, 90, 0, [1, 0, 0]) == [0, -1, 0]
    assert rotate(0, 90, 90, [1, 0, 0]) == [0, 0, 1]


def test_direction_of_view_is_the_third_row():
    """rot and tilt are the spherical angles of the particle direction that ends up along the beam."""
    rot, tilt = 40.0, 65.0
    a, b = math.radians(rot), math.radians(tilt)
    direction = [math.cos(a) * math.sin(b), math.sin(a) * math.sin(b), math.cos(b)]
    for psi in (0.0, 123.0):
        assert rotate(rot, tilt, psi, direction) == pytest.approx([0, 0, 1], abs=1e-9)


def test_specimen_tilt_by_hand():
    """Tilted by 30 degrees about y, a point 10 px up the beam is seen 5 px along x; one on the axis stays."""
    tilt = axis_rotation("y", np.array([30.0, -30.0]))
    np.testing.assert_allclose(tilt @ [0, 0, 10.0], [[5, 0, 10 * math.cos(math.pi / 6)], [-5, 0, 5 * math.sqrt(3)]])
    np.testing.assert_allclose(tilt @ [0, 7.0, 0], [[0, 7, 0]] * 2)


def test_agrees_with_scipy():
    angles = np.random.default_rng(0).uniform(-180, 180, (50, 3))
    ours = euler_to_rotation(*angles.T)
    np.testing.assert_allclose(ours, Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix(), atol=1e-12)
    for axis in "xyz":
        expected = Rotation.from_euler(axis, angles[:, :1], degrees=True).as_matrix()
        np.testing.assert_allclose(axis_rotation(axis, angles[:, 0]), expected, atol=1e-12)


def test_unknown_axis_is_refused():
    with pytest.raises(ValueError, match="axis"):
        axis_rotation("w", 10.0)
