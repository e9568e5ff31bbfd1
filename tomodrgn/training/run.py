"""Run: a versioned folder of configuration, particles, history, latents and weights.

The folder, version 1::

    run.json         {"format": "tomodrgn-run", "version": 1, ...}: configurations, seed, image scale, package version,
                     and of the source STAR file: path, sha256, datadir, options (`given` by the user, and with the
                     dialect and the flags that followed from the file), box on disk
                     (box_px is that of training, to which images are Fourier-cropped)
    particles.star   exactly the particles used, every source column, and tomodrgnParticleId
                     (an optimisation set adds tomograms.star and optimisation_set.star)
    images.csv       the images used of each particle, where its STAR file cannot say so (stacks of visible images)
    consensus.mrc    average of the particles, in units of the scaled images, from which the decoder counts differences
    components.mrcs  maps (one after another) that the decoder adds in proportion to the latent coordinates
    subspace.safetensors   in place of components.mrcs the linear subspace that the model started from, if it did
    history.csv      epoch, split, reconstruction, kl, total, beta, learning_rate, seconds; losses of an autoencoder are
                     means over the frequencies of all images (a divergence in nats over as many), those of a linear
                     run nats a particle
    search.csv       of a linear run: how well held-out tilts were predicted at each radius by each number of components
    status.json      what the training process is doing: state, pid, host, epoch, batch, batches, time
    training.lock    while a process trains: which one (see training/lock.py)
    log.txt          what the training process printed, and its warnings
    epochs/0001/     weights.safetensors, latents.npz (particle_id, mu, logvar [, covariance]); epochs count from 1
    training_state/  0001.safetensors: the optimiser after that epoch; with the weights of the same epoch and the seed
                     this is all that a resumed training needs, as every random draw is seeded by (seed, epoch);
                     part.safetensors: weights, optimiser and losses in the midst of the epoch that was stopped
    analysis/  volumes/<name>/*.mrc + volumes.csv   selections/<name>.csv

Of a linear run (see `training.linear_run`) the model has the kind "linear" and one epoch, whose weights are the maps
and numbers of a LinearSubspace; run.json gets a part "fit": suggested components, radius, seconds, and remarks on what
is doubtful. Its consensus.mrc and components.mrcs are in units of the raw images; it has no training state, and the
next fit may take the place of one that did not finish. A run imported from another program (see
`training.published_run`) has the kind "published", latents, and weights where its decoder could be read.

Every file is written under a temporary name and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomodrgn.config import LinearConfig, PreprocessConfig, PublishedConfig, TrainConfig, VaeConfig
from tomodrgn.io import mrc
from tomodrgn.io.atomic import replacing
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_source, write_source
from tomodrgn.training import run_files
from tomodrgn.training.lock import LOCK
from tomodrgn.training.particle_table import particle_table

__all__ = ["Run", "check_new_run"]

FILES = ("history.csv", "status.json", "search.csv", "consensus.mrc", "components.mrcs", "subspace.safetensors")


@dataclass(frozen=True)
class Run:
    """A training run on disk; see the module's text for the folder.

    Parameters
    ----------
    folder
        The run folder.
    settings
        The content of run.json.
    """

    folder: Path
    settings: dict[str, Any]

    @classmethod
    def create(
        cls,
        folder: Path | str,
        particles: ParticleSet,
        *,
        model: VaeConfig | LinearConfig | PublishedConfig,
        preprocess: PreprocessConfig,
        training: TrainConfig,
        scale: float,
        n_tilts: int,
        consensus: np.ndarray | None = None,
        overwrite: bool = False,
    ) -> Run:
        """Make a new run folder for these particles.

        Raises
        ------
        FileExistsError
            If the folder holds a run (and `overwrite` is False), or files that are not a run.
        """
        folder = Path(folder)
        check_new_run(folder, overwrite=overwrite)
        _clear(folder)
        source = particles.source
        settings = {
            "format": run_files.FORMAT,
            "version": run_files.VERSION,
            "tomodrgn": _package_version(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "model": {"kind": run_files.kind_of(model), **model.model_dump()},
            "preprocess": preprocess.model_dump(),
            "training": training.model_dump(),
            "scale": scale,
            "n_tilts": n_tilts,
            "box_px": particles.box_px,
            "pixel_size_angst": particles.pixel_size_angst,
            "source": {
                "path": str(source.path.resolve()),
                "sha256": hashlib.sha256(source.path.read_bytes()).hexdigest(),
                "datadir": [str(Path(d).resolve()) for d in source.datadir],
                "options": {
                    **source.options.settings(),
                    "dialect": particles.dialect,
                    "ctf_premultiplied": particles.ctf_premultiplied,
                    "dose_weighted": particles.dose_weighted,
                    "invert": particles.invert,
                },
                "given": source.options.settings(),
                "stack_box_px": particles.stack_box_px,
            },
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_source(particles, folder, overwrite=True)
        if consensus is not None:
            mrc.write_volume(folder / "consensus.mrc", consensus, particles.pixel_size_angst, overwrite=True)
        _write_json(folder / "run.json", settings)
        return cls(folder, settings)

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Open a run folder.

        Raises
        ------
        FileNotFoundError
            If there is no such folder or it holds no run.json.
        ValueError
            If run.json is damaged, or was written by a later version of the format.
        """
        folder = Path(folder)
        path = folder / "run.json"
        if not path.is_file():
            found = "a folder without run.json" if folder.is_dir() else "no such folder"
            raise FileNotFoundError(f"Got run {folder}: {found}. Give a folder made by `tomodrgn train`.")
        return cls(folder, run_files.read_settings(path))

    @property
    def kind(self) -> str:
        """Kind of the model: ``vae``, ``linear``, or ``published`` of a run imported from another program."""
        return self.settings["model"].get("kind", "vae")

    @property
    def model_config(self) -> VaeConfig:
        """Options of the autoencoder.

        Raises
        ------
        ValueError
            If this is a linear run.
        """
        if self.kind != "vae":
            raise ValueError(
                f"Got run {self.folder} of the {self.kind} model, expected one of the autoencoder. A linear model is "
                "not trained further but fitted anew (--overwrite); an autoencoder can start from it (--start-from). "
                "An imported run is not trained further, nor are images encoded by it."
            )
        return VaeConfig(**self._model_options)

    @property
    def linear_config(self) -> LinearConfig:
        """Options of the linear model.

        Raises
        ------
        ValueError
            If this is not a linear run.
        """
        if self.kind != "linear":
            raise ValueError(
                f"Got run {self.folder} of kind {self.kind}, expected one of the linear model. Fit one: tomodrgn train "
                "PARTICLES.star RUN --model linear"
            )
        return LinearConfig(**self._model_options)

    @property
    def config(self) -> VaeConfig | LinearConfig | PublishedConfig:
        """Options of the model, of whatever kind."""
        return run_files.MODELS[self.kind](**self._model_options)

    @property
    def _model_options(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings["model"].items() if name != "kind"}

    @property
    def z_dim(self) -> int:
        """Number of latent dimensions; of a linear run, that of its finished fit."""
        return self.model_config.z_dim if self.kind == "vae" else self.latents().z_dim

    @property
    def fit(self) -> dict[str, Any]:
        """What a finished linear fit found: suggested_components, radius, seconds, remarks; otherwise empty."""
        return self.settings.get("fit", {})

    @property
    def preprocess_config(self) -> PreprocessConfig:
        """Options of the preprocessing."""
        return PreprocessConfig(**self.settings["preprocess"])

    @property
    def train_config(self) -> TrainConfig:
        """Options of the training."""
        return TrainConfig(**self.settings["training"])

    @cached_property
    def particles(self) -> ParticleSet:
        """The particles of this run, at its box; their images are looked for where they were at training."""
        return self._read_particles(check_stacks=True).cropped_to(self.settings["box_px"])

    @cached_property
    def particles_without_images(self) -> ParticleSet:
        """The particles of this run, at its box, wherever their images are now."""
        particles, stack_box = self._read_particles(check_stacks=False), self.settings["source"]["stack_box_px"]
        return replace(particles, box_px=stack_box, stack_box_px=stack_box).cropped_to(self.settings["box_px"])

    def _read_particles(self, *, check_stacks: bool) -> ParticleSet:
        source = self.settings["source"]
        particles = read_source(
            self.folder,
            source_dir=Path(source["path"]).parent,
            datadir=[Path(d) for d in source["datadir"]],
            options=run_files.read_options(source),
            check_stacks=check_stacks,
        )
        return replace(particles, source=replace(particles.source, options=run_files.given_options(source)))

    @property
    def component_path(self) -> Path:
        """Stack of the maps that the decoder adds in proportion to latent coordinates, one map after another."""
        return self.folder / "components.mrcs"

    @property
    def subspace_path(self) -> Path:
        """The linear subspace that the model started from, if it did."""
        return self.folder / "subspace.safetensors"

    @property
    def epochs(self) -> list[int]:
        """Numbers of the epochs whose weights and latents are on disk, rising from 1."""
        folder = self.folder / "epochs"
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if re.fullmatch(r"\d{4,}", name))

    def epoch_folder(self, epoch: int | None = None) -> Path:
        """Folder of an epoch; None is the last.

        Raises
        ------
        ValueError
            If that epoch (or any) is not on disk.
        """
        epochs = self.epochs
        if not epochs:
            what, more = ("fit", "Fit it again") if self.kind == "linear" else ("training", "Go on with it (--resume)")
            raise ValueError(
                f"Got {self.kind} run {self.folder}, whose {what} is {self.status.get('state', 'not begun')}, expected "
                f"one with a finished epoch. {more}, or wait for its end."
            )
        if epoch is not None and epoch not in epochs:
            raise ValueError(
                f"Got epoch {epoch} of run {self.folder}, which has epochs {epochs[0]} to {epochs[-1]}. Choose one "
                "that is there."
            )
        return self.folder / "epochs" / f"{epochs[-1] if epoch is None else epoch:04d}"

    def latents(self, epoch: int | None = None) -> Latents:
        """Latents of all particles after an epoch; None is the last."""
        return Latents.load(self.epoch_folder(epoch) / "latents.npz")

    @property
    def history(self) -> pd.DataFrame:
        """Losses of every finished epoch; empty before the first."""
        return run_files.read_history(self.folder / "history.csv")

    @property
    def status(self) -> dict[str, Any]:
        """What the training process last said of itself; empty if it never began."""
        return run_files.read_status(self.folder / "status.json")

    def table(self, epoch: int | None = None) -> pd.DataFrame:
        """One row a particle, indexed by particle_id: every STAR column, the latents of an epoch, and the analysis.

        Of the analysis come the columns of every CSV file in its folder that has one row a particle; a name that is
        taken gets that of the file before it. Particles that such a file does not have get NaN. Components, clusters,
        outliers and occupancies are left out if the epoch that was analyzed is not that of the latents.
        """
        return particle_table(self, epoch)

    # --- written by the training process -------------------------------------------------------------------------

    def with_training(self, training: TrainConfig) -> Run:
        """The same run with other training options, written to run.json."""
        settings = {**self.settings, "training": training.model_dump()}
        _write_json(self.folder / "run.json", settings)
        return Run(self.folder, settings)

    def write_search(self, search: pd.DataFrame) -> None:
        """Replace search.csv."""
        with replacing(self.folder / "search.csv") as path:
            search.to_csv(path, index=False)

    def with_fit(self, found: dict[str, Any]) -> Run:
        """The same run with what a linear fit found, written to run.json."""
        settings = {**self.settings, "fit": found}
        _write_json(self.folder / "run.json", settings)
        return Run(self.folder, settings)

    def write_status(self, state: str, **details: object) -> None:
        """Tell watchers what the training process is doing."""
        status = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), **details}
        _write_json(self.folder / "status.json", status)

    def write_history(self, history: pd.DataFrame) -> None:
        """Replace history.csv."""
        with replacing(self.folder / "history.csv") as path:
            history[run_files.HISTORY_COLUMNS].to_csv(path, index=False)


