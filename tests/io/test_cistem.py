"""Binary cisTEM files: the fixture that cisTEM wrote, and what we write."""

from __future__ import annotations

import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodrgn.io.cistem import is_cistem, read_cistem, write_cistem
from tomodrgn.io.star import read_star


def test_the_fixture_in_both_forms(shared_data):
    """The same rows as text, which has fewer digits."""
    folder = shared_data / "formats/cistem"
    binary, text = read_cistem(folder / "fixture.cistem"), read_star(folder / "fixture.star")[""]
    assert set(binary) == set(text)
    for label in text:
        np.testing.assert_allclose(binary[label].astype(float), text[label].astype(float), atol=0.6, rtol=1e-3)
    assert binary["cisTEMAnglePhi"].tolist() == ["30.125", "60.25", "90.375"]
    assert binary["cisTEMPixelSize"].tolist() == ["1.03"] * 3
    assert binary["cisTEMImageActivity"].tolist() == ["1", "-1", "1"]


def test_written_bytes_are_those_of_cistem(shared_data, tmp_path):
    fixture = shared_data / "formats/cistem/fixture.cistem"
    write_cistem(tmp_path / "again.cistem", read_cistem(fixture))
    assert (tmp_path / "again.cistem").read_bytes() == fixture.read_bytes()
    with pytest.raises(FileExistsError, match=r"again\.cistem"):
        write_cistem(tmp_path / "again.cistem", read_cistem(fixture))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
)
def test_numbers_and_text_come_back(tmp_path_factory, values, name):
    path = tmp_path_factory.mktemp("cistem") / "x.cistem"
    table = pd.DataFrame(
        {
            "cisTEMPositionInStack": [str(i + 1) for i in range(len(values))],
            "cisTEMXShift": [str(np.float32(v)) for v in values],
            "cisTEMStackFilename": [name] * len(values),
        }
    )
    write_cistem(path, table)
    assert is_cistem(path)
    pd.testing.assert_frame_equal(read_cistem(path), table)


@pytest.mark.parametrize("cut", [4, 9, 100, 300, 511])
def test_a_cut_file_is_named(shared_data, tmp_path, cut):
    path = tmp_path / "cut.cistem"
    path.write_bytes((shared_data / "formats/cistem/fixture.cistem").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"Got .*cut\.cistem"):
        read_cistem(path)


def test_a_cut_file_with_text_is_named(tmp_path):
    path = tmp_path / "cut.cistem"
    write_cistem(path, pd.DataFrame({"cisTEMStackFilename": ["a name"], "cisTEMPositionInStack": ["1"]}))
    whole = path.read_bytes()
    for end in range(8, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"cut\.cistem"):
            read_cistem(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match=r"cut\.cistem"):
        read_cistem(path)


def test_unknown_columns_and_types(tmp_path):
    path = tmp_path / "new.cistem"
    path.write_bytes(struct.pack("<ii", 2, 1) + struct.pack("<qb", 1, 9) + struct.pack("<qb", 1 << 40, 3)
                     + struct.pack("<If", 7, 1.5))  # fmt: skip
    assert read_cistem(path).to_dict("records") == [{"cisTEMPositionInStack": "7", "cisTEMColumn40": "1.5"}]
    path.write_bytes(struct.pack("<ii", 2, 1) + struct.pack("<qb", 1, 9) + struct.pack("<qb", 2, 77) + b"\0" * 8)
    with pytest.raises(ValueError, match="type 77"):
        read_cistem(path)


@pytest.mark.parametrize("second", [1, 0, -5, 6])
def test_columns_are_one_bit_each(tmp_path, second):
    path = tmp_path / "twice.cistem"
    path.write_bytes(struct.pack("<iiqbqbII", 2, 1, 1, 9, second, 9, 7, 7))
    with pytest.raises(ValueError, match=r"^Got .*twice\.cistem with columns that are flagged \[1, "):
        read_cistem(path)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"\['userNote'\].*Write a \.star file"):
        write_cistem(tmp_path / "x.cistem", pd.DataFrame({"userNote": ["1"]}))
    with pytest.raises(ValueError, match="'much' as _cisTEMXShift"):
        write_cistem(tmp_path / "x.cistem", pd.DataFrame({"cisTEMXShift": ["much"]}))
    assert not (tmp_path / "x.cistem").exists()
