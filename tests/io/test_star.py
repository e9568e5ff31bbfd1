"""Every shape of STAR file that the field writes; starfile is the independent reader."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodrgn.io.star import is_simple, read_star, write_star


def read_text(tmp_path: Path, text: str) -> dict[str, pd.DataFrame]:
    path = tmp_path / "given.star"
    path.write_bytes(text.encode())
    return read_star(path)


def test_digits_and_names_stay_text(tmp_path: Path) -> None:
    block = read_text(tmp_path, "data_\nloop_\n_rlnTomoName #1\n_rlnX #2\n001 1.50\n1e5 -0.0\nnull inf\nnan NA\n")[""]
    assert block["rlnTomoName"].tolist() == ["001", "1e5", "null", "nan"]
    assert block["rlnX"].tolist() == ["1.50", "-0.0", "inf", "NA"]


TABLE = pd.DataFrame({"rlnA": ["1", "2"], "rlnB": ["x", "y"]})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("data_p\n\nloop_\n_rlnA #1\n_rlnB #2\n1 x\n2 y\n", id="plain"),
        pytest.param("data_p\r\n\r\nloop_\r\n_rlnA #1\r\n_rlnB #2\r\n1 x\r\n2 y\r\n", id="CRLF"),
        pytest.param("data_p \nloop_ \n_rlnA #1 \n_rlnB \n1 x \n2 y \n", id="trailing spaces"),
        pytest.param("data_p\nloop_\n_rlnA\t#1\n_rlnB\t#2\n1\tx\n2\ty\n", id="tabs"),
        pytest.param("  data_p\n loop_\n  _rlnA #1\n\t_rlnB #2\n   1   x\n\t2 y\n", id="leading spaces"),
        pytest.param("data_p\n\nloop_\n_rlnA #1\n_rlnB #2\n \n1 x\n \n2 y\n \n\n", id="lines of one space"),
        pytest.param("data_p\n\nloop_\n_rlnA #1\n_rlnB #2\n1 x\n2 y", id="no final newline"),
        pytest.param("# made hand\n# version 1\ndata_p\nloop_\n# a\n_rlnA #1\n_rlnB #2\n#  A  B\n1 x # c\n2 y\n# end",
                     id="comments"),
        pytest.param("data_p\nloop_\n_rlnA #1\n_rlnB #2\n1 'x'\n\"2\" \"y\"\n", id="quotes"),
        pytest.param("\ufeffdata_p\nloop_\n_rlnA #1\n_rlnB #2\n1 x\n2 y\n", id="byte order mark"),
    ],
)  # fmt: skip
def test_every_layout_gives_the_same_table(tmp_path: Path, text: str) -> None:
    blocks = read_text(tmp_path, text)
    assert list(blocks) == ["p"]
    pd.testing.assert_frame_equal(blocks["p"], TABLE)
    assert not is_simple(blocks["p"])


def test_quoted_cells_keep_their_spaces_and_plain_cells_their_quotes(tmp_path: Path) -> None:
    block = read_text(tmp_path, "data_\nloop_\n_a\n_b\n_c\n\"a b\" '' it's\n'c \"d' \"\" x#1\n")[""]
    assert block.to_numpy().tolist() == [["a b", "", "it's"], ['c "d', "", "x#1"]]


def test_apostrophes_and_hashes_inside_words_do_not_matter(tmp_path: Path) -> None:
    block = read_text(tmp_path, "data_\nloop_\n_a\n_b\nit's x#1\nd\"Arc #not\n5 6\n".replace("#not", "n#ot"))[""]
    assert block.to_numpy().tolist() == [["it's", "x#1"], ['d"Arc', "n#ot"], ["5", "6"]]


def test_simple_blocks_become_one_row_and_are_written_back_so(tmp_path: Path) -> None:
    text = "# version 50001\n\ndata_general\n\n_rlnA   1 # one\n_rlnTrajectories \"\"\n_rlnC 'a b'\n_rlnNone\n"
    block = read_text(tmp_path, text)["general"]
    assert is_simple(block)
    assert block.to_dict("records") == [{"rlnA": "1", "rlnTrajectories": "", "rlnC": "a b", "rlnNone": ""}]
    write_star(tmp_path / "out.star", {"general": block})
    written = (tmp_path / "out.star").read_text()
    assert "loop_" not in written
    assert "# version 50001" in written
    again = read_star(tmp_path / "out.star")["general"]
    pd.testing.assert_frame_equal(again, block)
    assert again.attrs == block.attrs


def test_blocks_keep_their_order_and_empty_ones_stay(tmp_path: Path) -> None:
    text = "data_particles\nloop_\n_a\n1\n\ndata_optics\nloop_\n_g\n\ndata_***\nloop_\n_z\n# nothing\n\ndata_last\n"
    blocks = read_text(tmp_path, text)
    assert list(blocks) == ["particles", "optics", "***", "last"]
    assert [block.shape for block in blocks.values()] == [(1, 1), (0, 1), (0, 1), (0, 0)]
    write_star(tmp_path / "out.star", blocks)
    assert [b.shape for b in read_star(tmp_path / "out.star").values()] == [(1, 1), (0, 1), (0, 1), (0, 0)]


def test_names_that_begin_like_a_block_stay_in_their_row(tmp_path: Path) -> None:
    block = read_text(tmp_path, "data_p\nloop_\n_a\n_b\n  data_1.mrc 2\nx data_3\n")["p"]
    assert block.to_numpy().tolist() == [["data_1.mrc", "2"], ["x", "data_3"]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text("ab1.#'@é", min_size=1, max_size=6).filter(lambda t: t[0] not in "#'")] * 3), min_size=1
    ),
    st.lists(st.sampled_from([" ", "\t", "   ", " \t "]), min_size=5, max_size=5),
    st.sampled_from(["", " ", "\n", " \n\t\n", " # note", "\n# 'note'"]),
    st.integers(1, 40),
)
def test_spacing_and_the_cuts_between_parts_of_a_table_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], gaps: list[str], end: str, part: int
) -> None:
    lines = [gaps[i % 5] * (i % 2) + gaps[(i + 1) % 5].join(row) + end for i, row in enumerate(rows)]
    text = "data_\nloop_\n_a\n_b\n_c\n" + "\n".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomodrgn.io.star.BYTES_AT_ONCE", part)
        block = read_text(tmp_path_factory.mktemp("parts"), text)[""]
    assert block.to_numpy().tolist() == [list(row) for row in rows]
    assert set(block.dtypes) == {pd.Series(["x"]).dtype}


def test_a_short_row_in_a_later_part_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomodrgn.io.star.BYTES_AT_ONCE", 16)
    with pytest.raises(ValueError, match=r"'x' in line 45 .*expected 2 cells, found 1"):
        read_text(tmp_path, "data_\nloop_\n_a\n_b\n" + "1 2\n" * 40 + "x\n" + "3 4\n" * 40)


def test_rows_of_many_kilobytes(tmp_path: Path) -> None:
    mask = "[" + ",".join("10" * 3000) + "]"
    assert read_text(tmp_path, f"data_\nloop_\n_m\n_n\n{mask} 1\n")[""].loc[0, "m"] == mask


@pytest.mark.parametrize(
    ("text", "error", "pieces"),
    [
        ("", ValueError, ["empty file", "given.star"]),
        (" \n\n", ValueError, ["empty file"]),
        ("1 2 3\n4 5 6\n", ValueError, ["without a `data_` block", "given.star"]),
        ("a\0b", ValueError, ["binary file", "STAR text"]),
        ("oops\ndata_\nloop_\n_a\n1\n", ValueError, ["'oops'", "before the first block"]),
        (
            "data_p\nloop_\n_a\n_b\n1 2\n3\n5 6\n",
            ValueError,
            ["'3'", "line 6", "2 cells, found 1", "given.star"],
        ),
        ("data_p\nloop_\n_a\n_b\n1 2\n3 4 5\n", ValueError, ["line 6", "expected 2 cells, found 3"]),
        ("data_p\nloop_\n_a\n_b\n1 2 3\n3 4\n", ValueError, ["line 5", "expected 2 cells, found 3"]),
        ("data_p\nloop_\n_a\n_b\n1 2\n3 4 5 6\n", ValueError, ["line 6", "expected 2 cells, found 4"]),
        ("data_p\nloop_\n_a\n_b\n1 2\n'3 4'\n", ValueError, ["line 6", "expected 2 cells, found 1"]),
        ("data_p\nloop_\n_a\n_a\n1 2\n", ValueError, ["label _a twice", "data_p"]),
        ("data_p\n_a 1\ndata_p\n_a 1\n", ValueError, ["block `data_p` twice"]),
        ("data_p\n_a 1 2\n", ValueError, ["line 2", "expected 1 value, found 2"]),
        ("data_p\n_a 1\n2 3\n", ValueError, ["line 3", "expected `loop_`"]),
        ("data_p\n1 2\n", ValueError, ["line 2", "expected `loop_`"]),
    ],
)
def test_damaged_files_are_refused_with_their_place(
    tmp_path: Path, text: str, error: type[Exception], pieces: list[str]
) -> None:
    with pytest.raises(error) as caught:
        read_text(tmp_path, text)
    assert all(piece in str(caught.value) for piece in pieces), caught.value


def test_missing_files_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.star.*Check the path"):
        read_star(tmp_path / "absent.star")
    with pytest.raises(FileNotFoundError, match="a folder"):
        read_star(tmp_path)
    (tmp_path / "latin.star").write_bytes(b"data_\nloop_\n_a\n\xe9\n")
    with pytest.raises(ValueError, match=r"0xe9 at position 15.*UTF-8"):
        read_star(tmp_path / "latin.star")


def test_numbers_are_written_with_all_their_digits(tmp_path: Path) -> None:
    frame = pd.DataFrame({"i": [1, 2], "f": [0.1, 1 / 3], "t": [True, False], "s": ["007", "a b"], "n": [np.nan, 2.0]})
    write_star(tmp_path / "out.star", {"": frame})
    block = read_star(tmp_path / "out.star")[""]
    assert block["i"].tolist() == ["1", "2"]
    assert block["f"].astype(float).tolist() == [0.1, 1 / 3]
    assert block["t"].tolist() == ["1", "0"]
    assert block["s"].tolist() == ["007", "a b"]
    assert block["n"].tolist() == ["nan", "2.0"]


def test_nothing_is_overwritten_unless_asked_and_no_rest_is_left(tmp_path: Path) -> None:
    path = tmp_path / "out.star"
    write_star(path, {"p": TABLE})
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"out\.star.*overwrite=True"):
        write_star(path, {"q": TABLE})
    with pytest.raises(ValueError, match="both kinds of quotes"):
        write_star(path, {"p": TABLE.assign(rlnA=["1 '\"", "2"])}, overwrite=True)
    with pytest.raises(ValueError, match="one line"):
        write_star(path, {"p": TABLE.assign(rlnA=["1\n2", "2"])}, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_star(path, {"q": TABLE}, overwrite=True)
    assert list(read_star(path)) == ["q"]


CELL = st.text(st.sampled_from(string.ascii_letters + string.digits + " #_'.,[]@/-\t"), max_size=12)
LABEL = st.text(st.sampled_from(string.ascii_letters), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    labels = data.draw(st.lists(LABEL, min_size=1, max_size=5, unique=True))
    rows = data.draw(st.lists(st.tuples(*[CELL] * len(labels)), max_size=6))
    frame = pd.DataFrame(rows, columns=labels, dtype=str)
    path = tmp_path_factory.mktemp("star") / "any.star"
    write_star(path, {"any": frame})
    block = read_star(path)["any"]
    assert list(block) == labels
    assert block.to_numpy().tolist() == [list(row) for row in rows]


def test_starfile_reads_the_same_from_all_real_files(shared_data: Path) -> None:
    paths = sorted(shared_data.rglob("*.star"))
    assert len(paths) > 40
    for path in paths:
        ours, theirs = read_star(path), starfile.read(path, always_dict=True)
        assert list(ours) == [name.strip() for name in theirs], path
        for block, other in zip(ours.values(), theirs.values(), strict=True):
            table = other if isinstance(other, pd.DataFrame) else pd.DataFrame([other])
            assert list(block) == list(table), path
            assert len(block) == len(table), path
            for label in block:
                if pd.api.types.is_numeric_dtype(table[label]):
                    numbers = block[label].astype(float).to_numpy()
                    np.testing.assert_array_equal(numbers, table[label].to_numpy(float), err_msg=f"{path} {label}")
                else:
                    assert block[label].tolist() == table[label].astype(str).tolist(), (path, label)


def test_starfile_reads_what_is_written_from_all_real_files(shared_data: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(shared_data.rglob("*.star"))):
        blocks, out = read_star(path), tmp_path / f"{i}.star"
        write_star(out, blocks)
        again = read_star(out)
        assert list(again) == list(blocks)
        for name, block in blocks.items():
            pd.testing.assert_frame_equal(again[name], block)
            assert again[name].attrs == block.attrs
        assert [len(b) for b in starfile.read(out, always_dict=True).values() if isinstance(b, pd.DataFrame)] == [
            len(b) for b in blocks.values() if not is_simple(b)
        ]
