"""MRC files against the mrcfile package, and headers that lie."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tomodrgn.io.mrc import (
    open_stack,
    open_tomogram,
    read_header,
    read_volume,
    write_stack,
    write_stack_in_pieces,
    write_tomogram,
    write_volume,
)

BYTES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def raw_file(path: Path, shape_zyx: tuple[int, int, int] = (3, 4, 4), mode: int = 2, **changes: object) -> np.ndarray:
    """An MRC file made byte by byte; returns what it holds."""
    order = str(changes.pop("order", "<"))
    extension = int(changes.pop("extension", 0))  # type: ignore[call-overload]
    numbers = np.arange(np.prod(shape_zyx)).reshape(shape_zyx).astype(str(changes.pop("dtype", BYTES.get(mode, "f4"))))
    nz, ny, nx = shape_zyx
    head = bytearray(1024)
    struct.pack_into(f"{order}4i", head, 0, nx, ny, nz, mode)
    struct.pack_into(f"{order}3i", head, 28, nx, ny, nz)
    struct.pack_into(f"{order}3f", head, 40, 2.5 * nx, 2.5 * ny, 2.5 * nz)
    struct.pack_into(f"{order}i", head, 92, extension)
    head[208:212] = bytes(changes.pop("map", b"MAP "))  # type: ignore[call-overload]
    head[212:216] = bytes(changes.pop("stamp", b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0"))  # type: ignore[call-overload]
    for offset, value in dict(changes.pop("ints", {})).items():  # type: ignore[call-overload]
        struct.pack_into(f"{order}i", head, offset, value)
    assert not changes
    path.write_bytes(bytes(head) + bytes(extension) + numbers.astype(numbers.dtype.newbyteorder(order)).tobytes())
    return numbers


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", list(BYTES))
def test_all_modes_in_both_byte_orders(tmp_path: Path, mode: int, order: str) -> None:
    numbers = raw_file(tmp_path / "a.mrcs", mode=mode, order=order, extension=80)
    stack = open_stack(tmp_path / "a.mrcs")
    np.testing.assert_array_equal(stack, numbers)
    assert stack.dtype == np.dtype(BYTES[mode]).newbyteorder(order)
    assert isinstance(stack, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        stack[0, 0, 0] = 1


def test_unsigned_bytes_as_imod_marks_them(tmp_path: Path) -> None:
    numbers = raw_file(tmp_path / "a.mrcs", (20, 4, 4), 0, dtype="u1", ints={152: 1146047817, 156: 0})
    np.testing.assert_array_equal(open_stack(tmp_path / "a.mrcs"), numbers)
    assert numbers.max() > 127
    raw_file(tmp_path / "b.mrcs", (20, 4, 4), 0, dtype="i1", ints={152: 1146047817, 156: 1})
    assert open_stack(tmp_path / "b.mrcs").dtype == np.int8


def test_warp_1_stacks_without_map_field_and_with_one_image(tmp_path: Path) -> None:
    numbers = raw_file(tmp_path / "a.mrcs", (1, 6, 6), map=b"\0\0\0\0")
    assert open_stack(tmp_path / "a.mrcs").shape == (1, 6, 6)
    np.testing.assert_array_equal(open_stack(tmp_path / "a.mrcs"), numbers)
    raw_file(tmp_path / "b.mrcs", (2, 6, 6), order=">", stamp=b"\0\0\0\0")
    assert open_stack(tmp_path / "b.mrcs").shape == (2, 6, 6)


def test_voxel_size_of_the_header(tmp_path: Path) -> None:
    raw_file(tmp_path / "a.mrc", (4, 4, 4))
    assert read_volume(tmp_path / "a.mrc")[1] == pytest.approx(2.5)
    raw_file(tmp_path / "b.mrc", (4, 4, 4), ints={28: 0})
    assert read_header(tmp_path / "b.mrc").voxel_size_angst == 0


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ({"mode": 3}, ["mode 3", "0, 1, 2, 6 or 12", "Convert"]),
        ({"mode": 4}, ["mode 4"]),
        ({"mode": 101}, ["mode 101"]),
        ({"shape_zyx": (3, 4, 6)}, ["6 x 4", "square", "Extract"]),
        ({"shape_zyx": (3, 5, 5)}, ["5 x 5", "even side"]),
        ({"ints": {8: 4}}, ["expected 1280 for 4 images", "cut short"]),
        ({"ints": {92: 100000}}, ["cut short"]),
        ({"ints": {92: -4}}, ["cut short or damaged"]),
        ({"ints": {0: -1}}, ["-1 x 4 x 3"]),
        ({"ints": {8: 0}}, ["4 x 4 x 0"]),
    ],
)
def test_stacks_that_cannot_be_read_are_named(tmp_path: Path, arguments: dict[str, object], pieces: list[str]) -> None:
    raw_file(tmp_path / "bad.mrcs", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is checked below)
        open_stack(tmp_path / "bad.mrcs")
    assert all(piece in str(caught.value) for piece in ["bad.mrcs", *pieces]), caught.value


def test_a_header_that_claims_terabytes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    raw_file(tmp_path / "a.mrc", (4, 4, 4), ints={0: 40000, 4: 40000, 8: 40000})
    tracemalloc.start()
    for read in (open_stack, read_volume):
        with pytest.raises(ValueError, match="expected 256000000001024 "):
            read(tmp_path / "a.mrc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_files_that_are_missing_or_too_short(tmp_path: Path) -> None:
    for read in (open_stack, read_volume, read_header):
        with pytest.raises(FileNotFoundError, match=r"none\.mrc.*Check the path"):
            read(tmp_path / "none.mrc")
        (tmp_path / "short.mrc").write_bytes(b"x" * 100)
        with pytest.raises(ValueError, match=r"short\.mrc of 100 bytes.*at least 1024"):
            read(tmp_path / "short.mrc")
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path)


@pytest.mark.parametrize("shape", [(4, 4, 6), (3, 4, 4), (5, 5, 5)])
def test_volumes_must_be_even_cubes(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    raw_file(tmp_path / "a.mrc", shape)
    with pytest.raises(ValueError, match=r"a\.mrc of .* voxels, expected a cube of an even side"):
        read_volume(tmp_path / "a.mrc")


def test_mrcfile_reads_what_is_written(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    volume = generator.normal(size=(6, 6, 6)).astype(np.float32)
    write_volume(tmp_path / "v.mrc", volume, 3.25)
    with mrcfile.open(tmp_path / "v.mrc") as file:
        np.testing.assert_array_equal(file.data, volume)
        assert file.voxel_size.x == pytest.approx(3.25)
        assert file.is_volume()
    again, voxel = read_volume(tmp_path / "v.mrc")
    np.testing.assert_array_equal(again, volume)
    assert again.dtype == np.float32
    assert voxel == pytest.approx(3.25)


@pytest.mark.parametrize(("dtype", "stored"), [("f2", "f2"), ("f4", "f4"), ("f8", "f4"), ("i2", "f4")])
def test_stacks_keep_half_and_single_precision(tmp_path: Path, dtype: str, stored: str) -> None:
    images = np.arange(5 * 16).reshape(5, 4, 4).astype(dtype)
    write_stack(tmp_path / "s.mrcs", images, 1.5)
    stack = open_stack(tmp_path / "s.mrcs")
    assert stack.dtype == np.dtype(stored)
    np.testing.assert_array_equal(stack, images)
    assert mrcfile.validate(tmp_path / "s.mrcs")
    assert read_header(tmp_path / "s.mrcs").voxel_size_angst == pytest.approx(1.5)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    ones = np.ones((4, 4, 4), dtype=np.float32)
    for write, path in ((write_volume, tmp_path / "v.mrc"), (write_stack, tmp_path / "s.mrcs")):
        write(path, ones, 1.0)
        with pytest.raises(FileExistsError, match="overwrite=True"):
            write(path, ones * 2, 1.0)
        assert open_stack(path).max() == 1
        write(path, ones * 2, 1.0, overwrite=True)
        assert open_stack(path).max() == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.mrcs", "v.mrc"]
    with pytest.raises(ValueError, match="expected a cube"):
        write_volume(tmp_path / "w.mrc", ones[:3], 1.0)
    with pytest.raises(ValueError, match=r"expected \(n, d, d\)"):
        write_stack(tmp_path / "w.mrcs", ones[:, :3], 1.0)


def test_real_stacks_and_map(shared_data: Path) -> None:
    paths = sorted((shared_data / "warptools").rglob("*.mrcs"))
    assert len(paths) == 40
    for path in paths:
        stack = open_stack(path)
        with mrcfile.open(path) as file:
            np.testing.assert_array_equal(stack, file.data)
        assert (stack.shape, stack.dtype) == ((37, 32, 32), np.float16)
    volume, voxel = read_volume(shared_data / "warptools/warptools_test_box-32_angpix-12_reconstruct.mrc")
    assert volume.shape == (32, 32, 32)
    assert voxel == pytest.approx(12.0, rel=1e-3)


@pytest.mark.parametrize(("dtype", "stored"), [("i1", "i1"), ("f2", "f2"), ("f8", "f4"), ("i2", "i2")])
def test_tomograms_of_any_shape_keep_their_type(tmp_path: Path, dtype: str, stored: str) -> None:
    volume = np.arange(60).reshape(3, 4, 5).astype(dtype)
    write_tomogram(tmp_path / "t.mrc", volume, 7.5)
    found, voxel = open_tomogram(tmp_path / "t.mrc")
    np.testing.assert_array_equal(found, volume)
    assert (found.dtype, voxel) == (np.dtype(stored), 7.5)
    with pytest.raises(FileExistsError, match=r"t\.mrc"):
        write_tomogram(tmp_path / "t.mrc", volume, 7.5)
    with pytest.raises(ValueError, match="Give a volume"):
        write_tomogram(tmp_path / "u.mrc", volume[:0], 7.5)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_stack_in_pieces_is_the_stack_at_once(tmp_path: Path, dtype: str) -> None:
    images = np.random.default_rng(0).normal(size=(5, 6, 6)).astype(np.float32)
    write_stack_in_pieces(
        tmp_path / "a.mrcs", [images[:2], images[2:4], images[4:]], (5, 6, 6), dtype=np.dtype(dtype),
        pixel_size_angst=3.5,
    )  # fmt: skip
    write_stack(tmp_path / "b.mrcs", images.astype(dtype), 3.5)
    np.testing.assert_array_equal(open_stack(tmp_path / "a.mrcs"), open_stack(tmp_path / "b.mrcs"))
    with mrcfile.open(tmp_path / "a.mrcs") as one, mrcfile.open(tmp_path / "b.mrcs") as other:
        for name in set(one.header.dtype.names) - {"label", "nlabl", "dmin", "dmax", "dmean", "rms"}:
            np.testing.assert_array_equal(one.header[name], other.header[name], err_msg=name)
        for name in ("dmin", "dmax", "dmean", "rms"):
            assert float(one.header[name]) == pytest.approx(float(other.header[name]), rel=1e-3, abs=1e-6), name
    with pytest.raises(FileExistsError):
        write_stack_in_pieces(tmp_path / "a.mrcs", [images], (5, 6, 6), dtype=np.float32, pixel_size_angst=1.0)


def test_broken_off_stack_in_pieces_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OverflowError, match=r"image 3 for .*at most 65504"):
        write_stack_in_pieces(
            tmp_path / "a.mrcs", [np.zeros((2, 4, 4)), np.full((2, 4, 4), 1e5)], (4, 4, 4), dtype=np.float16,
            pixel_size_angst=1.0,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
