"""Tilt series with a known answer, in the files of every program that is read, for tests, Binder and notebooks.

Every image is ``CTF (exposure filter x projection) + noise`` (method: Grant & Grigorieff 2015 for the filter, Rohou &
Grigorieff 2015 for the CTF). Projections are summed in real space (see phantom.py), on a grid twice as wide as the
images, so that what the CTF carries out of the box is lost as in extraction from a micrograph.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32

from tomodrgn.io import mrc
from tomodrgn.io.star import write_star
from tomodrgn.particles.acquisition import draw_acquisition
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.phantom import states_phantom
from tomodrgn.particles.read import read_particles
from tomodrgn.particles.simulated_formats import FORMATS
from tomodrgn.particles.simulated_images import Conformations, Imager, SimulationOptions
from tomodrgn.particles.simulated_sets import set_files
from tomodrgn.particles.simulated_tables import SERIES_BLOCKS, particle_names, user_columns
from tomodrgn.particles.simulated_tomograms import TOMOGRAM_FOLDER, write_tomograms

__all__ = ["read_truth", "simulate_particles", "truth_volumes"]

# Positions of the motion of which maps are saved, and that are averaged.
MOTION_MAPS, MOTION_BINS = 5, 32
Dialect = Literal[
    "warp", "warptools", "relion5", "nextpyp", "nextpyp_relion5", "cryosrpnt", "cistem", "emclarity"
]  # fmt: skip


def simulate_particles(
    out_dir: Path | str,
    *,
    n_particles: int = 200,
    n_tilts: int = 11,
    box_px: int = 32,
    pixel_size_angst: float = 8.0,
    n_states: int = 3,
    mass_difference: float = 0.15,
    continuous: bool = False,
    snr: float = 0.05,
    max_tilt_deg: float = 60.0,
    n_tomograms: int = 4,
    missing_tilts: int = 2,
    dose_per_tilt_e_per_angst2: float = 3.0,
    defocus_range_angst: tuple[float, float] = (15000.0, 35000.0),
    dialect: Dialect = "warp",
    premultiplied: bool | None = None,
    shift_std_px: float = 1.0,
    noise: bool = True,
    ctf: bool = True,
    radiation_damage: bool = True,
    extra_columns: bool = True,
    tomograms: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> ParticleSet:
    """Write tilt images of an invented molecule in several states, and the truth beside them.

    Parameters
    ----------
    out_dir
        Folder to be made. It gets the STAR files, image stacks (float16) below ``particleseries`` and ``truth``, and,
        if asked for, ``reconstruction``.
    n_particles, n_tilts, n_tomograms
        Number of particles, of tilts of a series (2 or more), and of tomograms (at most as many as particles).
    box_px, pixel_size_angst
        Side of the images in pixels (even), and the size of a pixel.
    n_states, mass_difference
        States that the particles are in, in equal numbers; each has one lobe more than the one before, of this
        fraction of the mass of state 0.
    continuous
        Whether a domain of the molecule is at a random position of its motion (a swing about a hinge) in each
        particle; else it is at rest in all.
    snr
        Variance of the images without noise, inside a circle around the molecule, over that of the noise of a pixel,
        both before any premultiplication; mean over the images. The noise is white, of variance 1.
    max_tilt_deg
        Tilts are spread evenly from minus to plus this angle, and acquired from 0 to both sides.
    missing_tilts
        Up to so many tilts of a particle, drawn at random, are missing (two are left at least).
    dose_per_tilt_e_per_angst2
        Exposure by each tilt. The exposure of an image, in files and in the filter, is that of the tilts before it.
    defocus_range_angst
        Lowest and highest mean defocus of a tomogram. The particle's depth in the tilted specimen adds to it.
    dialect
        Program whose files are imitated: one row an image in ``"warp"``, ``"cryosrpnt"``, ``"nextpyp"``, ``"cistem"``
        and ``"emclarity"``, an optimisation set in ``"warptools"``, ``"relion5"`` and ``"nextpyp_relion5"``.
    premultiplied
        Whether images are multiplied by their CTF (and for WarpTools and RELION 5 by exposure filter and cosine of the
        tilt). None is the default of the dialect: yes for WarpTools and RELION 5, no for others.
    shift_std_px
        Standard deviation, along each axis, of the particle's distance from where it was extracted.
    noise, ctf, radiation_damage
        Whether images have noise, a CTF (else that of an ideal phase plate, -1 at all frequencies), and fade with
        exposure by the exposure filter.
    extra_columns
        Whether to add rlnRandomSubset, the text userGridSquare and the number userIceThickness.
    tomograms
        Whether to write a volume of each tomogram, ``reconstruction/<tomogram>_<voxel>Apx.mrc``: the density of the
        particles plus noise, binned 3 times, without CTF or missing wedge. For files that have no positions these are
        in ``reconstruction/positions.star``.
    seed
        Every random choice follows from it; molecule, poses, CTF and noise do not depend on the dialect.
    overwrite
        Whether an earlier simulation in that folder may be replaced.

    Returns
    -------
    The data set, read from the files. See `read_truth` and `truth_volumes` for the known answer.

    Raises
    ------
    FileExistsError
        If the folder holds anything, unless `overwrite` is True and it holds an earlier simulation.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     particles = simulate_particles(folder, n_particles=6, n_tilts=5)
    ...     print(len(particles), read_truth(folder)["label"].nunique())
    6 3
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("out_dir", "overwrite")}
    options = SimulationOptions(**given)
    out_dir = Path(out_dir)
    streams = np.random.SeedSequence(seed).spawn(5)
    acquisition = draw_acquisition(
        n_particles=n_particles,
        n_tilts=n_tilts,
        n_tomograms=min(n_tomograms, n_particles),
        missing_tilts=min(missing_tilts, n_tilts - 2),
        max_tilt_deg=max_tilt_deg,
        dose_per_tilt_e_per_angst2=dose_per_tilt_e_per_angst2,
        defocus_range_angst=defocus_range_angst,
        shift_std_px=shift_std_px,
        box_px=box_px,
        pixel_size_angst=pixel_size_angst,
        has_ctf=ctf,
        rng=np.random.default_rng(streams[0]),
    )
    phantom = states_phantom(
        n_states,
        seed=int(streams[1].generate_state(1)[0]),
        mass_difference=mass_difference,
        box_px=box_px,
        pixel_size_angst=pixel_size_angst,
    )
    rng = np.random.default_rng(streams[2])
    conformations = Conformations(
        label=rng.permutation(np.arange(n_particles) % n_states),
        parameter=rng.uniform(0, 1, n_particles) if continuous else np.full(n_particles, 0.5),
    )
    _make_room(out_dir, overwrite=overwrite)
    imager = Imager(options, phantom, acquisition, conformations)
    _write_data(out_dir, imager, np.random.default_rng(streams[3]))
    _write_truth(out_dir, imager)
    if tomograms:
        with_positions = dialect in SERIES_BLOCKS
        write_tomograms(out_dir, imager, np.random.default_rng(streams[4]), with_positions=with_positions)
    return read_particles(out_dir / options.layout.star, dialect=dialect)


