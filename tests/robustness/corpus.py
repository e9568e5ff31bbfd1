"""The corpus: broken inputs, one line each: the verb that reads them, words of the message, and the file it names."""

# ruff: noqa: E501 (one line each)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.robustness.broken import (
    archive,
    as_folder,
    cell,
    cut,
    header,
    loop,
    mrc,
    npy_header,
    pixels,
    removed,
    replaced,
    settings,
    text,
    then,
    tools,
    twice,
    warp,
    warp_all,
    warp_rows,
    without,
)

IDS = np.array(["a", "b"])
Z = np.zeros((2, 2), dtype=np.float32)


class Case(NamedTuple):
    """A broken input."""

    name: str
    verb: str
    build: Callable[[Path], object]
    words: str
    file: str


def star(name: str, build: Callable[[Path], Path], words: str, file: str = "series.star", verb: str = "read") -> Case:
    return Case(name, verb, build, words, file)


def run(name: str, spoil: Callable[[Path], object], words: str, file: str, verb: str = "run") -> Case:
    return Case(name, verb, spoil, words, file)


STAR = [
    star("empty file", text(""), "empty file", "given.star"),
    star("binary file", text(b"\0" * 64), "binary file", "given.star"),
    star("UTF-16", text("data_\nloop_\n_a\n1\n".encode("utf-16")), "expected", "given.star"),
    star("Latin-1", text(b"data_\nloop_\n_a\n\xe9\n"), "UTF-8", "given.star"),
    star("prose", text("Dear colleague,\nplease find attached\n"), "without a `data_` block", "given.star"),
    star("HTML page", text("<html><body>404</body></html>"), "expected", "given.star"),
    star("no columns", text("data_\nloop_\n"), "", "given.star"),
    star("no rows", text("data_\nloop_\n_rlnImageName #1\n"), "", "given.star"),
    star("0 particles", warp_rows(lambda rows: rows.iloc[:0]), ""),
    star("cut in a row", then(warp(), cut("series.star", 900)), "cells, found"),
    star("cut in the labels", then(warp(), cut("series.star", 200)), "", "series.star"),
    star("short row", text("data_\nloop_\n_a\n_b\n1\n"), "expected 2 cells, found 1", "given.star"),
    star("open quote", text("data_\nloop_\n_a\n_b\n'1 2\n3 4 5\n"), "cells", "given.star"),
    star("folder for a file", lambda folder: folder, "a folder", ""),
    star("no file", lambda folder: folder / "absent.star", "no file", "absent.star"),
    star("link to itself", then(warp(), loop("series.star")), "", "series.star"),
    star(
        "stack that links to itself",
        then(warp(), loop("particleseries/001.mrcs")),
        "do not exist",
        "001.mrcs",
        verb="backproject",
    ),
    star(
        "folder of stacks that links to itself",
        then(warp(), loop("particleseries")),
        "do not exist",
        "001.mrcs",
        verb="backproject",
    ),
    star(
        "missing stack",
        then(warp(), removed("particleseries/T_2.mrcs")),
        "1 of 2 image stacks",
        "T_2.mrcs",
        verb="backproject",
    ),
    star(
        "folder in place of a stack",
        then(warp(), as_folder("particleseries/T_2.mrcs")),
        "do not exist",
        "T_2.mrcs",
        verb="backproject",
    ),
    star("stack cut in its header", then(warp(), cut("particleseries/001.mrcs", 100)), "100 bytes", "001.mrcs"),
    star("stack cut in its pixels", then(warp(), cut("particleseries/001.mrcs", 1100)), "cut short", "001.mrcs"),
    star("empty stack", then(warp(), cut("particleseries/001.mrcs", 0)), "0 bytes", "001.mrcs"),
    star("stack of text", then(warp(), replaced("particleseries/001.mrcs", "x" * 2000)), "expected", "001.mrcs"),
    star("slice 0", warp(rlnImageName="000000@particleseries/001.mrcs"), "numbers from 1"),
    star("slice beyond its stack", warp(rlnImageName="000009@particleseries/001.mrcs"), "", "001.mrcs"),
    star("slice 1e300", warp(rlnImageName="1e300@particleseries/001.mrcs"), "numbers from 1"),
    star("image name without slice", warp(rlnImageName="particleseries/001.mrcs"), "`number@path`"),
    star("same image twice", warp(rlnImageName="000002@particleseries/001.mrcs"), ""),
    star(
        "name of 10,000 characters",
        warp(rlnImageName=f"1@{'x' * 10_000}.mrcs"),
        "do not exist",
        ".mrcs",
        verb="backproject",
    ),
    star(
        "name with a NUL",
        then(warp(), replaced("series.star", b"data_\nloop_\n_a\n" + b"1\n" * 4000 + b"x\0y\n" * 2 + b"1\n" * 4000)),
        "",
        "series.star",
    ),
    star("negative pixel size", warp_all(rlnDetectorPixelSize="-5"), "Got -5 as _rlnDetectorPixelSize"),
    star("pixel size 0", warp_all(rlnDetectorPixelSize="0"), "Got 0 as _rlnDetectorPixelSize"),
    star("magnification 0", warp_all(rlnMagnification="0"), "Got 0 as _rlnMagnification"),
    star("two pixel sizes", warp(rlnDetectorPixelSize="6"), "several values of the pixel size"),
    star("angle that is no number", warp(rlnAngleRot="abc"), "'abc' as _rlnAngleRot"),
    star("angle NaN", warp(rlnAngleRot="nan"), "finite number"),
    star(
        "no defocus",
        warp_rows(lambda rows: rows.drop(columns=["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"])),
        "lacks rlnDefocusU",
    ),
    star("infinite defocus", warp(rlnDefocusU="inf"), "finite number"),
    star("voltage 0", warp_all(rlnVoltage="0"), "rlnVoltage"),
    star("negative voltage", warp_all(rlnVoltage="-300"), "rlnVoltage"),
    star("amplitude contrast 7", warp_all(rlnAmplitudeContrast="7"), "rlnAmplitudeContrast"),
    star("defocus of 1e30", warp_all(rlnDefocusU="1e30"), "rlnDefocusU"),
    star("shift of 1e30", warp_all(rlnOriginX="1e30"), "rlnOriginX"),
    star("no angles", warp(rlnAngleTilt=None), "rlnAngleTilt"),
    star("no image names", warp(rlnImageName=None), ""),
    star("no particle names", warp(rlnGroupName=None), ""),
    star("no voltage", warp(rlnVoltage=None), "_rlnVoltage"),
    star("single particles", warp_rows(lambda rows: rows.assign(rlnGroupName=[f"p_{i:07d}" for i in range(5)])), ""),
    star("other dialect", warp(), "expected", verb="read as warptools"),
    star("NaN pixels", then(warp(), pixels(np.nan)), "finite", "001.mrcs", verb="backproject"),
    star("infinite pixels", then(warp(), pixels(np.inf)), "finite", "001.mrcs", verb="backproject"),
]
SETS = [
    star("mask too short", tools(cell("particles", "rlnTomoVisibleFrames", "[1,0]")), "rlnTomoVisibleFrames", "p.star"),
    star("mask too long", tools(cell("particles", "rlnTomoVisibleFrames", "[1,1,1,1,1,1]")), "rlnTomoVisibleFrames", "p.star"),
    star("mask of words", tools(cell("particles", "rlnTomoVisibleFrames", "[yes,no]")), "rlnTomoVisibleFrames", "p.star"),
    star("mask of fours", tools(cell("particles", "rlnTomoVisibleFrames", "[4,4,4,4]")), "rlnTomoVisibleFrames", "p.star"),
    star("masks of nothing", tools(lambda made: setattr(made, "rows", made.rows.assign(rlnTomoVisibleFrames=["[0,0,0,0]", "[0,0,0,0]", "[0,0,0]"]))), "no particle with a visible tilt", "p.star"),
    star("particle twice", tools(twice("particles")), "", "p.star"),
    star("optics group twice", tools(twice("optics")), "", "p.star"),
    star("tomogram twice", tools(twice("global")), "", "t.star"),
    star("no optics", tools(without("optics")), "", "p.star"),
    star("no table of tilts", tools(without("T_2.tomostar")), "T_2.tomostar", "t.star"),
    star("no particles block", tools(without("particles")), "", "set.star"),
    star("unknown optics group", tools(cell("particles", "rlnOpticsGroup", "9")), "optics group '9'", "p.star"),
    star("unknown tomogram", tools(cell("particles", "rlnTomoName", "T_9.tomostar")), "T_9", "star"),
    star("box of the optics group -4", tools(cell("optics", "rlnImageSize", "-4")), "", "p.star"),
    star("two boxes", then(tools(lambda made: None), lambda f: _stack(f, "stacks/T_2/T_2_10.00A_000001.mrcs", 3, 6)), "several boxes", "T_2_10.00A_000001.mrcs"),
    star("stack with too few tilts", then(tools(lambda made: None), lambda f: _stack(f, "stacks/001/001_10.00A_000001.mrcs", 1, 4)), "Got 1 images", "001_10.00A_000001.mrcs"),
    star("pixel size -10 of the optics", tools(cell("optics", "rlnImagePixelSize", "-10")), "", "p.star"),
    star("projection of two numbers", tools(cell("001.tomostar", "rlnTomoProjX", "[1,0]")), "rlnTomoProjX", "t.star"),
    star("projection of words", tools(cell("001.tomostar", "rlnTomoProjX", "[__import__('os'),0,0,0]")), "rlnTomoProjX", "t.star"),
    star("projection of zeros", tools(cell("001.tomostar", "rlnTomoProjX", "[0,0,0,0]")), "", "t.star"),
    star("names no file", then(tools(lambda made: None), removed("p.star")), "p.star named in", "set.star"),
    star("names itself", tools(lambda made: made.optimisation[""].__setitem__("rlnTomoParticlesFile", "set.star")), "", "set.star"),
    star("tomograms file links to itself", then(tools(lambda made: None), loop("t.star")), "t.star named in", "set.star"),
    star("exposure NaN", tools(cell("001.tomostar", "rlnMicrographPreExposure", "nan")), "rlnMicrographPreExposure", "t.star"),
    star("names no file in 10,000 characters", tools(lambda made: made.optimisation[""].__setitem__("rlnTomoParticlesFile", "x" * 10_000)), "does not exist", "set.star"),
    star("position outside", tools(cell("particles", "rlnCoordinateX", "1e9")), "", "p.star"),
]  # fmt: skip
MRC = [
    Case("header of 100 bytes", "volume", mrc(header(10_000, 10_000, 10_000)[:100]), "100 bytes", "map.mrc"),
    Case("claims 10^12 voxels", "volume", mrc(header(10_000, 10_000, 10_000)), "expected 4000000001024", "map.mrc"),
    Case("claims 2^93 voxels", "volume", mrc(header(*[2**31 - 1] * 3)), "expected", "map.mrc"),
    Case("stack claims 10^12 pixels", "stack", mrc(header(10_000, 10_000, 10_000)), "expected 4000", "map.mrc"),
    Case("mode 99", "volume", mrc(header(2, 2, 2, 99) + bytes(64)), "mode 99", "map.mrc"),
    Case("complex numbers", "stack", mrc(header(2, 2, 2, 4) + bytes(64)), "mode 4", "map.mrc"),
    Case("negative size", "volume", mrc(header(-2, 2, 2) + bytes(64)), "-2 x 2 x 2", "map.mrc"),
    Case("huge extended header", "volume", mrc(header(2, 2, 2, extension=2**31 - 1) + bytes(64)), "cut short", "map.mrc"),
    Case("stamp of the other byte order", "volume", mrc(header(2, 2, 2)[:212] + b"\x11\x11" + header(2, 2, 2)[214:] + bytes(64)), "expected", "map.mrc"),
    Case("no cube", "volume", mrc(header(2, 2, 4) + bytes(64)), "cube", "map.mrc"),
    Case("odd box", "stack", mrc(header(3, 3, 1) + bytes(36)), "even side", "map.mrc"),
    Case("gzip", "volume", mrc(b"\x1f\x8b" + bytes(3000)), "expected", "map.mrc"),
    Case("NaN in a map", "volume", mrc(header(2, 2, 2) + np.full(8, np.nan, "<f4").tobytes()), "finite", "map.mrc"),
    Case("link to itself", "volume", lambda folder: (loop("map.mrc")(folder), folder / "map.mrc")[1], "", "map.mrc"),
]  # fmt: skip
RUNS = [
    run("no run.json", removed("run.json"), "without run.json", "run"),
    run("empty run.json", replaced("run.json", ""), "run description", "run.json"),
    run("binary run.json", replaced("run.json", b"\xff\xfe\0"), "run description", "run.json"),
    run("run.json nested 100,000 deep", replaced("run.json", "[" * 100_000), "run description", "run.json"),
    run("run.json is a list", replaced("run.json", "[1]"), "run description", "run.json"),
    run("run.json links to itself", loop("run.json"), "", "run.json"),
    run("future version", settings(version=2), "Update tomodrgn", "run.json"),
    run("version of words", settings(version="new"), "run description", "run.json"),
    run("version NaN", settings(version=float("nan")), "run description", "run.json"),
    run("other format", settings(format="cryodrgn"), "format", "run.json"),
    run("no model", settings(model=None), "model", "run.json"),
    run("model is a text", settings(model="vae"), "model", "run.json"),
    run("kind of model that is a list", settings(model__kind=[1]), "kind [1]", "run.json"),
    run("unknown kind of model", settings(model__kind="gan"), "gan", "run.json"),
    run("unknown option", settings(model__colour="red"), "colour", "run.json"),
    run("option out of range", settings(training__epochs=-1), "epochs", "run.json"),
    run("no source", settings(source=None), "source", "run.json"),
    run("source without path", settings(source__path=None), "path", "run.json"),
    run("source is a list", settings(source=[]), "source", "run.json"),
    run("box of words", settings(box_px="large"), "box_px", "run.json"),
    run("negative box", settings(box_px=-32), "box_px", "run.json"),
    run("scale 0", settings(scale=0.0), "scale", "run.json"),
    run("pixel size NaN", settings(pixel_size_angst=float("nan")), "pixel_size_angst", "run.json"),
    run("future options of reading", settings(source__options__quantum=True), "quantum", "run.json"),
    run("damaged status", replaced("status.json", "{"), "status", "status.json"),
    run("status is a list", replaced("status.json", "[1]"), "status", "status.json"),
    run("history of other columns", replaced("history.csv", "a,b\n1,2\n"), "history", "history.csv"),
    run("history of words", replaced("history.csv", "epoch,split,reconstruction,kl,total,beta,learning_rate,seconds\n1,train,x,y,z,,,\n"), "history", "history.csv"),
    run("binary history", replaced("history.csv", b"\0\xff\xfe" * 99), "history", "history.csv"),
    run("ragged history", replaced("history.csv", "epoch,split\n1,2,3,4\n1\n"), "history", "history.csv"),
    run("no particles", removed("particles.star"), "particles.star", "particles.star", "table"),
    run("particles cut", cut("particles.star", 900), "", "particles.star", "table"),
    run("latents cut", cut("epochs/0001/latents.npz", 300), "npz archive", "latents.npz", "latents"),
    run("latents with objects", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=np.array([{}, []], dtype=object), logvar=Z)), "npz archive", "latents.npz", "latents"),
    run("latents of words", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=np.array([["x"]]), logvar=Z)), "npz archive", "latents.npz", "latents"),
    run("latents of 10^12 particles", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=npy_header((10**12, 8)), logvar=Z)), "npz archive", "latents.npz", "latents"),
    run("latents of another length", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=Z[:1], logvar=Z)), "", "latents.npz", "latents"),
    run("latents of a particle twice", replaced("epochs/0001/latents.npz", archive(particle_id=IDS[[0, 0]], mu=Z, logvar=Z)), "'a' 2 times", "latents.npz", "latents"),
    run("latents that are not finite", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=Z + np.nan, logvar=Z)), "finite", "latents.npz", "latents"),
    run("latents without logvar", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=Z)), "logvar", "latents.npz", "latents"),
    run("latents that are no zip", replaced("epochs/0001/latents.npz", b"\x93NUMPY garbage"), "npz archive", "latents.npz", "latents"),
    run("latents with a damaged member", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=b"\x93NUMPY\x01\x00\xff\xff", logvar=Z)), "npz archive", "latents.npz", "latents"),
    run("latents with hostile header", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=npy_header((2, 2), "__import__('os')"), logvar=Z)), "npz archive", "latents.npz", "latents"),
    run("latents are a folder", as_folder("epochs/0001/latents.npz"), "", "latents.npz", "latents"),
    run("latents link to themselves", loop("epochs/0001/latents.npz"), "", "latents.npz", "latents"),
    run("latents of other particles", replaced("epochs/0001/latents.npz", archive(particle_id=IDS, mu=Z, logvar=Z)), "without a latent", "latents.npz", "table"),
    run("weights cut", cut("epochs/0001/weights.safetensors", 400), "weights", "weights.safetensors", "decode"),
    run("weights of text", replaced("epochs/0001/weights.safetensors", "x" * 999), "weights", "weights.safetensors", "decode"),
    run("weights that claim 2^62 bytes", replaced("epochs/0001/weights.safetensors", (2**62).to_bytes(8, "little") + b"{}"), "weights", "weights.safetensors", "decode"),
    run("no weights", removed("epochs/0001/weights.safetensors"), "weights", "weights.safetensors", "decode"),
    run("weights of another model", settings(model__decoder_dim=24), "weights", "weights.safetensors", "decode"),
    run("average of another box", replaced("consensus.mrc", header(2, 2, 2) + bytes(32)), "consensus.mrc", "consensus.mrc", "decode"),
    run("no average", removed("consensus.mrc"), "consensus.mrc", "consensus.mrc", "decode"),
    run("components of another box", replaced("components.mrcs", header(2, 2, 3) + bytes(48)), "components.mrcs", "components.mrcs", "decode"),
    run("analysis that is damaged", lambda f: _put(f / "analysis/x.csv", "particle_id,a\n1,2\n1,2,3\n"), "table in CSV", "x.csv", "table"),
    run("analysis that is binary", lambda f: _put(f / "analysis/x.csv", b"particle_id\n\0\xff\xfe\n"), "table in CSV", "x.csv", "table"),
    run("selection of other columns", lambda f: _put(f / "selections/mine.csv", "name\na\n"), "particle_id", "mine.csv", "selection"),
    run("empty selection file", lambda f: _put(f / "selections/mine.csv", ""), "", "mine.csv", "selection"),
    run("binary selection", lambda f: _put(f / "selections/mine.csv", b"\xff\0\xfe"), "", "mine.csv", "selection"),
    run("selection of strangers", lambda f: _put(f / "selections/mine.csv", "particle_id\nnobody\n"), "nobody", "mine.csv", "selection"),
    run("damaged story of a selection", lambda f: (_put(f / "selections/mine.csv", "particle_id\n"), _put(f / "selections/mine.json", "{")), "", "mine.json", "selection"),
    run("selection outside the run", lambda f: None, "letters, digits", "../../run", "selection ../../run"),
    run("selection by a full path", lambda f: None, "letters, digits", "/etc/passwd", "selection /etc/passwd"),
]  # fmt: skip
FILES = [
    Case("latents that do not exist", "latent file", lambda folder: folder / "a.npz", "does not exist", "a.npz"),
    Case("map outside the folder", "maps", lambda f: _put(f / "volumes.csv", "name,file\na,../../secret.mrc\n").parent, "", "volumes.csv"),
    Case("map by a full path", "maps", lambda f: _put(f / "volumes.csv", "name,file\na,/etc/passwd\n").parent, "", "volumes.csv"),
    Case("volumes.csv of other columns", "maps", lambda f: _put(f / "volumes.csv", "a,b\n1,2\n").parent, "", "volumes.csv"),
    Case("volumes.csv without a row", "maps", lambda f: _put(f / "volumes.csv", "name,file\n").parent, "", "volumes.csv"),
    Case("binary volumes.csv", "maps", lambda f: _put(f / "volumes.csv", b"\0\xff\xfe\n").parent, "", "volumes.csv"),
    Case("no volumes.csv", "maps", lambda folder: folder, "no volumes.csv", ""),
    Case("ids: other columns", "ids", lambda f: _put(f / "ids.csv", "name\na\n"), "particle_id", "ids.csv"),
    Case("ids: no row", "ids", lambda f: _put(f / "ids.csv", "particle_id\n"), "without a row", "ids.csv"),
    Case("ids: empty file", "ids", lambda f: _put(f / "ids.csv", ""), "", "ids.csv"),
    Case("ids: binary", "ids", lambda f: _put(f / "ids.csv", b"\xff\xfe\0\n"), "", "ids.csv"),
    Case("ids: ragged", "ids", lambda f: _put(f / "ids.csv", "particle_id\na\nb,c,d\n"), "", "ids.csv"),
    Case("ids: nobody", "ids", lambda f: _put(f / "ids.csv", "particle_id\nnobody\n"), "nobody", ""),
    Case("query of a dunder", "query", lambda folder: "__class__ == 1", "__class__", ""),
    Case("query that imports", "query", lambda folder: ";import os", "';import os'", ""),
    Case("query that calls", "query", lambda folder: "__import__('os').system('touch x') == 0", "__import__", ""),
    Case("query with @", "query", lambda folder: "@pd.io == 1", "'@pd.io", ""),
]  # fmt: skip
CASES = [*STAR, *SETS, *MRC, *RUNS, *FILES]


def _stack(folder: Path, name: str, count: int, box: int) -> None:
    from tomodrgn.io.mrc import write_stack

    write_stack(folder / name, np.zeros((count, box, box), np.float32), 10.0, overwrite=True)


def _put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
