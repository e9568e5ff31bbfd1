"""The shell: every verb on real files, and one clear line for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.io.mrc import read_volume, write_stack, write_volume
from tomodrgn.particles.simulated_formats import FORMATS

TINY = ["--z-dim", "2", "--encoder-dim", "16", "--decoder-dim", "16", "--encoder-layers", "1", "--decoder-layers", "1"]
TINY += ["--encoder-grid", "5", "--max-radius", "0.2"]


@pytest.fixture
def real_set(shared_data):
    return shared_data / "warptools/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"


def fails(capsys, *arguments):
    """Exit code and the one line on stderr of a command that must fail."""
    code = run_command([str(a) for a in arguments])
    error = capsys.readouterr().err.strip()
    assert "\n" not in error, error
    assert "Traceback" not in error
    return code, error


def test_info_of_the_real_set(real_set, capsys):
    assert run_command(["info", str(real_set), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    wanted = {
        "dialect": "warptools",
        "particles": 40,
        "tomograms": 4,
        "images": 1430,
        "box_px": 32,
        "pixel_size_angst": 12.0,
        "ctf_premultiplied": True,
        "dose_weighted": True,
        "tilts_per_particle": {"min": 34, "median": 36, "max": 37},
    }
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["stack_box_px"] == 32
    told = {"stack_box_px", "invert", "dose_range_e_per_angst2", "tilt_range_deg", "columns", "image_stacks", "remarks"}
    assert set(facts) == {*wanted, *told}
    assert run_command(["info", str(real_set)]) == 0
    text = capsys.readouterr().out
    for words in ("WarpTools", "40", "1430", "32 px", "12.0 angstrom/px", "min 34, median 36, max 37"):
        assert words in text


def test_info_says_what_is_unknown(small_particles, tmp_path, capsys):
    """A cryoSRPNT-like or user file without scale factors has no tilt angles."""
    text = small_particles.source.path.read_text()
    star = tmp_path / "particles.star"
    star.write_text(text.replace("_rlnCtfScalefactor", "_userScale"))
    arguments = ["info", str(star), "--dialect", "warp", "--datadir", str(small_particles.source.path.parent)]
    assert run_command(arguments) == 0
    assert "tilt                unknown" in capsys.readouterr().out


def test_the_whole_way_on_the_real_set(real_set, tmp_path, capsys):
    run, maps = tmp_path / "run", tmp_path / "maps"
    train = ["train", str(real_set), str(run), *TINY, "--batch-size", "8"]
    assert run_command([*train, "--epochs", "1"]) == 0
    assert run_command([*train, "--epochs", "2", "--resume"]) == 0
    assert td.Run.open(run).epochs == [1, 2]
    assert run_command(["embed", str(run), str(real_set), str(tmp_path / "z.npz")]) == 0
    np.testing.assert_allclose(td.Latents.load(tmp_path / "z.npz").mu, td.Run.open(run).latents().mu, atol=1e-3)

    assert run_command(["generate", str(run), str(maps), "--kmeans", "3", "--flip"]) == 0
    assert read_volume(maps / "cluster_000.mrc")[1] == pytest.approx(12.0)
    table = pd.read_csv(maps / "volumes.csv", dtype={"particle_id": str})
    assert table["n_particles"].sum() == 40

    ids = tmp_path / "ids.csv"
    table[["particle_id"]].to_csv(ids, index=False)
    for number, choice in enumerate(
        (["--particle-ids", str(ids)], ["--latents", str(maps / "volumes.csv")], ["--pc", "1"])
    ):
        assert run_command(["generate", str(run), str(tmp_path / f"m{number}"), "--box", "16", *choice]) == 0
        assert td.VolumeStack.open(tmp_path / f"m{number}").maps.shape[1:] == (16, 16, 16)

    kept = tmp_path / "kept.star"
    assert run_command(["filter", str(real_set), str(kept), "--particle-ids", str(ids)]) == 0
    again = td.read_particles(kept, datadir=real_set.parent)
    assert sorted(again.particle_id) == sorted(table["particle_id"])
    assert (
        run_command(["filter", str(real_set), str(tmp_path / "rest.star"), "--particle-ids", str(ids), "--invert"]) == 0
    )
    assert len(td.read_particles(tmp_path / "rest.star", datadir=real_set.parent)) == 37
    capsys.readouterr()


def test_backproject_names_the_hand_that_fits(real_set, tmp_path, capsys):
    reference = real_set.parent / "warptools_test_box-32_angpix-12_reconstruct.mrc"
    assert run_command(["backproject", str(real_set), str(tmp_path / "a"), "--reference", str(reference)]) == 0
    assert "other hand fits the reference better: run again with --flip" in capsys.readouterr().out
    flip = ["backproject", str(real_set), str(tmp_path / "b"), "--reference", str(reference), "--flip"]
    assert run_command(flip) == 0
    assert "this hand fits the reference better" in capsys.readouterr().out
    for name in ("full.mrc", "filtered.mrc", "half_1.mrc", "fsc.csv", "fsc.png", "reference_fsc.csv"):
        assert (tmp_path / "b" / name).stat().st_size > 0


def test_simulate_then_info(tmp_path, capsys):
    for dialect in FORMATS:
        out = tmp_path / dialect
        assert run_command(["simulate", str(out), "--particles", "6", "--tilts", "5", "--dialect", dialect]) == 0
        star = capsys.readouterr().out.split(" images to ")[1].split(";")[0]
        assert run_command(["info", star, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["dialect"] == dialect
    small = ["--particles", "4", "--tilts", "3", "--tomograms"]
    assert run_command(["simulate", str(tmp_path / "more"), *small]) == 0
    assert len(list((tmp_path / "more" / "reconstruction").glob("TS_*_24.00Apx.mrc"))) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "PARTICLES", "OUT", "--z-dim", "-1"], ["--z-dim", "greater than or equal to 0"]),
        (["train", "PARTICLES", "OUT", "--epochs", "many"], ["--epochs"]),
        (["train", "PARTICLES", "OUT", "--zdim", "3"], ["--zdim"]),
        (["train", "PARTICLES"], ["RUN"]),
        (["trian"], ["trian", "train"]),
        (["info", "nowhere.star"], ["nowhere.star"]),
        (["generate", "nowhere", "OUT", "--kmeans", "2"], ["nowhere", "tomodrgn train"]),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(small_particles, tmp_path, capsys, arguments, words):
    names = {"PARTICLES": small_particles.source.path, "OUT": tmp_path / "out"}
    code, error = fails(capsys, *(names.get(a, a) for a in arguments))
    assert code == 2
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def broken(kind, source, folder):
    """A copy of a small data set with one fault."""
    shutil.copytree(source, folder)
    star = folder / "particles.star"
    stack = sorted(folder.rglob("*.mrcs"))[0]
    if kind == "missing stack":
        stack.unlink()
    elif kind == "truncated stack":
        stack.write_bytes(stack.read_bytes()[:-1000])
    elif kind == "odd box":
        for path in folder.rglob("*.mrcs"):
            path.unlink()
            write_stack(path, np.zeros((200, 31, 31), np.float32), 8.0)
    elif kind == "another kind of STAR":
        star.write_text("data_\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographMovieName #2\nx.mrc y.tif\n")
    elif kind == "not a STAR":
        star.write_bytes(b"\x00\x01\x02" * 100)
    return star


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing stack", [".mrcs", "--datadir"]),
        ("truncated stack", [".mrcs", "cut short"]),
        ("odd box", [".mrcs", "31"]),
        ("another kind of STAR", ["particles.star", "rlnMicrographName"]),
        ("not a STAR", ["particles.star"]),
    ],
)
@pytest.mark.parametrize("verb", ["train", "backproject"])
def test_broken_input_is_one_line_exit_2_and_nothing_written(small_particles, tmp_path, capsys, kind, words, verb):
    star = broken(kind, small_particles.source.path.parent, tmp_path / "data")
    code, error = fails(capsys, verb, star, tmp_path / "out")
    assert code == 2, error
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def test_existing_output_is_kept(small_particles, tmp_path, capsys):
    ids = tmp_path / "ids.csv"
    pd.DataFrame({"particle_id": small_particles.particle_id[:2]}).to_csv(ids, index=False)
    out = tmp_path / "kept.star"
    out.write_text("mine")
    code, error = fails(capsys, "filter", small_particles.source.path, out, "--particle-ids", ids)
    assert (code, out.read_text()) == (2, "mine")
    assert "exists" in error


@pytest.mark.parametrize(
    ("arguments", "existing"),
    [
        (["embed", "RUN", "nowhere.star", "OUT"], ""),
        (["generate", "RUN", "OUT", "--particle-ids", "nowhere.csv"], "volumes.csv"),
        (["backproject", "nowhere.star", "OUT"], "fsc.csv"),
        (["train", "PARTICLES", "OUT"], "notes.txt"),
    ],
)
def test_existing_output_is_refused_before_the_work(
    small_particles, tmp_path, capsys, monkeypatch, arguments, existing
):
    monkeypatch.setattr("tomodrgn.training.new_run.estimate_scale", lambda *_, **__: pytest.fail("work was begun"))
    if "RUN" in arguments:
        td.fit_linear(small_particles, tmp_path / "run", td.LinearConfig(n_components=1))
    out = tmp_path / "out"
    path = out / existing if existing else out
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    names = {"PARTICLES": small_particles.source.path, "OUT": out, "RUN": tmp_path / "run"}
    code, error = fails(capsys, *(names.get(a, a) for a in arguments))
    assert (code, path.read_text()) == (2, "mine")
    assert str(out) in error
    assert "nowhere" not in error


@pytest.mark.parametrize(("box", "voxel_size"), [(8, 8.0), (32, 4.0)])
def test_reference_on_another_grid_is_refused(small_particles, tmp_path, capsys, box, voxel_size):
    write_volume(tmp_path / "reference.mrc", np.zeros((box, box, box), np.float32), voxel_size)
    arguments = ["backproject", small_particles.source.path, tmp_path / "out"]
    code, error = fails(capsys, *arguments, "--reference", tmp_path / "reference.mrc")
    assert code == 2
    assert f"reference.mrc of {box} px and {voxel_size:g} angstrom/px, expected those of the images, 32 px" in error
    assert not (tmp_path / "out").exists()


def test_unknown_particle_ids_are_named(small_particles, tmp_path, capsys):
    ids = tmp_path / "ids.csv"
    ids.write_text("particle_id\nnobody\n")
    code, error = fails(capsys, "filter", small_particles.source.path, tmp_path / "o.star", "--particle-ids", ids)
    assert code == 2
    assert "nobody" in error
    ids.write_text("name\nx\n")
    code, error = fails(capsys, "filter", small_particles.source.path, tmp_path / "o.star", "--particle-ids", ids)
    assert (code, "particle_id" in error) == (2, True)


def test_box_on_the_fly_and_on_disk(small_particles, tmp_path, capsys):
    """info, train, embed and backproject at a smaller box, then the same of a downsampled set."""
    star, small = str(small_particles.source.path), tmp_path / "small"
    assert run_command(["info", star, "--box", "16"]) == 0
    assert "16 px, Fourier-cropped from 32 px" in capsys.readouterr().out
    assert run_command(["downsample", star, str(small), "--box", "16"]) == 0
    assert "images of 16 px, 16 A/px" in capsys.readouterr().out
    ways = {"fly": [star, "--box", "16"], "disk": [str(small / "particles.star")]}
    for name, (source, *box) in ways.items():
        out = tmp_path / name
        assert run_command(["backproject", source, str(out / "map"), *box]) == 0
        tiny = [*TINY[:-1], "0.4", "--epochs", "1", "--batch-size", "4"]
        assert run_command(["train", source, str(out / "run"), *box, *tiny]) == 0
        assert run_command(["embed", str(out / "run"), star, str(out / "z.npz")]) == 0
        np.testing.assert_allclose(td.Latents.load(out / "z.npz").mu, td.Run.open(out / "run").latents().mu, atol=2e-3)
    one, other = (read_volume(tmp_path / name / "map/full.mrc") for name in ways)
    assert one[1] == pytest.approx(16.0)
    np.testing.assert_allclose(one[0], other[0], atol=1e-2 * one[0].std())


@pytest.mark.parametrize("verb", ["info", "train", "backproject", "downsample"])
@pytest.mark.parametrize("box", ["15", "6", "64"])
def test_impossible_box_is_one_line_exit_2_and_nothing_written(small_particles, tmp_path, capsys, verb, box):
    out = [] if verb == "info" else [tmp_path / "out"]
    code, error = fails(capsys, verb, small_particles.source.path, *out, "--box", box)
    assert code == 2
    for words in (f"box {box} px", "an even number from 8 to 32", "particles.star"):
        assert words in error
    assert not (tmp_path / "out").exists()


def test_downsample_needs_a_smaller_box_and_an_empty_place(small_particles, tmp_path, capsys):
    star = small_particles.source.path
    assert fails(capsys, "downsample", star, tmp_path / "out")[0] == 2
    code, error = fails(capsys, "downsample", star, tmp_path / "out", "--box", "32")
    assert (code, "expected a smaller one" in error) == (2, True)
    code, error = fails(capsys, "downsample", star, star.parent, "--box", "16", "--overwrite")
    assert (code, "Choose another folder" in error) == (2, True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/particles.star").write_text("mine")
    code, error = fails(capsys, "downsample", star, tmp_path / "out", "--box", "16")
    assert (code, (tmp_path / "out/particles.star").read_text()) == (2, "mine")
    assert "--overwrite" in error


@pytest.mark.parametrize("resume", [False, True])
def test_cuda_where_there_is_none(small_particles, tmp_path, capsys, monkeypatch, resume):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out, options = tmp_path / "out", ["--accelerator", "cuda", "--epochs", "2"]
    if resume:
        td.train(
            small_particles,
            out,
            model=td.VaeConfig(z_dim=1, encoder_dim=16, decoder_dim=16, encoder_grid=5),
            preprocess=td.PreprocessConfig(max_radius=0.2),
            training=td.TrainConfig(epochs=1),
        )
        options.append("--resume")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    code, error = fails(capsys, "train", small_particles.source.path, out, *options)
    assert code == 2
    assert "Got accelerator 'cuda', but torch" in error
    assert "Use 'cpu' or 'auto'" in error
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert out.exists() == resume


def raising(source, module):
    """A function of a module of that name which runs the source."""
    names = {"__name__": module}
    exec(f"def function(*arguments, **options):\n    {source}", names)
    return names["function"]


@pytest.mark.parametrize(
    ("source", "module", "code", "words"),
    [
        ("raise ValueError('Got 3, expected 4.')", "tomodrgn.particles.read", 2, "tomodrgn: Got 3, expected 4."),
        ("raise KeyError('Got x, expected y.')", "tomodrgn.particles.read", 2, "tomodrgn: Got x, expected y."),
        ("raise FloatingPointError('Got nan.')", "tomodrgn.training.train", 1, "tomodrgn: Got nan."),
        ("open('/nowhere/at all')", "tomodrgn.io.mrc", 1, "'/nowhere/at all'"),
        ("raise MemoryError('of 9 GiB')", "numpy", 1, "MemoryError: of 9 GiB"),
        ("raise KeyboardInterrupt", "tomodrgn.training.train", 130, "interrupted"),
    ],
)
def test_foreseen_errors_are_one_line(small_particles, capsys, monkeypatch, source, module, code, words):
    monkeypatch.setattr("tomodrgn.particles.inspection.inspect_particles", raising(source, module))
    found, error = fails(capsys, "info", small_particles.source.path)
    assert found == code
    assert words in error
    assert "fault of tomodrgn" not in error


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("int('many')", "tomodrgn.particles.read"),
        ("raise ValueError('Got 3 channels')", "torch.nn"),
        ("{}['particles']", "tomodrgn.particles.read"),
        ("None.shape", "tomodrgn.particles.read"),
    ],
)
def test_unforeseen_errors_are_a_failure_with_a_traceback(small_particles, capsys, monkeypatch, source, module):
    monkeypatch.setattr("tomodrgn.particles.inspection.inspect_particles", raising(source, module))
    assert run_command(["info", str(small_particles.source.path)]) == 1
    error = capsys.readouterr().err.strip()
    assert "Traceback" in error
    assert "This is a fault of tomodrgn" in error.splitlines()[-1]


def test_installed_command_runs(tmp_path):
    done = subprocess.run([sys.executable, "-m", "tomodrgn", "info", "nowhere.star"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "nowhere.star" in done.stderr
