"""Hostile bytes for every reader: each must give a value, or an error of a known kind that names the file and a cure.

    python tests/robustness/fuzz.py --minutes 10
    python tests/robustness/fuzz.py --minutes 5 --only star pickle

Inputs come from atheris (libFuzzer), which mutates sound files so that it reaches code that no input reached before;
of the package and of what it parses with, Python code is instrumented. Each reader runs in a process of its own: a
crash, a hang of more than 20 s, and memory beyond 2 GiB end it, and count as failures. Prints a table; exit code 1 if
anything failed.
"""

# ruff: noqa: E501 (sound files as bytes)

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ERRORS = (ValueError, KeyError, FileNotFoundError)
CURE = re.compile(
    r"\b(expected|Give|Use|Check|Copy|Write|Choose|Correct|Remove|Restore|Export|Embed|Name|Shorten|Columns named|Tried)\b"
)
HANG_SECONDS, MOST_MIB = 20, 2048


def sound_star() -> bytes:
    return (
        b"# version 30001\n\ndata_optics\n\n_rlnOpticsGroup 1\n_rlnVoltage 300\n\ndata_particles\n\nloop_\n_rlnImageName #1\n"
        b"_rlnAngleRot #2\n_userText #3\n000001@a/b.mrcs 1.5 'a b'\n000002@a/b.mrcs nan \"c\" # end\n"
    )


def sound_images() -> bytes:
    labels = ("rlnMagnification", "rlnDetectorPixelSize", "rlnVoltage", "rlnSphericalAberration",
              "rlnAmplitudeContrast", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnImageName", "rlnAngleRot",
              "rlnAngleTilt", "rlnAnglePsi", "rlnCtfBfactor", "rlnCtfScalefactor", "rlnGroupName")  # fmt: skip
    rows = [
        f"10000 5 300 2.7 0.07 2e4 1.9e4 12 {i}@a.mrcs {i} 30 -95 {-4 * i} 0.9 001_000000{i % 2}" for i in range(1, 5)
    ]
    return ("\ndata_\n\nloop_\n" + "".join(f"_{label}\n" for label in labels) + "\n".join(rows) + "\n").encode()


def sound_mrc() -> bytes:
    from tests.robustness.broken import header

    return header(4, 4, 2) + np.arange(32, dtype="<f4").tobytes()


def sound_npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, particle_id=np.array(["a", "b"]), mu=np.zeros((2, 3), "f4"), logvar=np.zeros((2, 3), "f4"))
    return out.getvalue()


def sound_run() -> bytes:
    from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig

    return json.dumps({
        "format": "tomodrgn-run", "version": 1, "tomodrgn": "0", "created": "", "scale": 1.0, "n_tilts": 3, "box_px": 32,
        "pixel_size_angst": 4.0, "model": {"kind": "vae", **VaeConfig().model_dump()},
        "preprocess": PreprocessConfig().model_dump(), "training": TrainConfig().model_dump(),
        "source": {"path": "/a.star", "sha256": "0", "datadir": [], "options": {"dialect": "warp"}, "stack_box_px": 32},
    }).encode()  # fmt: skip


def sound_pickle() -> bytes:
    plain = {"model_args": {"zdim": 8, "activation": "relu"}, "norm": [0.0, np.float32(2)], "a": np.arange(3.0)}
    return pickle.dumps(plain, 2) + pickle.dumps(np.zeros((2, 2), "f4"))


def sound_archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07"
                         b"\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK"
                         b"\x00K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.")  # fmt: skip
        archive.writestr("w/data/0", np.zeros(4, "f4").tobytes())
    return out.getvalue()


def read_images(path: Path) -> None:
    from tomodrgn.particles.read import read_particles

    read_particles(path, check_stacks=False).frame()


def read_run(path: Path) -> None:
    from tomodrgn.training.run import Run

    run = Run.open(path.parent)
    run.epochs, run.config, run.preprocess_config, run.train_config  # noqa: B018


def read_table(path: Path) -> None:
    from tomodrgn.cli.inputs import read_column, read_ids

    read_ids(path)
    read_column(str(path))


def read_selection(path: Path) -> None:
    """A selection and its story in a run that is sound otherwise."""
    from tomodrgn.training.run import Run
    from tomodrgn.widgets.selection import Selection

    data = path.read_bytes()
    folder = path.with_name("run")
    (folder / "selections").mkdir(parents=True, exist_ok=True)
    story = data[:1] in (b"{", b"[", b"\xff")
    (folder / "selections/mine.csv").write_bytes(b"particle_id\na\n" if story else data)
    (folder / "selections/mine.json").write_bytes(data if story else b"{}")
    Selection(["a", "b"]).load(Run(folder, {}), "mine")


def read_analysis(path: Path) -> None:
    from tomodrgn.training.particle_table import analysis_columns

    analysis_columns(path.parent)


def read_volumes(path: Path) -> None:
    from tomodrgn.volumes.volume_stack import VolumeStack

    VolumeStack.open(path.parent)


def ask(path: Path) -> None:
    from tomodrgn.analysis.query import query_particles

    table = pd.DataFrame({"z1": [1.0, np.nan], "name": ["a", None], "on": [True, False]}, index=["p", "q"])
    query_particles(table, path.read_bytes().decode(errors="replace"))


def lazily(module: str, name: str) -> Callable[[Path], object]:
    def call(path: Path) -> object:
        return getattr(importlib.import_module(f"tomodrgn.{module}"), name)(path)

    return call