def read_truth(out_dir: Path | str) -> pd.DataFrame:
    """What is known of each simulated particle.

    Parameters
    ----------
    out_dir
        Folder given to `simulate_particles`.

    Returns
    -------
    Frame indexed by particle_id: `label` (number of the state), `parameter` (of the motion, 0 to 1; 0.5 is rest) and
    `n_tilts`.

    Raises
    ------
    FileNotFoundError
        If the folder holds no simulation.
    """
    path = _truth_file(out_dir, "particles.csv")
    return pd.read_csv(path, dtype={"particle_id": str}).set_index("particle_id")


def truth_volumes(out_dir: Path | str) -> dict[str, Float32[np.ndarray, "d d d"]]:
    """The maps behind simulated images, on the scale of the images (a projection is the sum over z), axes zyx.

    Parameters
    ----------
    out_dir
        Folder given to `simulate_particles`.

    Returns
    -------
    ``state_0``, ``state_1`` ...: states with the moving domain at rest; ``consensus``: mean over all particles; for
    continuous motion ``motion_000`` to ``motion_100``: state 0 at 0 to 100 % of the motion.

    Raises
    ------
    FileNotFoundError
        If the folder holds no simulation.
    """
    folder = _truth_file(out_dir, "consensus.mrc").parent
    return {path.stem: mrc.read_volume(path)[0] for path in sorted(folder.glob("*.mrc"))}


def _truth_file(out_dir: Path | str, name: str) -> Path:
    path = Path(out_dir) / "truth" / name
    if not path.is_file():
        raise FileNotFoundError(
            f"Got {out_dir} without truth/{name}, expected the folder of a simulation. Give the folder that was given "
            "to simulate_particles."
        )
    return path


def _make_room(out_dir: Path, *, overwrite: bool) -> None:
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    known = {
        "truth",
        TOMOGRAM_FOLDER,
        "particles.mrc",
        *(name for f in FORMATS.values() for name in (f.star, *f.folders)),
    }
    if not overwrite or not out_dir.is_dir() or not _all_known(out_dir, known):
        raise FileExistsError(
            f"Got output folder {out_dir}, which exists already. Choose another, or pass overwrite=True (--overwrite) "
            "if it holds nothing but an earlier simulation."
        )
    for path in out_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _all_known(out_dir: Path, known: set[str]) -> bool:
    return all(path.name in known or path.name.endswith("_stack.mrcs") for path in out_dir.iterdir())


