"""Flags planted wrong are named from the images alone, right ones are confirmed; what cannot be told is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.imaging import grid
from tomodrgn.volumes.assumptions import AssumptionCheck, compare_assumptions
from tomodrgn.volumes.likelihood import MODELS, ImageModel, held_out_likelihood, quick_maps

FLAGS = ("ctf_premultiplied", "dose_weighted", "invert")
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed{seed}")
def seed(request) -> int:
    return request.param


@pytest.fixture(scope="module", params=[("warp", False), ("warp", True), ("warptools", True)])
def truly_read(request, seed, tmp_path_factory) -> td.ParticleSet:
    """Noisy images of every kind, read as they were made."""
    dialect, premultiplied = request.param
    folder = tmp_path_factory.mktemp("made") / "data"
    made = td.simulate_particles(
        folder, n_particles=40, n_tilts=7, snr=0.05, dialect=dialect, premultiplied=premultiplied, seed=seed
    )
    assert (made.ctf_premultiplied, made.invert) == (premultiplied, not premultiplied)
    return made


@pytest.fixture(scope="module")
def real_set(shared_data) -> td.ParticleSet:
    name = "warptools/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    return td.read_particles(shared_data / name)


def flipped(particles: td.ParticleSet, *names: str) -> td.ParticleSet:
    return dataclasses.replace(particles, **{name: not getattr(particles, name) for name in names})


def contradicted(check: AssumptionCheck) -> set[str]:
    return set(check.table.index[check.table["verdict"] == "disagrees"])


def flags_of(particles: td.ParticleSet) -> dict[str, bool]:
    return {name: getattr(particles, name) for name in FLAGS}


def test_right_flags_are_confirmed(truly_read, seed):
    check = compare_assumptions(truly_read, seed=seed)
    assert check.table["verdict"].to_dict() == dict.fromkeys(FLAGS, "agrees"), check.table
    assert check.warnings == []
    assert check.settings == flags_of(truly_read)
    assert check.verdict.startswith("The images agree with the CTF premultiplication, dose weighting and contrast")
    # Leads are what the model of the images promises.
    leads = check.table.loc[["ctf_premultiplied", "dose_weighted"], "margin"]
    assert leads.between(0.6, 1.6).all(), leads


@pytest.mark.parametrize("wrong", [("ctf_premultiplied",), ("dose_weighted", "invert")], ids="+".join)
def test_wrong_flags_are_named(truly_read, seed, wrong):
    check = compare_assumptions(flipped(truly_read, *wrong), seed=seed)
    assert contradicted(check) == set(wrong), check.table
    assert check.settings == flags_of(truly_read)
    assert len(check.warnings) == len(wrong)
    for name, warning in zip([name for name in FLAGS if name in wrong], check.warnings, strict=True):
        assert f"{name}={getattr(truly_read, name)}" in warning
        option = f"{'--' if getattr(truly_read, name) else '--no-'}{name.replace('_', '-')}"
        assert f"({option})" in warning
    assert check.verdict.startswith("The images contradict")


def test_the_real_set_was_read_right(real_set):
    check = compare_assumptions(real_set, seed=0)
    assert check.table["verdict"].to_dict() == dict.fromkeys(FLAGS, "agrees"), check.table
    assert check.warnings == []
    assert (check.n_particles, check.fsc["fsc"].iloc[1:8].min() > 0.3) == (40, True)


@pytest.mark.parametrize(("seed", "wrong"), list(zip(SEEDS, FLAGS, strict=True)))
def test_wrong_flags_of_the_real_set_are_named_from_a_third_of_its_tilts(real_set, seed, wrong):
    some = real_set.subset_images(np.arange(real_set.n_images) % 3 == 0)
    check = compare_assumptions(flipped(some, wrong), seed=seed)
    expected = {name: "disagrees" if name == wrong else "agrees" for name in FLAGS}
    assert check.table["verdict"].to_dict() == expected, check.table
    assert len(check.warnings) == 1
    assert check.settings == flags_of(real_set)


@pytest.fixture(scope="module")
def one_set(tmp_path_factory) -> td.ParticleSet:
    return td.simulate_particles(tmp_path_factory.mktemp("one") / "data", n_particles=40, n_tilts=7, snr=0.05, seed=7)


def test_what_images_do_not_tell_is_said(one_set, tmp_path, seed):
    """Equal exposures, no CTF, and no molecule in the noise: each leaves its question open, whatever was chosen.

    Seeds take turns with the flag as it is and flipped.
    """
    still = dataclasses.replace(one_set, dose_e_per_angst2=np.zeros(one_set.n_images))
    without_ctf = dataclasses.replace(one_set, ctf=None)
    empty = td.simulate_particles(tmp_path / "empty", n_particles=32, n_tilts=5, snr=1e-5, seed=seed)
    for particles, name in ((still, "dose_weighted"), (without_ctf, "ctf_premultiplied"), (empty, "invert")):
        given = flipped(particles, name) if seed % 2 else particles
        check = compare_assumptions(given, seed=seed)
        assert check.table.loc[name, "verdict"] == "cannot tell", check.table
        assert check.table.loc[name, "best"] is None
        assert check.settings[name] == getattr(given, name)
        assert "Not decided by the images" in check.verdict
        assert check.best_setting.endswith(f"(as chosen, not decided by the images: {name}).") or name == "invert"


def test_noise_without_a_molecule_is_warned_of(tmp_path, seed):
    empty = td.simulate_particles(tmp_path, n_particles=24, n_tilts=5, snr=1e-6, seed=seed)
    apart = np.random.default_rng(seed).uniform(-10, 10, (empty.n_images, 2))
    check = compare_assumptions(dataclasses.replace(empty, shifts_px=apart), seed=seed)
    assert not check.half_maps_agree, check.fsc
    assert "Check poses, shifts and pixel size" in check.warnings[-1]


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_images_without_noise_are_never_judged_wrong(tmp_path, dialect, seed):
    clean = td.simulate_particles(tmp_path, n_particles=24, n_tilts=5, noise=False, dialect=dialect, seed=seed)
    assert contradicted(compare_assumptions(clean, seed=seed)) == set()


def test_large_boxes_are_judged_at_low_frequencies(tmp_path):
    large = td.simulate_particles(
        tmp_path, n_particles=20, n_tilts=6, box_px=64, pixel_size_angst=5.0, snr=0.05, seed=4
    )
    check = compare_assumptions(flipped(large, "ctf_premultiplied", "invert"))
    assert contradicted(check) == {"ctf_premultiplied", "invert"}, check.table
    assert len(check.fsc) == 25
    assert check.fsc["resolution_angst"].iloc[-1] == pytest.approx(2 * 5.0 * 64 / 48)


def test_the_same_seed_gives_the_same_answer(one_set):
    first, again, other = (compare_assumptions(one_set, n_particles=24, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.fsc, again.fsc)
    assert first.table.equals(again.table)
    assert not first.fsc["fsc"].equals(other.fsc["fsc"])


def test_too_few_particles_are_refused(one_set):
    with pytest.raises(ValueError, match="Got 5 particles, expected at least 16"):
        compare_assumptions(one_set.subset(one_set.particle_id[:5]))
    with pytest.raises(ValueError, match="Got 8 particles"):
        compare_assumptions(one_set, n_particles=8)


def test_quick_maps_are_those_of_backprojection(one_set):
    """Both halves together, under the right model, agree with the full backprojection."""
    groups = np.arange(len(one_set)) % 4
    (maps,) = quick_maps(one_set, groups, (ImageModel(False, False),)).values()
    known = td.backproject(dataclasses.replace(one_set, invert=False))
    mask = grid.soft_spherical_mask(32, 0.7).numpy()
    fsc = td.fourier_shell_correlation(maps.halves().mean(axis=0), known.full, mask)
    assert fsc[1:8].min() > 0.97, fsc
    assert not np.allclose(maps.halves(without=1)[1], maps.halves()[1])
    np.testing.assert_allclose(maps.halves(without=1)[0], maps.halves()[0], atol=1e-6)


def test_held_out_images_do_not_know_their_own_noise(tmp_path):
    """In pure noise no model may lead by fitting: likelihoods of unmultiplied noise are at most those of no map."""
    noise = td.simulate_particles(tmp_path, n_particles=40, n_tilts=7, snr=1e-6, seed=2)
    groups = np.arange(len(noise)) % 8
    found = held_out_likelihood(noise, groups, quick_maps(noise, groups))
    right = found[ImageModel(False, False)]
    # Complex Gaussian noise of the fitted variance: -log v - 1 in the mean, but for one gain fitted for each image.
    expected = -float(((right.variance.log() + 1) * right.kept).sum())
    assert right.per_particle.sum() == pytest.approx(expected, rel=0.01)
    assert max(MODELS, key=lambda model: found[model].per_particle.sum()) == ImageModel(False, False)
