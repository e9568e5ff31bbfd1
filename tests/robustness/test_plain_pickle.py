"""Pickles are read as data: what numpy and PyTorch write comes back, whatever would do anything is refused unrun."""

# ruff: noqa: E501 (one gadget a line)

from __future__ import annotations

import collections
import datetime as dt
import functools
import os
import pickle
import pickletools
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tomodrgn.io.plain_pickle import read_pickles
from tomodrgn.io.torch_archive import read_torch_archive

# --- what is plain comes back -----------------------------------------------------------------------------------------

PLAIN = {
    "none": None, "truth": [True, False], "numbers": (1, -2, 2**70, 0.5, float("inf")), "text": "Ångström\n'\"\\",
    "bytes": b"\0\xff", "set": {1, "a"}, "nested": [[{"a": (1,)}]], "ordered": collections.OrderedDict(b=1, a=2),
    1: np.float32(0.25), 2: np.int64(-3), 3: np.bool_(True),
    "arrays": [np.arange(12).reshape(3, 4).astype(kind) for kind in ("<f4", ">f8", "i8", "u1", "f2", "?")],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "view": np.arange(20.0)[::3], "empty": np.zeros((0, 4)),
    "names": np.array(["a", "bcd"]), "time": dt.datetime(2024, 2, 29, 23, 59, 58, 7),
    "many": list(range(3000)),
}  # fmt: skip


def assert_same(found: object, wanted: object) -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert (type(found), len(found)) == (type(wanted), len(wanted))
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, np.ndarray | np.generic):
        np.testing.assert_array_equal(found, wanted)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    elif isinstance(wanted, dt.datetime):
        assert found == wanted.isoformat(timespec="seconds")
    else:
        assert (type(found), found) == (type(wanted), wanted)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol_comes_back(tmp_path: Path, protocol: int) -> None:
    with (tmp_path / "a.pkl").open("wb") as file:
        pickle.dump(PLAIN, file, protocol)
        pickle.dump(PLAIN["fortran"], file, protocol)
        pickle.dump(pickletools.optimize(b"N."), file, protocol)
    found = read_pickles(tmp_path / "a.pkl")
    assert len(found) == 3
    assert_same(found[0], PLAIN)
    assert_same(found[1], PLAIN["fortran"])


def test_names_of_older_numpy_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(np.arange(3.0), 2).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core" in data
    (tmp_path / "a.pkl").write_bytes(data)
    assert_same(read_pickles(tmp_path / "a.pkl")[0], np.arange(3.0))


