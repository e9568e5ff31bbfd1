"""Raw images to Fourier batches: poses, shifts, signs, transfer and weights against closed forms of blobs."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.particles.hand_made import blob_images, blob_transform, ctf_parameters, particle_set
from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import fourier, grid
from tomodrgn.imaging.ctf import contrast_transfer
from tomodrgn.imaging.dose import exposure_weights
from tomodrgn.imaging.pose import axis_rotation, euler_to_rotation
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor, estimate_scale

BOX, PIXEL = 32, 5.0
PLAIN = PreprocessConfig(window=False, exposure_weighting=False, tilt_weighting=False)


def batch_of(particles: ParticleSet, config: PreprocessConfig = PLAIN, **options: float) -> FourierBatch:
    """All particles in one batch, unscaled unless told otherwise."""
    raw = TiltDataset(particles).read_batch(*sample_batches(particles, 100)[0])
    return Preprocessor(particles, config, **({"scale": 1.0} | options))(raw)


def values(batch: FourierBatch) -> np.ndarray:
    return batch.values.numpy()


# --- poses and shifts -------------------------------------------------------------------------------------------------


class Blobs:
    """A particle of a few blobs at known places, imaged under given rotations and off the centre by given shifts."""

    def __init__(self, seed: int, n_images: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.centres, self.heights, self.width = rng.uniform(-5, 5, (4, 3)), rng.uniform(50, 100, 4), 1.5
        self.rotations = euler_to_rotation(*rng.uniform(-180, 180, (3, n_images)))
        self.shifts = rng.uniform(-3, 3, (n_images, 2))

    def images(self) -> np.ndarray:
        """Where blobs land: R r, less the shift that would bring the particle to the centre."""
        seen = np.einsum("icj,bj->ibc", self.rotations[:, :2], self.centres) - self.shifts[:, None]
        return blob_images(seen, self.heights, BOX, self.width)

    def transform(self, coordinates: torch.Tensor) -> np.ndarray:
        """The particle's own transform, in the units of an orthonormal image transform."""
        return blob_transform(coordinates.double().numpy(), self.centres, self.heights, self.width) / BOX

    def particles(self, folder: Path, images: np.ndarray | None = None, **changes: object) -> ParticleSet:
        images = self.images() if images is None else images
        posed = {"rotations": self.rotations, "shifts_px": self.shifts, "pixel_size_angst": PIXEL}
        return particle_set(folder, [images.astype(np.float32)], **(posed | changes))


@pytest.mark.parametrize("seed", range(3))
def test_images_of_any_pose_and_shift_are_slices_of_one_particle(tmp_path, seed):
    blobs = Blobs(seed)
    points = batch_of(blobs.particles(tmp_path)).points()
    assert len(points) == 5 * len(grid.HalfGrid.of_image(BOX))
    target = torch.view_as_complex(points.target.contiguous()).numpy()
    expected = blobs.transform(points.coordinates)
    assert np.abs(expected).max() > 3
    np.testing.assert_allclose(target, expected, atol=2e-3)


