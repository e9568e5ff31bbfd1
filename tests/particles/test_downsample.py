"""Fourier-cropped images, on the fly and on disk: the same numbers, the same pixels, and no other cell changed."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.particles.hand_made import particle_set
from tests.particles.small_sets import WarpSeries, WarpToolsSet
from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import fourier
from tomodrgn.io import mrc
from tomodrgn.io.star import read_star
from tomodrgn.particles import downsample
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.downsample import DEPENDENT_COLUMNS, downsample_particles, with_larger_pixels
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import FourierBatch, Preprocessor, estimate_scale
from tomodrgn.particles.read import read_particles, read_source, write_particles, write_source
from tomodrgn.particles.simulate import simulate_particles

SMALL: dict[str, Any] = {"n_particles": 10, "n_tilts": 7, "n_tomograms": 3, "box_px": 24, "seed": 4}
FLAT = PreprocessConfig(window=False)


@pytest.fixture(scope="module", params=["warp", "warptools"])
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ParticleSet:
    return simulate_particles(tmp_path_factory.mktemp("whole") / "data", dialect=request.param, **SMALL)


def images(particles: ParticleSet) -> np.ndarray:
    return TiltDataset(particles).read_images(np.arange(particles.n_images))


def cropped_images(particles: ParticleSet) -> np.ndarray:
    return fourier.fourier_crop(torch.from_numpy(images(particles)), particles.box_px).numpy()


def batch_of(particles: ParticleSet, config: PreprocessConfig, **options: float) -> FourierBatch:
    raw = TiltDataset(particles).read_batch(*sample_batches(particles, 100)[0])
    return Preprocessor(particles, config, **({"scale": 1.0} | options))(raw)


def coefficients(batch: FourierBatch) -> np.ndarray:
    return torch.view_as_real(batch.values).numpy()


def assert_same_numbers(found: ParticleSet, expected: ParticleSet) -> None:
    """All but the pixels: what a text of a few digits and another order of two products leave."""
    for field in dataclasses.fields(ParticleSet):
        if field.name not in ("source", "stack_paths", "stack_index", "stack_box_px", "ctf"):
            a, b = getattr(found, field.name), getattr(expected, field.name)
            if np.asarray(a).dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6, err_msg=field.name)
            else:
                np.testing.assert_array_equal(a, b, err_msg=field.name)
    assert found.ctf is not None
    assert expected.ctf is not None
    np.testing.assert_allclose(found.ctf.table(), expected.ctf.table(), rtol=1e-6)


def stars_below(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.star"))


def changed_columns(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> set[str]:
    """Columns of any block of which a cell differs as text; blocks, columns and rows must be the same ones."""
    assert list(before) == list(after)
    found = set()
    for name, block in before.items():
        assert list(block) == list(after[name])
        assert len(block) == len(after[name])
        found |= {column for column in block if block[column].tolist() != after[name][column].tolist()}
    return found


# --- on the fly -------------------------------------------------------------------------------------------------------


def test_numbers_follow_the_box(simulated: ParticleSet) -> None:
    small = simulated.cropped_to(16)
    assert (small.box_px, small.stack_box_px, small.pixel_size_angst) == (16, 24, 12.0)
    np.testing.assert_allclose(small.shifts_px * 1.5, simulated.shifts_px, rtol=1e-6)
    np.testing.assert_array_equal(small.rotations, simulated.rotations)
    assert small.ctf is simulated.ctf
    few = small.subset(small.particle_id[2:5])
    assert (few.box_px, few.stack_box_px) == (16, 24)
    assert small.cropped_to(12).pixel_size_angst == 16.0
    back = small.cropped_to(24)
    assert (back.box_px, back.pixel_size_angst) == (24, 8.0)
    assert simulated.cropped_to(24) is simulated


def test_read_at_a_box_and_read_again(simulated: ParticleSet, tmp_path: Path) -> None:
    small = read_particles(simulated.source.path, box_px=16)
    assert_same_numbers(small, simulated.cropped_to(16))
    write_source(small, tmp_path)
    again = read_source(tmp_path, source_dir=simulated.source.path.parent, box_px=16)
    assert_same_numbers(again, small)


@pytest.mark.parametrize("box", [15, 6, 0, -16, 26])
def test_impossible_boxes_are_refused(simulated: ParticleSet, box: int) -> None:
    with pytest.raises(ValueError, match=rf"Got box {box} px .*an even number from 8 to 24, the side of the images"):
        read_particles(simulated.source.path, box_px=box)


def test_box_of_unopened_stacks_is_not_known(warp: WarpSeries) -> None:
    with pytest.raises(ValueError, match="check_stacks=True"):
        read_particles(warp.path, box_px=8, check_stacks=False)


def test_coefficients_are_those_of_the_full_images(simulated: ParticleSet) -> None:
    """Without a window, each kept frequency of the cropped images has the value it has in the full ones, times 16 / 24.

    Its phases (shifts), CTF and weights are the same too, as they are about the same lengths in angstrom.
    """
    whole, small = batch_of(simulated, FLAT), batch_of(simulated.cropped_to(16), FLAT)
    per_field = {tuple(k): i for i, k in enumerate((whole.frequencies * 24).round().int().tolist())}
    index = [per_field[tuple(k)] for k in (small.frequencies * 16).round().int().tolist()]
    assert len(index) > 60
    np.testing.assert_allclose(coefficients(small), coefficients(whole)[:, index] * (16 / 24), atol=2e-4, rtol=1e-4)
    for name in ("ctf", "exposure", "kept", "transfer"):
        torch.testing.assert_close(getattr(small, name), getattr(whole, name)[:, index], atol=1e-4, rtol=1e-4)


def test_scale_is_that_of_cropped_images(simulated: ParticleSet) -> None:
    small = simulated.cropped_to(16)
    scale = estimate_scale(small, FLAT)
    values = coefficients(batch_of(small, FLAT, scale=scale))
    assert np.sqrt(np.square(values).sum(axis=-1).mean()) == pytest.approx(1.0, rel=1e-4)


# --- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [PreprocessConfig(), FLAT])
@pytest.mark.parametrize("box", [16, 14])
def test_downsampled_on_disk_is_cropped_on_the_fly(
    simulated: ParticleSet, tmp_path: Path, config: PreprocessConfig, box: int
) -> None:
    found = downsample_particles(simulated, tmp_path / "small", box_px=box)
    expected = simulated.cropped_to(box)
    assert (found.box_px, found.stack_box_px) == (box, box)
    assert_same_numbers(found, expected)
    assert mrc.open_stack(found.stack_paths[0]).dtype == np.float16
    np.testing.assert_allclose(images(found), cropped_images(expected), rtol=1e-3, atol=1e-4)
    on_disk, on_the_fly = batch_of(found, config), batch_of(expected, config)
    np.testing.assert_allclose(coefficients(on_disk), coefficients(on_the_fly), atol=5e-3)
    np.testing.assert_allclose(on_disk.transfer, on_the_fly.transfer, atol=1e-4)
    assert estimate_scale(found, config) == pytest.approx(estimate_scale(expected, config), rel=1e-4)
    assert_same_numbers(read_particles(found.source.path), found)


def test_only_the_columns_of_the_pixel_size_change(simulated: ParticleSet, tmp_path: Path) -> None:
    found = downsample_particles(simulated, tmp_path / "small", box_px=16)
    expected = {
        "warp": {"rlnDetectorPixelSize", "rlnOriginX", "rlnOriginY"},
        "warptools": {"rlnImagePixelSize", "rlnImageSize", "rlnTomoSubtomogramBinning", "rlnCoordinateX",
                      "rlnCoordinateY", "rlnCoordinateZ"},
    }[simulated.dialect]  # fmt: skip
    assert changed_columns(simulated.source.particles, found.source.particles) == expected
    assert changed_columns(simulated.source.tomograms, found.source.tomograms) == set()
    header = mrc.read_header(found.stack_paths[0])
    assert header.voxel_size_angst == pytest.approx(12.0)
    relative = [path.relative_to(found.source.path.parent) for path in found.stack_paths]
    assert relative == [path.relative_to(simulated.source.path.parent) for path in simulated.stack_paths]


def test_header_statistics_are_those_of_the_images(simulated: ParticleSet, tmp_path: Path) -> None:
    found = downsample_particles(simulated, tmp_path / "small", box_px=16)
    with mrcfile.open(found.stack_paths[0]) as file:
        data, header = file.data.astype(np.float64), file.header
        stated = [float(header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
        np.testing.assert_allclose(stated, [data.min(), data.max(), data.mean(), data.std()], rtol=1e-3, atol=1e-5)
    assert mrcfile.validate(found.stack_paths[0])


def test_real_set(real_set: Path, tmp_path: Path) -> None:
    whole = read_particles(real_set)
    found = downsample_particles(whole, tmp_path / "small", box_px=20)
    assert (found.n_images, found.pixel_size_angst) == (1430, pytest.approx(19.2))
    assert_same_numbers(found, whole.cropped_to(20))
    np.testing.assert_allclose(images(found), cropped_images(whole.cropped_to(20)), rtol=1e-3, atol=2e-3)
    assert mrc.read_header(found.stack_paths[0]).shape_zyx[0] == 37, "stacks of all tilts stay so"


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4", ">f2", ">f4"])
def test_every_kind_of_stack(tmp_path: Path, dtype: str) -> None:
    """Half precision stays (mode 12), all else becomes float32 (mode 2)."""
    rng = np.random.default_rng(0)
    series = WarpSeries(tmp_path / "data")
    for name, count in (("001", 3), ("T_2", 2)):
        values = rng.integers(0, 100, (count, 16, 16)).astype(dtype)
        with mrcfile.new(series.folder / f"particleseries/{name}.mrcs", overwrite=True) as file:
            file.set_data(values)
            file.set_image_stack()
    particles = read_particles(series.path)
    found = downsample_particles(particles, tmp_path / "small", box_px=8)
    kept = np.dtype(dtype).newbyteorder("=") == np.float16
    assert {mrc.open_stack(path).dtype for path in found.stack_paths} == {np.dtype(np.float16 if kept else np.float32)}
    expected = cropped_images(particles.cropped_to(8))
    np.testing.assert_allclose(images(found), expected, rtol=1e-3 if kept else 1e-6, atol=1e-5)
    assert expected.std() > 5


def test_value_beyond_half_precision_is_refused_and_no_star_written(tmp_path: Path) -> None:
    series = WarpSeries(tmp_path / "data")
    values = np.zeros((3, 16, 16), np.float16)
    values[1, 4:10, 4:10] = 65504  # overshoots when its edges are cut
    for name in ("001", "T_2"):
        mrc.write_stack(series.folder / f"particleseries/{name}.mrcs", values, 5.0, overwrite=True)
    with pytest.raises(OverflowError, match=r"image 2 for .*001\.mrcs, expected at most 65504 for float16.*mode 2"):
        downsample_particles(read_particles(series.path), tmp_path / "small", box_px=8)
    assert stars_below(tmp_path / "small") == []


class Sixteen(WarpToolsSet):
    """With images of 16 px: the image of tilt t is t everywhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.particles["optics"]["rlnImageSize"] = "16"
        self.write()

    def write_stacks(self, *, compact: bool = False) -> None:
        super().write_stacks(compact=compact)
        for path in self.folder.rglob("*.mrcs"):
            small = np.array(mrc.open_stack(path))
            mrc.write_stack(path, np.tile(small, (1, 4, 4)), 10.0, overwrite=True)


