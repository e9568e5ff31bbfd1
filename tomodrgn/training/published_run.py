"""Runs of the published programs, tomoDRGN 1.0 and cryoDRGN: read as plain data, and turned into a run of this one.

Their folder has ``config.pkl`` (a dictionary with dataset_args, lattice_args and model_args), and for each saved epoch
N from 0 ``weights.N.pkl`` (epoch, model_state_dict, optimizer_state_dict) and ``z.N.pkl`` (two pickles: means and
logarithms of variances of all particles, in the order in which the STAR file first names them). In the run made here
epoch N is N + 1. Latents, and maps where the decoder is of the published layout, are as in the program that made them;
images are not encoded by it, and it is not trained further.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import save_file

from tomodrgn.config import PreprocessConfig, PublishedConfig, TrainConfig
from tomodrgn.io.atomic import replacing
from tomodrgn.io.plain_pickle import read_pickles
from tomodrgn.io.torch_archive import read_torch_archive
from tomodrgn.model.published_decoder import PublishedDecoder, decoder_config, decoder_tensors
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.lock import hold_run
from tomodrgn.training.run import Run, check_new_run
from tomodrgn.training.tensors import load_weights

__all__ = ["PublishedRun", "import_run", "load_published"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """A run folder of tomoDRGN 1.0 or cryoDRGN, open for reading.

    Parameters
    ----------
    folder
        The folder.
    program
        ``"tomodrgn"`` or ``"cryodrgn"``, by the names of its encoder's weights or options.
    box_px
        Side of the images in pixels.
    mean, std
        What the program subtracted from the transforms of images, and divided them by.
    options
        Its ``model_args``.
    epochs
        Numbers of the epochs with latents, as the program counts them.
    """

    folder: Path
    program: Literal["tomodrgn", "cryodrgn"]
    box_px: int
    mean: float
    std: float
    options: Mapping[str, Any]
    epochs: tuple[int, ...]

    @classmethod
    def open(cls, folder: Path | str) -> PublishedRun:
        """Open a folder.

        Raises
        ------
        FileNotFoundError
            If it holds no config.pkl, or no latents.
        ValueError
            If config.pkl is damaged, does anything but hold plain data, or lacks what is needed.
        """
        folder = Path(folder)
        path = folder / "config.pkl"
        if not path.is_file():
            raise FileNotFoundError(
                f"Got {folder}, where there is no config.pkl. Give a run folder of tomoDRGN 1.0 or cryoDRGN."
            )
        config = read_pickles(path)[0]
        parts = {}
        for name in ("dataset_args", "lattice_args", "model_args"):
            part = config.get(name) if isinstance(config, dict) else None
            if not isinstance(part, dict):
                raise ValueError(
                    f"Got {path} without {name}, expected that of tomoDRGN 1.0 or cryoDRGN. Choose another."
                )
            parts[name] = part
        names = [re.fullmatch(r"z\.(\d{1,6})\.pkl", file.name) for file in folder.iterdir()]
        epochs = tuple(sorted(int(name[1]) for name in names if name))
        if not epochs:
            raise FileNotFoundError(
                f"Got {folder} without z.N.pkl, expected latents. Let that program finish an epoch."
            )
        mean, std = _norm(parts["dataset_args"], path)
        by_tilts = any(str(name).lower() in TOMODRGN_ONLY for name in parts["model_args"])
        return cls(
            folder=folder,
            program="tomodrgn" if by_tilts else "cryodrgn",
            box_px=_box(parts["lattice_args"], path),
            mean=mean,
            std=std,
            options=parts["model_args"],
            epochs=epochs,
        )

    def latents(self, epoch: int) -> tuple[Float32[np.ndarray, "k z"], Float32[np.ndarray, "k z"]]:
        """Means and logarithms of variances, in the order of that program's particles.

        Raises
        ------
        ValueError
            If the file does not hold both.
        """
        path = self.folder / f"z.{epoch}.pkl"
        found = read_pickles(path)
        fit = len(found) >= 2 and all(
            isinstance(a, np.ndarray) and a.ndim == 2 and a.dtype.kind == "f" for a in found[:2]
        )
        if not fit or found[0].shape != found[1].shape or not all(np.isfinite(a).all() for a in found[:2]):
            shapes = [getattr(a, "shape", type(a).__name__) for a in found[:4]]
            raise ValueError(
                f"Got {path} with {shapes}, expected two finite arrays (k, z). Choose another epoch, or copy it again."
            )
        return found[0].astype(np.float32), found[1].astype(np.float32)

    def weights(self, epoch: int) -> Mapping[str, np.ndarray]:
        """The state dictionary of the model.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is none.
        """
        path = self.folder / f"weights.{epoch}.pkl"
        content = read_torch_archive(path)
        state = content.get("model_state_dict") if isinstance(content, dict) else None
        if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
            raise ValueError(f"Got {path} without model_state_dict, expected that of tomoDRGN 1.0 or cryoDRGN.")
        return state


TOMODRGN_ONLY = {"qlayersa", "qdima", "out_dima", "qlayersb", "qdimb", "ntilts", "pooling_function"}


def import_run(folder: Path | str, particles: ParticleSet, run: Path | str, *, overwrite: bool = False) -> Run:
    """Make a run of this program from one of tomoDRGN 1.0 or cryoDRGN, for exploration and, where possible, maps.

    Parameters
    ----------
    folder
        Its run folder. Pickles are read as plain data; one that calls anything is refused.
    particles
        The particles that it was trained on, in the order of its STAR file.
    run
        Folder of the run to be made.

    Returns
    -------
    The run; without a decoder, and with a warning, where the network is of another layout.

    Raises
    ------
    FileExistsError
        If the folder holds a run (and `overwrite` is False), or files that are not a run.
    ValueError
        If the numbers of particles or the boxes differ, or a file is not what it should be.
    """
    source = PublishedRun.open(folder)
    check_new_run(run, overwrite=overwrite)
    latents = {epoch: _latents(source, epoch, particles) for epoch in source.epochs}
    if not particles.box_px:  # the stacks were not opened, and the table does not say
        particles = replace(particles, box_px=source.box_px, stack_box_px=source.box_px)
    if particles.box_px != source.box_px:
        raise ValueError(
            f"Got images of box {particles.box_px} px in {particles.source.path}, expected {source.box_px} px as in "
            f"{source.folder}. Read them at that box (box_px={source.box_px}, --box {source.box_px})."
        )
    z_dim = next(iter(latents.values())).z_dim
    config, tensors = _decoders(source, z_dim)
    with hold_run(run):
        made = Run.create(
            run,
            particles,
            model=config,
            preprocess=PreprocessConfig(),
            training=TrainConfig(epochs=source.epochs[-1] + 1),
            scale=source.std / source.box_px,
            n_tilts=int(particles.tilt_counts.max()),
            overwrite=overwrite,
        )
        for epoch, found in latents.items():
            path = made.folder / "epochs" / f"{epoch + 1:04d}"
            found.save(path / "latents.npz")
            if epoch in tensors:
                with replacing(path / "weights.safetensors") as temporary:
                    save_file(tensors[epoch], temporary)
        made.write_status("finished", epoch=source.epochs[-1] + 1, epochs=source.epochs[-1] + 1)
    return made


def load_published(run: Run, epoch: int | None = None) -> PublishedDecoder:
    """The decoder of an imported run, with the weights of an epoch (None is the last).

    Raises
    ------
    ValueError
        If the run was imported without a decoder.
    """
    config = run.config
    if not isinstance(config, PublishedConfig):
        raise ValueError(f"Got run {run.folder} of kind {run.kind}, expected an imported one. Choose another.")
    path = run.epoch_folder(epoch) / "weights.safetensors"
    if not config.decoder_dim or not path.is_file():
        raise ValueError(
            f"Got run {run.folder}, imported from {config.program} without a decoder (of epoch {path.parent.name}), "
            "expected one that makes maps. Make them with that program, or train a run here."
        )
    decoder = PublishedDecoder(config, run.settings["box_px"])
    load_weights(decoder, path)
    return decoder.eval()


def _latents(source: PublishedRun, epoch: int, particles: ParticleSet) -> Latents:
    mu, logvar = source.latents(epoch)
    if len(mu) != len(particles):
        raise ValueError(
            f"Got {len(mu)} latents in {source.folder / f'z.{epoch}.pkl'} for {len(particles)} particles of "
            f"{particles.source.path}, expected as many. Give the STAR file of that training, filtered to the "
            "particles that were used if it took a part (--ind)."
        )
    return Latents(particle_id=particles.particle_id, mu=mu, logvar=logvar)


def _decoders(source: PublishedRun, z_dim: int) -> tuple[PublishedConfig, dict[int, dict[str, torch.Tensor]]]:
    """The decoder's sizes, and its weights of each epoch that has them; none if it is of another layout."""
    config, tensors = PublishedConfig(program=source.program, z_dim=z_dim), {}
    for epoch in source.epochs:
        if not (source.folder / f"weights.{epoch}.pkl").is_file():
            continue
        state = source.weights(epoch)
        try:
            config = decoder_config(state, source.options, z_dim=z_dim, program=source.program)
            tensors[epoch] = decoder_tensors(
                state, source.options, config, box_px=source.box_px, mean=source.mean / source.std
            )
        except ValueError as error:
            logger.warning(
                "Got %s with %s, which is not the published decoder: latents are imported, maps cannot be made.",
                source.folder / f"weights.{epoch}.pkl", error,
            )  # fmt: skip
            return PublishedConfig(program=source.program, z_dim=z_dim), {}
    return config, tensors


def _box(lattice: Mapping[str, Any], path: Path) -> int:
    """The programs count the box of a transform with both its edges."""
    side = lattice.get("D", lattice.get("boxsize", lattice.get("boxsize_ht")))
    if type(side) is not int or not 8 <= side <= 4097 or lattice.get("extent", 0.5) != 0.5:
        raise ValueError(f"Got {path} with lattice_args {dict(lattice)!r:.80}, expected a box and the extent 0.5.")
    return side - side % 2


def _norm(dataset: Mapping[str, Any], path: Path) -> tuple[float, float]:
    norm = dataset.get("norm")
    numbers = (
        [float(n) for n in norm if isinstance(n, int | float | np.generic)] if isinstance(norm, list | tuple) else []
    )
    if len(numbers) != 2 or not np.isfinite(numbers).all() or numbers[1] <= 0:
        raise ValueError(f"Got {path} with dataset_args norm {norm!r:.60}, expected mean and standard deviation.")
    return numbers[0], numbers[1]
