"""A training as a line for the shell: the same options, the same reading of the particles."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomodrgn.config import Config, LinearConfig, TrainConfig
from tomodrgn.particles.optimisation_set import parse_mask
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles
from tomodrgn.training.run import Run
from tomodrgn.training.run_files import FIRST_OPTIONS

__all__ = ["command_line", "command_of_run", "option_flags", "run_arguments", "source_arguments", "training_verb"]


def command_line(verb: Sequence[str]) -> str:
    """Arguments of the program as a line for a shell."""
    return shlex.join(["tomodrgn", *verb])


def training_verb(arguments: Sequence[str], *configs: Config | None, overwrite: bool = False) -> list[str]:
    """``tomodrgn train`` with these options, as arguments of the program.

    Parameters
    ----------
    arguments
        Particles, run folder, and flags of reading, as of `source_arguments`.
    *configs
        Options; of these only what differs from the defaults is named.
    overwrite
        Whether an earlier run is replaced.

    Examples
    --------
    >>> from tomodrgn.config import VaeConfig
    >>> command_line(training_verb(["my particles.star", "RUN"], VaeConfig(z_dim=4), TrainConfig(epochs=3)))
    "tomodrgn train 'my particles.star' RUN --z-dim 4 --epochs 3"
    """
    linear = any(isinstance(config, LinearConfig) for config in configs)
    verb = ["train", *arguments, *option_flags(*configs), *["--model", "linear"] * linear]
    return verb + ["--overwrite"] * overwrite


def command_of_run(run: Run) -> str:
    """The line for a shell that makes a run like this one from its source file; none if another program made it."""
    training = run.train_config
    if run.kind == "published":
        return ""
    if run.kind == "linear":  # other options of a training do not apply to it
        training = TrainConfig(seed=training.seed, accelerator=training.accelerator, devices=training.devices)
    model: Config = run.linear_config if run.kind == "linear" else run.model_config
    return command_line(training_verb(run_arguments(run), model, run.preprocess_config, training))


def run_arguments(run: Run) -> list[str]:
    """As `source_arguments`, of the particles that a run was made of."""
    source, box_px = run.settings["source"], run.settings["box_px"]
    options = source.get("options") or {name: source[name] for name in FIRST_OPTIONS}
    flags = _reading_flags(source["datadir"], options, None if box_px == source["stack_box_px"] else box_px)
    return [source["path"], str(run.folder), *flags]


def option_flags(*configs: Config | None) -> list[str]:
    """The options that differ from their defaults, as flags of the command line.

    Examples
    --------
    >>> from tomodrgn.config import PreprocessConfig, VaeConfig
    >>> option_flags(VaeConfig(z_dim=4), PreprocessConfig(window=False), None)
    ['--z-dim', '4', '--no-window']
    """
    flags: list[str] = []
    for config in configs:
        for name, option in type(config).model_fields.items() if config is not None else ():
            value, flag = getattr(config, name), name.replace("_", "-")
            if value == option.default:
                continue
            if isinstance(value, bool):
                flags.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                flags += [f"--{flag}", str(value)]
    return flags


def source_arguments(particles: ParticleSet | Path | str, run: Path | str) -> list[str]:
    """The STAR file, the run folder, and the flags that read the file as it was read here.

    Raises
    ------
    ValueError
        If the particles are only a part of their file.
    """
    if not isinstance(particles, ParticleSet):
        return [str(particles), str(run)]
    source = particles.source
    if not _is_whole(particles):
        raise ValueError(
            f"Got {len(particles)} particles, {particles.n_images} images, which are a part of {source.path}, expected "
            "a whole file. Write them with write_particles, and give that file (and the folder of the images as "
            "datadir)."
        )
    settings = {
        **source.options.settings(),
        "dialect": particles.dialect,
        **{name: getattr(particles, name) for name in ("ctf_premultiplied", "dose_weighted", "invert")},
    }
    box_px = None if particles.box_px == particles.stack_box_px else particles.box_px
    return [str(source.path), str(run), *_reading_flags(source.datadir, settings, box_px)]


def _reading_flags(datadir: Sequence[Path | str], settings: Mapping[str, Any], box_px: int | None) -> list[str]:
    flags = [text for folder in datadir for text in ("--datadir", str(folder))]
    for name, value in settings.items():
        flag = name.replace("_", "-")
        flags += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return flags if box_px is None else [*flags, "--box", str(box_px)]


def _is_whole(particles: ParticleSet) -> bool:
    """Whether these are all images of the file."""
    rows = particles.source.rows
    expected = len(rows)
    if "rlnTomoVisibleFrames" in rows and particles.source.optimisation_set:
        expected = sum(int(np.sum(parse_mask(text))) for text in rows["rlnTomoVisibleFrames"])
    if particles.n_images == expected:
        return True
    # A reader may leave out rows of its own accord; only reading again tells.
    again = read_particles(particles.source.path, datadir=particles.source.datadir, check_stacks=False)
    return np.array_equal(again.particle_id, particles.particle_id) and again.n_images == particles.n_images
