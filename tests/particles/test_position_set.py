"""Positions joined to particle sets by name: any order, some missing, none in common."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.particles.hand_made import particle_set
from tests.particles.small_sets import WarpSeries, WarpToolsSet, text_frame
from tomodrgn.io.star import write_star
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.position_set import Positions, tomogram_root
from tomodrgn.particles.positions import read_positions
from tomodrgn.particles.read import read_particles

ANGLES = {"rlnAngleRot": 0, "rlnAngleTilt": 0, "rlnAnglePsi": 0}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    write_star(path, {"": text_frame(rows)}, overwrite=True)
    return path


def volumes(*names: tuple[str, int]) -> list[dict[str, object]]:
    """Rows of a Warp 1 volume series; x is the number of the row."""
    return [
        {
            "rlnMicrographName": f"/data/{root}_10.00Apx.mrc", "rlnCoordinateX": i, "rlnCoordinateY": 0,
            "rlnCoordinateZ": 0, **ANGLES, "rlnPixelSize": 1,
            "rlnImageName": f"../sub/{root}/{root}_{number:07d}_5.00A.mrc",
        }
        for i, (root, number) in enumerate(names)
    ]  # fmt: skip


def x_angst(positions: Positions) -> list[float]:
    return positions.position_angst[:, 0].tolist()


def test_warp_images_by_the_number_of_their_volume(warp: WarpSeries, tmp_path: Path) -> None:
    """Three volumes, two of which were trained on, in another order."""
    particles = read_particles(warp.path)
    assert particles.particle_id.tolist() == ["001_0000007", "T_2_0000007"]
    names = [("T_2", 6), ("T_2", 7), ("001", 6), ("001", 7)]
    match = read_positions(write(tmp_path / "v.star", volumes(*names))).aligned_to(particles)
    assert str(match) == "2 of 2 particles have one of 4 positions"
    assert match.positions.particle_id.tolist() == particles.particle_id.tolist()
    assert x_angst(match.positions) == [3.0, 1.0]
    assert match.positions.source["rlnMicrographName"].tolist() == ["/data/001_10.00Apx.mrc", "/data/T_2_10.00Apx.mrc"]
    some = read_positions(write(tmp_path / "v.star", volumes(("T_2", 7), ("9", 7)))).aligned_to(particles)
    assert (some.matched.tolist(), len(some.positions), some.n_positions) == ([False, True], 1, 2)
    assert str(some) == "1 of 2 particles have one of 2 positions"


def test_no_name_in_common(warp: WarpSeries, tmp_path: Path) -> None:
    positions = read_positions(write(tmp_path / "v.star", volumes(("T_2", 6), ("T_9", 7))))
    with pytest.raises(
        ValueError, match=r"named \['T_2_0000006', 'T_9_0000007'\].*named \['001_0000007', 'T_2_0000007"
    ):
        positions.aligned_to(read_particles(warp.path))


def test_species_by_the_number_in_the_source(warp: WarpSeries, warptools: WarpToolsSet, tmp_path: Path) -> None:
    """M counts the particles of each source from 0; Warp writes that number, WarpTools the next."""
    rows = [
        {"wrpCoordinateX1": i, "wrpCoordinateY1": 0, "wrpCoordinateZ1": 0, "wrpAngleRot1": 0, "wrpAngleTilt1": 0,
         "wrpAnglePsi1": 0, "wrpSourceName": name, "wrpSourceHash": "A"}
        for i, name in enumerate(["T_2.tomostar", "001.tomostar"] * 8)
    ]  # fmt: skip
    positions = read_positions(write(tmp_path / "species.star", rows))
    assert x_angst(positions.aligned_to(read_particles(warp.path)).positions) == [15.0, 14.0]
    tools = positions.aligned_to(read_particles(warptools.path))
    assert tools.positions.particle_id.tolist() == ["001/1", "001/2", "T_2/1"]
    assert x_angst(tools.positions) == [1.0, 3.0, 0.0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_real_set_in_any_order(seed: int, real_set: Path, tmp_path: Path) -> None:
    particles = read_particles(real_set)
    whole = read_positions(real_set)
    order = np.random.default_rng(seed).permutation(len(whole))[:25]
    match = whole.take(order).aligned_to(particles)
    assert str(match) == "25 of 40 particles have one of 25 positions"
    at = np.flatnonzero(match.matched)
    np.testing.assert_array_equal(match.positions.particle_id, particles.particle_id[at])
    np.testing.assert_array_equal(match.positions.position_angst, whole.position_angst[np.sort(order)])
    np.testing.assert_array_equal(match.positions.rotations, whole.rotations[np.sort(order)])


def test_renamed_particles_are_found_by_their_source_columns(warptools: WarpToolsSet) -> None:
    """A set that carries tomodrgnParticleId beside rlnTomoParticleName, and positions that do not."""
    positions = read_positions(warptools.path)
    warptools.rows = warptools.rows.assign(tomodrgnParticleId=["c", "b", "a"])
    warptools.write()
    match = positions.aligned_to(read_particles(warptools.path))
    assert match.positions.particle_id.tolist() == ["c", "b", "a"]
    np.testing.assert_array_equal(match.positions.position_angst, positions.position_angst)


def test_the_pair_of_columns_with_most_names_in_common(tmp_path: Path) -> None:
    """One id agrees by accident, all rlnTomoParticleName agree."""
    made = WarpToolsSet(tmp_path)
    made.rows = made.rows.assign(tomodrgnParticleId=["1", "2", "3"])
    made.write()
    particles = read_particles(made.path)
    made.rows = made.rows.assign(tomodrgnParticleId=["3", "8", "9"])
    made.write()
    assert read_positions(made.path).aligned_to(particles).matched.all()


def hand_made(folder: Path, names: list[str], tomograms: list[str]) -> ParticleSet:
    made = particle_set(folder, [np.zeros((2, 4, 4), np.float32)] * len(names))
    return dataclasses.replace(made, particle_id=np.array(names), tomogram=np.array(tomograms, dtype=object))


def test_groups_of_cryosrpnt(tmp_path: Path) -> None:
    rows = [
        {"rlnImageName": f"{2 * i + t + 1}@a.mrcs", "rlnDetectorPixelSize": 2, **ANGLES, "rlnAngleRot": 10 * t,
         "rlnOriginX": 5, "rlnOriginY": 5, "rlnGroupName": f"000_00000{i}", "rlnCoordinateX": 100 * i,
         "rlnCoordinateY": 1, "rlnCoordinateZ": 1, "rlnMicrographName": "both.tomostar"}
        for i in range(3)
        for t in range(2)
    ]  # fmt: skip
    positions = read_positions(write(tmp_path / "a.star", rows))
    assert (positions.kind, len(positions)) == ("cryosrpnt", 3)
    np.testing.assert_allclose(positions.rotations, np.tile(np.eye(3), (3, 1, 1)))
    match = positions.aligned_to(hand_made(tmp_path, ["000_000002", "x", "000_000001"], ["both"] * 3))
    assert match.matched.tolist() == [True, False, True]
    assert x_angst(match.positions) == [400.0, 200.0]


def test_positions_are_read_only_and_checked(tmp_path: Path) -> None:
    good = {
        "particle_id": np.array(["a", "b"], dtype=object), "tomogram": np.array(["t", "t"], dtype=object),
        "position_angst": np.zeros((2, 3)), "rotations": np.tile(np.eye(3), (2, 1, 1)), "kind": "m",
        "path": tmp_path, "source": pd.DataFrame(index=range(2)),
    }  # fmt: skip
    positions = Positions(**good)
    with pytest.raises(ValueError, match="read-only"):
        positions.position_angst[0] = 1.0
    with pytest.raises(ValueError, match=r"particle 'b' of .* no finite number \(1 such"):
        Positions(**{**good, "position_angst": np.array([[0.0, 0, 0], [0, np.nan, 0]])})
    with pytest.raises(ValueError, match="Got particle 'a' twice"):
        Positions(**{**good, "particle_id": np.array(["a", "a"], dtype=object)})
    with pytest.raises(ValueError, match="Got 2 particle ids with arrays of shapes"):
        Positions(**{**good, "source": pd.DataFrame(index=range(3))})


@pytest.mark.parametrize(
    ("name", "root"),
    [("021.tomostar", "021"), ("a/b/TS_01_15.00Apx.mrc", "TS_01"), ("F:\\x\\TS_01.mrc", "TS_01"),
     ("tomo_ts01.mrc_15.00Apx.mrc", "tomo_ts01.mrc"), ("T.1", "T.1"), ("rec/TS.rec", "TS"), ("x.st.tomostar", "x.st")],
)  # fmt: skip
def test_tomogram_root(name: str, root: str) -> None:
    assert tomogram_root(name) == root


def test_same_number_in_another_tomogram_is_another_particle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    particles = hand_made(tmp_path, ["1", "2", "3"], ["TS_1"] * 3)
    rows = [{"tomodrgnParticleId": str(i), **ANGLES, "rlnMicrographName": name, "rlnPixelSize": 1,
             **dict.fromkeys(["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"], i)}
            for i, name in ((1, "elsewhere.mrc"), (2, "TS_1.tomostar"), (3, "elsewhere.mrc"))]  # fmt: skip
    match = read_positions(write(tmp_path / "p.star", rows)).aligned_to(particles)
    assert match.matched.tolist() == [False, True, False]
    assert "1 of 3 particles" in caplog.text
    assert "2 more names are those of particles in other tomograms" in caplog.text
    with pytest.raises(
        ValueError, match=r"2 of 3 particles .* all in other tomograms: '1' is in 'elsewhere\.mrc' there"
    ):
        read_positions(write(tmp_path / "p.star", [rows[0], rows[2]])).aligned_to(particles)


def test_bare_numbers_in_tomograms_that_cannot_be_compared(tmp_path: Path) -> None:
    particles = hand_made(tmp_path, ["1", "2"], ["TS_1", "TS_2"])
    table = np.zeros((2, 35))
    table[:, 0], table[:, 19] = [1, 2], [7, 7]
    np.savetxt(tmp_path / "list.tbl", table, fmt="%g")
    lists = [
        read_positions(tmp_path / "list.tbl", pixel_size_angst=10.0, tomogram_names=n) for n in (None, {"7": "TS_1"})
    ]
    with pytest.raises(ValueError, match=r"bare numbers.*Name the tomograms"):
        lists[0].aligned_to(particles)
    assert lists[1].aligned_to(particles).matched.tolist() == [True, False]
