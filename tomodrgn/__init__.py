"""Structural heterogeneity of particles in cryo-electron tomograms, learned from their tilt images.

The names below are the front door; each is imported when it is first used, so that ``import tomodrgn`` is quick.

Examples
--------
>>> import tomodrgn as td
>>> td.VaeConfig(z_dim=4).z_dim
4
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomodrgn import plots, widgets
    from tomodrgn.analysis.associations import associate_columns
    from tomodrgn.analysis.convergence import compare_epochs
    from tomodrgn.analysis.latent_space import cluster_latents, reduce_latents, umap_latents
    from tomodrgn.analysis.mapback import map_back
    from tomodrgn.analysis.paths import traverse_latents
    from tomodrgn.analysis.run_analysis import analyze_run
    from tomodrgn.analysis.validation import validate_selection
    from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig
    from tomodrgn.imaging.resolution import fourier_shell_correlation
    from tomodrgn.particles.latents import Latents
    from tomodrgn.particles.particle_set import ParticleSet
    from tomodrgn.particles.positions import read_positions, write_positions
    from tomodrgn.particles.read import read_particles, write_particles
    from tomodrgn.particles.simulate import simulate_particles
    from tomodrgn.training.embed import embed_particles
    from tomodrgn.training.job import start_training
    from tomodrgn.training.linear_run import fit_linear
    from tomodrgn.training.run import Run
    from tomodrgn.training.train import train
    from tomodrgn.volumes.backproject import backproject
    from tomodrgn.volumes.generate import generate_volumes
    from tomodrgn.volumes.volume_stack import VolumeStack

__version__ = "0.1.0"
__all__ = [
    "Latents",
    "LinearConfig",
    "ParticleSet",
    "PreprocessConfig",
    "Run",
    "TrainConfig",
    "VaeConfig",
    "VolumeStack",
    "__version__",
    "analyze_run",
    "associate_columns",
    "backproject",
    "cluster_latents",
    "compare_epochs",
    "embed_particles",
    "fit_linear",
    "fourier_shell_correlation",
    "generate_volumes",
    "map_back",
    "plots",
    "read_particles",
    "read_positions",
    "reduce_latents",
    "simulate_particles",
    "start_training",
    "train",
    "traverse_latents",
    "umap_latents",
    "validate_selection",
    "widgets",
    "write_particles",
    "write_positions",
]

# Which module each name comes from.
_HOMES = {
    "Latents": "tomodrgn.particles.latents",
    "LinearConfig": "tomodrgn.config",
    "ParticleSet": "tomodrgn.particles.particle_set",
    "PreprocessConfig": "tomodrgn.config",
    "Run": "tomodrgn.training.run",
    "TrainConfig": "tomodrgn.config",
    "VaeConfig": "tomodrgn.config",
    "VolumeStack": "tomodrgn.volumes.volume_stack",
    "analyze_run": "tomodrgn.analysis.run_analysis",
    "associate_columns": "tomodrgn.analysis.associations",
    "backproject": "tomodrgn.volumes.backproject",
    "cluster_latents": "tomodrgn.analysis.latent_space",
    "compare_epochs": "tomodrgn.analysis.convergence",
    "embed_particles": "tomodrgn.training.embed",
    "fit_linear": "tomodrgn.training.linear_run",
    "fourier_shell_correlation": "tomodrgn.imaging.resolution",
    "generate_volumes": "tomodrgn.volumes.generate",
    "map_back": "tomodrgn.analysis.mapback",
    "read_particles": "tomodrgn.particles.read",
    "read_positions": "tomodrgn.particles.positions",
    "reduce_latents": "tomodrgn.analysis.latent_space",
    "simulate_particles": "tomodrgn.particles.simulate",
    "start_training": "tomodrgn.training.job",
    "train": "tomodrgn.training.train",
    "traverse_latents": "tomodrgn.analysis.paths",
    "umap_latents": "tomodrgn.analysis.latent_space",
    "validate_selection": "tomodrgn.analysis.validation",
    "write_particles": "tomodrgn.particles.read",
    "write_positions": "tomodrgn.particles.positions",
}
_ROOMS = ("plots", "widgets")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. See dir({__name__}) for its names.")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