def test_tensors_come_back(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    whole = torch.arange(24.0).reshape(4, 6)
    others = [whole[1:3, ::2].T, whole[:0], torch.tensor(2.5), torch.arange(3), torch.tensor([True, False]),
              torch.tensor([1.5, -2.25], dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16),
              torch.nn.Parameter(torch.ones(2))]  # fmt: skip
    saved = {"epoch": 4, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
             "others": others, "size": torch.Size([2, 3])}  # fmt: skip
    torch.save(saved, tmp_path / "w.pkl")
    found = read_torch_archive(tmp_path / "w.pkl")
    assert (found["epoch"], found["size"]) == (4, (2, 3))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(found["model_state_dict"][name], value.numpy())
    np.testing.assert_array_equal(
        found["optimizer_state_dict"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"].numpy()
    )
    for one, other in zip(found["others"], others, strict=True):
        np.testing.assert_array_equal(one, other.detach().float().numpy())
    with pytest.raises(ValueError, match="read-only"):
        found["others"][3][0] = 7


# --- what is not is refused -------------------------------------------------------------------------------------------


class Reduces:
    """Calls anything when it is unpickled."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], tuple(self.call[1:])


class Sets:
    def __reduce__(self) -> tuple:
        return collections.OrderedDict, (), {"a": 1}, None, iter([(("a", Reduces(os.system, "touch gone")), 1)])


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


TOUCH = "touch gone"
GADGETS: dict[str, tuple[Callable[[], bytes], str]] = {
    "os.system": (lambda: pickle.dumps(Reduces(os.system, TOUCH)), "posix.system"),
    "os.system, protocol 0": (lambda: pickle.dumps(Reduces(os.system, TOUCH), 0), "posix.system"),
    "eval": (lambda: pickle.dumps(Reduces(eval, "__import__('os').system('touch gone')")), "builtins.eval"),
    "exec, by its name of Python 2": (lambda: b"c__builtin__\nexec\n(V1\ntR.", "__builtin__.exec"),
    "nested in a dictionary": (lambda: pickle.dumps({"a": [Reduces(os.system, TOUCH)]}), "posix.system"),
    "as a key": (lambda: pickle.dumps(Sets()), "posix.system"),
    "getattr": (lambda: b"\x80\x04" + stack_global("builtins", "getattr") + b".", "builtins.getattr"),
    "INST": (lambda: b"(Vtouch gone\nios\nsystem\n.", "INST"),
    "OBJ": (lambda: b"(cos\nsystem\nVtouch gone\no.", "os.system"),
    "OBJ of an allowed name": (lambda: b"(ccollections\nOrderedDict\no.", "OBJ"),
    "GLOBAL alone": (lambda: b"cos\nsystem\n.", "os.system"),
    "STACK_GLOBAL": (lambda: b"\x80\x04" + stack_global("os", "system") + short(TOUCH) + b"\x85R.", "os.system"),
    "STACK_GLOBAL of a dotted name": (lambda: b"\x80\x04" + stack_global("collections", "OrderedDict.__init__") + b".",
                                      "collections.OrderedDict.__init__"),
    "STACK_GLOBAL of a module in pieces": (lambda: b"\x80\x04" + stack_global("numpy", "os.system") + b".", "numpy.os"),
    "NEWOBJ": (lambda: b"\x80\x02c__builtin__\ndict\n)\x81.", "__builtin__.dict"),
    "NEWOBJ of an allowed name": (lambda: b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX": (lambda: b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "NEWOBJ_EX"),
    "BUILD with __setstate__": (lambda: b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cos\n"
                                b"system\nsbVtouch gone\nb.", "os.system"),
    "BUILD of the __dict__ of a name": (lambda: b"cnumpy\nndarray\n}V__class__\nNsb.", "a state set on"),
    "extension code": (lambda: b"\x80\x02\x82\x01.", "EXT1"),
    "extension code of four bytes": (lambda: b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "persistent id": (lambda: b"Pos.system\n.", "PERSID"),
    "persistent id of a value": (lambda: b"(lQ.", "BINPERSID"),
    "copyreg._reconstructor": (lambda: b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.", "copy_reg._reconstructor"),
    "functools.partial": (lambda: pickle.dumps(functools.partial(os.system, TOUCH)), "functools.partial"),
    "memo of a name, called later": (lambda: b"cos\nsystem\nq\x000h\x00Vtouch gone\n\x85R.", "os.system"),
    "memo of an allowed name, called on a name": (lambda: b"cnumpy\ndtype\nq\x00h\x00cnumpy\nndarray\n\x85R.", "type of numbers"),
    "memo that was never made": (lambda: b"h\x07.", "memo 7"),
    "memo of 2^31": (lambda: b"j\xff\xff\xff\x7f.", "never made"),
    "an object array": (lambda: pickle.dumps(np.array([Reduces(os.system, TOUCH), 1], dtype=object)), "type of numbers"),
    "a scalar of objects": (lambda: b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VO8\nI0\nI1\ntRV1\ntR.", "'O8'"),
    "a structured array": (lambda: pickle.dumps(np.zeros(2, dtype=[("a", "f4")])), "type of numbers"),
    "a type of numbers that is a program": (lambda: b"cnumpy\ndtype\n(V(1000000,1000000)f8\ntR.", "type of numbers"),
    "numpy.load": (lambda: b"cnumpy\nload\n(V/etc/passwd\ntR.", "numpy.load"),
    "numpy.f2py": (lambda: b"cnumpy.f2py.diagnose\nrun_command\n(Vtouch gone\ntR.", "numpy.f2py.diagnose.run_command"),
    "torch.load": (lambda: b"ctorch\nload\n(V/etc/passwd\ntR.", "torch.load"),
    "torch storage": (lambda: b"ctorch.storage\n_load_from_bytes\n(C\x01atR.", "torch.storage._load_from_bytes"),
    "a class of the pickle's own": (lambda: b"c__main__\nReduces\n.", "__main__.Reduces"),
    "subprocess": (lambda: b"csubprocess\nPopen\n(Vtouch gone\ntR.", "subprocess.Popen"),
    "codecs to run": (lambda: b"c_codecs\nencode\n(Vabc\nVzip\ntR.", "encoding 'zip'"),
    "an array of 2^60 numbers": (lambda: b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I1152921504606846976"
                                 b"\ntcnumpy\ndtype\n(Vf8\nI0\nI1\ntRI00\nC\x01atb.", "shape"),
    "an array before it is built": (lambda: b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.", "_Unfinished"),
    "BINBYTES8 of 2^62 bytes": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.", "expected 4611686018427387904 bytes"),
    "BINUNICODE8 of 2^63 bytes": (lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"a.", ""),
    "LONG4 of 2^31 bytes": (lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"a.", ""),
    "LONG of 100,000 digits": (lambda: b"L" + b"9" * 100_000 + b"L\n.", ""),
    "a frame of 2^60 bytes": (lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"cos\nsystem\n.", "os.system"),
    "tuples 10,000 deep": (lambda: b")" + b"\x85" * 10_000 + b".", "nested more than 100 deep"),
    "lists 10,000 deep": (lambda: b"]" * 10_000 + b"a" * 9_999 + b".", "nested more than 100 deep"),
    "a list that holds itself": (lambda: b"]q\x00h\x00a.", "holds itself"),
    "keys that double 60 times": (lambda: b"}(K\x01" + b"2\x86" * 60 + b"K\x01u.", "keys are containers"),
    "marks without end": (lambda: b"(" * 200_000 + b".", "more than 1000 containers begun"),
    "an operation on nothing": (lambda: b"R.", "operation on nothing"),
    "cut": (lambda: pickle.dumps(PLAIN)[:200], ""),
    "an unknown operation": (lambda: b"\xfe.", "unknown"),
    "text": (lambda: b"hello world", ""),
    "more than one value": (lambda: b"NN.", "more than one value"),
    "nothing": (lambda: b".", "operation on nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", GADGETS)
def test_what_is_no_data_is_refused_by_name_and_does_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build, words = GADGETS[name]
    data = build()
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    refused(read_pickles, path, words)
    with zipfile.ZipFile(tmp_path / "w.pkl", "w") as archive:
        archive.writestr("w/data.pkl", data)
    refused(read_torch_archive, tmp_path / "w.pkl", words if "persistent" not in name else "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl", "w.pkl"]


def refused(read: Callable[[Path], object], path: Path, words: str) -> None:
    began = time.monotonic()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"^Got a pickle in .*expected numbers") as caught:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in str(caught.value)
    assert path.name in str(caught.value)
    assert time.monotonic() - began < 20
    assert peak < 1 << 27


def test_the_gadgets_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own unpickler runs them, so that there is something to refuse."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "nested in a dictionary", "INST", "STACK_GLOBAL", "memo of a name, called later"):
        (tmp_path / "gone").unlink(missing_ok=True)
        pickle.loads(GADGETS[name][0]())
        assert (tmp_path / "gone").is_file(), name


TENSORS = {
    "beyond its storage": ((0, (10,), (1,)), "in a storage of 4"),
    "before its storage": ((-1, (2,), (1,)), "a tensor of size"),
    "of 10^12 numbers by a step of 0": ((0, (10**12,), (0,)), "a tensor of size"),
    "with a step of 2^50": ((0, (2,), (2**50,)), "a tensor of size"),
    "with another number of steps": ((0, (2, 2), (1,)), "without its storage"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_stay_in_their_storage(name: str, tmp_path: Path) -> None:
    (offset, size, stride), words = TENSORS[name]
    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQ"
    parts = b"".join(_bare(part) for part in (offset, size, stride))
    data = head + parts + b"I00\nccollections\nOrderedDict\n)RtR."
    with zipfile.ZipFile(tmp_path / "w.pkl", "w") as archive:
        archive.writestr("w/data.pkl", data)
        archive.writestr("w/data/0", np.zeros(4, "f4").tobytes())
    refused(read_torch_archive, tmp_path / "w.pkl", words)


def _bare(part: int | tuple[int, ...]) -> bytes:
    if isinstance(part, int):
        return f"I{part}\n".encode()
    return b"(" + b"".join(_bare(one) for one in part) + b"t"


def test_archives_that_are_none(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "old.pkl", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.pkl, expected an archive as PyTorch 1\.6"):
        read_torch_archive(tmp_path / "old.pkl")
    with pytest.raises(FileNotFoundError, match=r"Got .*none\.pkl, where there is no file"):
        read_torch_archive(tmp_path / "none.pkl")
    torch.save({"a": torch.ones(300)}, tmp_path / "whole.pkl")
    whole = (tmp_path / "whole.pkl").read_bytes()
    for end in (100, 700, len(whole) - 30):
        (tmp_path / "cut.pkl").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"^Got .*cut\.pkl"):
            read_torch_archive(tmp_path / "cut.pkl")
    with zipfile.ZipFile(tmp_path / "name.pkl", "w") as archive:
        archive.writestr("w/data.pkl", b"N.")
    data = bytearray((tmp_path / "name.pkl").read_bytes())
    data[7] |= 0x08  # its names are UTF-8
    data[31] = 0x86  # which the second letter of the first is not
    (tmp_path / "name.pkl").write_bytes(data)
    with pytest.raises(ValueError, match=r"name\.pkl, expected weights as PyTorch saves them"):
        read_torch_archive(tmp_path / "name.pkl")
    with zipfile.ZipFile(tmp_path / "bomb.pkl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"N" * (1 << 26))
    with pytest.raises(ValueError, match="packed"):
        read_torch_archive(tmp_path / "bomb.pkl")
