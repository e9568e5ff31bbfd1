"""A linear run: probabilistic PCA of volumes, fitted in one go and kept in the folder of any other run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig
from tomodrgn.io import mrc
from tomodrgn.model.linear import LinearLatents, LinearSubspace
from tomodrgn.model.slice_reader import SliceReader
from tomodrgn.model.subspace_fit import SubspaceFit, fit_subspace, remarks_on_components
from tomodrgn.model.subspace_search import SearchStage, stage_radii
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.training.checkpoint import write_epoch
from tomodrgn.training.devices import default_device
from tomodrgn.training.disk_errors import failures_told
from tomodrgn.training.lock import hold_run
from tomodrgn.training.run import Run, check_new_run
from tomodrgn.training.tensors import read_tensors

__all__ = ["LinearProgress", "embed_linearly", "fit_linear", "load_subspace"]

logger = logging.getLogger(__name__)
USED = ("accelerator", "devices", "seed")  # of the training options


@dataclass(frozen=True, kw_only=True)
class LinearProgress:
    """How far a fit has come: stages of the search, of which the last may not be needed."""

    stage: int
    stages: int
    radius: float
    suggested_components: int


def fit_linear(
    particles: ParticleSet,
    run: Path | str,
    model: LinearConfig | None = None,
    *,
    preprocess: PreprocessConfig | None = None,
    training: TrainConfig | None = None,
    overwrite: bool = False,
    progress: Callable[[LinearProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Run:
    """Fit volumes as an average and a few components, and keep model and latents in a run folder.

    The model is that of 3D variability analysis (Punjani & Fleet 2021, 10.1016/j.jsb.2021.107702). Latents are exact
    posteriors, mean and covariance, in units in which the first component has the standard deviation 1. Posterior means
    are drawn to the average by what the images leave open, so the maps of a class at its mean latent differ less than
    the classes do: by the share of the variance of latents that is that of their means. On the particles of the fit
    latents are somewhat larger than on others, as components carry a part of the noise of their images. The history has
    one row, in nats a particle: total is minus the log likelihood of the images over that under the average alone, of
    which kl is the divergence of the posterior from the prior, and reconstruction the rest.

    Parameters
    ----------
    particles
        The data set.
    run
        Folder of the run (see `tomodrgn.training.run`).
    model, preprocess
        Options.
    training
        Seed and accelerator; other options of a training do not apply.
    overwrite
        Replace an existing run.
    progress
        Called after every stage of the search for radius and number of components.
    should_stop
        Asked after every stage; True ends the fit there, without a result.

    Returns
    -------
    The run; `Run.fit` tells how many components held-out tilts suggest, and what is doubtful.

    Raises
    ------
    FileExistsError
        If the folder exists and `overwrite` is not given.
    BlockingIOError
        If another process trains in that folder.
    OSError
        If the disk is full.
    ValueError
        If an option of `training` that does not apply is not at its default, as many components are asked for as there
        are particles, `component_radius` is beyond the frequencies of the images or needs more memory than is allowed,
        CUDA is asked for where there is none, or fewer than two particles have images that are not
        constant.
    """
    model, preprocess, training = model or LinearConfig(), preprocess or PreprocessConfig(), training or TrainConfig()
    training = _used_options(training)
    _check_number(model, particles)
    _check_radius(model, preprocess, particles)
    check_new_run(run, overwrite=overwrite)
    device = default_device(training.accelerator)
    with hold_run(run):
        opened = Run.create(
            run,
            particles,
            model=model,
            preprocess=preprocess,
            training=training,
            scale=estimate_scale(particles, preprocess, seed=training.seed),
            n_tilts=int(particles.tilt_counts.max()),
            overwrite=overwrite,
        )
        preprocessor = Preprocessor(particles, preprocess, scale=opened.settings["scale"], device=device)
        on_stage = _Watch(opened, progress, should_stop)
        with failures_told(opened):
            try:
                began = time.perf_counter()
                found = fit_subspace(preprocessor, model, seed=training.seed, on_stage=on_stage)
                return _finished(opened, particles, found, seconds=time.perf_counter() - began)
            except _StopAskedError:
                opened.write_status("stopped", epoch=0)
                return opened


def _check_radius(model: LinearConfig, preprocess: PreprocessConfig, particles: ParticleSet) -> None:
    lowest, given = 1 / particles.box_px, model.component_radius
    if given is not None and not lowest < given <= preprocess.max_radius:
        raise ValueError(
            f"Got component_radius {given:g} (--component-radius) for box {particles.box_px}, expected more than "
            f"{lowest:.3g} and at most max_radius {preprocess.max_radius:g} cycles per pixel. Change or omit it."
        )


def _check_number(model: LinearConfig, particles: ParticleSet) -> None:
    if len(particles) < 2:
        raise ValueError(
            f"Got {len(particles)} particle, expected at least two, as the linear model tells how they differ. Choose "
            "more particles."
        )
    if model.n_components is not None and model.n_components >= len(particles):
        raise ValueError(
            f"Got {model.n_components} components (--n-components, or --z-dim) for {len(particles)} particles of "
            f"{particles.source.path}, expected fewer than particles. Ask for fewer, or let held-out tilts decide."
        )


class _StopAskedError(Exception):
    """The fit was asked to stop."""


class _Watch:
    """After each stage of the search: tells how far it came, and ends it when asked to."""

    def __init__(
        self,
        run: Run,
        progress: Callable[[LinearProgress], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.run, self.progress, self.should_stop = run, progress, should_stop
        self.stages = len(stage_radii(run.settings["box_px"], run.preprocess_config.max_radius))
        self.stage = 0
        self._write_status()

    def __call__(self, stage: SearchStage) -> None:
        self.stage += 1
        self._write_status()
        if self.progress is not None:
            n = stage.n_components
            self.progress(
                LinearProgress(stage=self.stage, stages=self.stages, radius=stage.radius, suggested_components=n)
            )
        if self.should_stop is not None and self.should_stop():
            raise _StopAskedError

    def _write_status(self) -> None:
        self.run.write_status("running", epoch=0, epochs=1, batch=self.stage, batches=self.stages)


def load_subspace(run: Run) -> LinearSubspace:
    """The fitted subspace of a linear run, on the CPU.

    What the fit remarked on its components is logged again.

    Raises
    ------
    ValueError
        If it is not a linear run, or its fit did not finish.
    """
    config = run.linear_config  # refuses runs of other kinds
    tensors = read_tensors(run.epoch_folder() / "weights.safetensors")
    subspace = LinearSubspace.from_tensors(tensors)
    if config.n_components not in (None, subspace.z_dim):
        raise ValueError(
            f"Got {subspace.z_dim} components in {run.epoch_folder()}, expected {config.n_components} as in "
            f"{run.folder / 'run.json'}. Restore the files of the run, or fit it again."
        )
    suggested = run.fit.get("suggested_components", subspace.z_dim)
    for remark in remarks_on_components(subspace.z_dim, suggested):
        logger.warning("linear run %s: %s", run.folder, remark)
    return subspace


def embed_linearly(run: Run, preprocessor: Preprocessor) -> Latents:
    """Exact posteriors of a preprocessor's particles under a linear run, in their order."""
    subspace = load_subspace(run).to(preprocessor.device)
    particles = preprocessor.particles
    reader = SliceReader(preprocessor, seed=run.train_config.seed).limited(subspace.max_radius)
    found = subspace.encode(reader)
    empty = particles.particle_id[np.logical_and.reduceat(reader.blank, particles.offsets[:-1])]
    if len(empty):
        logger.warning(
            "Got %d of %d particles of %s whose images hold one value everywhere, first %s: nothing is known of them, "
            "their coordinates are those of the average.",
            len(empty), len(particles), particles.source.path, empty[:3].tolist(),
        )  # fmt: skip
    return _latents(particles, found)


