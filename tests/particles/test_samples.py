"""Every sample of every program: read to the values counted in it, or refused with what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.particles.test_positions import SAMPLES
from tomodrgn.io.star import read_star, write_star
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import UnknownDialectError, read_particles

JOBS = "relion5/project/"
# File; dialect, particles, images, fewest and most tilts, box px, pixel size, premultiplied, invert.
READABLE: dict[str, tuple[Any, ...]] = {
    "warp_v1_m/sta_testing.star": ("warp", 6, 219, 24, 39, 0, 1.96, False, True),
    "cryosrpnt/simulated_first_particles.star": ("cryosrpnt", 5, 38, 6, 8, 0, 13.1, False, False),
    "cryosrpnt/10076_classD_32_clean.star": ("cryosrpnt", 6, 46, 6, 8, 0, 13.1, False, False),
    f"{JOBS}Extract/job020/optimisation_set.star": ("relion5", 32, 544, 17, 17, 192, 1.35, True, False),
    f"{JOBS}Refine3D/job023/run_optimisation_set.star": ("relion5", 32, 544, 17, 17, 192, 1.35, True, False),
    "nextpyp/SYNTHETIC_nextpyp_20col.star": ("nextpyp", 3, 15, 5, 5, 64, 2.7, False, False),
    "nextpyp/SYNTHETIC_nextpyp_21col_groupname.star": ("nextpyp", 3, 15, 5, 5, 64, 2.7, False, False),
    "emclarity/emc_30col_test.star": ("emclarity", 2, 5, 2, 3, 0, 1.35, False, False),
}
E0 = ["with the blocks", "The nearest is", "--dialect"]
E1 = ["3-D (pseudo-)subtomograms", "tilt images", "--stack2d --no_ctf", "--dont_premultiply"]
POSITIONS = ["can still be used for mapback", "tomodrgn.read_positions", "tomodrgn convert-positions"]
E2 = ["tomograms file", "_rlnTomoParticlesFile and _rlnTomoTomogramsFile"]
E3 = ["which does not exist", "--datadir"]
E6 = ["single-particle data", "one image"]
REFUSED: dict[str, list[str]] = {
    "relion4/relion_4.0.star": [*E1, "RELION 4", "rlnImageDimensionality 3"],
    "relion5/relion5.1_3D_warp_subtomo_data.star": E1,
    "relion3/relion_3.0_warp_volumeseries.star": [*E1, "rlnCtfImage"],
    "relion3/relion_3.1_optics2.star": [*E1, "RELION 3"],
    "relion3/dynamo2m_relion3.1.star": E1,
    "warp_v1_m/dynamo2m_warp_volumeseries.star": [*E1, "Warp"],
    "warp_v1_m/pytom_subtomo_format.star": [*E1, "Warp"],
    "warp_v1_m/volumeseries_bin1_1deg.star": E1,
    "warp_v1_m/SYNTHETIC_m_species_particles.star": [*E1, "M species"],
    "stopgap/class6_er_mr1_1_sg.star": [*E1, "STOPGAP"],
    "stopgap/wedge_list.star": ["STOPGAP wedge list", "holds no particles", "--wedge-list"],
    "dynamo/crop.tbl": [*E1, "Dynamo"],
    "dynamo/b4_motl_CR_dynamo.tbl": [*E1, "Dynamo"],
    "dynamo/dynamo2m_example.tbl": [*E1, "Dynamo"],
    "dynamo/dynamo2m_example.doc": ["names tomograms by their numbers", "--tomogram-names"],
    "pytom/pickpos_format.xml": [*E1, "PyTom"],
    "pytom/relion_with_optics_group.star": E6,
    "relion3/relion31.star": E6,
    "relion3/relion31.v2.star": E6,
    "relion5/relion5_spa.star": E6,
    "cistem/fixture.star": [*E6, "cisTEMParticleGroup"],
    "cistem/fixture.cistem": [*E6, "cisTEMParticleGroup"],
    "cryosrpnt/simulated_first_particles_volume_series.star": [*E1, "rlnCoordinateZ"],
    "warptools/cryocat_warp2_particles_matching.star": E2,
    "warptools/cryocat_warp2_matching_tomograms.star": ["which holds tomograms", *E2[1:]],
    "nextpyp/SYNTHETIC_nextpyp_relion5_export_particles.star": E2,
    f"{JOBS}Extract/job020/particles.star": E2,
    f"{JOBS}Refine3D/job023/run_data.star": E2,
    f"{JOBS}Picks/job019/particles.star": E2,
    f"{JOBS}Denoise/job008/tomograms.star": ["which holds tomograms"],
    f"{JOBS}CtfRefine/job027/tomograms.star": ["which holds tomograms"],
    f"{JOBS}Polish/job030/tomograms.star": ["which holds tomograms"],
    f"{JOBS}Denoise/job008/tilt_series/TS_01.star": ["which holds tomograms"],
    f"{JOBS}CtfRefine/job027/tilt_series/TS_01.star": ["which holds tomograms"],
    f"{JOBS}CtfRefine/job027/tilt_series/TS_43.star": ["which holds tomograms"],
    f"{JOBS}Extract/job020/job.star": E0,
    # Sets whose files were not saved with them, or not under their names.
    "warptools/cryocat_warp2_matching_optimisation_set.star": E3,
    f"{JOBS}Extract/job010/optimisation_set.star": E3,
    f"{JOBS}Extract/job031/optimisation_set.star": E3,
    f"{JOBS}Class3D/job017/run_it025_optimisation_set.star": E3,
    f"{JOBS}CtfRefine/job027/optimisation_set.star": E3,
    f"{JOBS}Polish/job030/optimisation_set.star": E3,
    f"{JOBS}Picks/job009/optimisation_set.star": E3,
}


def sample(shared_data: Path, name: str) -> ParticleSet:
    return read_particles(shared_data / "formats" / name, check_stacks=False)


def test_every_sample_has_its_row(shared_data: Path) -> None:
    folder = shared_data / "formats"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "NOTES.md"}
    assert found == set(READABLE) | set(REFUSED)


@pytest.mark.parametrize(("name", "wanted"), READABLE.items())
def test_sample_reads_to_its_values(shared_data: Path, name: str, wanted: tuple[Any, ...]) -> None:
    p = sample(shared_data, name)
    counts = p.tilt_counts
    found = (p.dialect, len(p), p.n_images, counts.min(), counts.max(), p.box_px, p.pixel_size_angst,
             p.ctf_premultiplied, p.invert)  # fmt: skip
    assert found == pytest.approx(wanted)
    assert p.dose_weighted == p.ctf_premultiplied
    identity = np.broadcast_to(np.eye(3), p.rotations.shape)
    np.testing.assert_allclose(p.rotations @ p.rotations.transpose(0, 2, 1), identity, atol=1e-5)


@pytest.mark.parametrize(("name", "pieces"), REFUSED.items())
def test_sample_is_refused_with_what_helps(shared_data: Path, name: str, pieces: list[str]) -> None:
    path = shared_data / "formats" / name
    with pytest.raises((UnknownDialectError, FileNotFoundError, ValueError)) as caught:
        read_particles(path)
    text = str(caught.value)
    assert text.startswith("Got ")
    assert path.name in text
    assert all(piece in text for piece in pieces), text
    volumes = pieces[: len(E1)] == E1
    assert [piece in text for piece in POSITIONS[:2]] == [volumes] * 2
    assert POSITIONS[2] in text or not volumes


def with_extra_columns(path: Path, folder: Path) -> tuple[Path, Path | None]:
    """A copy whose largest table has five columns more, in front, between and behind, and its columns in another order.

    An optimisation set is copied with its tables; the files of tilts that these name are below the folder returned.
    """
    rng = np.random.default_rng(len(path.name))
    blocks = read_star(path)
    named = next((block for block in blocks.values() if "rlnTomoParticlesFile" in block), None)
    if named is None:
        write_star(folder / "extra.star", widened(blocks, rng))
        return folder / "extra.star", None
    project = next(parent for parent in path.parents if (parent / named["rlnTomoParticlesFile"].iloc[0]).is_file())
    files = {c: project / named[c].iloc[0] for c in ("rlnTomoParticlesFile", "rlnTomoTomogramsFile")}
    for column, file in files.items():
        tables = read_star(file)
        write_star(folder / f"{column}.star", widened(tables, rng) if column == "rlnTomoParticlesFile" else tables)
    one_row_loop = pd.DataFrame({column: [f"{column}.star"] for column in files})
    write_star(folder / "set.star", {"optimisation_set": one_row_loop})
    return folder / "set.star", project


def widened(blocks: dict[str, pd.DataFrame], rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    name = max(blocks, key=lambda key: len(blocks[key]))
    rows = blocks[name]
    for i in range(5):
        cells = rng.choice(["a b", "1e5", "", "7", "#x"], len(rows)) if i % 2 else rng.random(len(rows)).astype(str)
        rows = rows.assign(**{f"user{i}": cells})
    return {**blocks, name: rows[rng.permutation(list(rows))]}


def test_what_is_said_to_serve_for_mapback_has_positions_that_are_read() -> None:
    """All refused 3-D files are read by `read_positions`, in the tests of positions."""
    volumes = {f"formats/{name}" for name, pieces in REFUSED.items() if pieces[: len(E1)] == E1}
    assert volumes <= {sample[0] for sample in SAMPLES}


@pytest.mark.parametrize("name", READABLE)
def test_extra_columns_change_nothing(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = sample(shared_data, name)
    star, datadir = with_extra_columns(shared_data / "formats" / name, tmp_path)
    again = read_particles(star, datadir=datadir, check_stacks=False)
    assert again.dialect == source.dialect
    assert again.particle_id.tolist() == source.particle_id.tolist()
    np.testing.assert_array_equal(again.rotations, source.rotations)
    assert {f"user{i}" for i in range(5)} <= set(again.source.rows)


def test_relion5_values(shared_data: Path) -> None:
    """The first particle of the tutorial: A_img = T A_subtomo A_particle, by SciPy; exposures of the visible tilts."""
    from scipy.spatial.transform import Rotation

    p = sample(shared_data, f"{JOBS}Refine3D/job023/run_optimisation_set.star")
    assert p.particle_id[:2].tolist() == ["TS_01/12", "TS_01/13"]
    table = read_star(shared_data / "formats" / JOBS / "Denoise/job008/tilt_series/TS_01.star")["TS_01"].astype(
        {"rlnTomoXTilt": float, "rlnTomoYTilt": float, "rlnTomoZRot": float}
    )
    shown = slice(11, 28)
    tilt = Rotation.from_euler("xyz", table[["rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot"]].to_numpy()[shown],
                               degrees=True)  # fmt: skip
    subtomogram = Rotation.from_euler("ZYZ", [167.689240, 98.103985, -164.55358], degrees=True).inv()
    particle = Rotation.from_euler("ZYZ", [-1.47467, 95.609069, 4.094697], degrees=True).inv()
    np.testing.assert_allclose(p.rotations[:17], (tilt * subtomogram * particle).as_matrix(), atol=1e-6)
    origin = subtomogram.apply([-2.04850, 1.570849, 1.111174])
    np.testing.assert_allclose(p.shifts_px[:17], tilt.apply(origin)[:, :2] / 1.35, atol=1e-5)
    doses = table["rlnMicrographPreExposure"].astype(float).to_numpy()[shown]
    np.testing.assert_allclose(p.dose_e_per_angst2[:17], doses)
    assert doses.max() < 50  # the tutorial's --max_dose
    nominal = table["rlnTomoNominalStageTiltAngle"].astype(float).to_numpy()[shown]
    np.testing.assert_allclose(np.abs(p.tilt_deg[:17]), np.abs(nominal), atol=6)
    # Defocus rises along the beam with hand -1 times the depth, RELION's model.
    position = np.array([1776.506664, -950.69325, 1135.301351]) - origin
    depth = tilt.apply(position)[:, 2]
    base = table["rlnDefocusU"].astype(float).to_numpy()[shown]
    assert p.ctf is not None
    np.testing.assert_allclose(p.ctf.defocus_u_angst[:17], base - depth, atol=0.1)


def test_nextpyp_values(shared_data: Path) -> None:
    p = sample(shared_data, "nextpyp/SYNTHETIC_nextpyp_21col_groupname.star")
    assert p.particle_id.tolist() == ["TS_01/0_0", "TS_01/0_1", "TS_01/0_2"]
    assert p.tomogram.tolist() == ["TS_01"] * 3
    assert p.half_set.tolist() == [0, 0, 0]  # the subset is drawn image by image
    np.testing.assert_allclose(p.dose_e_per_angst2[:5], [0, 3, 6, 9, 12])
    np.testing.assert_allclose(p.shifts_px[0], [0.5 / 2.7, -0.25 / 2.7], rtol=1e-6)
    np.testing.assert_allclose(p.tilt_deg[:3], [0, 3, 3], atol=1e-4)


def test_emclarity_values(shared_data: Path) -> None:
    p = sample(shared_data, "emclarity/emc_30col_test.star")
    assert p.particle_id.tolist() == ["1", "2"]
    assert p.tomogram.tolist() == ["tiltA", "tiltB"]
    assert p.slice_index.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(p.shifts_px[0], [-1.25 / 1.35, 0.75 / 1.35], rtol=1e-6)
    np.testing.assert_allclose(p.dose_e_per_angst2, [3.5, 3.5, 3.5, 7, 7])
    assert np.isnan(p.tilt_deg).all()
    path = shared_data / "formats/emclarity/emc_30col_test.star"
    told = read_particles(path, tilt_column="cisTEMOriginalXPosition", check_stacks=False)
    np.testing.assert_allclose(told.tilt_deg, [15, 15, 15, -30.5, -30.5])
    assert told.ctf is not None
    assert (told.ctf.voltage_kv[0], told.ctf.cs_mm[0]) == pytest.approx((300, 2.7))
