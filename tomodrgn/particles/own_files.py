"""No output may replace a file that it is made from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["refuse_own_files", "refuse_to_replace"]


def refuse_own_files(particles: ParticleSet, written: Iterable[Path]) -> None:
    """Refuse outputs that would replace a file that these particles were read from, whatever may be overwritten.

    Raises
    ------
    ValueError
        If one is the file of the particles, one that it names (particles, tomograms, tilt series), or an image stack.
    """
    source = particles.source
    tables = [source.path, source.particles_path, *([] if source.tomograms_file is None else [source.tomograms_file])]
    stack = [] if source.options.stack is None else [source.options.stack]
    tilts = [file for file, _ in source.tilt_series.values()]
    refuse_to_replace([*tables, *tilts, *stack, *particles.stack_paths], written)


def refuse_to_replace(own: Iterable[Path], written: Iterable[Path]) -> None:
    """Refuse outputs that are one of the files read, by their own name or through links.

    Raises
    ------
    ValueError
        If there is one.
    """
    read = {os.path.realpath(path) for path in own}  # which bears links that lead to themselves
    clash = next((path for path in written if os.path.realpath(path) in read), None)
    if clash is not None:
        raise ValueError(
            f"Got output {clash}, which is one of the files that are read (itself, or one that it names), expected "
            "another place. It would be lost. Choose another folder or file name."
        )