def read_latents(path: Path) -> None:
    from tomodrgn.particles.latents import Latents

    Latents.load(path)


def stack_and_map(path: Path) -> None:
    from tomodrgn.io.mrc import open_stack, read_header, read_volume

    head = read_header(path)
    (open_stack if head.shape_zyx[0] != head.shape_zyx[1] else read_volume)(path)


def history_and_status(path: Path) -> None:
    from tomodrgn.training.run_files import read_history, read_status

    (read_history if path.read_bytes()[:1] != b"{" else read_status)(path)


# Of each reader: the name of its file, what it does, and a sound file to begin from.
READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[], bytes]]] = {
    "star": ("a.star", lazily("io.star", "read_star"), sound_star),
    "images": ("a.star", read_images, sound_images),
    "mrc": ("a.mrc", stack_and_map, sound_mrc),
    "run": ("run.json", read_run, sound_run),
    "history": ("history.csv", history_and_status,
                lambda: b"epoch,split,reconstruction,kl,total,beta,learning_rate,seconds\n1,train,1,2,3,0,0,1\n"),
    "latents": ("a.npz", read_latents, sound_npz),
    "selection": ("a.csv", read_selection, lambda: b"particle_id\na\nb\n"),
    "table": ("a.csv", read_table, lambda: b"particle_id,label\na,1\nb,2\n"),
    "analysis": ("a.csv", read_analysis, lambda: b"particle_id,cluster\na,1\nb,\n"),
    "volumes": ("volumes.csv", read_volumes, lambda: b"name,file\nmap_000,map_000.mrc\n"),
    "query": ("query", ask, lambda: b"z1 > 1 and (name in ['a', \"b\"] or not on) and `z1` is missing"),
    "pickle": ("a.pkl", lazily("io.plain_pickle", "read_pickles"), sound_pickle),
    "archive": ("a.pkl", lazily("io.torch_archive", "read_torch_archive"), sound_archive),
    "cistem": ("a.cistem", lazily("io.cistem", "read_cistem"), lambda: b"\x01\x00\x00\x00\x01\x00\x00\x00\x01" + bytes(7)
               + b"\x09\x07\x00\x00\x00"),
}  # fmt: skip


def read_hostile(name: str, folder: Path, data: bytes) -> bool:
    """Whether these bytes could be read; anything but a value or a told error is raised on.

    Raises
    ------
    AssertionError
        If an error is of another kind, or does not say what it got and what to do.
    """
    file, read, _ = READERS[name]
    path = folder / file
    path.write_bytes(data)
    try:
        read(path)
    except ERRORS as error:
        said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if not said.startswith("Got ") or not CURE.search(said) or len(said) > 20_000:
            raise AssertionError(f"{name}: {type(error).__name__}: {said[:500]}") from error
        return False
    return True


# --- the long run -----------------------------------------------------------------------------------------------------


def fuzz_one(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one reader in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["tomodrgn", "pickletools", "zipfile"]):
        for module in ("analysis.query", "cli.inputs", "particles.read", "volumes.volume_stack", "widgets.selection"):
            importlib.import_module(f"tomodrgn.{module}")
    warnings.simplefilter("ignore")
    place, corpus = folder / "place", folder / "corpus"
    place.mkdir(exist_ok=True)
    corpus.mkdir(exist_ok=True)
    (corpus / "sound").write_bytes(READERS[name][2]())
    arguments = ["fuzz", str(corpus), f"-max_total_time={seconds}", f"-timeout={HANG_SECONDS}",
                 f"-rss_limit_mb={MOST_MIB}", "-max_len=8192", "-print_final_stats=1",
                 f"-artifact_prefix={folder}/failed-"]  # fmt: skip
    atheris.Setup(arguments, lambda data: read_hostile(name, place, data))
    atheris.Fuzz()


def fuzz(names: list[str], minutes: float) -> list[dict[str, object]]:
    """Fuzz each reader for its share of the time."""
    rows: list[dict[str, object]] = []
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        command = [sys.executable, __file__, "--one", name, "--seconds", str(max(2, int(60 * minutes / len(names)))),
                   "--folder", str(folder)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=dict(os.environ))
        said = done.stderr + done.stdout
        tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        peak = re.search(r"stat::peak_rss_mb:\s*(\d+)", said)
        covered = re.findall(r"cov: (\d+)", said)
        failed = sorted(path.name for path in folder.glob("failed-*"))
        rows.append({
            "reader": name, "inputs": int(tried[1]) if tried else 0, "covered": int(covered[-1]) if covered else 0,
            "peak_mib": int(peak[1]) if peak else 0, "crashes": sum("crash" in f for f in failed),
            "hangs": sum("timeout" in f for f in failed), "memory": sum("oom" in f for f in failed),
        })  # fmt: skip
        print(rows[-1], flush=True)
        if failed or done.returncode:
            print(said[-3000:], "\nkept in", folder, flush=True)
            rows[-1]["crashes"] = rows[-1]["crashes"] or int(not failed)
        else:
            shutil.rmtree(folder)
    return rows


def main() -> None:
    """Read the command line, fuzz, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="*", choices=list(READERS), default=list(READERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=list(READERS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    if options.one is not None:
        fuzz_one(options.one, options.seconds, options.folder)
        return
    rows = fuzz(options.only, options.minutes)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    totals = table[["inputs", "crashes", "hangs", "memory"]].sum()
    print(", ".join(f"{name} {value}" for name, value in totals.items()))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(int(totals[["crashes", "hangs", "memory"]].any()))


if __name__ == "__main__":
    main()
