"""Preprocessed images of a training: in memory while they fit, or else in a file that vanishes with the process."""

from __future__ import annotations

import errno
import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16
from lightning_fabric import Fabric

from tomodrgn.config import TrainConfig
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.image_cache import ImageCache
from tomodrgn.particles.preprocess import Preprocessor

__all__ = ["cache_bytes", "cache_images"]

logger = logging.getLogger(__name__)
BATCH_PARTICLES = 16
SPARE_BYTES = 1 << 30


def cache_bytes(preprocessor: Preprocessor) -> int:
    """Size of the cache of all images of a preprocessor's set."""
    return int(np.prod(_shape(preprocessor))) * np.dtype(np.float16).itemsize


def cache_images(
    preprocessor: Preprocessor,
    folder: Path | str,
    config: TrainConfig,
    fabric: Fabric,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> ImageCache | None:
    """Read and transform all images of a preprocessor's set, once.

    Coefficients that need no more than ``config.cache_gib`` stay in memory; others go to a file in
    ``config.cache_dir``, or else in `folder`, which the processes of a node share. The file loses its name as soon as
    they have opened it, so that nothing is left of it when they end, however they end.

    Parameters
    ----------
    should_stop
        Asked after every batch; True ends the reading.

    Returns
    -------
    The cache. None if it is turned off or was stopped, or if neither memory nor disk has room for it: that is logged,
    with the cure, and images are then read and transformed anew in each epoch.

    Raises
    ------
    FileNotFoundError, ValueError
        If an image cannot be read, or holds values of more than 65,504 standard deviations.
    """
    if not config.cache:
        return None
    parts = _parts(preprocessor, should_stop or (lambda: False))
    if cache_bytes(preprocessor) * config.devices <= config.cache_gib * 2**30:
        kept = np.empty(_shape(preprocessor), dtype=np.float16)
        first = 0
        for part in parts:
            kept[first : first + len(part)] = part
            first += len(part)
        return ImageCache(coefficients=kept) if first == len(kept) else None
    folder = Path(config.cache_dir or folder)
    path = folder / f".images-{socket.gethostname()}-{fabric.node_rank}.f16"
    try:
        if fabric.local_rank == 0:
            _write(preprocessor, parts, path)
        fabric.barrier()
        found = np.memmap(path, dtype=np.float16, mode="r", shape=_shape(preprocessor)) if path.exists() else None
        fabric.barrier()
    finally:
        if fabric.local_rank == 0:
            with suppress(FileNotFoundError):
                path.unlink()
    return None if found is None else ImageCache(coefficients=found)


def _write(preprocessor: Preprocessor, parts: Iterator[np.ndarray], path: Path) -> None:
    """Write the file, or say why not; a stopped or unfinished one is removed."""
    needed, free = cache_bytes(preprocessor), shutil.disk_usage(path.parent).free
    if free < needed + SPARE_BYTES:
        _warn_of_no_room(needed, path.parent)
        return
    try:
        # Written as a file and mapped afterwards: a full disk is then an error and not the end of the process.
        with path.open("wb") as file:
            for part in parts:
                file.write(part.data)
        if path.stat().st_size < needed:
            path.unlink()
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _warn_of_no_room(needed, path.parent)


def _warn_of_no_room(needed: int, folder: Path) -> None:
    logger.warning(
        "Got %.2f GiB of preprocessed images, expected as much memory (--cache-gib) or disk: %s has %.2f GiB left. "
        "They are read and transformed anew in each epoch. Give more memory, or another folder (--cache-dir).",
        needed / 2**30,
        folder,
        shutil.disk_usage(folder).free / 2**30,
    )


def _shape(preprocessor: Preprocessor) -> tuple[int, int, int]:
    return preprocessor.particles.n_images, len(preprocessor.grid), 2


def _parts(preprocessor: Preprocessor, should_stop: Callable[[], bool]) -> Iterator[Float16[np.ndarray, "i p 2"]]:
    """Coefficients of all images in their order."""
    particles = preprocessor.particles
    for raw in TiltDataset(particles).batches(sample_batches(particles, BATCH_PARTICLES)):
        values = torch.view_as_real(preprocessor.coefficients(raw)).half()
        finite = values.isfinite().all(dim=2).all(dim=1).cpu().numpy()
        if not finite.all():
            bad = particles.particle_id[raw.particles[raw.owner].numpy()[~finite][0]]
            raise ValueError(
                f"Got an image of particle {str(bad)!r} in {particles.source.path} with Fourier coefficients of more "
                "than 65,504 standard deviations, expected real micrograph contrast. Leave the particle out, or turn "
                "the cache of images off (--no-cache)."
            )
        yield values.cpu().numpy()
        if should_stop():
            return
