"""What a file of particles holds, also where its images are not at hand, and what was remarked while it was read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import describe_particles, read_particles
from tomodrgn.particles.stack_files import MissingStacksError

__all__ = ["Inspection", "collected_remarks", "inspect_particles"]

ROOM = "tomodrgn.particles"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A file of particles that was looked at.

    Parameters
    ----------
    particles
        Its particles. Without their stacks, `box_px` is what the file says, or 0, and `slice_index` is not to be used.
    missing
        The error that reading with images would raise for want of stacks; None if all are there.
    remarks
        What was assumed, left out or doubted while the file was read, one sentence or two each.
    """

    particles: ParticleSet
    missing: MissingStacksError | None
    remarks: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """`describe_particles`, the remarks, and which image stacks are missing, as JSON knows them."""
        lost = self.missing
        stacks = {
            "number": len(self.particles.stack_paths) if lost is None else lost.n_stacks,
            "missing": 0 if lost is None else len(lost.names),
            "first_missing": None if lost is None else lost.names[0],
            "option": None if lost is None else lost.option,
        }
        return {**describe_particles(self.particles), "image_stacks": stacks, "remarks": list(self.remarks)}


def inspect_particles(path: Path | str, **options: Any) -> Inspection:
    """Read particles and gather what is remarked on the way; missing image stacks are told instead of raised.

    Parameters
    ----------
    path
        As for `read_particles`.
    options
        Those of `read_particles`, but `check_stacks`.

    Raises
    ------
    FileNotFoundError
        If the file or a table that it names is missing, or stacks are missing and `box_px` asks for a crop of images
        whose box the file does not say.
    ValueError
        See `read_particles`.
    """
    try:
        with collected_remarks() as remarks:
            particles = read_particles(path, **options)
    except MissingStacksError as error:
        box_px = options.pop("box_px", None)
        with collected_remarks() as remarks:
            particles = read_particles(path, **options, check_stacks=False)
        if box_px is not None and not particles.box_px:
            raise
        particles = particles if box_px is None else particles.cropped_to(box_px)
        return Inspection(particles=particles, missing=error, remarks=tuple(remarks))
    return Inspection(particles=particles, missing=None, remarks=tuple(remarks))


@contextmanager
def collected_remarks() -> Iterator[list[str]]:
    """Texts that this thread logs about particles meanwhile, each once; they go here and not to the log."""
    handler = _Collector()
    logger = logging.getLogger(ROOM)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    logger.propagate = False
    try:
        yield handler.texts
    finally:
        logger.propagate = propagate
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        above = logging.getLogger(ROOM).parent
        if record.thread != self._thread and above is not None:
            above.callHandlers(record)
        elif record.getMessage() not in self.texts:
            self.texts.append(record.getMessage())
