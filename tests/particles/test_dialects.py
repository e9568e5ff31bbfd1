"""One simulated acquisition in the files of every program: the same particles, written back unchanged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tomodrgn.io.mrc import open_stack
from tomodrgn.io.star import is_simple, read_star
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles, read_source, write_particles, write_source
from tomodrgn.particles.simulate import read_truth, simulate_particles
from tomodrgn.particles.simulated_formats import FORMATS
from tomodrgn.training.run import Run

DIALECTS = list(FORMATS)
SETS = ("warptools", "relion5", "nextpyp_relion5")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same particles in every dialect, without noise and not premultiplied."""
    made = {}
    for dialect in DIALECTS:
        made[dialect] = tmp_path_factory.mktemp(dialect)
        simulate_particles(
            made[dialect],
            n_particles=10,
            n_tilts=7,
            box_px=16,
            dialect=dialect,
            noise=False,
            premultiplied=False,
            seed=4,
        )
    return made


def read(folder: Path, dialect: str) -> ParticleSet:
    return read_particles(folder / FORMATS[dialect].star)


def canonical(particles: ParticleSet, folder: Path) -> dict[str, np.ndarray]:
    """Quantities of all images, by particle in the order of the truth and by exposure."""
    rank = np.empty(len(particles), dtype=np.int64)
    rank[particles.positions_of(read_truth(folder).index)] = np.arange(len(particles))
    order = np.lexsort((particles.dose_e_per_angst2, rank[particles.image_particle]))
    stacks = [open_stack(path) for path in particles.stack_paths]
    images = [stacks[s][i] for s, i in zip(particles.stack_index, particles.slice_index, strict=True)]
    assert particles.ctf is not None
    quantities = {
        "rotations": particles.rotations,
        "shifts": particles.shifts_px,
        "ctf": particles.ctf.table(),
        "dose": particles.dose_e_per_angst2,
        "tilt": np.abs(particles.tilt_deg),
        "images": np.array(images, dtype=np.float32) * (-1 if particles.invert else 1),
    }
    return {name: values[order] for name, values in quantities.items()} | {"counts": np.sort(particles.tilt_counts)}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_recognised_and_gives_the_same_particles(folders: dict[str, Path], dialect: str) -> None:
    particles = read(folders[dialect], dialect)
    assert particles.dialect == dialect
    ours, warp = canonical(particles, folders[dialect]), canonical(read(folders["warp"], "warp"), folders["warp"])
    if dialect in ("cistem", "emclarity"):
        assert np.isnan(ours.pop("tilt")).all()  # cisTEM keeps no tilt angles
    for name, values in ours.items():
        scale = max(1.0, float(np.abs(warp[name]).max()))
        np.testing.assert_allclose(values, warp[name], atol=3e-7 * scale, err_msg=name)
    assert particles.box_px == 16
    assert particles.pixel_size_angst == pytest.approx(8.0)


def test_tilts_of_emclarity_from_a_column(folders: dict[str, Path]) -> None:
    path = folders["emclarity"] / FORMATS["emclarity"].star
    told = canonical(read_particles(path, tilt_column="cisTEMOriginalXPosition"), folders["emclarity"])
    np.testing.assert_allclose(
        told["tilt"], canonical(read(folders["warp"], "warp"), folders["warp"])["tilt"], atol=1e-4
    )


