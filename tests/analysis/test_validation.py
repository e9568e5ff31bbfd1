"""Selections that the images bear out, and such that noise made."""

from __future__ import annotations

import numpy as np
import pytest

import tomodrgn as td
from tests.analysis.planted import SEEDS
from tomodrgn.analysis.differences import DifferenceMap
from tomodrgn.analysis.validation import validate_selection
from tomodrgn.imaging.grid import soft_spherical_mask
from tomodrgn.particles.simulate import read_truth
from tomodrgn.volumes.backproject import Reconstruction

BOX = 24


def linear_run(place, seed: int, **options) -> td.Run:
    particles = td.simulate_particles(
        place / "data", n_particles=200, n_tilts=16, box_px=BOX, snr=0.05, seed=seed, **options
    )
    return td.fit_linear(particles, place / "run", model=td.LinearConfig(n_components=1))


def lower_half(run: td.Run) -> np.ndarray:
    latents = run.latents()
    return latents.particle_id[np.argsort(latents.mu[:, 0])[:100]]


@pytest.fixture(scope="module")
def two_states(tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    return linear_run(tmp_path_factory.mktemp("two"), 0, n_states=2, mass_difference=0.2)


# --- against noise of a known power -----------------------------------------------------------------------------------


def reconstruction(signal: np.ndarray, rng: np.random.Generator, noise: float) -> Reconstruction:
    halves = (signal + np.sqrt(2) * noise * rng.normal(size=(2, BOX, BOX, BOX))).astype(np.float32)
    full = halves.mean(axis=0)
    mask = soft_spherical_mask(BOX, 0.7).numpy()
    fsc = np.ones(BOX // 2 + 1)
    return Reconstruction(
        full=full,
        filtered=full,
        half_1=halves[0],
        half_2=halves[1],
        fsc=fsc,
        mask=mask,
        voxel_size_angst=4.0,
        flipped=False,
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_scale_of_a_difference_and_its_error(share):
    """Over 40 draws of the noise the mean is the planted share, and the error is the spread."""
    rng = np.random.default_rng(0)
    expected = np.zeros((BOX,) * 3, np.float32)
    expected[9:15, 10:14, 8:16] = 0.2
    base = rng.normal(size=(BOX,) * 3)
    found = np.array(
        [
            DifferenceMap.of(
                reconstruction(base + share * expected, rng, 0.5), reconstruction(base, rng, 0.5)
            ).scale_of(expected)
            for _ in range(40)
        ]
    )
    spread = found[:, 0].std(ddof=1)
    assert found[:, 0].mean() == pytest.approx(share, abs=3 * spread / np.sqrt(40))
    assert found[:, 1].mean() == pytest.approx(spread, rel=0.4)


def test_agreement_of_noise_is_in_standard_errors():
    rng = np.random.default_rng(1)
    expected = np.zeros((BOX,) * 3, np.float32)
    expected[9:15, 10:14, 8:16] = 1.0
    zero = np.zeros((BOX,) * 3)

    def one(signal: np.ndarray) -> DifferenceMap:
        return DifferenceMap.of(reconstruction(signal, rng, 0.5), reconstruction(zero, rng, 0.5))

    z = np.array([one(zero).agreement_with(one(zero), expected) for _ in range(60)])
    assert abs(z.mean()) < 0.5
    assert z.std() == pytest.approx(1, abs=0.35)
    assert one(expected).agreement_with(one(expected), expected) > 10
    assert one(expected).agreement_with(one(-expected), expected) < -10


# --- selections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_states_are_borne_out_and_halves_of_equal_particles_are_not(seed, tmp_path):
    run = linear_run(tmp_path / "two", seed, n_states=2, mass_difference=0.2)
    found = validate_selection(run, lower_half(run), seed=seed)
    assert found.independent_z > 10
    assert found.difference_scale == pytest.approx(1, abs=0.4)
    assert found.difference_error < 0.1
    assert found.verdict.startswith("borne out: the reconstructed difference is 1.")
    curves = found.curves.iloc[2:6]
    assert (curves["fsc_difference"] > 0.6).all()
    assert (curves["fsc_selected"] + curves["fsc_others"] > 2 * curves["fsc_crossed"]).all()
    equal = linear_run(tmp_path / "equal", seed, n_states=1)
    found = validate_selection(equal, lower_half(equal), seed=seed)
    assert abs(found.independent_z) < 3
    assert found.verdict.startswith("not borne out: ")


def test_noise_that_particles_were_chosen_by_fools_the_first_test_only(tmp_path):
    """Equal particles chosen by a component that fits their noise: reconstructions differ, other tilts do not."""
    run = linear_run(tmp_path, 0, n_states=1)
    found = validate_selection(run, lower_half(run))
    assert found.difference_scale > 5 * found.difference_error
    assert abs(found.independent_z) < 3


def test_reconstructions_are_those_of_the_two_sets(two_states, tmp_path):
    ids = lower_half(two_states)
    found = validate_selection(two_states, ids, independent=False)
    particles, options = two_states.particles, two_states.preprocess_config
    wanted = td.backproject(particles.subset(ids), preprocess=options).full
    np.testing.assert_allclose(found.selected.full, wanted, atol=1e-5)
    wanted = td.backproject(particles.subset(ids, invert=True), preprocess=options).full
    np.testing.assert_allclose(found.others.full, wanted, atol=1e-5)
    assert found.decoded.names == ["selected", "others"]
    assert list(found.decoded.labels["n_particles"]) == [100, 100]
    assert np.isnan(found.independent_z)
    assert "was not tested" in found.verdict
    written = found.save(tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix() for p in written} >= {
        "selected/full.mrc", "others/half_2.mrc", "decoded/selected.mrc", "fsc.csv", "verdict.txt",
    }  # fmt: skip
    assert all(p.is_file() for p in written)
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "out")


def test_true_states_have_their_true_difference(two_states):
    truth = read_truth(two_states.folder.parent / "data")["label"]
    ids = truth.index[truth == truth.iloc[0]]
    assert validate_selection(two_states, ids).independent_z > 10


def test_small_and_unknown_selections_are_refused(two_states):
    ids = lower_half(two_states)
    with pytest.raises(ValueError, match="Got a selection of 7 of 200 particles, expected at least 8"):
        validate_selection(two_states, ids[:7])
    with pytest.raises(ValueError, match="Got a selection of 0 of 200"):
        validate_selection(two_states, [])
    with pytest.raises(ValueError, match="Got a selection of 195"):
        validate_selection(two_states, two_states.particles.particle_id[5:])
    with pytest.raises(KeyError, match="not among the 200 particles"):
        validate_selection(two_states, ["nobody"])
