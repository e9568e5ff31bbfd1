"""Pickles of plain data, read without running them: numbers, text, containers, NumPy arrays and tensors.

A pickle is a program that may call anything. This module never unpickles: the opcodes, as `pickletools` lists them, are
followed by an interpreter of its own, which knows the few calls that arrays and tensors consist of and makes their
values itself. Whatever else a pickle names or does is refused by name. What is read cannot be larger than the file:
arrays must have as many bytes as they claim, and containers are bounded in number and depth. Every value is one of
None, bool, int, float, str, bytes, list, tuple, dict, set, `numpy.ndarray` or NumPy scalar.

Sources: the opcodes of https://docs.python.org/3/library/pickletools.html; what NumPy and PyTorch write, found by
listing their files.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tomodrgn.io.fault import FaultError

__all__ = ["read_pickles", "read_plain"]

MOST_BYTES = 8 << 30
MOST_OPERATIONS = 5_000_000
MOST_NESTED, MOST_MARKS = 100, 1_000
SCALARS = (type(None), bool, int, float, str, bytes)
DTYPE = re.compile(r"[<>|=]?(?:[?biufc](?:1|2|4|8|16)?|[SU]\d{1,6})")
MARK = object()


class _Global:
    """A name that a pickle asked for, in place of the thing itself."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Unfinished:
    """An array or a type between its creation and its BUILD."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def _reconstruct(kind: Any, *_: Any) -> _Unfinished:
    if getattr(kind, "name", "") != "numpy.ndarray":
        raise FaultError("an array made from another type")
    return _Unfinished("array")


def _dtype(code: Any, *_: Any) -> np.dtype:
    if not isinstance(code, str) or not DTYPE.fullmatch(code):
        raise FaultError(f"the type of numbers {code!r:.40}")
    return np.dtype(code)


def _scalar(kind: Any, data: Any) -> Any:
    return _array((), kind, data, order="C")[()]


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    return _array(shape, kind, bytes(data) if isinstance(data, bytearray) else data, order=order)


def _array(shape: Any, kind: Any, data: Any, *, order: Any) -> np.ndarray:
    """An array of bytes that are there, read-only."""
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or len(shape) > 16:
        raise FaultError(f"the shape {shape!r:.60}")
    if not isinstance(kind, np.dtype) or not isinstance(data, bytes) or order not in ("C", "F"):
        raise FaultError("an array that is no array of numbers")
    if math.prod(shape) * kind.itemsize != len(data):
        raise FaultError(f"an array of shape {shape} in {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(shape, order=order) if data else np.empty(shape, kind)


def _encode(text: Any, codec: Any) -> bytes:
    if codec != "latin1" or not isinstance(text, str):
        raise FaultError(f"the encoding {codec!r:.40}")
    return text.encode("latin1")


def _as_set(items: Any) -> set:
    if not all(isinstance(item, SCALARS) for item in items):
        raise FaultError("a set of containers")
    return set(items)


def _date(data: Any, *_: Any) -> str:
    """The ten bytes that a datetime keeps, as text."""
    raw = data if isinstance(data, bytes) else str(data).encode("latin1", "replace")
    if len(raw) != 10:
        raise FaultError("a date of other than ten bytes")
    year, (month, day, hour, minute, second) = int.from_bytes(raw[:2], "big"), raw[2:7]
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def _path(*parts: Any) -> str:
    return "/".join(str(part) for part in parts)


# The calls that are followed, each by a function of this module. What numpy moved in version 2 has both names.
CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda *items: dict(*items) if not items else _refuse("an ordered dictionary of items"),
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.set": _as_set,
    "__builtin__.set": _as_set,
    "__builtin__.bytes": lambda *data: b"" if not data else _refuse("bytes made of something"),
    "builtins.bytearray": lambda *data: bytes(data[0]) if data and isinstance(data[0], bytes) else b"",
    "datetime.datetime": _date,
    "pathlib.PosixPath": _path,
    "pathlib.PurePosixPath": _path,
    "pathlib.WindowsPath": _path,
}
NAMES = {"numpy.ndarray"}  # that may stand there, and are not called


def _refuse(what: str) -> Any:
    raise FaultError(what)


def read_pickles(path: Path | str) -> list[Any]:
    """All values of a file of pickles, one after another.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds anything but plain data; what it asks for is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Got {path}, where there is no file. Check the path.")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"Got {path} of {size} bytes, expected at most {MOST_BYTES}. Give the file of one run.")
    data = io.BytesIO(path.read_bytes())
    found = []
    while data.tell() < size:
        found.append(read_plain(data, str(path)))
    if not found:
        raise ValueError(f"Got an empty file {path}, expected a pickle of plain data. Copy the file again.")
    return found


