"""No bytes crash a reader: a value or a told error, in bounded time and memory. The long run is fuzz.py."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness import fuzz
from tests.robustness.fuzz import READERS, read_hostile

SECONDS, MOST_BYTES = 3.0, 1 << 28
PIECES = [
    b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"nan", b"-1", b"1e999", b"\r\n", b"'", b'"', b"data_", b"loop_\n_", b"#",
    b",", b"\n", b"(", b"[" * 50, b"__class__", "Å".encode(), b"9" * 30, b"\x80\x04\x95", b"}", b"../",
]  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, taken out, doubled, or put in from `PIECES`."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(found) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(found):
            found[at] = chance.randrange(256)
        elif kind == 1:
            del found[at : at + chance.choice((1, 4, 64))]
        elif kind == 2:
            found[at:at] = chance.choice(PIECES)
        elif kind == 3:
            found[at:at] = found[at : at + chance.choice((1, 8, 200))]
        else:
            del found[at:]
    return bytes(found)


@pytest.mark.parametrize("name", READERS)
def test_mutations_of_a_sound_file(name: str, tmp_path: Path) -> None:
    chance, tried, worst = random.Random(name), 0, 0.0
    sound = READERS[name][2]()
    read_hostile(name, tmp_path, sound)
    tracemalloc.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or tried < 20:
        began = time.monotonic()
        read_hostile(name, tmp_path, mutated(sound, chance))
        tried, worst = tried + 1, max(worst, time.monotonic() - began)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert worst < 10
    assert peak < MOST_BYTES


@pytest.mark.parametrize("name", [name for name in READERS if name != "query"])
def test_the_sound_files_are_sound(name: str, tmp_path: Path) -> None:
    """The fuzzing begins with files that are read, or that lack only another file."""
    assert read_hostile(name, tmp_path, READERS[name][2]()) or name == "volumes"


@pytest.mark.parametrize("name", READERS)
def test_any_bytes(name: str, tmp_path: Path) -> None:
    @given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))))
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(data: bytes) -> None:
        read_hostile(name, tmp_path, data)

    check()


@pytest.mark.slow
def test_the_long_run_is_one_command() -> None:
    """Coverage-guided, for some seconds."""
    done = subprocess.run(
        [sys.executable, fuzz.__file__, "--minutes", "0.1", "--only", "star", "pickle"],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "crashes 0, hangs 0, memory 0" in done.stdout
    inputs = int(done.stdout.rpartition("inputs ")[2].split(",")[0])
    assert inputs > 50


def test_faults_of_a_reader_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path) -> None:
        raise TypeError("unhashable")

    def mumble(path: Path) -> None:
        raise ValueError("bad file")

    monkeypatch.setitem(READERS, "crash", ("a", crash, bytes))
    monkeypatch.setitem(READERS, "mumble", ("a", mumble, bytes))
    with pytest.raises(TypeError):
        read_hostile("crash", tmp_path, b"")
    with pytest.raises(AssertionError, match="mumble: ValueError: bad file"):
        read_hostile("mumble", tmp_path, b"")
