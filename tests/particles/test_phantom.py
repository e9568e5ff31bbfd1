from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tomodrgn.particles.phantom import Phantom, project_blobs, states_phantom

BOX, PIXEL = 32, 8.0


def volume(phantom: Phantom, state: int = 0, parameter: float = 0.5) -> np.ndarray:
    return phantom.volume(state, parameter, box_px=BOX, pixel_size_angst=PIXEL)


def projection(phantom: Phantom, rotation: np.ndarray, state: int = 0, parameter: float = 0.5) -> np.ndarray:
    xy = phantom.positions_angst(np.array([parameter])) @ rotation[:2].T / PIXEL
    sigmas = torch.from_numpy(phantom.sigmas_angst / PIXEL)
    return project_blobs(torch.from_numpy(xy), sigmas, torch.from_numpy(phantom.masses[[state]]), BOX)[0].numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_blob_profile_is_the_gaussian() -> None:
    image = project_blobs(torch.tensor([[[3.0, -2.0]]]), torch.tensor([1.5]), torch.tensor([[4.0]]), BOX)[0]
    peak = 4.0 / (2 * np.pi * 1.5**2)
    assert image[14, 19] == pytest.approx(peak, rel=1e-6)
    assert image[14 + 3, 19] == pytest.approx(peak * np.exp(-2), rel=1e-5)
    assert image[14, 19 - 3] == pytest.approx(peak * np.exp(-2), rel=1e-5)


def test_projection_along_z_is_the_sum_of_the_volume_over_z() -> None:
    phantom = states_phantom(2, seed=1)
    np.testing.assert_allclose(projection(phantom, np.eye(3), 1), volume(phantom, 1).sum(axis=0), atol=1e-7)


def test_projection_after_a_quarter_turn_about_y_is_the_sum_over_x() -> None:
    # A quarter turn about y takes z to x: image columns are the volume's z, rows stay y.
    phantom = states_phantom(2, seed=1)
    rotation = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    np.testing.assert_allclose(projection(phantom, rotation, 1), volume(phantom, 1).sum(axis=2).T, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_mass_is_the_same_in_volume_and_projection(seed: int) -> None:
    phantom = states_phantom(3, seed=seed)
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    for state in range(3):
        mass = phantom.masses[state].sum()
        assert volume(phantom, state).sum() == pytest.approx(mass, rel=1e-4)
        assert projection(phantom, rotation, state).sum() == pytest.approx(mass, rel=1e-4)


@pytest.mark.parametrize("difference", [0.05, 0.15, 0.4])
def test_neighbouring_states_differ_by_the_mass_asked_for(difference: float) -> None:
    phantom = states_phantom(4, seed=2, mass_difference=difference)
    maps = np.stack([volume(phantom, state) for state in range(4)])
    changes = np.diff(maps, axis=0)
    assert changes.min() > -1e-9, "a lobe is added, nothing is taken away"
    np.testing.assert_allclose(changes.sum(axis=(1, 2, 3)) / maps[0].sum(), difference, rtol=2e-3)
    # The lobes lie in different places.
    assert max(correlation(changes[i], changes[j]) for i, j in ((0, 1), (0, 2), (1, 2))) < 0.5


@pytest.mark.parametrize(("box", "seed"), [(16, 0), (32, 0), (32, 5), (64, 0)])
def test_molecule_lies_within_its_radius_in_all_states_and_positions(box: int, seed: int) -> None:
    phantom = states_phantom(3, seed=seed, box_px=box, pixel_size_angst=PIXEL)
    radius = np.linalg.norm(np.indices((box,) * 3) - box // 2, axis=0) * PIXEL
    assert phantom.radius_angst == pytest.approx(0.65 * box / 2 * PIXEL)
    for parameter in (0.0, 0.5, 1.0):
        density = phantom.volume(2, parameter, box_px=box, pixel_size_angst=PIXEL)
        assert density[radius <= phantom.radius_angst].sum() > 0.995 * density.sum()
        assert density[radius <= 0.5 * phantom.radius_angst].sum() < 0.75 * density.sum(), "it fills the sphere"


@pytest.mark.parametrize("seed", range(3))
def test_molecule_has_a_hand_and_no_two_fold_axis(seed: int) -> None:
    density = volume(states_phantom(1, seed=seed))[1:, 1:, 1:]  # odd side: flips keep the centre
    for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        assert correlation(density, np.flip(density, axes)) < 0.93


def test_only_the_domain_moves_and_it_turns_about_its_hinge() -> None:
    phantom = states_phantom(2, seed=3, swing_deg=60.0)
    start, middle, end = phantom.positions_angst(np.array([0.0, 0.5, 1.0]))
    still = ~phantom.moving
    np.testing.assert_array_equal(start[still], end[still])
    np.testing.assert_allclose(middle, phantom.centres_angst, atol=1e-9)
    arms = [positions[phantom.moving] - phantom.hinge_angst for positions in (start, end)]
    across = [arm - np.outer(arm @ phantom.hinge_axis, phantom.hinge_axis) for arm in arms]
    cosine = (across[0] * across[1]).sum(axis=1) / np.prod([np.linalg.norm(arm, axis=1) for arm in across], axis=0)
    np.testing.assert_allclose(np.rad2deg(np.arccos(cosine)), 60.0, rtol=1e-6)
    moved_px = np.linalg.norm(end - start, axis=1)[phantom.moving] / PIXEL
    assert moved_px.max() > 2
    assert volume(phantom, 0, 0.0).sum() == pytest.approx(volume(phantom, 0, 1.0).sum(), rel=1e-4)
    assert correlation(volume(phantom, 0, 0.0), volume(phantom, 0, 1.0)) < 0.97


def test_a_seed_makes_one_molecule() -> None:
    first, again, other = (states_phantom(3, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.centres_angst, again.centres_angst)
    np.testing.assert_array_equal(first.masses, again.masses)
    assert not np.allclose(first.centres_angst, other.centres_angst)


def test_molecule_scales_with_the_pixel() -> None:
    small = states_phantom(2, seed=0, pixel_size_angst=2.0)
    large = states_phantom(2, seed=0, pixel_size_angst=8.0)
    np.testing.assert_allclose(small.centres_angst * 4, large.centres_angst)
    np.testing.assert_allclose(small.sigmas_angst * 4, large.sigmas_angst)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_states": 0}, "n_states 0"),
        ({"mass_difference": 0.0}, "mass_difference 0.0"),
        ({"mass_difference": 1.5}, "mass_difference 1.5"),
        ({"box_px": 31}, "31 px"),
        ({"box_px": 8}, "8 px"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        states_phantom(**{"seed": 0, **options})  # type: ignore[arg-type]