def read_plain(
    data: io.BytesIO,
    origin: str,
    *,
    calls: dict[str, Callable[..., Any]] | None = None,
    names: frozenset[str] = frozenset(),
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of the pickle at the present place of `data`.

    Parameters
    ----------
    data
        Bytes; afterwards its place is after the pickle.
    origin
        Where they come from, for messages.
    calls, names
        Further calls that are followed, by their full names, and names that may stand there.
    persistent
        Makes the value of what a pickle keeps elsewhere; None refuses it.

    Raises
    ------
    ValueError
        If the pickle is damaged, or does anything that is not known; the message names it.
    """
    try:
        reader = _Reader({**CALLS, **(calls or {})}, NAMES | names, persistent)
        return _checked(reader.read(data))
    except RecursionError:
        fault = "containers nested too deep"
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError, EOFError) as error:
        fault = (str(error) or type(error).__name__).splitlines()[0]
    raise ValueError(
        f"Got a pickle in {origin} with {fault[:300]}, expected numbers, text, containers, arrays and tensors only. It "
        "was not run. Ask who made it for these, or convert it on a machine that may be lost."
    )


class _Reader:
    """Follows the opcodes of one pickle."""

    def __init__(
        self, calls: dict[str, Callable[..., Any]], names: set[str] | frozenset[str], persistent: Callable | None
    ) -> None:
        self._calls, self._names, self._persistent = calls, names, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._marks = 0

    def read(self, data: io.BytesIO) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number > MOST_OPERATIONS:
                raise FaultError(f"more than {MOST_OPERATIONS} operations")
            name = opcode.name
            if name == "STOP":
                break
            if name in VALUES:
                self._stack.append(argument)
            elif name in STEPS:
                STEPS[name](self, argument)
            else:
                raise FaultError(f"the operation {name}")
        value = self._pop()
        if self._stack:
            raise FaultError("more than one value")
        return value

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is MARK:
            raise FaultError("an operation on nothing")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise FaultError(f"an operation on what is no {kind.__name__}")
        return self._stack[-1]

    def _popped_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while at >= 0 and self._stack[at] is not MARK:
            at -= 1
        if at < 0:
            raise FaultError("an operation without its mark")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        self._marks -= 1
        return items

    def mark(self, _: Any) -> None:
        self._marks += 1
        if self._marks > MOST_MARKS:
            raise FaultError(f"more than {MOST_MARKS} containers begun")
        self._stack.append(MARK)

    def pop(self, _: Any) -> None:
        if self._stack[-1] is MARK:
            self._popped_to_mark()
        else:
            self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._popped_to_mark()

    def duplicate(self, _: Any) -> None:
        value = self._pop()
        self._stack += [value, value]

    def put(self, argument: Any) -> None:
        if self._stack[-1] is MARK:
            raise FaultError("a memo of nothing")
        self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]

    def get(self, argument: Any) -> None:
        if int(argument) not in self._memo:
            raise FaultError(f"a memo {argument} that was never made")
        self._stack.append(self._memo[int(argument)])

    def named(self, argument: Any) -> None:
        if argument is None:  # STACK_GLOBAL
            name, module = self._pop(), self._pop()
            if not (isinstance(name, str) and isinstance(module, str)):
                raise FaultError("a name that is no text")
            full = f"{module}.{name}"
        else:
            full = ".".join(str(argument).split(" ", 1))
        if full not in self._calls and full not in self._names:
            raise FaultError(f"the name {full}")
        self._stack.append(_Global(full))

    def call(self, _: Any) -> None:
        arguments, asked = self._pop(), self._pop()
        if not isinstance(asked, _Global) or asked.name not in self._calls or type(arguments) is not tuple:
            raise FaultError(f"a call of {asked.name if isinstance(asked, _Global) else type(asked).__name__}")
        self._stack.append(self._calls[asked.name](*arguments))

    def build(self, _: Any) -> None:
        state, made = self._pop(), self._pop()
        if isinstance(made, _Unfinished) and type(state) is tuple and len(state) == 5:
            _, shape, kind, fortran, data = state
            built: Any = _array(shape, kind, data, order="F" if fortran else "C")
        elif (
            isinstance(made, np.dtype) and type(state) is tuple and len(state) >= 2 and state[1] in ("<", ">", "|", "=")
        ):
            built = made.newbyteorder(state[1]) if state[1] != "|" else made
        elif isinstance(made, dict) and isinstance(state, dict):
            built = made  # the attributes of an ordered dictionary, such as _metadata of PyTorch's
        else:
            raise FaultError(f"a state set on a {type(made).__name__}")
        for key in [key for key, value in self._memo.items() if value is made]:
            self._memo[key] = built
        self._stack.append(built)

    def append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self, _: Any) -> None:
        values = self._popped_to_mark()
        self._top(list).extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._fill([key, value])

    def set_items(self, _: Any) -> None:
        self._fill(self._popped_to_mark())

    def _fill(self, items: list[Any]) -> None:
        self._top(dict).update(_pairs(items))

    def add_items(self, _: Any) -> None:
        items = self._popped_to_mark()
        self._top(set).update(_as_set(items))

    def elsewhere(self, _: Any) -> None:
        told = self._pop()
        if self._persistent is None:
            raise FaultError("a value kept elsewhere (BINPERSID)")
        self._stack.append(self._persistent(told))

    def make(self, kind: Callable[[list], Any], count: int | None) -> None:
        """Put a container of the last `count` values, or of those up to the mark."""
        items = self._popped_to_mark() if count is None else [self._pop() for _ in range(count)][::-1]
        self._stack.append(kind(items))


def _pairs(items: list[Any]) -> dict:
    """Keys and values in turn; containers as keys could take forever to compare."""
    if len(items) % 2 or not all(isinstance(key, SCALARS) for key in items[::2]):
        raise FaultError("a dictionary whose keys are containers")
    return dict(zip(items[::2], items[1::2], strict=True))


def _making(kind: Callable[[list], Any], count: int | None) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader.make(kind, count)


VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": lambda reader, argument: None, "FRAME": lambda reader, argument: None,
    "NONE": lambda reader, _: reader.make(lambda items: None, 0),
    "NEWTRUE": lambda reader, _: reader.make(lambda items: True, 0),
    "NEWFALSE": lambda reader, _: reader.make(lambda items: False, 0),
    "EMPTY_LIST": _making(list, 0), "EMPTY_TUPLE": _making(tuple, 0), "EMPTY_DICT": _making(_pairs, 0),
    "EMPTY_SET": _making(set, 0), "TUPLE1": _making(tuple, 1), "TUPLE2": _making(tuple, 2), "TUPLE3": _making(tuple, 3),
    "LIST": _making(list, None), "TUPLE": _making(tuple, None), "DICT": _making(_pairs, None),
    "FROZENSET": _making(_as_set, None), "MARK": _Reader.mark, "POP": _Reader.pop, "POP_MARK": _Reader.pop_mark,
    "DUP": _Reader.duplicate, "PUT": _Reader.put, "BINPUT": _Reader.put, "LONG_BINPUT": _Reader.put,
    "MEMOIZE": _Reader.put, "GET": _Reader.get, "BINGET": _Reader.get, "LONG_BINGET": _Reader.get,
    "GLOBAL": _Reader.named, "STACK_GLOBAL": _Reader.named, "REDUCE": _Reader.call, "BUILD": _Reader.build,
    "APPEND": _Reader.append, "APPENDS": _Reader.appends, "SETITEM": _Reader.set_item, "SETITEMS": _Reader.set_items,
    "ADDITEMS": _Reader.add_items, "BINPERSID": _Reader.elsewhere,
}  # fmt: skip


def _checked(value: Any) -> Any:
    """The value, if it holds nothing but plain data, no container holds itself, and none is nested too deep."""
    open_ids: list[int] = []
    done: set[int] = set()
    todo: list[tuple[Any, bool]] = [(value, False)]
    while todo:
        item, leaving = todo.pop()
        if leaving:
            done.add(open_ids.pop())
        elif isinstance(item, list | tuple | dict):
            if id(item) in done:
                continue
            if id(item) in open_ids:
                raise FaultError("a container that holds itself")
            if len(open_ids) >= MOST_NESTED:
                raise FaultError(f"containers nested more than {MOST_NESTED} deep")
            open_ids.append(id(item))
            todo.append((item, True))
            todo += [(inner, False) for inner in (item.values() if isinstance(item, dict) else item)]
        elif not isinstance(item, (*SCALARS, bytearray, set, np.ndarray, np.generic)):
            raise FaultError(f"a {item.name if isinstance(item, _Global) else type(item).__name__} in place of data")
    return value
