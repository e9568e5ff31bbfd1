"""Dynamo tables, PyTom lists, TOM/AV3 motive lists and table maps: what they hold, and what damaged ones are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomodrgn.io.motive_lists import (
    list_format,
    read_dynamo_table,
    read_em_list,
    read_pytom_list,
    read_tomogram_names,
)

TABLE = "3 1 1 0.5 -1 2 10 20 30 0.9 0 0 1 -60 60 -60 60 0 0 7 2 1 0 100.5 200 300\n"
PARTICLE = '<Particle Filename="a.em"><Rotation Z1="1" Z2="2" X="3"/><PickPosition X="4" Y="5" Z="6"/></Particle>'


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def em_file(path: Path, motl: np.ndarray, *, order: str = "<", kind: str = "f4", machine: int = 6) -> Path:
    code = {"i2": 2, "i4": 4, "f4": 5, "f8": 9}[kind]
    header = bytes([machine, 0, 0, code]) + np.array([20, len(motl), 1], f"{order}i4").tobytes()
    return write(path, header.ljust(512, b"\0") + motl.astype(f"{order}{kind}").tobytes())


def test_dynamo_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tbl", TABLE + "\n" + TABLE.replace("0.5", "0.5+0.1i").replace("3 1", "4 1", 1))
    table = read_dynamo_table(path)
    assert table.shape == (2, 26)
    assert table[:, 0].tolist() == [3.0, 4.0]
    assert table[:, 3].tolist() == [0.5, 0.5]
    assert list_format(path) == "dynamo"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE + "1 2 3\n", r"Got 3 cells in line 2 of .*a\.tbl, expected 26"),
        (TABLE + TABLE.replace("20", "two"), r"in line 2 of .*a\.tbl, expected numbers"),
        ("\n", "without a row"),
    ],
)
def test_dynamo_damage(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_dynamo_table(write(tmp_path / "a.tbl", text))


@pytest.mark.parametrize(
    ("order", "kind", "machine"), [("<", "f4", 6), (">", "f4", 3), ("<", "f8", 6), ("<", "i2", 6), (">", "i4", 5)]
)
def test_em_list_in_any_type_and_byte_order(order: str, kind: str, machine: int, tmp_path: Path) -> None:
    motl = np.arange(60).reshape(3, 20)
    path = em_file(tmp_path / "a.em", motl, order=order, kind=kind, machine=machine)
    np.testing.assert_array_equal(read_em_list(path), motl)
    assert list_format(path) == "em"


def test_em_damage(tmp_path: Path) -> None:
    whole = em_file(tmp_path / "a.em", np.zeros((3, 20))).read_bytes()
    with pytest.raises(ValueError, match="cut after 700 bytes, expected 3 particles"):
        read_em_list(write(tmp_path / "b.em", whole[:700]))
    with pytest.raises(ValueError, match="expected an EM file"):
        read_em_list(write(tmp_path / "c.em", whole[:100]))
    volume = whole[:4] + np.array([8, 8, 8], "<i4").tobytes() + whole[16:]
    with pytest.raises(ValueError, match="8 x 8 x 8 numbers, expected 20 x particles"):
        read_em_list(write(tmp_path / "d.em", volume))


def test_pytom_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", f"<!-- PyTom -->\n<ParticleList>{PARTICLE}<Particle/></ParticleList>")
    rows = read_pytom_list(path)
    assert rows.loc[0].to_dict() == {
        "Filename": "a.em", "RotationZ1": "1", "RotationZ2": "2", "RotationX": "3",
        "PickPositionX": "4", "PickPositionY": "5", "PickPositionZ": "6",
    }  # fmt: skip
    assert set(rows.loc[1]) == {""}
    assert list_format(path) == "pytom"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<ParticleList>{PARTICLE}", r"expected a PyTom ParticleList \(no element found"),
        (f"<List>{PARTICLE}</List>", "root <List> and 1 particles"),
        ("<ParticleList></ParticleList>", "root <ParticleList> and 0 particles"),
        ('<?xml version="1.0" encoding="nonsense"?><ParticleList/>', "expected a PyTom ParticleList"),
    ],
)
def test_pytom_damage(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pytom_list(write(tmp_path / "a.xml", text))


def test_pytom_entities_are_not_expanded(tmp_path: Path) -> None:
    """The `billion laughs`: ten levels of ten would fill the memory."""
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(10))
    text = f'<?xml version="1.0"?>\n<!DOCTYPE ParticleList [{levels}]>\n<ParticleList>&e9;</ParticleList>'
    with pytest.raises(ValueError, match="document type"):
        read_pytom_list(write(tmp_path / "a.xml", text))


def test_other_files_are_no_lists(tmp_path: Path) -> None:
    for text in ("data_\nloop_\n_rlnTomoName\na\n", "1 2 3\n", "", b"\x40\0\0\0" * 300):
        assert list_format(write(tmp_path / "other", text)) is None
    with pytest.raises(FileNotFoundError, match="no file"):
        list_format(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="a folder"):
        list_format(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "number,name\n1,TS 01.mrc\n024, TS_24\n"),
        ("a.csv", "\ufeffname,number\nTS 01.mrc,1\n\nTS_24,24\n"),
        ("a.doc", "  1   TS 01.mrc\n24\tTS_24\n"),
    ],
)
def test_tomogram_names(name: str, text: str, tmp_path: Path) -> None:
    assert read_tomogram_names(write(tmp_path / name, text)) == {"1": "TS 01.mrc", "24": "TS_24"}


def test_a_volume_list_counts_its_lines(tmp_path: Path) -> None:
    assert read_tomogram_names(write(tmp_path / "a.vll", "x/TS_07.mrc\nx/TS_09.mrc\n")) == {
        "1": "x/TS_07.mrc",
        "2": "x/TS_09.mrc",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tomo,file\n1,a\n", "columns number and name"),
        ("number,name\none,a\n", r"Got \('one', 'a'\)"),
        ("number,name\n1,a\n1,b\n", "two names of tomogram 1"),
        ("number,name\n", "without a tomogram"),
    ],
)
def test_bad_tomogram_names(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_tomogram_names(write(tmp_path / "a.csv", text))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_tomogram_names(tmp_path / "none.csv")