def _write_data(out_dir: Path, imager: Imager, rng: np.random.Generator) -> None:
    """Stacks first, then the STAR files that name them."""
    options, acquisition = imager.options, imager.acquisition
    dialect, premultiplied = options.dialect, options.multiplied
    if dialect not in SERIES_BLOCKS:
        names = list(_write_particles(out_dir, imager, rng))
        files = set_files(
            acquisition,
            dialect,
            names,
            box_px=options.box_px,
            premultiplied=premultiplied,
            extra_columns=options.extra_columns,
        )
        for name, blocks in files.items():
            write_star(out_dir / name, blocks)
        return
    # EmClarity writes tilt by tilt, the others particle by particle; both by rising exposure.
    exposure = acquisition.dose_e_per_angst2[imager.tilt]
    keys = (imager.particle, exposure) if dialect == "emclarity" else (exposure, imager.particle)
    order = np.lexsort(keys)
    names = list(_write_series(out_dir, imager, order, rng))
    blocks = SERIES_BLOCKS[dialect](acquisition, order, names, premultiplied=premultiplied)
    if options.extra_columns:
        last = list(blocks)[-1]
        added = user_columns(acquisition, imager.particle[order], half_sets=dialect in ("warp", "cryosrpnt"))
        blocks[last] = blocks[last].assign(**{name: pd.Series(values).astype(str) for name, values in added.items()})
    write_star(out_dir / options.layout.star, blocks)


def _write_series(out_dir: Path, imager: Imager, order: np.ndarray, rng: np.random.Generator) -> Iterator[str]:
    """One stack a tomogram, or one for all, in the order of the rows of the STAR file; the names of the images."""
    options = imager.options
    pixel_size, dialect = options.pixel_size_angst, options.dialect
    tomogram = imager.acquisition.tomogram[imager.particle]
    images = [imager.images(np.flatnonzero(tomogram == i), rng) for i in range(len(imager.acquisition.tomograms))]
    if options.layout.stacks == "all":
        name = "particles.mrc" if dialect in ("cistem", "emclarity") else "particleseries/particles.mrcs"
        mrc.write_stack(out_dir / name, np.concatenate(images)[order], pixel_size)
        yield from (f"{j + 1}@{name}" for j in range(len(order)))
        return
    first = 0
    for name, own in zip(imager.acquisition.tomograms, images, strict=True):
        rows = order[first : first + len(own)] - first
        first += len(own)
        stack = f"{name}_stack.mrcs" if dialect == "nextpyp" else f"particleseries/{name}_{pixel_size:.2f}A.mrcs"
        mrc.write_stack(out_dir / stack, own[rows], pixel_size)
        yield from (f"{j + 1:06d}@{stack}" for j in range(len(own)))


def _write_particles(out_dir: Path, imager: Imager, rng: np.random.Generator) -> Iterator[str]:
    """One stack a particle, its tilts by rising angle; the names of the stacks."""
    options, acquisition = imager.options, imager.acquisition
    pixel_size = options.pixel_size_angst
    tomogram = acquisition.tomogram[imager.particle]
    for i, name in enumerate(acquisition.tomograms):
        rows = np.flatnonzero(tomogram == i)
        images = imager.images(rows, rng)
        particle = imager.particle[rows]
        own_images = np.split(images, np.flatnonzero(np.diff(particle)) + 1)
        for number, (own, row) in enumerate(zip(own_images, np.unique(particle), strict=True), 1):
            stack = {
                "warptools": f"particleseries/{name}/{name}_{pixel_size:.2f}A_{number:06d}.mrcs",
                "relion5": f"Extract/job001/Subtomograms/{name}/{number}_stack2d.mrcs",
                "nextpyp_relion5": f"stacks/{name}_p{number:02d}_stack.mrcs",
            }[options.dialect]
            if options.layout.stacks == "particle full":
                full = np.zeros((len(acquisition.tilt_deg), *own.shape[1:]), dtype=own.dtype)
                full[acquisition.visible[row]] = own
                own = full
            mrc.write_stack(out_dir / stack, own, pixel_size)
            yield stack


def _write_truth(out_dir: Path, imager: Imager) -> None:
    options, acquisition, truth = imager.options, imager.acquisition, imager.conformations
    folder = out_dir / "truth"
    volumes = {f"state_{i}": imager.volume(i, 0.5) for i in range(options.n_states)}
    if options.continuous:
        volumes |= {f"motion_{round(100 * t):03d}": imager.volume(0, t) for t in np.linspace(0, 1, MOTION_MAPS)}
    volumes["consensus"] = _consensus(imager)
    for name, volume in volumes.items():
        mrc.write_volume(folder / f"{name}.mrc", volume, options.pixel_size_angst)
    (folder / "simulation.json").write_text(json.dumps(asdict(options), indent=1) + "\n", encoding="utf-8")
    table = pd.DataFrame({
        "particle_id": particle_names(acquisition, options.dialect), "label": truth.label,
        "parameter": truth.parameter.round(6), "n_tilts": acquisition.visible.sum(axis=1),
    })  # fmt: skip
    table.to_csv(folder / "particles.csv", index=False)


def _consensus(imager: Imager) -> Float32[np.ndarray, "d d d"]:
    """Mean over all particles; for a continuous motion each is taken at the nearest of 32 positions."""
    truth = imager.conformations
    bins = (
        np.floor(truth.parameter * MOTION_BINS) + 0.5
        if imager.options.continuous
        else np.full(len(truth.label), 0.5 * MOTION_BINS)
    )
    pairs, counts = np.unique(np.stack([truth.label, bins / MOTION_BINS], axis=1), axis=0, return_counts=True)
    mean = sum(c * imager.volume(int(s), t) for (s, t), c in zip(pairs, counts, strict=True)) / counts.sum()
    return mean.astype(np.float32)