def same_text(one: Path, other: Path) -> None:
    ours, theirs = read_star(one), read_star(other)
    assert list(ours) == list(theirs)
    for name, block in theirs.items():
        assert is_simple(ours[name]) == is_simple(block)
        pd.testing.assert_frame_equal(ours[name], block)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_round_trip_keeps_every_block_column_and_digit(folders: dict[str, Path], tmp_path: Path, dialect: str) -> None:
    particles = read(folders[dialect], dialect)
    written = write_particles(particles, tmp_path / "out.star")
    source = particles.source
    if dialect in SETS:
        tomograms = next(folders[dialect].rglob("*tomograms.star"))
        same_text(tmp_path / "out_particles.star", source.particles_path)
        same_text(tmp_path / "out_tomograms.star", tomograms)
        assert len(written) == 3
    else:
        same_text(tmp_path / "out.star", source.path)
    again = read_particles(tmp_path / "out.star", datadir=folders[dialect], stack=source.options.stack)
    assert_equal(again, particles)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_filtered_file_is_that_subset(folders: dict[str, Path], tmp_path: Path, dialect: str) -> None:
    particles = read(folders[dialect], dialect)
    kept = particles.subset(particles.particle_id[[7, 2, 5]])
    write_particles(kept, tmp_path / "kept.star")
    again = read_particles(tmp_path / "kept.star", datadir=folders[dialect], stack=particles.source.options.stack)
    assert set(again.particle_id) == set(particles.particle_id[[7, 2, 5]])
    assert_equal(again, kept.subset(again.particle_id))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_folder_reads_back_after_the_tables_are_gone(
    folders: dict[str, Path], tmp_path: Path, dialect: str
) -> None:
    """Everything but the image stacks is in the folder, tilt tables too."""
    particles = read(folders[dialect], dialect)
    write_source(particles, tmp_path / "run")
    again = read_source(
        tmp_path / "run",
        source_dir=particles.source.path.parent,
        datadir=particles.source.datadir,
        options=particles.source.options,
    )
    assert_equal(again, particles)
    assert {p.parent for p, _ in again.source.tilt_series.values()} <= {tmp_path / "run/tilt_series"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_choice_of_images_can_be_written_as_a_table_of_images(
    folders: dict[str, Path], tmp_path: Path, dialect: str
) -> None:
    particles = read(folders[dialect], dialect)
    keep = np.random.default_rng(1).random(particles.n_images) < 0.7
    chosen = particles.subset_images(keep)
    write_particles(chosen, tmp_path / "images.star", as_images=True)
    again = read_particles(tmp_path / "images.star")
    assert again.dialect == "tomodrgn"
    assert again.particle_id.tolist() == chosen.particle_id.tolist()
    for name, tolerance in (("rotations", 1e-6), ("shifts_px", 1e-6), ("dose_e_per_angst2", 1e-5), ("tilt_deg", 1e-5),
                            ("image_scale", 1e-6), ("half_set", 0), ("slice_index", 0)):  # fmt: skip
        np.testing.assert_allclose(getattr(again, name), getattr(chosen, name), atol=tolerance, err_msg=name)
    for name in ("invert", "ctf_premultiplied", "dose_weighted", "box_px"):
        assert getattr(again, name) == getattr(chosen, name), name
    assert again.ctf is not None
    assert chosen.ctf is not None
    np.testing.assert_allclose(again.ctf.table(), chosen.ctf.table(), rtol=1e-6)
    assert "userGridSquare" in again.source.rows


def test_a_table_of_images_of_a_cropped_set_is_of_the_images_on_disk(folders: dict[str, Path], tmp_path: Path) -> None:
    particles = read(folders["warp"], "warp")
    write_particles(particles.cropped_to(8), tmp_path / "images.star", as_images=True)
    again = read_particles(tmp_path / "images.star")
    assert (again.box_px, again.pixel_size_angst) == (16, pytest.approx(8.0))
    np.testing.assert_allclose(again.shifts_px, particles.shifts_px, atol=1e-6)


def test_numbers_of_particles_in_nextpyp_files_are_not_their_names(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    particles = read(folders["nextpyp"], "nextpyp")
    rows = particles.source.particles["particles"]
    for name, several in (("12", True), (rows["rlnMicrographName"] + rows["rlnGroupNumber"], False)):
        caplog.clear()
        rows["rlnGroupName"] = name
        write_particles(particles, tmp_path / "named.star", overwrite=True)
        again = read_particles(tmp_path / "named.star", datadir=folders["nextpyp"])
        assert again.particle_id.tolist() == particles.particle_id.tolist()
        assert any("particles of several tilt series" in message for message in caplog.messages) == several


def assert_equal(one: ParticleSet, other: ParticleSet, *, stacks: bool = True) -> None:
    """Equal in every quantity, and in the files of their images if these were looked for."""
    for name in ("particle_id", "tomogram", "half_set", "offsets", "rotations", "shifts_px", "dose_e_per_angst2",
                 "tilt_deg", "image_scale", "slice_index"):  # fmt: skip
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("dialect", "box_px", "pixel_size_angst", "ctf_premultiplied", "dose_weighted", "invert"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.ctf is not None
    assert other.ctf is not None
    np.testing.assert_array_equal(one.ctf.table(), other.ctf.table())
    if stacks:
        paths = [[Path(p.stack_paths[i]).resolve() for i in p.stack_index] for p in (one, other)]
        assert paths[0] == paths[1]


def test_a_binary_cistem_file_is_the_same_set(folders: dict[str, Path], tmp_path: Path) -> None:
    text = read(folders["cistem"], "cistem")
    table = text.source.rows.drop(columns=["userGridSquare", "userIceThickness"])
    plain = tmp_path / "particles.star"
    from tomodrgn.io.star import write_star

    write_star(plain, {"": table})
    stack = text.source.options.stack
    particles = read_particles(plain, stack=stack)
    write_particles(particles, tmp_path / "out.cistem")
    binary = read_particles(tmp_path / "out.cistem", stack=stack)
    assert binary.dialect == "cistem"
    assert binary.particle_id.tolist() == text.particle_id.tolist()
    np.testing.assert_allclose(binary.rotations, text.rotations, atol=1e-6)
    kept = binary.subset(["3", "5"])
    write_particles(kept, tmp_path / "kept.cistem")
    assert_equal(read_particles(tmp_path / "kept.cistem", stack=stack), kept)
    write_particles(kept, tmp_path / "kept.star")  # the same digits as text
    assert_equal(read_particles(tmp_path / "kept.star", stack=stack), kept)


def test_stack_of_a_cistem_file_must_be_found_or_given(folders: dict[str, Path], tmp_path: Path) -> None:
    particles = read(folders["cistem"], "cistem")
    write_particles(particles, tmp_path / "elsewhere.star")
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.star, which does not name its image stack.*--stack"):
        read_particles(tmp_path / "elsewhere.star")
    assert len(read_particles(tmp_path / "elsewhere.star", check_stacks=False)) == 10


@pytest.mark.parametrize(
    ("value", "unit", "degrees"), [("0.5", "rad", 28.648), ("0.5", "deg", 0.5), ("90", None, 90.0)]
)
def test_phase_shifts_of_cistem(
    folders: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    value: str,
    unit: str | None,
    degrees: float,
) -> None:
    text = (folders["cistem"] / "particles.star").read_text()
    particles = read(folders["cistem"], "cistem")
    particles.source.particles[""]["cisTEMPhaseShift"] = value
    write_particles(particles, tmp_path / "shifted.star")
    stack = particles.source.options.stack
    assert "0.00" in text
    told = read_particles(tmp_path / "shifted.star", stack=stack, phase_unit=unit)
    assert told.ctf is not None
    np.testing.assert_allclose(told.ctf.phase_shift_deg, degrees, rtol=1e-4)
    assert any("taken as degrees" in message for message in caplog.messages) == (unit is None)
    if float(value) < 3:
        with pytest.raises(ValueError, match="--phase-unit"):
            read_particles(tmp_path / "shifted.star", stack=stack)


def test_rows_switched_off_are_left_out(folders: dict[str, Path], tmp_path: Path) -> None:
    particles = read(folders["emclarity"], "emclarity")
    rows = particles.source.particles[""]
    rows.loc[rows.index[:3], "cisTEMBeamTiltGroup"] = "0"
    write_particles(particles, tmp_path / "skipped.star")
    left = read_particles(tmp_path / "skipped.star", stack=particles.source.options.stack)
    assert left.n_images == particles.n_images - 3
    assert 0 not in left.source_row


def test_equal_names_of_tilt_series_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    particles = read(folders["nextpyp"], "nextpyp")
    rows = particles.source.particles["particles"]
    rows.loc[rows.index[-1], "rlnMicrographName"] = "/other/TS_001.mrc"
    write_particles(particles, tmp_path / "twice.star")
    with pytest.raises(ValueError, match=r"of one name.*Rename the tilt series"):
        read_particles(tmp_path / "twice.star", datadir=folders["nextpyp"])


def test_training_on_a_relion_project_reads_its_run_back(folders: dict[str, Path], tmp_path: Path) -> None:
    from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig

    particles = read(folders["relion5"], "relion5")
    options = {"model": VaeConfig(), "preprocess": PreprocessConfig(), "training": TrainConfig()}
    run = Run.create(tmp_path / "run", particles, scale=1.0, n_tilts=7, **options)
    assert_equal(Run.open(run.folder).particles, particles)


def test_files_of_tilts_stay_in_their_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    """Whatever a tomogram is called."""
    particles = read(folders["relion5"], "relion5")
    first, *others = sorted(set(particles.tomogram))
    source = particles.source
    name = "../../outside"
    renamed = dataclasses.replace(
        source,
        particles={n: b.replace(first, name) for n, b in source.particles.items()},
        tomograms={n: b.replace(first, name) for n, b in source.tomograms.items()},
        tilt_series={name if n == first else n: file for n, file in source.tilt_series.items()},
    )
    tomogram = np.where(particles.tomogram == first, name, particles.tomogram)
    written = write_source(dataclasses.replace(particles, source=renamed, tomogram=tomogram), tmp_path / "a/b/run")
    assert all(path.resolve().is_relative_to(tmp_path / "a/b/run") for path in written)
    again = read_source(tmp_path / "a/b/run", source_dir=source.path.parent, datadir=source.datadir, check_stacks=False)
    assert set(again.tomogram) == {name, *others}
    np.testing.assert_array_equal(again.dose_e_per_angst2, particles.dose_e_per_angst2)
