"""Tomograms found under any name of their tilt series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.particles.small_sets import text_frame
from tomodrgn.io.star import write_star
from tomodrgn.particles.tomogram_table import TomogramTable, read_tomogram_table

SIZES = {"rlnTomoSizeX": 10, "rlnTomoSizeY": 20, "rlnTomoSizeZ": 5, "rlnTomoTiltSeriesPixelSize": 2}


def table(folder: Path, *names: str) -> TomogramTable:
    rows = [{"rlnTomoName": name, **SIZES} for name in names]
    write_star(folder / "t.star", {"global": text_frame(rows)}, overwrite=True)
    return read_tomogram_table(folder / "t.star")


def test_sizes(tmp_path: Path) -> None:
    tomograms = table(tmp_path, "a", "b")
    np.testing.assert_array_equal(tomograms.size_angst, [[20, 40, 10]] * 2)
    np.testing.assert_array_equal(tomograms.last_voxel_angst, [[18, 38, 8]] * 2)


@pytest.mark.parametrize("listed", ["TS_01", "TS_01.tomostar", "TS_01.mrc.tomostar"])
@pytest.mark.parametrize(
    "asked", ["TS_01", "TS_01.tomostar", "TS_01.mrc.tomostar", "x/rec_TS_01.mrc", "x/TS_01_10.00Apx.mrc", "TS_01.rec"]
)
def test_any_name_of_the_series(listed: str, asked: str, tmp_path: Path) -> None:
    found = table(tmp_path, "TS_02.tomostar", listed).find(np.array([asked, "TS_02", asked], dtype=object), tmp_path)
    assert found.tolist() == [1, 0, 1]


def test_the_whole_name_comes_first(tmp_path: Path) -> None:
    tomograms = table(tmp_path, "rec_TS_01", "TS_01")
    assert tomograms.find(np.array(["TS_01", "rec_TS_01"], dtype=object), tmp_path).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"first \['TS_01\.mrc'\]"):  # either could be meant
        tomograms.find(np.array(["TS_01.mrc"], dtype=object), tmp_path)


def test_damaged_tables(tmp_path: Path) -> None:
    write_star(tmp_path / "t.star", {"global": text_frame([{"rlnTomoName": "a", **SIZES, "rlnTomoSizeX": 0}])})
    with pytest.raises(ValueError, match="size or pixel size of 0 or less"):
        read_tomogram_table(tmp_path / "t.star")
    write_star(tmp_path / "u.star", {"global": text_frame([{"rlnTomoName": "a", "rlnTomoSizeX": 5}])})
    with pytest.raises(ValueError, match="without _rlnTomoTiltSeriesPixelSize, _rlnTomoSizeY, _rlnTomoSizeZ"):
        read_tomogram_table(tmp_path / "u.star")
