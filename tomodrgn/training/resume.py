"""Whether a run may go on with what it is given: the same images, and the options it was started with."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.run import Run

__all__ = ["FREE", "check_same_particles", "images_of_run", "resumed_options"]

logger = logging.getLogger(__name__)

# Options that may change from one part of a training to the next: where it is computed, not what.
FREE = ("epochs", "accelerator", "devices", "num_nodes", "points_per_chunk", "cache_gib", "cache_dir")
ARRAYS = {
    "offsets": "number of tilt images",
    "rotations": "rotations",
    "dose_e_per_angst2": "exposure",
    "tilt_deg": "tilt angles",
    "image_scale": "image scale",
    "slice_index": "places of the images in their stacks",
}


def resumed_options(
    run: Run, model: VaeConfig | None, preprocess: PreprocessConfig | None, training: TrainConfig | None
) -> TrainConfig:
    """The training options with which a run goes on: its own, but for more epochs and the kind of machine.

    The number of devices and of nodes is not the run's but what is asked for now, or 1.

    Parameters
    ----------
    run
        The run to be resumed.
    model, preprocess, training
        What was asked for; only options that were given count, not those at their defaults.

    Raises
    ------
    ValueError
        If an option that was given differs from the run's; all of them are named.
    """
    own = run.train_config
    differing, changes = [], {}
    for given, kept in ((model, run.model_config), (preprocess, run.preprocess_config), (training, own)):
        for name in sorted(given.model_fields_set) if given is not None else ():
            came, wanted = getattr(given, name), getattr(kept, name, None)
            if name == "start_from" and came is not None and wanted is not None:
                came, wanted = str(Path(came).resolve()), str(Path(wanted).resolve())
            if name in FREE and not (name == "epochs" and came < wanted):
                changes[name] = came
            elif came != wanted:
                differing.append(f"--{name.replace('_', '-')} {came} (the run has {wanted})")
    if differing:
        raise ValueError(
            f"Got {', '.join(differing)}, expected the options with which run {run.folder} was started; only --epochs "
            "may grow. Leave them out, or start another run."
        )
    machine = training if training is not None else TrainConfig()
    return own.model_copy(update={**changes, "devices": machine.devices, "num_nodes": machine.num_nodes})


def images_of_run(run: Run, particles: ParticleSet) -> ParticleSet:
    """The images of a set that a run was started with, if it holds all of them and others; otherwise the set itself.

    An image is known by its particle, its stack and its place there.
    """
    if particles.stack_box_px != run.settings["source"]["stack_box_px"]:
        return particles
    own = run.particles
    keep = _image_names(particles).isin(_image_names(own))
    if keep.all() or keep.sum() != own.n_images:
        return particles
    logger.warning(
        "Going on with the %d particles, %d images, that run %s was started with, of %d, %d in %s.", len(own),
        own.n_images, run.folder, len(particles), particles.n_images, particles.source.path,
    )  # fmt: skip
    return particles.subset_images(keep)


def _image_names(particles: ParticleSet) -> pd.MultiIndex:
    names = particles.particle_id[particles.image_particle], _stack_names(particles), particles.slice_index
    return pd.MultiIndex.from_arrays(names)


def check_same_particles(run: Run, particles: ParticleSet) -> None:
    """Refuse to go on with other images, or with images that are read otherwise.

    Raises
    ------
    ValueError
        If particles, box, pixel size, flags, poses, CTF, exposures or the source file differ; each is named.
    """
    own = run.particles
    cure = "Resume with the file and the options the run was started with, or start another run."
    if not np.array_equal(own.particle_id, particles.particle_id):
        raise ValueError(
            f"Got {len(particles)} particles of {particles.source.path}, expected the {len(own)} of run {run.folder}. "
            f"{cure}"
        )
    differing = list(_differences(run, own, particles))
    if differing:
        raise ValueError(
            f"Got {particles.source.path}, whose particles have the names of those of run {run.folder} but differ: "
            f"{'; '.join(differing)}. {cure}"
        )


def _differences(run: Run, own: ParticleSet, particles: ParticleSet) -> Iterator[str]:
    """What differs, each as a few words with both values where they are short."""
    if particles.stack_box_px != own.stack_box_px:
        yield f"images of {particles.stack_box_px} px, expected {own.stack_box_px} px"
    elif particles.box_px not in (own.box_px, own.stack_box_px):
        yield f"box {particles.box_px} px, expected {own.box_px} px"
    # Of the images on disk, whatever box they are cropped to.
    came, wanted = (p.pixel_size_angst * p.box_px / p.stack_box_px for p in (particles, own))
    if abs(came / wanted - 1) > 1e-6:
        yield f"pixel size of {came:g} A, expected {wanted:g} A"
    for name in ("ctf_premultiplied", "dose_weighted", "invert"):
        if getattr(particles, name) != getattr(own, name):
            yield f"{name} {getattr(particles, name)}, expected {getattr(own, name)}"
    pairs = {words: (getattr(particles, name), getattr(own, name)) for name, words in ARRAYS.items()}
    pairs["shifts"] = particles.shifts_px / particles.box_px, own.shifts_px / own.box_px
    pairs["CTF parameters"] = _ctf_table(particles), _ctf_table(own)
    other = [words for words, (came, wanted) in pairs.items() if not _same(came, wanted)]
    if not np.array_equal(_stack_names(particles), _stack_names(own)):
        other.append("image stacks")
    if other:
        yield f"other {', '.join(other)}"
    yield from _other_file(run, own, particles)


def _same(came: np.ndarray, wanted: np.ndarray) -> bool:
    return came.shape == wanted.shape and np.allclose(came, wanted, rtol=1e-6, atol=1e-6, equal_nan=True)


def _ctf_table(particles: ParticleSet) -> np.ndarray:
    return np.empty(0) if particles.ctf is None else particles.ctf.table()


def _stack_names(particles: ParticleSet) -> np.ndarray:
    """Name of the stack of each image, without its folder, which may have moved."""
    return np.array([path.name for path in particles.stack_paths])[particles.stack_index]


def _other_file(run: Run, own: ParticleSet, particles: ParticleSet) -> Iterator[str]:
    """Another content of the file, neither that of the first training nor the copy that the run keeps."""
    kept = run.settings["source"]["sha256"]
    found, copy = (hashlib.sha256(p.source.path.read_bytes()).hexdigest() for p in (particles, own))
    if found not in (kept, copy):
        yield f"sha256 of the file {found[:12]}..., expected {kept[:12]}... ({run.settings['source']['path']})"