def _finished(run: Run, particles: ParticleSet, found: SubspaceFit, *, seconds: float) -> Run:
    """Write all that a fit found; its latents make it a finished one."""
    kl, gain = (float(np.mean(getattr(found.latents, name))) for name in ("divergence", "gain"))
    row = {"epoch": 1, "split": "train", "reconstruction": -gain - kl, "kl": kl, "total": -gain}
    history = pd.DataFrame([{**row, "beta": 1.0, "learning_rate": 0.0, "seconds": seconds}])
    rows = [
        {"radius_per_px": stage.radius, "components": n, "gain": gain, "error": error,
         "suggested": n == stage.n_components}
        for stage in found.stages
        for n, (gain, error) in enumerate(zip(stage.gain.tolist(), [0.0, *stage.error.tolist()], strict=True))
    ]  # fmt: skip
    run.write_search(pd.DataFrame(rows))
    run.write_history(history)
    run = run.with_fit(
        {
            "suggested_components": found.suggested_components,
            "radius_per_px": found.subspace.max_radius,
            "seconds": seconds,
            "remarks": list(found.remarks),
        }
    )
    subspace, scale, pixel_size = found.subspace, run.settings["scale"], particles.pixel_size_angst
    maps = (subspace.components * scale).reshape(-1, *subspace.consensus.shape[1:]).cpu().numpy()
    mrc.write_volume(
        run.folder / "consensus.mrc", (subspace.consensus * scale).cpu().numpy(), pixel_size, overwrite=True
    )
    mrc.write_stack(run.component_path, maps, pixel_size, overwrite=True)
    write_epoch(run, 1, weights=found.subspace.tensors(), latents=_latents(particles, found.latents))
    run.write_status("finished", epoch=1, epochs=1)
    return run


def _latents(particles: ParticleSet, found: LinearLatents) -> Latents:
    variance = found.covariance.diagonal(axis1=1, axis2=2)
    logvar = np.log(np.maximum(variance, np.finfo(np.float32).tiny)).astype(np.float32)
    return Latents(particle_id=particles.particle_id, mu=found.mean, logvar=logvar, covariance=found.covariance)


def _used_options(training: TrainConfig) -> TrainConfig:
    """Those training options that mean something here.

    Raises
    ------
    ValueError
        If others are not at their defaults; all of them are named.
    """
    plain = TrainConfig()
    other = sorted(n for n in set(TrainConfig.model_fields) - set(USED) if getattr(training, n) != getattr(plain, n))
    if other:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        raise ValueError(
            f"Got {named} for the linear model, expected of the training options only --accelerator, --devices and "
            "--seed. Leave them out, or train an autoencoder (--model vae)."
        )
    return TrainConfig(epochs=1, **{name: getattr(training, name) for name in USED})