def test_shift_by_hand(tmp_path):
    """A point 3 px right of and 2 px above the centre (y down the rows): RELION's origin is (-3, +2)."""
    image = np.zeros((1, BOX, BOX), np.float32)
    image[0, BOX // 2 - 2, BOX // 2 + 3] = BOX
    particles = particle_set(tmp_path, [image], shifts_px=np.array([[-3.0, 2.0]]))
    # The image's mean is taken out before the transform, which changes DC alone: all else is that of a centred point.
    np.testing.assert_allclose(values(batch_of(particles)), 1.0, atol=1e-5)
    wrong = dataclasses.replace(particles, shifts_px=np.array([[3.0, -2.0]]))
    assert np.abs(values(batch_of(wrong)) - 1).max() > 1


def test_tilt_by_hand(tmp_path):
    """R = T A. A (rot 90) takes a blob at y = 6 to x = 6; T, 60 degrees about y, foreshortens x to 3 in the image."""
    a = euler_to_rotation(np.array([90.0]), np.array([0.0]), np.array([0.0]))
    rotation = axis_rotation("y", 60.0) @ a
    images = blob_images(np.array([[[3.0, 0.0]]]), np.array([100.0]), BOX, 1.5)
    points = batch_of(particle_set(tmp_path, [images.astype(np.float32)], rotations=rotation)).points()
    target = torch.view_as_complex(points.target.contiguous()).numpy()
    expected = blob_transform(points.coordinates.double().numpy(), np.array([[0.0, 6.0, 0.0]]), np.array([100.0]), 1.5)
    np.testing.assert_allclose(target, expected / BOX, atol=2e-3)


def test_all_points_are_in_the_canonical_half_and_belong_to_their_particle(tmp_path):
    blobs = Blobs(4, n_images=6)
    images = blobs.images()
    particles = blobs.particles(tmp_path)
    two = particle_set(
        tmp_path / "two", [images[:2].astype(np.float32), images[2:].astype(np.float32)],
        rotations=blobs.rotations, shifts_px=blobs.shifts,
    )  # fmt: skip
    points = batch_of(two).points()
    assert grid.in_canonical_half(points.coordinates).all()
    kept = len(grid.HalfGrid.of_image(BOX))
    assert points.owner.bincount().tolist() == [2 * kept, 4 * kept]
    unflipped = grid.slice_coordinates(batch_of(particles).frequencies, torch.tensor(particles.rotations)).reshape(
        -1, 3
    )
    flipped = (points.coordinates != unflipped).any(dim=1)
    assert 0.3 < flipped.float().mean() < 0.7
    torch.testing.assert_close(points.coordinates[flipped], -unflipped[flipped])
    raw = torch.view_as_real(batch_of(particles).values).reshape(-1, 2)
    torch.testing.assert_close(points.target[flipped], raw[flipped] * torch.tensor([1.0, -1.0]))


def test_points_split_and_join(tmp_path):
    points = batch_of(Blobs(0).particles(tmp_path)).points()
    pieces = points.split(500)
    assert [len(p) for p in pieces[:-1]] == [500] * (len(pieces) - 1)
    assert 0 < len(pieces[-1]) <= 500
    for name in ("coordinates", "owner", "target", "transfer", "weights"):
        torch.testing.assert_close(torch.cat([getattr(p, name) for p in pieces]), getattr(points, name))


# --- CTF, exposure, contrast ------------------------------------------------------------------------------------------

DOSE = np.array([0.0, 4.0, 9.0, 15.0, 22.0])
TILT = np.array([0.0, 20.0, -20.0, 40.0, -60.0])
SCALE = np.array([1.0, 0.94, 0.9, 0.77, 0.5])


class Recorded(Blobs):
    """The blobs as recorded: times CTF, and as upstream software may have changed them."""

    def __init__(self, *, premultiplied: bool, dose_weighted: bool, invert: bool, fading: bool = False) -> None:
        """Dose-weighted images fade with the exposure, and others where `fading`."""
        super().__init__(seed=1)
        self.flags = {"ctf_premultiplied": premultiplied, "dose_weighted": dose_weighted, "invert": invert}
        k = fourier.half_frequencies_xy(BOX) / PIXEL
        table = torch.tensor(ctf_parameters(5).table())
        factor = contrast_transfer(k.reshape(-1, 2), table).reshape(5, BOX, -1)
        faded = exposure_weights(k.norm(dim=-1).flatten(), torch.tensor(DOSE).float(), table[:, 4]).view_as(factor)
        self.factor = factor.square() if premultiplied else factor
        if dose_weighted:
            self.factor = self.factor * faded * torch.tensor(SCALE).float()[:, None, None]
        if dose_weighted or fading:
            self.factor = self.factor * faded
        if invert:
            self.factor = -self.factor

    def images(self) -> np.ndarray:
        half = fourier.rfft2_centred(torch.from_numpy(super().images()).float())
        return fourier.irfft2_centred(half * self.factor, BOX).numpy()

    def batch(self, folder: Path, config: PreprocessConfig = PLAIN, tilt_deg: np.ndarray = TILT) -> FourierBatch:
        known = {"ctf": ctf_parameters(5), "dose_e_per_angst2": DOSE, "tilt_deg": tilt_deg, "image_scale": SCALE}
        return batch_of(self.particles(folder, **known, **self.flags), config)


FLAGS = [(p, w, i) for p in (False, True) for w in (False, True) for i in (False, True)]


@pytest.mark.parametrize(("premultiplied", "dose_weighted", "invert"), FLAGS)
def test_transfer_is_what_lies_between_the_particle_and_the_images(tmp_path, premultiplied, dose_weighted, invert):
    recorded = Recorded(premultiplied=premultiplied, dose_weighted=dose_weighted, invert=invert)
    points = recorded.batch(tmp_path).points()
    target = torch.view_as_complex(points.target.contiguous()).numpy()
    np.testing.assert_allclose(target, points.transfer.numpy() * recorded.transform(points.coordinates), atol=3e-3)


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("dose_weighted", [False, True])
def test_gridding_terms_recover_the_particle(tmp_path, premultiplied, dose_weighted):
    """The quotient of the terms is the particle."""
    recorded = Recorded(premultiplied=premultiplied, dose_weighted=dose_weighted, invert=True, fading=True)
    batch = recorded.batch(tmp_path, PreprocessConfig(window=False))
    numerator, denominator = batch.gridding_terms()
    xyz = grid.slice_coordinates(batch.frequencies, batch.rotations).reshape(-1, 3)
    expected = recorded.transform(xyz).reshape(denominator.shape)
    assert (denominator > 1e-3).float().mean() > 0.5
    np.testing.assert_allclose(numerator.numpy(), denominator.numpy() * expected, atol=3e-3)


def test_gridding_terms_are_the_same_whatever_the_images_were_multiplied_by(tmp_path):
    config = PreprocessConfig(window=False)
    found = []
    for premultiplied, dose_weighted in itertools.product((False, True), repeat=2):
        flags = {"premultiplied": premultiplied, "dose_weighted": dose_weighted, "invert": False, "fading": True}
        # Weights of the tilts: their cosine as recorded, the scale where it was multiplied in; made equal here.
        recorded = Recorded(**flags)
        found.append(recorded.batch(tmp_path / str(flags), config, tilt_deg=np.rad2deg(np.arccos(SCALE))))
    for batch in found:
        numerator, denominator = batch.gridding_terms()
        weights = batch.kept * torch.tensor(SCALE).float()[:, None]
        torch.testing.assert_close(denominator, (batch.ctf * batch.exposure).square() * weights)
        np.testing.assert_allclose(numerator.numpy(), found[0].gridding_terms()[0].numpy(), atol=2e-3)


def test_weights_are_the_cosine_of_the_tilt_where_the_exposure_is_not_too_high(tmp_path):
    batch = Recorded(premultiplied=False, dose_weighted=False, invert=False).batch(
        tmp_path, PreprocessConfig(window=False)
    )
    radius = batch.frequencies.norm(dim=-1).numpy() / PIXEL
    critical = 0.24499 * radius**-1.6649 + 2.8141
    kept = DOSE[:, None] <= 2.51284 * critical
    np.testing.assert_allclose(batch.exposure.numpy(), np.exp(-DOSE[:, None] / (2 * critical)), rtol=1e-4)
    np.testing.assert_array_equal(batch.kept.numpy(), kept)
    np.testing.assert_allclose(batch.loss_weights, np.cos(np.deg2rad(TILT))[:, None] * kept, rtol=1e-6)


def test_dose_weighted_images_carry_their_weights(tmp_path):
    recorded = Recorded(premultiplied=True, dose_weighted=True, invert=False)
    batch = recorded.batch(tmp_path, PreprocessConfig(window=False))
    np.testing.assert_allclose(batch.image_weights, SCALE, rtol=1e-6)
    torch.testing.assert_close(batch.loss_weights, batch.kept)
    expected = (batch.ctf * batch.exposure).square() * batch.image_weights[:, None]
    torch.testing.assert_close(batch.transfer, expected)


def test_weights_can_be_left_out(tmp_path):
    recorded = Recorded(premultiplied=False, dose_weighted=False, invert=False)
    assert (recorded.batch(tmp_path / "none").loss_weights == 1).all()
    tilts = recorded.batch(tmp_path / "tilt", PLAIN.model_copy(update={"tilt_weighting": True})).loss_weights
    np.testing.assert_allclose(tilts[:, 0].numpy(), np.cos(np.deg2rad(TILT)), rtol=1e-5)
    assert (tilts == tilts[:, :1]).all()


@pytest.mark.parametrize("dose_weighted", [False, True])
def test_overexposed_frequencies_have_no_weight_anywhere(tmp_path, dose_weighted):
    dose = np.array([0.0, 200.0])
    images = np.random.default_rng(0).normal(size=(2, BOX, BOX)).astype(np.float32)
    known = {"dose_e_per_angst2": dose, "ctf": ctf_parameters(2), "dose_weighted": dose_weighted}
    batch = batch_of(particle_set(tmp_path, [images], **known), PreprocessConfig(window=False))
    gone = batch.kept == 0
    assert not gone[0].any()
    assert 0 < gone[1].float().mean() < 1
    numerator, denominator = batch.gridding_terms()
    for array in (batch.loss_weights, batch.encoder_input.abs().sum(dim=-1), numerator.abs(), denominator):
        assert (array[gone] == 0).all()
        assert (array[~gone] != 0).float().mean() > 0.99
    assert len(batch.points()) == int((~gone).sum())
    assert (batch.points().weights > 0).all()


def test_voltage_of_the_exposure_filter_is_that_of_the_image(tmp_path):
    images = np.random.default_rng(0).normal(size=(1, BOX, BOX)).astype(np.float32)
    exposed = {"dose_e_per_angst2": np.array([20.0])}
    config = PreprocessConfig(window=False)
    at_300, at_200, unknown = (
        batch_of(particle_set(tmp_path, [images], ctf=ctf, **exposed), config).exposure
        for ctf in (ctf_parameters(1), ctf_parameters(1, voltage_kv=200.0), None)
    )
    torch.testing.assert_close(at_200, at_300 ** (1 / 0.8))
    torch.testing.assert_close(unknown, at_300)


def test_encoder_sees_images_with_the_sign_of_the_ctf_taken_out(tmp_path):
    batch = Recorded(premultiplied=False, dose_weighted=False, invert=False).batch(tmp_path / "plain")
    assert (batch.ctf < 0).float().mean() > 0.2
    np.testing.assert_allclose(
        torch.view_as_complex(batch.encoder_input).numpy(), values(batch) * np.sign(batch.ctf.numpy())
    )
    premultiplied = Recorded(premultiplied=True, dose_weighted=False, invert=False).batch(tmp_path / "premultiplied")
    np.testing.assert_array_equal(torch.view_as_complex(premultiplied.encoder_input).numpy(), values(premultiplied))


def test_images_without_ctf_have_ctf_one(tmp_path):
    batch = batch_of(Blobs(0).particles(tmp_path))
    assert (batch.ctf == 1).all()
    assert (batch.transfer == 1).all()


def test_taken_images_keep_their_own_numbers(tmp_path):
    batch = Recorded(premultiplied=False, dose_weighted=False, invert=False).batch(tmp_path, PreprocessConfig())
    keep = torch.tensor([True, False, False, True, True])
    taken = batch.take_images(keep)
    assert (taken.n_particles, taken.owner.tolist()) == (1, [0, 0, 0])
    for name in (
        "values",
        "ctf",
        "exposure",
        "image_weights",
        "kept",
        "rotations",
        "transfer",
        "loss_weights",
        "encoder_input",
    ):
        torch.testing.assert_close(getattr(taken, name), getattr(batch, name)[keep])


# --- pixels -----------------------------------------------------------------------------------------------------------


def whole_numbers(limit: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-limit, limit, (3, BOX, BOX))


@pytest.mark.parametrize(("dtype", "limit"), [(np.float16, 2048), (np.int8, 127), (np.int16, 30000)])
def test_every_stored_type_gives_the_result_of_float32(tmp_path, dtype, limit):
    images = whole_numbers(limit)
    stored = batch_of(particle_set(tmp_path / "stored", [images.astype(dtype)]), PreprocessConfig())
    plain = batch_of(particle_set(tmp_path / "plain", [images.astype(np.float32)]), PreprocessConfig())
    torch.testing.assert_close(stored.values, plain.values, rtol=0, atol=0)


def test_large_float16_pixels_do_not_overflow(tmp_path):
    images = np.full((1, BOX, BOX), 60000.0, np.float16)
    images[0, ::2] = 50016.0
    found = values(batch_of(particle_set(tmp_path, [images])))
    expected = fourier.rfft2_centred(torch.from_numpy(images.astype(np.float32)))
    kept = grid.HalfGrid.of_image(BOX)
    np.testing.assert_allclose(found[0], expected.flatten()[kept.index].numpy(), atol=0.1)


def test_padded_lattice_equals_the_plain_one_at_common_frequencies(tmp_path):
    blobs = Blobs(2)
    particles = blobs.particles(tmp_path)
    config = PreprocessConfig(exposure_weighting=False)
    plain, padded = batch_of(particles, config), batch_of(particles, config, padding=2)
    where = {tuple(k): i for i, k in enumerate((padded.frequencies * BOX * 2).round().long().tolist())}
    common = [where[2 * x, 2 * y] for x, y in (plain.frequencies * BOX).round().long().tolist()]
    assert len(padded.frequencies) > 3.9 * len(plain.frequencies)
    torch.testing.assert_close(padded.values[:, common], plain.values, atol=1e-4, rtol=1e-4)


def test_window_takes_away_what_lies_outside_and_the_mean_before(tmp_path):
    """The corners hold strong contrast: with a window they are gone; a constant added changes nothing."""
    r = grid.radii(BOX, 2).numpy() / (BOX / 2)
    inside = np.random.default_rng(0).normal(size=(BOX, BOX)) * (r < 0.75)
    inside -= inside.mean()
    corners = np.where(r > 0.95, 50.0 * np.sign(np.random.default_rng(1).normal(size=r.shape)), 0)
    corners -= np.where(r > 0.95, corners.sum() / (r > 0.95).sum(), 0)
    stacks = [x[None].astype(np.float32) for x in (inside, inside + corners, inside + 7)]
    clean, dirty, raised = values(batch_of(particle_set(tmp_path, stacks), PreprocessConfig()))
    np.testing.assert_allclose(dirty, clean, atol=1e-4)
    np.testing.assert_allclose(raised, clean, atol=1e-4)
    without = values(batch_of(particle_set(tmp_path, stacks)))
    assert np.abs(without[1] - without[0]).max() > 10


def test_highest_frequency_is_followed(tmp_path):
    particles = Blobs(0).particles(tmp_path)
    batch = batch_of(particles, PLAIN.model_copy(update={"max_radius": 0.2}))
    assert float(batch.frequencies.norm(dim=-1).max()) < 0.2
    torch.testing.assert_close(batch.frequencies, grid.HalfGrid.of_image(BOX, max_radius=0.2).frequencies)
    with pytest.raises(ValueError, match="Raise max_radius"):
        batch_of(particles, PLAIN.model_copy(update={"max_radius": 0.01}))


# --- scale ------------------------------------------------------------------------------------------------------------


def noise_set(folder: Path, n: int = 40, sigma: float = 3.0) -> ParticleSet:
    rng = np.random.default_rng(0)
    return particle_set(folder, [rng.normal(20, sigma, (1, BOX, BOX)).astype(np.float32) for _ in range(n)])


def test_scale_is_the_standard_deviation_of_white_noise(tmp_path):
    assert estimate_scale(noise_set(tmp_path), PLAIN) == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("config", [PreprocessConfig(), PreprocessConfig(max_radius=0.3), PLAIN])
def test_scaled_values_have_standard_deviation_one(tmp_path, config):
    particles = noise_set(tmp_path)
    batch = batch_of(particles, config, scale=estimate_scale(particles, config))
    assert float(batch.values.abs().square().mean()) == pytest.approx(1.0, abs=1e-3)


def test_scale_of_some_images_follows_the_seed(tmp_path):
    particles = noise_set(tmp_path)
    first, again, other = (estimate_scale(particles, PLAIN, n_images=3, seed=s) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(("first_pixel", "words"), [(5.0, "constant images"), (1e30, "too large")])
def test_scale_of_unusable_images_is_refused(tmp_path, first_pixel, words):
    images = np.full((2, 8, 8), 5.0, np.float32)
    images[:, 0, 0] = first_pixel
    particles = particle_set(tmp_path, [images])
    with pytest.raises(ValueError, match=words):
        estimate_scale(particles, PLAIN)
