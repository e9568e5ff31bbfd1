"""How each program lays out the files of a simulation: which files, which stacks, which sign of the contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FORMATS", "SimulatedFormat"]


@dataclass(frozen=True, kw_only=True)
class SimulatedFormat:
    """Files and images of a dialect.

    Parameters
    ----------
    star
        The file that is read.
    stacks
        One stack for each tomogram, for all images, for each particle (visible tilts only), or for each particle with
        empty images for the tilts that it lacks.
    light
        Whether images that are not premultiplied are written light on dark.
    multiplied
        Whether images are premultiplied by their CTF by default; None where the files cannot say so.
    weighted
        Whether premultiplied images are also multiplied by exposure filter and cosine of the tilt.
    folders
        Names of the folders and files that make up a simulation.
    """

    star: str
    stacks: Literal["tomogram", "all", "particle", "particle full"]
    light: bool
    multiplied: bool | None
    weighted: bool = False
    folders: tuple[str, ...] = ("particleseries",)


PARTICLES, SET, TOMOGRAMS = "particles.star", "particles_optimisation_set.star", "particles_tomograms.star"
FORMATS = {
    "warp": SimulatedFormat(star=PARTICLES, stacks="tomogram", light=True, multiplied=False),
    "warptools": SimulatedFormat(
        star=SET, stacks="particle", light=True, multiplied=True, weighted=True,
        folders=("particleseries", PARTICLES, TOMOGRAMS),
    ),
    "relion5": SimulatedFormat(
        star="Extract/job001/optimisation_set.star", stacks="particle", light=True, multiplied=True, weighted=True,
        folders=("Extract", "Tomograms"),
    ),
    "nextpyp_relion5": SimulatedFormat(
        star=SET, stacks="particle full", light=True, multiplied=None, folders=("stacks", PARTICLES, TOMOGRAMS)
    ),
    "nextpyp": SimulatedFormat(star=PARTICLES, stacks="tomogram", light=False, multiplied=None),
    "cryosrpnt": SimulatedFormat(star=PARTICLES, stacks="all", light=False, multiplied=None),
    "cistem": SimulatedFormat(star=PARTICLES, stacks="all", light=False, multiplied=None),
    "emclarity": SimulatedFormat(star=PARTICLES, stacks="all", light=False, multiplied=None),
}  # fmt: skip
