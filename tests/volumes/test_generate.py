"""Latents to maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import tomodrgn as td
from tomodrgn.imaging import fourier, grid
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.training.train import train
from tomodrgn.volumes.decoder import MapDecoder, decode_volumes

TINY = td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory):
    return train(
        small_particles,
        tmp_path_factory.mktemp("generate") / "run",
        model=TINY,
        preprocess=td.PreprocessConfig(max_radius=0.3),
        training=td.TrainConfig(epochs=1, batch_size=4),
    )


@pytest.fixture(scope="module")
def model():
    return TiltSeriesVae(TINY.model_copy(update={"consensus": False}), 16, seed=0).eval()


def test_slice_of_a_decoded_map_is_what_the_decoder_says_of_an_image(model):
    """The map's projection has the decoder's values, in the units of the images: scale and centring are right."""
    volume = decode_volumes(model, np.zeros((1, 2), np.float32), box_px=16, scale=3.0)[0]
    projection = torch.from_numpy(volume.sum(axis=0))  # along z: the slice kz = 0
    kept = grid.HalfGrid.of_image(16)
    observed = fourier.rfft2_centred(projection).flatten()[kept.index]
    xyz = torch.cat([kept.frequencies, torch.zeros(len(kept), 1)], dim=1)
    expected = 3.0 * torch.view_as_complex(
        model.decode(xyz, torch.zeros(len(kept), dtype=torch.long), torch.zeros(1, 2))
    )
    torch.testing.assert_close(observed, expected.detach(), atol=1e-4, rtol=1e-4)


def test_many_points_give_the_same_maps_as_one_at_a_time(model):
    points = np.random.default_rng(0).normal(size=(18, 2)).astype(np.float32)
    together = decode_volumes(model, points, box_px=16, points_per_chunk=100)
    single = np.concatenate([decode_volumes(model, points[i : i + 1], box_px=16) for i in (0, 17)])
    np.testing.assert_allclose(together[[0, 17]], single, atol=1e-5)
    assert np.abs(together[0] - together[17]).max() > 1e-3


def test_what_a_decoder_remembers_changes_no_map(run, monkeypatch):
    first, second = np.random.default_rng(0).normal(size=(2, 1, 2)).astype(np.float32)
    decoder = MapDecoder(run)
    maps = decoder(first), decoder(second), decoder(first)
    monkeypatch.setattr("tomodrgn.volumes.decoder.REMEMBERED_BYTES", 0)
    forgetful = MapDecoder(run)
    for found, point in zip(maps, (first, second, first), strict=True):
        np.testing.assert_array_equal(found, forgetful(point))
    known = [each._decode.keywords["known"] for each in (decoder, forgetful)]
    assert (len(known[0]) > 0, known[1]) == (True, None)


def test_smaller_box_is_the_same_map_on_larger_voxels(run):
    point = np.zeros((1, 2), np.float32)
    full, half = td.generate_volumes(run, point), td.generate_volumes(run, point, box_px=16)
    assert (full.voxel_size_angst, half.voxel_size_angst) == (8.0, 16.0)
    low = fourier.rfft3_centred(torch.from_numpy(full.maps[0]))
    radius = fourier.half_frequencies_xyz(32).norm(dim=-1) * 32
    smoothed = fourier.irfft3_centred(torch.where(radius < 8, low, 0), 32).numpy()
    np.testing.assert_allclose(half.maps[0], smoothed[::2, ::2, ::2], atol=1e-4 * np.abs(smoothed).max() + 1e-6)


def test_an_unknown_device_is_refused(run):
    with pytest.raises(ValueError, match="Got device 'foo', expected 'cpu', 'cuda' or 'auto'"):
        td.generate_volumes(run, np.zeros((1, 2), np.float32), device="foo")


def test_flip_mirrors_and_lowpass_smooths(run):
    point = np.zeros((1, 2), np.float32)
    plain = td.generate_volumes(run, point)
    flipped = td.generate_volumes(run, point, flip=True)
    np.testing.assert_array_equal(flipped.maps[0, 15], plain.maps[0, 17])
    smooth = td.generate_volumes(run, point, lowpass_angst=80.0)
    assert np.abs(np.diff(smooth.maps, axis=-1)).mean() < np.abs(np.diff(plain.maps, axis=-1)).mean()


def test_bfactor_scales_each_frequency(run):
    point = np.zeros((1, 2), np.float32)
    plain, sharp = (td.generate_volumes(run, point, bfactor_angst2=b).maps[0] for b in (0.0, -400.0))
    before, after = (fourier.rfft3_centred(torch.from_numpy(m)) for m in (plain, sharp))
    s = fourier.half_frequencies_xyz(32).norm(dim=-1) / 8.0
    np.testing.assert_allclose(after, before * torch.exp(100 * s**2), atol=1e-4 * float(after.abs().max()))
    with pytest.raises(ValueError, match="Got a B-factor of nan"):
        td.generate_volumes(run, point, bfactor_angst2=np.nan)


def test_inverted_maps_have_the_other_sign_however_many_are_decoded_at_once(run):
    points = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    plain = td.generate_volumes(run, points)
    inverted = td.generate_volumes(run, points, invert=True, batch_size=2)
    np.testing.assert_allclose(inverted.maps, -plain.maps, atol=1e-5 * np.abs(plain.maps).max())
    with pytest.raises(ValueError, match=r"Got 0 maps at once \(--batch-size\)"):
        td.generate_volumes(run, points, batch_size=0)


def test_saved_maps_open_again_with_their_labels(run, tmp_path):
    points = pd.DataFrame({"z1": [0.0, 1.0], "z2": [0.5, 0.0], "particle_id": ["001", "x"]}, index=["a", "b"])
    stack = td.generate_volumes(run, points)
    stack.save(tmp_path / "maps")
    again = td.VolumeStack.open(tmp_path / "maps")
    np.testing.assert_array_equal(again.maps, stack.maps)
    assert again.voxel_size_angst == pytest.approx(8.0)
    assert again.names == ["a", "b"]
    assert again.labels["particle_id"].tolist() == ["001", "x"]
    with pytest.raises(FileExistsError, match="--overwrite"):
        stack.save(tmp_path / "maps")


def test_wrong_points_and_boxes_are_refused(run):
    with pytest.raises(ValueError, match=r"expected \(v, 2\)"):
        td.generate_volumes(run, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="z1"):
        td.generate_volumes(run, pd.DataFrame({"z1": [0.0]}))
    with pytest.raises(ValueError, match="'much' as z2 of point here in the table of points, expected a finite number"):
        td.generate_volumes(run, pd.DataFrame({"z1": [0.0], "z2": ["much"]}, index=["here"]))
    for box in (15, 64, 6):
        with pytest.raises(ValueError, match="even number from 8 to"):
            td.generate_volumes(run, np.zeros((1, 2)), box_px=box)
