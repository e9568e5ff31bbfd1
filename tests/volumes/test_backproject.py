"""Backprojection: against a known answer without noise, and against the reference of a real data set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.imaging import grid, resolution
from tomodrgn.io.mrc import read_volume
from tomodrgn.particles.choice import half_sets
from tomodrgn.particles.simulate import truth_volumes
from tomodrgn.particles.simulated_formats import FORMATS

# Shells 1 to 10 on the real WarpTools set, mirrored, soft spherical mask of radius 0.7.
REAL_SET_FSC = [0.99, 0.96, 0.92, 0.90, 0.84, 0.78, 0.70, 0.72, 0.70, 0.67]


@pytest.fixture(scope="module")
def real_set(shared_data):
    folder = shared_data / "warptools"
    name = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    return td.read_particles(folder / name), read_volume(folder / "warptools_test_box-32_angpix-12_reconstruct.mrc")[0]


@pytest.fixture(scope="module")
def real_map(real_set):
    return td.backproject(real_set[0], flip=True)


@pytest.mark.parametrize("dialect", FORMATS)
def test_noise_free_set_is_recovered(tmp_path, dialect):
    particles = td.simulate_particles(
        tmp_path, n_particles=120, n_tilts=21, n_states=1, noise=False, dialect=dialect, seed=3
    )
    result = td.backproject(particles)
    truth = truth_volumes(tmp_path)["consensus"]
    fsc = resolution.fourier_shell_correlation(result.full, truth, result.mask)
    assert fsc[1:9].min() > 0.99, fsc
    assert fsc[1:13].min() > 0.95, fsc  # to 0.8 Nyquist


def test_map_has_the_density_of_the_truth(tmp_path):
    """Without a CTF nothing is lost but the mean: the slope against the truth is 1 in density units."""
    particles = td.simulate_particles(tmp_path, n_particles=120, n_tilts=21, n_states=1, noise=False, ctf=False, seed=0)
    particles = dataclasses.replace(particles, dose_e_per_angst2=np.zeros(particles.n_images))
    truth = truth_volumes(tmp_path)["consensus"]
    result = td.backproject(particles, regularisation=0.001, preprocess=td.PreprocessConfig(exposure_weighting=False))
    inside = result.mask > 0.99
    slope = np.polyfit(truth[inside], result.full[inside], 1)[0]
    assert slope == pytest.approx(1.0, abs=0.15)


def test_real_set_agrees_with_its_reference(real_set, real_map):
    mask = grid.soft_spherical_mask(32, 0.7).numpy()
    fsc = resolution.fourier_shell_correlation(real_map.full, real_set[1], mask)
    assert (fsc[1:11] >= REAL_SET_FSC).all(), fsc[1:11]


def test_hand_of_the_reference_is_found(real_set, real_map):
    comparison = real_map.compare(real_set[1])
    assert not comparison.mirrored_is_better
    unflipped = td.backproject(real_set[0]).compare(real_set[1])
    assert unflipped.mirrored_is_better
    np.testing.assert_allclose(unflipped.mirrored, comparison.same, atol=1e-6)


def test_wrong_poses_fit_worse(real_set):
    """The comparison can fail: transposed rotations agree with the reference in neither hand."""
    particles, reference = real_set
    good = td.backproject(particles, flip=True).compare(reference).same[2:10].mean()
    transposed = dataclasses.replace(particles, rotations=np.swapaxes(particles.rotations, 1, 2))
    wrong = td.backproject(transposed, flip=True).compare(reference)
    assert max(wrong.same[2:10].mean(), wrong.mirrored[2:10].mean()) < good - 0.2


def test_saved_maps_have_voxel_size_and_are_not_overwritten(real_map, tmp_path):
    paths = real_map.save(tmp_path)
    volume, voxel_size = read_volume(tmp_path / "full.mrc")
    np.testing.assert_array_equal(volume, real_map.full)
    assert voxel_size == pytest.approx(12.0)
    assert {p.name for p in paths} == {"full.mrc", "filtered.mrc", "half_1.mrc", "half_2.mrc", "fsc.csv"}
    with pytest.raises(FileExistsError, match="--overwrite"):
        real_map.save(tmp_path)


def test_half_sets_of_the_source_win_else_an_even_split(real_set):
    particles, _ = real_set
    drawn = half_sets(dataclasses.replace(particles, half_set=np.zeros(40, dtype=int)), seed=1)
    assert np.bincount(drawn).tolist() == [0, 20, 20]
    own = np.repeat([1, 2], [30, 10])
    assert half_sets(dataclasses.replace(particles, half_set=own), seed=1).tolist() == own.tolist()


def test_one_particle_is_refused(real_set):
    particles, _ = real_set
    with pytest.raises(ValueError, match="at least two"):
        td.backproject(particles.subset(particles.particle_id[:1]))


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
@pytest.mark.parametrize("seed", range(3))
def test_cropped_images_give_the_low_passed_truth(tmp_path, dialect, seed):
    """On voxels 4/3 as large: the truth without the detail beyond their Nyquist."""
    box, small = 32, 24
    simulated = td.simulate_particles(
        tmp_path, n_particles=80, n_tilts=15, n_states=1, noise=False, dialect=dialect, seed=seed
    )
    result = td.backproject(simulated.cropped_to(small))
    assert (result.full.shape, result.voxel_size_angst) == ((small,) * 3, pytest.approx(8.0 * box / small))
    fsc = resolution.fourier_shell_correlation(
        result.full, cropped_map(truth_volumes(tmp_path)["consensus"], small), result.mask
    )
    assert fsc[1:8].min() > 0.99, fsc
    assert fsc[1:11].min() > 0.95, fsc
    full = td.backproject(simulated)
    same = resolution.fourier_shell_correlation(result.full, cropped_map(full.full, small), result.mask)
    assert same[1:11].min() > 0.99, same


def cropped_map(volume, box_px):
    """Fourier crop of a map, written out with a full, shifted transform."""
    edge = (volume.shape[0] - box_px) // 2
    middle = slice(edge + 1, edge + box_px)
    whole = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume)))
    kept = np.zeros((box_px,) * 3, dtype=complex)
    kept[1:, 1:, 1:] = whole[middle, middle, middle]
    factor = (box_px / volume.shape[0]) ** 3
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kept))).real.astype(np.float32) * np.float32(factor)