@pytest.mark.parametrize("compact", [False, True])
def test_stacks_of_all_tilts_and_of_visible_ones(
    tmp_path: Path,
    compact: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = Sixteen(tmp_path / "data")
    data.write_stacks(compact=compact)
    particles = read_particles(data.path)
    found = downsample_particles(particles, tmp_path / "small", box_px=8)
    assert_same_numbers(found, particles.cropped_to(8))
    assert images(found)[:, 3, 3].tolist() == [0, 2, 3, 0, 1, 2, 3, 1, 2]
    some = particles.subset(["001/2", "T_2/1"])
    caplog.clear()
    few = downsample_particles(some, tmp_path / "few", box_px=8)
    assert not any("not found from" in message for message in caplog.messages)
    assert_same_numbers(few, dataclasses.replace(some.cropped_to(8), source_row=few.source_row))
    assert len(list((tmp_path / "few").rglob("*.mrcs"))) == 2, "stacks of other particles are left out"
    without_a_tilt = particles.subset_images(np.arange(9) != 1)
    if compact:
        with pytest.raises(ValueError, match="visible images only"):
            downsample_particles(without_a_tilt, tmp_path / "cut", box_px=8)
        assert not (tmp_path / "cut").exists()
    else:
        cut = downsample_particles(without_a_tilt, tmp_path / "cut", box_px=8)
        assert images(cut)[:, 3, 3].tolist() == [0, 3, 0, 1, 2, 3, 1, 2]


def test_rows_of_one_stack_in_any_order_and_filtered(simulated: ParticleSet, tmp_path: Path) -> None:
    """Rows shuffled (images of a Warp series, particles of a WarpTools set), then some particles of each stack."""
    source = simulated.source
    rows = source.rows.sample(frac=1, random_state=3)
    rows.attrs.update(source.rows.attrs)
    order = rows.index.to_numpy()
    shuffled = dataclasses.replace(
        simulated,
        source=dataclasses.replace(source, particles={**source.particles, source.particles_block: rows}),
        source_row=np.argsort(order)[simulated.source_row],
    )
    folder = source.path.parent
    write_particles(shuffled, tmp_path / "shuffled.star")
    particles = read_particles(tmp_path / "shuffled.star", datadir=folder)
    kept = particles.subset(particles.particle_id[[0, 3, 8]])
    found = downsample_particles(kept, tmp_path / "small", box_px=16)
    np.testing.assert_allclose(images(found), cropped_images(kept.cropped_to(16)), rtol=1e-3, atol=1e-4)
    assert found.particle_id.tolist() == kept.particle_id.tolist()
    np.testing.assert_array_equal(found.slice_index, kept.slice_index)


def test_stacks_elsewhere_keep_their_folders(tmp_path: Path) -> None:
    """Named by a full path, and found by datadir: below the new folder they stand as below their common folder."""
    series = WarpSeries(tmp_path / "star")
    for name, count in (("one/001", 3), ("two/T_2", 2)):
        mrc.write_stack(tmp_path / f"far/{name}.mrcs", np.ones((count, 16, 16), np.float32), 5.0)
    names = [f"{i}@{tmp_path}/far/one/001.mrcs" for i in (1, 2, 3)] + ["1@T_2.mrcs", "2@T_2.mrcs"]
    series.rows = series.rows.assign(rlnImageName=names)
    shutil.rmtree(series.folder / "particleseries")
    series.write()
    particles = read_particles(series.path, datadir=tmp_path / "far/two")
    found = downsample_particles(particles, tmp_path / "small", box_px=8)
    assert found.source.rows["rlnImageName"].tolist() == [
        "1@one/001.mrcs", "2@one/001.mrcs", "3@one/001.mrcs", "1@two/T_2.mrcs", "2@two/T_2.mrcs",
    ]  # fmt: skip
    moved = (tmp_path / "small").rename(tmp_path / "moved")
    assert len(read_particles(moved / "series.star")) == 2


def test_flags_of_the_user_are_kept(simulated: ParticleSet, tmp_path: Path) -> None:
    particles = read_particles(simulated.source.path, ctf_premultiplied=False, invert=False)
    found = downsample_particles(particles, tmp_path / "small", box_px=16)
    assert (found.ctf_premultiplied, found.invert) == (False, False)


def test_large_stacks_go_in_pieces(simulated: ParticleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = downsample_particles(simulated, tmp_path / "whole", box_px=16)
    monkeypatch.setattr(downsample, "PIXELS_AT_ONCE", 2 * 24 * 24)
    sizes = []
    crop = fourier.fourier_crop
    monkeypatch.setattr(fourier, "fourier_crop", lambda piece, box: sizes.append(len(piece)) or crop(piece, box))
    pieces = downsample_particles(simulated, tmp_path / "pieces", box_px=16)
    assert max(sizes) == 2
    np.testing.assert_array_equal(images(pieces), images(whole))


# --- what must not happen ---------------------------------------------------------------------------------------------


def test_existing_output_is_refused_before_the_work(simulated: ParticleSet, tmp_path: Path) -> None:
    first = downsample_particles(simulated, tmp_path, box_px=16)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        downsample_particles(simulated, tmp_path, box_px=12)
    for path in stars_below(tmp_path):
        path.unlink()
        written.pop(path)
    with pytest.raises(FileExistsError, match=r"\.mrcs"):
        downsample_particles(simulated, tmp_path, box_px=12)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written
    again = downsample_particles(simulated, tmp_path, box_px=12, overwrite=True)
    assert (again.box_px, again.source.path) == (12, first.source.path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_the_source_are_never_replaced(simulated: ParticleSet, tmp_path: Path, overwrite: bool) -> None:  # noqa: FBT001
    home = simulated.source.path.parent
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    (tmp_path / "link").symlink_to(home)
    for folder in (home, tmp_path / "link"):
        with pytest.raises(ValueError, match="which is one of the files that are read"):
            downsample_particles(simulated, folder, box_px=16, overwrite=overwrite)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_interrupted_work_is_taken_up(simulated: ParticleSet, tmp_path: Path) -> None:
    """Nothing there can be read as a set until all is; done stacks are kept, unless the source is newer."""

    class StoppedError(Exception):
        pass

    def stop(done: int, count: int) -> None:
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        downsample_particles(simulated, tmp_path, box_px=16, progress=stop)
    assert stars_below(tmp_path) == []
    done = sorted(tmp_path.rglob("*.mrcs"))
    assert len(done) == 2
    with pytest.raises(FileExistsError):
        downsample_particles(simulated, tmp_path, box_px=12)
    stamps = [path.stat().st_mtime_ns for path in done]
    source = simulated.source.path.parent / done[1].relative_to(tmp_path)
    before = source.stat()
    os.utime(source, ns=(stamps[1] + 10**9, stamps[1] + 10**9))
    calls: list[tuple[int, int]] = []
    found = downsample_particles(simulated, tmp_path, box_px=16, progress=lambda *counts: calls.append(counts))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert done[0].stat().st_mtime_ns == stamps[0]
    assert done[1].stat().st_mtime_ns > stamps[1]
    assert calls[-1] == (len(calls), len(found.stack_paths))
    np.testing.assert_allclose(images(found), cropped_images(simulated.cropped_to(16)), rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.glob("*.json"))


def test_interrupted_overwrite_leaves_no_star_of_the_earlier_set(simulated: ParticleSet, tmp_path: Path) -> None:
    downsample_particles(simulated, tmp_path, box_px=16)

    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        downsample_particles(simulated, tmp_path, box_px=12, overwrite=True, progress=stop)
    assert stars_below(tmp_path) == []
    assert downsample_particles(simulated, tmp_path, box_px=12).box_px == 12


@pytest.mark.parametrize("box", [15, 6, 26, 24])
def test_impossible_sizes_write_nothing(simulated: ParticleSet, tmp_path: Path, box: int) -> None:
    with pytest.raises(ValueError, match=f"Got box {box} px"):
        downsample_particles(simulated, tmp_path / "small", box_px=box)
    assert not (tmp_path / "small").exists()


# --- columns ----------------------------------------------------------------------------------------------------------

ANGST = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst", "rlnCenteredCoordinateXAngst", "rlnDefocusU")
OTHERS = ("rlnMagnification", "rlnTomoTiltSeriesPixelSize", "rlnMicrographOriginalPixelSize", "rlnAngleRot", "userX",
          "rlnCtfBfactor", "cisTEMXShift", "wrpCoordinateX1", "rlnCoordinateNote")  # fmt: skip
DEPENDENT = sorted({c for d in DEPENDENT_COLUMNS.values() for c in (*d.pixel_size, *d.binning, *d.lengths_px, *d.box)})
NUMBER = st.floats(-1e6, 1e6).map(lambda value: f"{value:.6g}")
CELL = st.one_of(NUMBER, st.sampled_from(["1.50", "007", "-0", "nan", "None", "x y", "1e5"]))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dialect=st.sampled_from(sorted(DEPENDENT_COLUMNS)),
    columns=st.lists(st.sampled_from([*DEPENDENT, *ANGST, *OTHERS]), unique=True, min_size=1),
    box=st.sampled_from([8, 10, 12, 14]),
    cells=st.data(),
)
def test_dependent_columns_alone_change(
    tmp_path: Path, dialect: str, columns: list[str], box: int, cells: st.DataObject
) -> None:
    rows = cells.draw(st.lists(st.tuples(*[CELL] * len(columns)), min_size=2, max_size=2))
    block = pd.DataFrame(rows, columns=columns, dtype=str).assign(rlnImageName="1@a.mrcs")
    optics = pd.DataFrame([dict.fromkeys(columns, "2.0")], dtype=str)
    particles = particle_set(tmp_path, [np.zeros((2, 16, 16), np.float32)], dialect=dialect)
    source = dataclasses.replace(particles.source, particles={"optics": optics, "": block})
    particles = dataclasses.replace(particles, source=source).cropped_to(box)
    new = with_larger_pixels(particles, {0: Path("b/c.mrcs")}).particles
    rule = DEPENDENT_COLUMNS[dialect]
    factors = dict.fromkeys(rule.binning, 16 / box) | dict.fromkeys(rule.lengths_px, box / 16)
    factors |= dict.fromkeys([c for c in rule.pixel_size if c in columns][:1], 16 / box)
    for old_block, new_block in ((block, new[""]), (optics, new["optics"])):
        assert list(new_block) == list(old_block)
        for column in columns:
            before, after = old_block[column].tolist(), new_block[column].tolist()
            if column in rule.box:
                assert after == [str(box)] * len(before)
            elif column not in factors:
                assert after == before
            else:
                numbers = pd.to_numeric(pd.Series(before), errors="coerce") * factors[column]
                np.testing.assert_allclose(pd.to_numeric(pd.Series(after), errors="coerce"), numbers, rtol=1e-12)
                texts = [(a, b) for a, b, n in zip(after, before, numbers, strict=True) if not np.isfinite(n)]
                assert all(a == b for a, b in texts)
    image = "1@b/c.mrcs" if rule.image_name == "rlnImageName" else "1@a.mrcs"
    assert new[""]["rlnImageName"].tolist() == [image, image]


def test_cistem_names_its_stack(tmp_path: Path) -> None:
    particles = particle_set(tmp_path, [np.zeros((2, 16, 16), np.float32)], dialect="cistem")
    rows = pd.DataFrame(
        {"cisTEMStackFilename": ["x.mrc"] * 2, "cisTEMPixelSize": ["2.5"] * 2, "cisTEMXShift": ["1.20"] * 2}, dtype=str
    )
    source = dataclasses.replace(particles.source, particles={"": rows})
    new = with_larger_pixels(dataclasses.replace(particles, source=source).cropped_to(8), {0: Path("x/y.mrc")})
    assert new.rows.iloc[0].tolist() == ["x/y.mrc", "5.0", "1.20"]


def test_unknown_dialect_is_refused(tmp_path: Path) -> None:
    particles = particle_set(tmp_path / "data", [np.zeros((2, 16, 16), np.float32)], dialect="new")
    with pytest.raises(ValueError, match="Got particles of dialect 'new'"):
        with_larger_pixels(particles.cropped_to(8), {0: Path("p0.mrcs")})


def test_written_text_reads_as_before(simulated: ParticleSet, tmp_path: Path) -> None:
    """The files themselves, not only the tables: user columns and ids keep every digit."""
    found = downsample_particles(simulated, tmp_path / "small", box_px=16)
    before, after = (read_star(p.source.particles_path)[p.source.particles_block] for p in (simulated, found))
    for column in ("userGridSquare", "userIceThickness", "rlnRandomSubset", "rlnAngleRot", "rlnImageName"):
        assert after[column].tolist() == before[column].tolist()
