"""The corpus of broken inputs: each is refused in one line that names the file and the cure, and nothing is written."""

# ruff: noqa: E501 (one line each)

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tests.particles.small_sets import WarpSeries
from tests.robustness.broken import header, then, tools, warp, warp_all, warp_rows, without
from tests.robustness.corpus import CASES, Case
from tests.robustness.fuzz import CURE
from tomodrgn.analysis.query import query_particles
from tomodrgn.cli import INPUT_ERRORS, run_command
from tomodrgn.cli.inputs import read_ids
from tomodrgn.io.mrc import open_stack, read_volume
from tomodrgn.particles.latents import Latents
from tomodrgn.training.run_facts import describe_run
from tomodrgn.volumes.volume_stack import VolumeStack

TINY = td.VaeConfig(z_dim=2, encoder_dim=16, decoder_dim=16, decoder_layers=1, encoder_layers=1, encoder_grid=5)


@pytest.fixture(scope="module")
def sound_run(small_particles, tmp_path_factory: pytest.TempPathFactory) -> td.Run:
    """A sound run, of which each case spoils a copy."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    options = {"model": TINY, "preprocess": td.PreprocessConfig(max_radius=0.2)}
    return td.train(small_particles, folder, training=td.TrainConfig(epochs=1, batch_size=4), **options)


def selected(run: Path, name: str) -> object:
    opened = td.Run.open(run)
    return td.widgets.Selection(opened.latents().particle_id).load(opened, name)


def decoded(run: Path) -> object:
    opened = td.Run.open(run)
    return td.generate_volumes(opened, opened.latents().mu[:2])


VERBS: dict[str, tuple[Callable, Callable | None]] = {
    "read": (td.read_particles, lambda path: ["info", path]),
    "read as warptools": (lambda path: td.read_particles(path, dialect="warptools"),
                          lambda path: ["info", path, "--dialect", "warptools"]),
    "backproject": (lambda path: td.backproject(td.read_particles(path)),
                    lambda path: ["backproject", path, path.parent / "out"]),
    "volume": (read_volume, None),
    "stack": (open_stack, None),
    "run": (lambda path: describe_run(td.Run.open(path)), lambda path: ["info", path]),
    "latents": (lambda path: td.Run.open(path).latents(),
                lambda path: ["generate", path, path / "out", "--kmeans", "2"]),
    "table": (lambda path: td.Run.open(path).table(), None),
    "decode": (decoded, lambda path: ["generate", path, path / "out", "--kmeans", "2"]),
    "latent file": (Latents.load, None),
    "maps": (VolumeStack.open, None),
    "ids": (lambda path: td.read_particles(path.parent / "set/series.star").subset(read_ids(path)),
            lambda path: ["filter", path.parent / "set/series.star", path.parent / "out.star", "--particle-ids", path]),
    "query": (lambda query: query_particles(pd.DataFrame({"z1": [1.0]}, index=["a"]), query), None),
}  # fmt: skip


def contents(folder: Path) -> dict[Path, bytes | None]:
    """What lies in a folder; links are not followed."""
    return {path: path.read_bytes() if path.is_file() and not path.is_symlink() else None for path in folder.rglob("*")}


def prepared(case: Case, folder: Path, run: td.Run) -> tuple[object, Path]:
    """The broken input, and the folder that must stay as it is."""
    folder.mkdir()
    if case.verb in ("run", "latents", "table", "decode") or case.verb.startswith("selection"):
        path = folder / "run"
        shutil.copytree(run.folder, path)
        case.build(path)
        return path, folder
    if case.verb == "ids":
        (folder / "set").mkdir()
        WarpSeries(folder / "set")
    return case.build(folder), folder


@pytest.mark.parametrize("case", CASES, ids=[f"{case.verb}: {case.name}" for case in CASES])
def test_broken_input_is_refused(
    case: Case, sound_run: td.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = prepared(case, tmp_path / "a folder of Ångström", sound_run)
    monkeypatch.chdir(tmp_path)
    before = contents(folder)
    verb, _, name = case.verb.partition(" ") if case.verb.startswith("selection") else (case.verb, "", "")
    call, command = VERBS.get(verb, (lambda path: selected(path, name or "mine"), None))
    with pytest.raises(INPUT_ERRORS) as caught:
        call(path)
    message = str(caught.value.args[0]) if isinstance(caught.value, KeyError) else str(caught.value)
    assert message.startswith("Got "), message
    assert CURE.search(message), message
    assert case.words in message
    assert case.file in message
    assert len(message) < 8000
    if command is not None:
        code = run_command([str(argument) for argument in command(path)])
        error = capsys.readouterr().err.strip()
        assert code == 2, error
        assert "Traceback" not in error
    assert contents(folder) == before


SOUND = {
    "Windows line ends": (then(warp(), lambda f: _crlf(f / "series.star")), 2),
    "old Macintosh line ends": (then(warp(), lambda f: _crlf(f / "series.star", b"\r")), 2),
    "backslashes in paths": (warp_rows(lambda rows: rows.assign(rlnImageName=rows["rlnImageName"].str.replace("/", "\\"))), 2),
    "a byte order mark": (then(warp(), lambda f: _crlf(f / "series.star", b"\n", b"\xef\xbb\xbf")), 2),
    "names in Greek, quoted": (warp_rows(lambda rows: rows.assign(rlnGroupName="σωμάτιο ένα " + rows["rlnGroupName"])), 2),
    "big-endian stacks": (then(warp(), lambda f: [_big_endian(f / f"particleseries/{name}.mrcs") for name in ("001", "T_2")]), 2),
    "defocus 0": (warp_all(rlnDefocusU="0", rlnDefocusV="0"), 2),
    "linked stacks": (then(warp(), lambda f: _linked(f / "particleseries/001.mrcs")), 2),
}  # fmt: skip
# Of these no half maps can be made: one particle has no other half, and the images of the other set are constant.
SOUND_WITHOUT_MAPS = {
    "1 particle": (warp_rows(lambda rows: rows.iloc[:3]), 1, "at least two"),
    "no global block": (tools(without("global")), 3, "constant images"),
}


def _crlf(path: Path, end: bytes = b"\r\n", start: bytes = b"") -> None:
    path.write_bytes(start + path.read_bytes().replace(b"\n", end))


def _big_endian(path: Path) -> None:
    data = np.array(open_stack(path))
    path.write_bytes(header(4, 4, len(data), order=">") + data.astype(">f4").tobytes())


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere.bin"))
    path.symlink_to("elsewhere.bin")


@pytest.mark.parametrize("name", [*SOUND, *SOUND_WITHOUT_MAPS])
def test_odd_but_sound_input_is_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, n_particles, *refused = {**SOUND, **SOUND_WITHOUT_MAPS}[name]
    folder = tmp_path / "a folder of Ångström"
    folder.mkdir()
    path = build(folder)
    particles = td.read_particles(path)
    assert (len(particles), len(set(particles.particle_id))) == (n_particles, n_particles)
    assert run_command(["info", str(path), "--json"]) == 0
    if refused:
        with pytest.raises(ValueError, match=refused[0]):
            td.backproject(particles)
    else:
        assert np.isfinite(td.backproject(particles).full).all()
    out = folder / "out.star"
    td.write_particles(particles, out)
    assert td.read_particles(out).particle_id.tolist() == particles.particle_id.tolist()
    capsys.readouterr()
