"""Half a file is never seen: the old one stays until the new one is whole."""

from __future__ import annotations

import os
import stat

import pytest

from tomodrgn.io.atomic import replacing


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.csv"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert (temporary.suffix, temporary.name[0]) == (".csv", ".")
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_error_in_the_block_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert reader.read() == "old", "one who opened the old file keeps it whole"
    assert path.read_text() == "new"


def test_existing_file_is_kept_unless_it_may_be_replaced(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"a\.csv"), replacing(path, overwrite=False):
        pytest.fail("the block must not be entered")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_may_be_read_by_others_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.csv") as temporary:
            temporary.write_text("x")
        assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o644
        assert os.umask(0o022) == 0o022, "the umask is as it was"
    finally:
        os.umask(before)


def test_two_writers_do_not_share_a_temporary_name(tmp_path):
    path = tmp_path / "a.csv"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