def check_new_run(folder: Path | str, *, overwrite: bool) -> None:
    """Refuse a folder that a new run must not be made in.

    Raises
    ------
    FileExistsError
        If the folder holds a run (and `overwrite` is False), or files that are not a run.
    """
    folder = Path(folder)
    if (folder / "run.json").is_file():
        if not overwrite and not _is_unfinished_fit(folder):
            go_on = "" if _is_linear(folder) else ", or resume=True (--resume) to go on with it"
            raise FileExistsError(
                f"Got run folder {folder}, which holds a run already. Choose another, or pass overwrite=True "
                f"(--overwrite) to replace it{go_on}."
            )
    # A log that the job opened before the run existed does not count as somebody's files, nor does what a training
    # left that was killed while it made the folder: only such a one leaves its lock without a run.
    elif folder.exists() and not (
        folder.is_dir() and ((folder / LOCK).is_file() or {p.name for p in folder.iterdir()} <= {"log.txt"})
    ):
        raise FileExistsError(f"Got run folder {folder}, which holds other files. Choose a new folder.")


def _is_linear(folder: Path) -> bool:
    try:
        return Run.open(folder).kind == "linear"
    except ValueError:
        return False


def _is_unfinished_fit(folder: Path) -> bool:
    """Whether the run is a linear one that was stopped or failed: it holds nothing that the next fit would not."""
    return _is_linear(folder) and not Run.open(folder).epochs


def _clear(folder: Path) -> None:
    """Remove an earlier run, all but its log, which may be the present one already; half removed it is no run."""
    (folder / "run.json").unlink(missing_ok=True)
    for name in ("epochs", "training_state", "analysis", "volumes"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _package_version() -> str:
    from tomodrgn import __version__

    return __version__
