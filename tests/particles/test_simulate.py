from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging.ctf import contrast_transfer
from tomodrgn.imaging.dose import exposure_weights
from tomodrgn.imaging.fourier import half_frequencies_xy, irfft2_centred, pad_centred, rfft2_centred
from tomodrgn.io.mrc import read_header, read_volume
from tomodrgn.io.star import read_star
from tomodrgn.particles.acquisition import Acquisition, draw_acquisition
from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.phantom import Phantom
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.particles.read import read_particles
from tomodrgn.particles.simulate import read_truth, simulate_particles, truth_volumes
from tomodrgn.particles.simulated_images import Conformations, Imager, SimulationOptions

SMALL: dict[str, Any] = {"n_particles": 24, "n_tilts": 7, "n_tomograms": 3, "seed": 7}
PIXEL = 8.0


def simulate(folder: Path, **options: Any) -> ParticleSet:
    return simulate_particles(folder, **{**SMALL, **options})


def images(particles: ParticleSet) -> np.ndarray:
    return TiltDataset(particles).read_images(np.arange(particles.n_images))


def by_dose(particles: ParticleSet) -> np.ndarray:
    """Image rows in an order that all dialects share."""
    return np.lexsort((particles.dose_e_per_angst2, particles.image_particle))


@pytest.fixture(scope="module")
def warp(tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    return simulate(tmp_path_factory.mktemp("warp"))


@pytest.fixture(scope="module")
def warptools(tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    return simulate(tmp_path_factory.mktemp("warptools"), dialect="warptools")


# --- geometry of an image ------------------------------------------------------------------------------------------

TURN_Y = Rotation.from_euler("y", 90, degrees=True).as_matrix()


def one_image(
    blob_px: tuple[float, float, float],
    *,
    euler_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tilt_rotation: np.ndarray | None = None,
    origin_px: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[np.ndarray, Acquisition]:
    """Image of one blob, without CTF, exposure filter and noise; and the acquisition."""
    drawn = draw_acquisition(
        n_particles=1, n_tilts=1, n_tomograms=1, missing_tilts=0, max_tilt_deg=0.0, dose_per_tilt_e_per_angst2=0.0,
        defocus_range_angst=(1e4, 1e4), shift_std_px=0.0, box_px=32, pixel_size_angst=PIXEL, has_ctf=False,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    acquisition = dataclasses.replace(
        drawn,
        euler_deg=np.array([euler_deg], dtype=np.float64),
        origin_angst=np.array([origin_px]) * PIXEL,
        tilt_rotations=(np.eye(3) if tilt_rotation is None else tilt_rotation)[None, None],
    )
    phantom = Phantom(
        centres_angst=np.array([blob_px]) * PIXEL, sigmas_angst=np.array([1.3 * PIXEL]), masses=np.ones((1, 1)),
        moving=np.array([False]), hinge_angst=np.zeros(3), hinge_axis=np.array([0.0, 0.0, 1.0]), swing_deg=0.0,
        radius_angst=80.0,
    )  # fmt: skip
    imager = Imager(
        simulation_options(), phantom, acquisition, Conformations(label=np.array([0]), parameter=np.array([0.5]))
    )
    image = imager.images(np.array([0]), np.random.default_rng(0))[0].astype(np.float32)
    return image, acquisition


def simulation_options(**changes: Any) -> SimulationOptions:
    options: dict[str, Any] = {
        "n_particles": 1, "n_tilts": 2, "box_px": 32, "pixel_size_angst": PIXEL, "n_states": 1,
        "mass_difference": 0.15, "continuous": False, "snr": 1.0, "max_tilt_deg": 0.0, "n_tomograms": 1,
        "missing_tilts": 0, "dose_per_tilt_e_per_angst2": 0.0, "defocus_range_angst": (1e4, 1e4), "dialect": "warp",
        "premultiplied": None, "shift_std_px": 0.0, "noise": False, "ctf": False, "radiation_damage": False,
        "extra_columns": False, "seed": 0,
    }  # fmt: skip
    return SimulationOptions(**{**options, **changes})


@pytest.mark.parametrize(
    ("case", "expected_xy"),
    [
        ({"blob_px": (5, 0, 0)}, (5, 0)),
        ({"blob_px": (0, 3, 0)}, (0, 3)),
        ({"blob_px": (0, 0, 6)}, (0, 0)),
        # rot = 90: RELION's matrix takes y to x, and x to -y.
        ({"blob_px": (0, 4, 0), "euler_deg": (90, 0, 0)}, (4, 0)),
        ({"blob_px": (4, 0, 0), "euler_deg": (90, 0, 0)}, (0, -4)),
        ({"blob_px": (4, 0, 0), "euler_deg": (0, 0, 90)}, (0, -4)),
        # tilt = 90: its matrix, Ry(-90), takes x to z, and z to -x.
        ({"blob_px": (4, 1, 0), "euler_deg": (0, 90, 0)}, (0, 1)),
        ({"blob_px": (0, 1, 4), "euler_deg": (0, 90, 0)}, (-4, 1)),
        # The specimen turned by +90 about y: z is seen along x.
        ({"blob_px": (0, 2, 5), "tilt_rotation": TURN_Y}, (5, 2)),
        # First the particle's pose (y to x), then the tilt (x to -z): seen end on.
        ({"blob_px": (0, 4, 0), "euler_deg": (90, 0, 0), "tilt_rotation": TURN_Y}, (0, 0)),
        # RELION origins: the particle lies at -origin; moving the image by +origin centres it.
        ({"blob_px": (0, 0, 0), "origin_px": (2, -3, 0)}, (-2, 3)),
        ({"blob_px": (5, 0, 0), "origin_px": (2, 0, 0)}, (3, 0)),
        ({"blob_px": (0, 0, 0), "origin_px": (0, 1, 4), "tilt_rotation": TURN_Y}, (-4, -1)),
    ],
)
def test_blob_lands_where_geometry_says(case: dict[str, Any], expected_xy: tuple[int, int]) -> None:
    image, _ = one_image(**case)
    row, column = divmod(int(image.argmax()), 32)
    assert (column - 16, row - 16) == expected_xy


def test_moving_the_image_by_the_shift_centres_the_particle() -> None:
    image, acquisition = one_image((0, 0, 0), origin_px=(3, -2, 1))
    x, y = acquisition.shifts_px[0].round().astype(int)
    assert int(np.roll(image, (y, x), (0, 1)).argmax()) == 16 * 32 + 16


def test_depth_adds_to_defocus_as_in_warp() -> None:
    _, drawn = one_image((0, 0, 0))
    centre = drawn.size_px / 2
    for tilt_rotation, offset_px, added in ((np.eye(3), (0, 0, 10), 10), (TURN_Y, (10, 0, 0), -10)):
        acquisition = dataclasses.replace(
            drawn,
            has_ctf=True,
            defocus=np.array([[[20000.0, 19000.0, 30.0]]]),
            tilt_rotations=tilt_rotation[None, None],
            coordinate_px=(centre + np.array(offset_px))[None],
        )
        np.testing.assert_allclose(
            acquisition.image_defocus, [[20000 + added * PIXEL, 19000 + added * PIXEL, 30.0]], atol=1e-6
        )


# --- the files agree with the images -------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_default_flags_of_the_reader_undo_the_images(tmp_path: Path, dialect: str, *, premultiplied: bool) -> None:
    """Preprocessed images are transfer x slice of the truth, the slice summed voxel by voxel."""
    particles = simulate(tmp_path, dialect=dialect, premultiplied=premultiplied, noise=False, shift_std_px=1.5)
    assert particles.ctf_premultiplied is premultiplied
    truth, volumes = read_truth(tmp_path), truth_volumes(tmp_path)
    preprocess = Preprocessor(particles, PreprocessConfig(window=False, max_radius=0.35), scale=1.0)
    for i in (0, 23):
        rows = particles.images_of([i])
        batch = preprocess(TiltDataset(particles).read_batch(np.array([i]), [rows]))
        density = volumes[f"state_{truth.loc[particles.particle_id[i], 'label']}"]
        inside = density > 1e-6 * density.max()
        xyz = np.argwhere(inside).T[::-1] - 16
        k = np.einsum("pc,icj->ipj", batch.frequencies.numpy(), particles.rotations[rows][:, :2])
        slices = np.stack([np.exp(-2j * np.pi * (one @ xyz)) @ density[inside] for one in k]) / 32
        expected = slices * batch.transfer.numpy()
        values = batch.values.numpy()
        for found, wanted in zip(values, expected, strict=True):
            slope = np.vdot(wanted, found).real / np.vdot(wanted, wanted).real
            assert slope == pytest.approx(1.0, abs=0.02)
            assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)


def test_dialects_of_one_seed_hold_the_same_data(tmp_path: Path) -> None:
    one = simulate(tmp_path / "a", dialect="warp", noise=False)
    two = simulate(tmp_path / "b", dialect="warptools", noise=False, premultiplied=False)
    a, b = by_dose(one), by_dose(two)
    assert one.tilt_counts.tolist() == two.tilt_counts.tolist()
    np.testing.assert_allclose(one.rotations[a], two.rotations[b], atol=2e-6)
    np.testing.assert_allclose(one.shifts_px[a], two.shifts_px[b], atol=1e-4)
    np.testing.assert_array_equal(one.dose_e_per_angst2[a], two.dose_e_per_angst2[b])
    np.testing.assert_allclose(one.tilt_deg[a], np.abs(two.tilt_deg[b]), atol=1e-2)
    assert one.ctf is not None
    assert two.ctf is not None
    np.testing.assert_allclose(one.ctf.table()[a], two.ctf.table()[b], atol=0.05)
    np.testing.assert_array_equal(images(one)[a], images(two)[b])
    assert [name.removesuffix(".tomostar") for name in two.tomogram] == one.tomogram.tolist()
    assert one.half_set.tolist() == two.half_set.tolist()
    columns = ["label", "parameter", "n_tilts"]
    np.testing.assert_array_equal(read_truth(tmp_path / "a")[columns], read_truth(tmp_path / "b")[columns])
    for name, volume in truth_volumes(tmp_path / "a").items():
        np.testing.assert_array_equal(volume, truth_volumes(tmp_path / "b")[name])


def test_tilts_of_the_two_dialects_have_their_signs_and_orders(warp: ParticleSet, warptools: ParticleSet) -> None:
    for particles, ordered in ((warp, warp.dose_e_per_angst2), (warptools, warptools.tilt_deg)):
        within = np.diff(particles.image_particle) == 0
        assert (np.diff(ordered)[within] > 0).all()
    assert warptools.tilt_deg.min() == pytest.approx(-60)
    assert warptools.tilt_deg.max() == pytest.approx(60)


def test_exposure_is_dose_symmetric(warptools: ParticleSet) -> None:
    pairs = set(zip(warptools.tilt_deg.round().tolist(), warptools.dose_e_per_angst2.tolist(), strict=True))
    assert pairs == {(0, 0), (20, 3), (-20, 6), (40, 9), (-40, 12), (60, 15), (-60, 18)}


def test_tilt_counts_vary_within_what_was_asked(tmp_path: Path, warp: ParticleSet) -> None:
    assert set(warp.tilt_counts.tolist()) == {5, 6, 7}
    full = simulate(tmp_path, missing_tilts=0)
    assert set(full.tilt_counts.tolist()) == {7}


def test_missing_tilts_leave_two(tmp_path: Path) -> None:
    assert set(simulate(tmp_path, n_tilts=4, missing_tilts=5).tilt_counts.tolist()) == {2, 3, 4}


def test_warp_stacks_hold_a_tomogram_and_warptools_stacks_a_particle(warp: ParticleSet, warptools: ParticleSet) -> None:
    assert len(warp.stack_paths) == 3
    assert len(warptools.stack_paths) == len(warptools) == 24
    for particles in (warp, warptools):
        slices = [read_header(path).shape_zyx[0] for path in particles.stack_paths]
        assert sum(slices) == particles.n_images
        assert {str(read_header(path).dtype) for path in particles.stack_paths} == {"float16"}
        assert {read_header(path).voxel_size_angst for path in particles.stack_paths} == {PIXEL}
        assert len(set(particles.tomogram)) == 3


def test_warptools_masks_are_zeros_and_ones_of_the_tilt_table(warptools: ParticleSet) -> None:
    masks = [
        [int(cell) for cell in text.strip("[]").split(",")] for text in warptools.source.rows["rlnTomoVisibleFrames"]
    ]
    assert {len(mask) for mask in masks} == {7}
    assert set(itertools.chain(*masks)) == {0, 1}
    assert [sum(mask) for mask in masks] == warptools.tilt_counts.tolist()


def test_warptools_scale_is_the_cosine_of_the_tilt(warptools: ParticleSet) -> None:
    np.testing.assert_allclose(warptools.image_scale, np.cos(np.deg2rad(warptools.tilt_deg)), atol=1e-5)


# --- strength of signal and noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [0.02, 0.05, 1.0])
def test_signal_to_noise_ratio_is_the_one_asked_for(tmp_path: Path, snr: float) -> None:
    clean = images(simulate(tmp_path / "clean", snr=snr, noise=False, n_particles=40))
    noise = images(simulate(tmp_path / "noisy", snr=snr, n_particles=40)) - clean
    radius = np.linalg.norm(np.indices((32, 32)) - 16, axis=0)
    signal = clean[:, radius <= 0.65 * 16].var(axis=1).mean()
    assert signal / noise.var() == pytest.approx(snr, rel=0.1)
    assert noise.var() == pytest.approx(1.0, rel=0.02)


def test_noise_is_white(tmp_path: Path) -> None:
    noise = images(simulate(tmp_path / "noisy")) - images(simulate(tmp_path / "clean", noise=False))
    power = rfft2_centred(torch.from_numpy(noise)).abs().square().mean(dim=0)[:, 1:-1]
    radius = half_frequencies_xy(32).norm(dim=-1)[:, 1:-1]
    assert float(power[radius < 0.2].mean()) == pytest.approx(float(power[radius > 0.35].mean()), rel=0.05)


def multiplied(recorded: torch.Tensor, particles: ParticleSet) -> np.ndarray:
    """Padded images x CTF x exposure filter x cosine of the tilt, cropped: by what the files say of each image."""
    assert particles.ctf is not None
    per_angst = half_frequencies_xy(64) / PIXEL
    table = torch.from_numpy(np.array(particles.ctf.table()))
    dose = torch.from_numpy(np.array(particles.dose_e_per_angst2))
    factor = contrast_transfer(per_angst.reshape(-1, 2), table)
    factor = factor * exposure_weights(per_angst.norm(dim=-1).flatten(), dose, table[:, 4])
    factor = factor.reshape(-1, 64, 33) * torch.from_numpy(np.cos(np.deg2rad(particles.tilt_deg)))[:, None, None]
    return pad_centred(irfft2_centred(rfft2_centred(recorded) * factor, 64), 32).numpy()


def test_premultiplied_is_transfer_times_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warptools: ParticleSet
) -> None:
    """Signal and noise alike: WarpTools images are the recorded ones times CTF, exposure filter and tilt weight."""
    kept: list[torch.Tensor] = []
    filtered = Imager._filtered

    def keep(self: Imager, given: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
        kept.append(given)
        return filtered(self, given, transfer)

    monkeypatch.setattr(Imager, "_filtered", keep)
    again = simulate(tmp_path, dialect="warptools")
    # The last images of all were multiplied last: those of the last tomogram.
    last = kept[-1]
    expected = multiplied(last, again.subset_images(np.arange(again.n_images) >= again.n_images - len(last)))
    np.testing.assert_allclose(images(again)[-len(last) :], expected, atol=2e-3)
    np.testing.assert_array_equal(images(again), images(warptools))
    # What was multiplied is the plain images, before they were cropped.
    plain = simulate(tmp_path / "plain", dialect="warptools", premultiplied=False)
    np.testing.assert_allclose(images(plain)[-len(last) :], -pad_centred(last, 32).numpy(), atol=4e-3)


def test_radiation_damage_takes_detail_from_late_images(tmp_path: Path) -> None:
    fresh = simulate(tmp_path / "fresh", noise=False, radiation_damage=False, dose_per_tilt_e_per_angst2=15.0)
    faded = simulate(tmp_path / "faded", noise=False, dose_per_tilt_e_per_angst2=15.0)
    radius = half_frequencies_xy(32).norm(dim=-1)
    powers = [rfft2_centred(torch.from_numpy(images(p))).abs().square() for p in (fresh, faded)]
    late = fresh.dose_e_per_angst2 == 90
    first = fresh.dose_e_per_angst2 == 0
    high = (radius > 0.25) & (radius < 0.4)
    # Each set has a gain of its own, so that both have the same signal-to-noise ratio: compare with the first images.
    ratio = [float(p[late][:, high].sum() / p[first][:, high].sum()) for p in powers]
    assert ratio[1] < 0.3 * ratio[0]


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_without_ctf_the_transfer_is_minus_one(tmp_path: Path, dialect: str) -> None:
    particles = simulate(tmp_path, dialect=dialect, ctf=False)
    assert particles.ctf is not None
    table = torch.from_numpy(np.array(particles.ctf.table()))
    transfer = contrast_transfer(half_frequencies_xy(32).reshape(-1, 2) / PIXEL, table)
    torch.testing.assert_close(transfer, torch.full_like(transfer, -1.0), atol=1e-5, rtol=0)


# --- the truth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_truth_names_the_state_that_each_particle_shows(tmp_path: Path, dialect: str) -> None:
    """Without CTF the sum of an image is the mass of the state, and masses differ."""
    particles = simulate(
        tmp_path, dialect=dialect, ctf=False, noise=False, radiation_damage=False, premultiplied=False, snr=20.0
    )
    truth, volumes = read_truth(tmp_path), truth_volumes(tmp_path)
    assert sorted(truth.index) == sorted(particles.particle_id)
    truth = truth.loc[particles.particle_id]
    assert truth["n_tilts"].tolist() == particles.tilt_counts.tolist()
    assert truth["label"].value_counts().to_dict() == {0: 8, 1: 8, 2: 8}
    assert set(truth["parameter"]) == {0.5}
    mass = np.array([volumes[f"state_{label}"].sum() for label in truth["label"]])[particles.image_particle]
    np.testing.assert_allclose(images(particles).sum(axis=(1, 2)), mass, rtol=0.02)


def test_consensus_is_the_mean_over_particles(tmp_path: Path) -> None:
    simulate(tmp_path, n_particles=20)
    volumes = truth_volumes(tmp_path)
    labels = read_truth(tmp_path)["label"]
    assert labels.value_counts().sort_index().tolist() == [7, 7, 6]
    mean = np.mean([volumes[f"state_{label}"] for label in labels], axis=0)
    np.testing.assert_allclose(volumes["consensus"], mean, atol=1e-6 * volumes["state_2"].max() + 1e-7)
    assert set(volumes) == {"state_0", "state_1", "state_2", "consensus"}
    assert read_volume(tmp_path / "truth/consensus.mrc")[1] == PIXEL


def test_continuous_motion_has_a_parameter_for_each_particle(tmp_path: Path) -> None:
    simulate(tmp_path / "moving", continuous=True, n_particles=100, n_tilts=3)
    simulate(tmp_path / "still", n_particles=100, n_tilts=3)
    parameter = read_truth(tmp_path / "moving")["parameter"]
    assert parameter.between(0, 1).all()
    assert 0.23 < parameter.std() < 0.35
    moving, still = truth_volumes(tmp_path / "moving"), truth_volumes(tmp_path / "still")
    assert sorted(set(moving) - set(still)) == ["motion_000", "motion_025", "motion_050", "motion_075", "motion_100"]
    np.testing.assert_allclose(moving["motion_050"], moving["state_0"])
    # The mean over the motion is blurred where the domain is, and nowhere else.
    gain = moving["state_0"].sum() / still["state_0"].sum()
    change = np.abs(moving["consensus"] - gain * still["consensus"])
    swept = sum(np.abs(moving[f"motion_{t:03d}"] - moving["state_0"]) for t in (0, 25, 75, 100))
    assert change.max() > 0.05 * moving["consensus"].max()
    assert change[swept < 1e-3 * swept.max()].max() < 1e-2 * moving["consensus"].max()


def test_image_shows_the_position_of_the_motion() -> None:
    _, acquisition = one_image((0, 0, 0))
    acquisition = dataclasses.replace(acquisition, euler_deg=np.zeros((1, 3)))
    phantom = Phantom(
        centres_angst=np.array([[0.0, 0, 0], [6 * PIXEL, 0, 0]]), sigmas_angst=np.full(2, 1.3 * PIXEL),
        masses=np.array([[0.1, 1.0]]), moving=np.array([False, True]), hinge_angst=np.zeros(3),
        hinge_axis=np.array([0.0, 0.0, 1.0]), swing_deg=180.0, radius_angst=80.0,
    )  # fmt: skip
    for parameter, expected in ((0.0, (0, -6)), (0.5, (6, 0)), (1.0, (0, 6))):
        conformation = Conformations(label=np.array([0]), parameter=np.array([parameter]))
        imager = Imager(simulation_options(), phantom, acquisition, conformation)
        image = imager.images(np.array([0]), np.random.default_rng(0))[0].astype(np.float32)
        row, column = divmod(int(image.argmax()), 32)
        assert (column - 16, row - 16) == expected
        np.testing.assert_allclose(image, imager.volume(0, parameter).sum(axis=0), atol=2e-3 * image.max())


@pytest.mark.parametrize("read", [read_truth, truth_volumes])
def test_folder_without_truth_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"without truth/.*expected the folder of a simulation"):
        read(tmp_path)


# --- files ---------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of all files; of MRC files without the text labels, where the time of writing stands."""
    found = {}
    for path in sorted(folder.rglob("*.*")):
        data = path.read_bytes()
        found[str(path.relative_to(folder))] = data[:220] + data[1024:] if ".mrc" in path.suffix else data
    return found


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_one_seed_writes_the_same_bytes(tmp_path: Path, dialect: str) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        simulate(tmp_path / name, seed=seed, dialect=dialect, n_particles=8, n_tilts=5, missing_tilts=0)
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    fixed = {name for name in first if first[name] == other.get(name)}
    assert fixed <= {"particles_optimisation_set.star"}


def test_user_columns_reach_the_frame(warp: ParticleSet, warptools: ParticleSet) -> None:
    for particles in (warp, warptools):
        frame = particles.frame()
        assert frame["userGridSquare"].str.startswith("square_").all()
        assert frame.groupby("tomogram")["userGridSquare"].nunique().eq(1).all()
        assert frame["userIceThickness"].dtype == np.float64
        assert frame["userIceThickness"].nunique() > 10
        assert sorted(set(particles.half_set.tolist())) == [1, 2]


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_user_columns_can_be_left_out(tmp_path: Path, dialect: str) -> None:
    particles = simulate(tmp_path, dialect=dialect, extra_columns=False)
    assert not {"rlnRandomSubset", "userGridSquare", "userIceThickness"} & set(particles.source.rows)
    assert set(particles.half_set.tolist()) == {0}


@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_set_can_be_moved_and_read_again(tmp_path: Path, dialect: str) -> None:
    before = simulate(tmp_path / "here", dialect=dialect)
    (tmp_path / "here").rename(tmp_path / "there")
    after = read_particles(tmp_path / "there" / before.source.path.name)
    assert after.particle_id.tolist() == before.particle_id.tolist()
    assert images(after).shape == (before.n_images, 32, 32)


def test_warptools_tables_have_the_blocks_of_a_real_export(shared_data: Path, warptools: ParticleSet) -> None:
    """Columns of the oldest form, and those that were added since."""
    stem = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12"
    real = read_star(shared_data / f"warptools/{stem}.star")
    tomograms = read_star(shared_data / f"warptools/{stem}_tomograms.star")
    for name in ("general", "optics", "particles"):
        assert set(real[name]) <= set(warptools.source.particles[name]), name
    made = warptools.source.tomograms
    assert set(tomograms["global"]) <= set(made["global"])
    assert set(next(iter(list(tomograms.values())[1:]))) <= set(made["TS_001.tomostar"])


def test_warp_table_has_the_columns_of_a_real_file(shared_data: Path, warp: ParticleSet) -> None:
    real = next(iter(read_star(shared_data / "formats/warp_v1_m/sta_testing.star").values()))
    assert set(real) <= set(warp.source.rows)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    simulate(tmp_path, n_particles=6, n_tilts=3)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"exists already.*overwrite=True"):
        simulate(tmp_path, n_particles=6, n_tilts=3)
    assert contents(tmp_path) == before
    again = simulate(tmp_path, n_particles=4, n_tilts=3, dialect="warptools", overwrite=True)
    assert len(again) == 4
    series = {name.removesuffix(".tomostar") for name in again.tomogram}
    assert {path.name for path in (tmp_path / "particleseries").iterdir()} == series


def test_overwriting_spares_a_folder_with_other_files(tmp_path: Path) -> None:
    simulate(tmp_path, n_particles=4, n_tilts=3)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="nothing but an earlier simulation"):
        simulate(tmp_path, n_particles=4, n_tilts=3, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "particles.star").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_particles": 0}, "n_particles 0, expected 1 or more"),
        ({"n_tilts": 1}, "n_tilts 1, expected 2 or more"),
        ({"n_states": 0}, "n_states 0"),
        ({"missing_tilts": -1}, "missing_tilts -1, expected 0 or more"),
        ({"snr": 0.0}, r"snr 0\.0, expected above 0"),
        ({"max_tilt_deg": 90.0}, r"max_tilt_deg 90\.0, expected from 0 to 85"),
        ({"defocus_range_angst": (3e4, 1e4)}, "defocus_range_angst"),
        ({"box_px": 33}, "33 px"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"n_tilts": 2}, {"n_particles": 1}, {"n_states": 1}, {"max_tilt_deg": 0.0}])
@pytest.mark.parametrize("dialect", ["warp", "warptools"])
def test_smallest_sets_can_be_made(tmp_path: Path, dialect: str, options: dict[str, Any]) -> None:
    particles = simulate(tmp_path, dialect=dialect, **options)
    assert len(particles) == options.get("n_particles", 24)
    assert np.isfinite(images(particles)).all()
