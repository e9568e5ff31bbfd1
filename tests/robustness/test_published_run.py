"""Runs of tomoDRGN 1.0 and cryoDRGN: latents by particle id, maps as the published decoder makes them, nothing run."""

from __future__ import annotations

import datetime as dt
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tomodrgn as td
from tomodrgn.cli import run_command
from tomodrgn.training.embed import embed_particles
from tomodrgn.training.published_run import PublishedRun, import_run
from tomodrgn.training.run_facts import describe_run

BOX, Z, WIDTH, LAYERS = 32, 3, 16, 2
MEAN, STD = 0.0, 40.0


class Residual(nn.Module):
    """Linear layer whose result is added to its input; its weights are named `linear`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + x


class Decoder(nn.Module):
    """The published decoder, from the text of its papers: features of a lattice of D = box + 1 points a side."""

    def __init__(self, features: str, n: int) -> None:
        super().__init__()
        if features == "gaussian":
            self.rand_freqs = nn.Parameter(torch.randn(3 * n, 3) * 0.5, requires_grad=False)
        self.features, self.n = features, n
        inner: list[nn.Module] = [nn.Linear(6 * n + Z, WIDTH), nn.ReLU()]
        for _ in range(LAYERS):
            inner += [Residual(WIDTH), nn.ReLU()]
        self.decoder = nn.ModuleDict({"main": nn.Sequential(*inner, nn.Linear(WIDTH, 2))})

    def encoded(self, k: torch.Tensor) -> torch.Tensor:
        half = BOX // 2
        if self.features == "gaussian":
            phase = (k[:, None, :] * (self.rand_freqs * half)).sum(-1)
            return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)
        share = torch.arange(self.n) / (half - 1)
        series = {"geom_lowf": half * (1 / half) ** share,
                  "geom_ft": BOX * math.pi * (2 / BOX) ** share}[self.features]  # fmt: skip
        phase = k[:, :, None] * series
        return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1).flatten(1)

    @torch.no_grad()
    def volume(self, z: np.ndarray) -> np.ndarray:
        """The map of a latent, by the Hartley transform of every point of the lattice, one by one."""
        axis = torch.fft.fftshift(torch.fft.fftfreq(BOX))
        kz, ky, kx = torch.meshgrid(axis, axis, axis, indexing="ij")
        k = torch.stack([kx, ky, kz], -1).reshape(-1, 3)
        other = k[:, 2] > 0
        folded = torch.where(other[:, None], -k, k)
        latent = torch.as_tensor(z, dtype=torch.float32).expand(len(k), -1)
        real, imaginary = self.decoder["main"](torch.cat([self.encoded(folded), latent], -1)).T
        hartley = (real - torch.where(other, -imaginary, imaginary)).reshape(BOX, BOX, BOX) * STD + MEAN
        transform = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(hartley.numpy()))) / BOX**3
        return transform.real - transform.imag


def write_published(folder: Path, particles: td.ParticleSet, *, features: str = "gaussian", tilts: bool = True
                    ) -> tuple[Decoder, np.ndarray]:  # fmt: skip
    """A run folder as the published programs write it, of two epochs."""
    folder.mkdir()
    n = BOX // 2
    decoder = Decoder(features, n)
    names = (
        {"qlayersA": 3, "qdimA": 16, "ntilts": 5, "pooling_function": "max"} if tilts else {"qlayers": 3, "qdim": 16}
    )
    model_args = {**names, "players": LAYERS, "pdim": WIDTH, "zdim": Z, "pe_type": features, "pe_dim": None,
                  "feat_sigma": 0.5, "activation": "relu", "enc_mask": np.int64(16)}  # fmt: skip
    config = {
        "dataset_args": {"particles": str(particles.source.path), "norm": [MEAN, np.float32(STD)], "ind": None},
        "lattice_args": {"D" if not tilts else "boxsize": BOX + 1, "extent": 0.5, "ignore_DC": True},
        "model_args": model_args,
        "version": "3.4.0",
        "time": dt.datetime(2024, 1, 2, 3, 4, 5),
        "cmd": ["/usr/bin/train", "--seed", "1"],
    }
    with (folder / "config.pkl").open("wb") as file:
        pickle.dump(config, file)
    generator = np.random.default_rng(0)
    for epoch in (0, 9):
        mu = generator.normal(size=(len(particles), Z)).astype(np.float32)
        with (folder / f"z.{epoch}.pkl").open("wb") as file:
            pickle.dump(mu, file)
            pickle.dump(np.full_like(mu, -2), file)
        state = {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
        state |= {"encoder_a.main.0.weight": torch.ones(4, 4), "encoder_b.main.0.weight": torch.ones(4, 4)}
        saved = {"epoch": epoch, "model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}}
        torch.save(saved, folder / f"weights.{epoch}.pkl")
    return decoder, mu


@pytest.mark.parametrize(("features", "tilts"), [("gaussian", True), ("geom_lowf", False), ("geom_ft", True)])
def test_latents_and_maps_are_those_of_the_program(small_particles, tmp_path: Path, features: str, tilts: bool) -> None:  # noqa: FBT001
    decoder, mu = write_published(tmp_path / "theirs", small_particles, features=features, tilts=tilts)
    before = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    run = import_run(tmp_path / "theirs", small_particles, tmp_path / "run")
    assert (run.epochs, run.z_dim, run.kind) == ([1, 10], Z, "published")
    latents = run.latents().aligned_to(small_particles.particle_id)
    np.testing.assert_array_equal(latents.mu, mu)
    np.testing.assert_array_equal(latents.logvar, -2)
    assert {"z1", "z3", "rlnGroupName"} <= set(run.table())
    found = td.generate_volumes(run, mu[:2])
    for volume, z in zip(found.maps, mu[:2], strict=True):
        wanted = decoder.volume(z)
        inside = radius_below(BOX, 0.49)
        theirs, ours = (np.fft.fftshift(np.fft.fftn(v))[inside] for v in (wanted, volume))
        np.testing.assert_allclose(ours[1:], theirs[1:], rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
    assert describe_run(run)["kind"] == "published"
    assert run.settings["model"]["program"] == ("tomodrgn" if tilts else "cryodrgn")
    assert {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()} == before


def radius_below(box: int, limit: float) -> np.ndarray:
    axis = np.fft.fftshift(np.fft.fftfreq(box))
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    return (radius < limit) & (radius > 0)


def test_the_shell_imports_and_explores(small_particles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_published(tmp_path / "theirs", small_particles)
    star, run = str(small_particles.source.path), str(tmp_path / "run")
    assert run_command(["import-run", str(tmp_path / "theirs"), star, run]) == 0
    assert "imported 12 latents of 3 dimensions, epochs 1 to 10, with a decoder" in capsys.readouterr().out
    assert run_command(["info", run]) == 0
    assert "published" in capsys.readouterr().out
    assert run_command(["generate", run, str(tmp_path / "maps"), "--kmeans", "2", "--box", "16"]) == 0
    assert len(list((tmp_path / "maps").glob("*.mrc"))) == 2
    capsys.readouterr()
    assert run_command(["import-run", str(tmp_path / "theirs"), star, run]) == 2
    assert run_command(["train", star, run, "--resume"]) == 2
    assert "An imported run is not trained further" in capsys.readouterr().err
    with pytest.raises(ValueError, match="nor are images encoded by it"):
        embed_particles(td.Run.open(run), small_particles)


def test_another_layout_leaves_the_latents(small_particles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, mu = write_published(tmp_path / "theirs", small_particles)
    state = {"decoder.pixels": torch.ones(4), "encoder.main.0.weight": torch.ones(2, 2)}
    torch.save({"epoch": 9, "model_state_dict": state}, tmp_path / "theirs/weights.9.pkl")
    run = import_run(tmp_path / "theirs", small_particles, tmp_path / "run")
    assert "which is not the published decoder: latents are imported, maps cannot be made" in caplog.text
    np.testing.assert_array_equal(run.latents().mu, mu)
    with pytest.raises(ValueError, match=r"Got run .*, imported from tomodrgn without a decoder .*Make them with that"):
        td.generate_volumes(run, mu[:1])


def test_no_weights_leave_the_latents(small_particles, tmp_path: Path) -> None:
    _, mu = write_published(tmp_path / "theirs", small_particles)
    for path in (tmp_path / "theirs").glob("weights.*"):
        path.unlink()
    run = import_run(tmp_path / "theirs", small_particles, tmp_path / "run")
    assert len(run.latents()) == len(mu)
    assert run_command(["generate", str(run.folder), str(tmp_path / "maps"), "--kmeans", "2"]) == 2


def spoilt(folder: Path, name: str, value: object) -> None:
    with (folder / name).open("wb") as file:
        pickle.dump(value, file)


class Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


BROKEN = {
    "no config": (lambda f: (f / "config.pkl").unlink(), FileNotFoundError, "no config.pkl"),
    "no latents": (lambda f: [path.unlink() for path in f.glob("z.*")], FileNotFoundError, "without z.N.pkl"),
    "config that is no dictionary": (lambda f: spoilt(f, "config.pkl", [1]), ValueError, "without dataset_args"),
    "config that runs": (lambda f: spoilt(f, "config.pkl", {"model_args": Harmful()}), ValueError, "posix.system"),
    "latents that run": (lambda f: spoilt(f, "z.9.pkl", Harmful()), ValueError, "posix.system"),
    "weights that run": (lambda f: torch.save({"model_state_dict": {"a": Harmful()}}, f / "weights.9.pkl"), ValueError,
                         "posix.system"),
    "weights of a whole model": (lambda f: torch.save(nn.Linear(1, 1), f / "weights.9.pkl"), ValueError,
                                 "torch.nn.modules.linear.Linear"),
    "latents of one array": (lambda f: spoilt(f, "z.9.pkl", np.zeros((12, 3))), ValueError, "two finite arrays"),
    "fewer latents": (lambda f: (f / "z.9.pkl").write_bytes(2 * pickle.dumps(np.zeros((5, 3)))), ValueError,
                      "Got 5 latents in"),
    "norm of words": (lambda f: spoilt(f, "config.pkl", {"dataset_args": {"norm": "a"}, "lattice_args": {"D": 33},
                                                         "model_args": {}}), ValueError, "dataset_args norm 'a'"),
    "another box": (lambda f: spoilt(f, "config.pkl", {"dataset_args": {"norm": [0, 1]}, "lattice_args": {"D": 65},
                                                       "model_args": {}}), ValueError, "--box 64"),
    "no box": (lambda f: spoilt(f, "config.pkl", {"dataset_args": {"norm": [0, 1]}, "lattice_args": {},
                                                  "model_args": {}}), ValueError, "expected a box"),
    "weights without a state": (lambda f: torch.save({"epoch": 1}, f / "weights.9.pkl"), ValueError,
                                "without model_state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_runs_are_refused_and_leave_nothing(
    name: str, small_particles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_published(tmp_path / "theirs", small_particles)
    spoil, error, words = BROKEN[name]
    spoil(tmp_path / "theirs")
    with pytest.raises(error, match=r"^Got ") as caught:
        import_run(tmp_path / "theirs", small_particles, tmp_path / "run")
    assert words in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_opened_without_particles(small_particles, tmp_path: Path) -> None:
    _, mu = write_published(tmp_path / "theirs", small_particles)
    found = PublishedRun.open(tmp_path / "theirs")
    assert (found.program, found.box_px, found.std, found.epochs) == ("tomodrgn", BOX, STD, (0, 9))
    np.testing.assert_array_equal(found.latents(9)[0], mu)
