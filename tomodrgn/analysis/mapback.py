"""Particles and their maps put back into the tomograms that they came from: ChimeraX scripts, STAR files, matrices."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float64

from tomodrgn.analysis.chimerax import safe_name, write_markers, write_script
from tomodrgn.analysis.latent_space import cluster_centres
from tomodrgn.analysis.neighbourhood import tomogram_rows
from tomodrgn.analysis.options import require_word
from tomodrgn.analysis.palette import column_rgb
from tomodrgn.analysis.placement import HandScore, place_maps, score_hands
from tomodrgn.analysis.run_positions import own_positions
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.io.mrc import open_tomogram
from tomodrgn.particles.inspection import collected_remarks
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.position_set import Positions, tilt_series_of
from tomodrgn.particles.read import write_particles
from tomodrgn.particles.tomogram_files import find_tomograms
from tomodrgn.training.particle_table import analysis_columns
from tomodrgn.training.run import Run
from tomodrgn.volumes.generate import generate_volumes
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["MapBack", "map_back", "refuse_many"]

logger = logging.getLogger(__name__)
MOST_MAPS = 500  # of a script
MARKER_RADIUS = 0.15  # of the box
ENDINGS = ("", "_particles", "_tomograms")  # of the files that an optimisation set is written to
Maps = Literal["one", "class", "particle"]


@dataclass(frozen=True, kw_only=True)
class MapBack:
    """Where each particle's map lies in its tomogram.

    Parameters
    ----------
    table
        One row a placed particle (index particle_id): `tomogram`, `label`, `map` (file), `red`, `green`, `blue`, and
        the matrix as `m11` ... `m34`, row by row.
    affine
        The matrices, (k, 4, 4), order xyz, in angstrom; see `place_maps`.
    maps
        The maps.
    hands
        How the mean map and its mirror image fit each tomogram that was given, by the name of its tilt series.
    scripts
        The ChimeraX script of each tomogram.
    files
        All that was written.
    """

    table: pd.DataFrame
    affine: Float64[np.ndarray, "k 4 4"]
    maps: VolumeStack
    hands: dict[str, HandScore]
    scripts: list[Path]
    files: list[Path] = field(default_factory=list)

    @property
    def affine_zyx(self) -> Float64[np.ndarray, "k 4 4"]:
        """The matrices for coordinates in the order zyx, as napari has them."""
        order = [2, 1, 0, 3]
        return self.affine[:, order][:, :, order]


def map_back(
    run: Run | Path | str,
    folder: Path | str,
    *,
    positions: Positions | None = None,
    maps: Maps = "class",
    labels: pd.Series | None = None,
    colour_by: str | None = None,
    particle_ids: Iterable[str] | None = None,
    tomograms: Mapping[str, Path | str] | Path | str | None = None,
    epoch: int | None = None,
    box_px: int | None = None,
    level_sigma: float = 3.0,
    max_maps: int = MOST_MAPS,
    overwrite: bool = False,
    device: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> MapBack:
    """Put particles and their maps back into their tomograms.

    Maps are placed as they are decoded, not mirrored: they are of the hand of the poses. Where a tomogram is given,
    both hands are scored against it, and which is better is in the result; nothing is mirrored silently.

    In the folder: ``maps/*.mrc``; for each tomogram a script ``<tomogram>.cxc`` for ChimeraX and its markers
    ``<tomogram>.cmm``; ``placements.csv``; and the particles as STAR files, one a class in ``classes/`` and one a
    tomogram in ``tomograms/``, to go on with in other programs.

    Parameters
    ----------
    run
        A run, or its folder.
    folder
        Folder to write to.
    positions
        Of `read_positions`; None reads them from the file of the run's particles, if that has them.
    maps
        ``"one"`` for all (at the mean of the latents), one a ``"class"`` (at the particle nearest to the mean of its
        latents), or one a ``"particle"`` at its own latent.
    labels
        Class of each particle, indexed by particle_id; None takes the clusters of the run's analysis, of whatever epoch
        it is, or puts all into class 0.
    colour_by
        Column of the run's table that gives the colours; None colours by class.
    particle_ids
        Place only these; None places all that have a position.
    tomograms
        Volumes (MRC) by name of tomogram, or a folder of them, whose files are matched by name.
    epoch
        Epoch whose latents and weights are used; None is the last.
    box_px
        Side of the maps; None is that of the run, 64 at most.
    level_sigma
        Level of the surfaces, in standard deviations above the mean of each map.
    max_maps
        Most maps that a script opens; a tomogram with more particles is an error.
    tell
        Called with a line at the start of every step.

    Raises
    ------
    FileExistsError
        If a file exists and `overwrite` is False.
    KeyError
        If a particle, or the column for the colours, is not in the run.
    ValueError
        If `maps` is another word, there are no positions, a tomogram has too many particles, or a volume does not hold
        its particles.
    """
    require_word(maps, get_args(Maps), "maps")
    run, folder = run if isinstance(run, Run) else Run.open(run), Path(folder)
    refuse_existing(folder / "placements.csv", overwrite=overwrite)
    particles = run.particles_without_images
    if particle_ids is not None:
        particles = particles.subset(particle_ids)
    found = (own_positions(run) if positions is None else positions).aligned_to(particles).positions
    table = run.table(epoch).loc[found.particle_id]
    classes = _classes(run, found.particle_id, labels)
    if colour_by is not None and colour_by not in table:
        near = ", ".join(str(column) for column in list(table)[:12])
        raise KeyError(f"Got column {colour_by!r} for the colours, expected one of the run's table: {near}, ...")
    rgb = column_rgb(classes if colour_by is None else table[colour_by])
    rows = tomogram_rows(found)
    refuse_many(found, max_maps)
    latents = run.latents(epoch).aligned_to(found.particle_id)
    tell(f"decoding maps for {len(found)} particles ...")
    box, texts = min(run.settings["box_px"], 64) if box_px is None else box_px, classes.astype(str)
    points, map_of = _points(latents, texts, maps)
    stack = generate_volumes(run, points, epoch=epoch, box_px=box, device=device)
    affine = place_maps(found, box, stack.voxel_size_angst)
    files = {tilt_series_of(name): path for name, path in find_tomograms(found.tomogram, tomograms).files.items()}
    hands = {}
    if files:
        tell("scoring both hands ...")
        mean = generate_volumes(run, latents.mu.mean(axis=0, keepdims=True), epoch=epoch, box_px=box, device=device)
        hands = _score_all(files, found, rows, mean)
    placed = MapBack(
        table=_table(found, classes, [f"maps/{stack.names[i]}.mrc" for i in map_of], rgb=rgb, affine=affine),
        affine=affine,
        maps=stack,
        hands=hands,
        scripts=[folder / f"{name}.cxc" for name in _file_names(found, rows)],
    )
    members = _groups(placed, found, rows, texts)
    _refuse_there([*placed.scripts, *(folder / f"{name}.star" for name in members)], overwrite=overwrite)
    tell("writing ...")
    written = [*stack.save(folder / "maps", overwrite=overwrite), folder / "maps" / "volumes.csv", *placed.scripts]
    levels = stack.maps.mean(axis=(1, 2, 3)) + level_sigma * stack.maps.std(axis=(1, 2, 3))
    for part, script in zip(rows, placed.scripts, strict=True):
        volume = files.get(tilt_series_of(str(found.tomogram[part[0]])))
        _write_tomogram(placed, found.take(part), part, levels[map_of[part]], script=script, volume=volume)
    written += [script.with_suffix(".cmm") for script in placed.scripts]
    written += _write_stars(particles, folder, members, overwrite=overwrite, tell=tell)
    with replacing(folder / "placements.csv", overwrite=overwrite) as temporary:
        placed.table.to_csv(temporary)
    return replace(placed, files=[*written, folder / "placements.csv"])


def _groups(placed: MapBack, positions: Positions, rows: list[np.ndarray], classes: pd.Series) -> dict[str, Any]:
    """Particles of each tomogram and of each class, by the name of their file."""
    names = [f"tomograms/{script.stem}" for script in placed.scripts]
    of_tomograms = {name: positions.particle_id[part] for name, part in zip(names, rows, strict=True)}
    return of_tomograms | {
        f"classes/{name}": classes.index[classes == text] for text, name in _class_names(classes).items()
    }


def _refuse_there(paths: list[Path], *, overwrite: bool) -> None:
    """Refuse what is there already, and markers beside scripts."""
    for path in (*paths, *(path.with_suffix(".cmm") for path in paths if path.suffix == ".cxc")):
        refuse_existing(path, overwrite=overwrite)


def _write_tomogram(
    placed: MapBack, positions: Positions, part: np.ndarray, levels: np.ndarray, *, script: Path, volume: Path | None
) -> None:
    """The script of one tomogram and its markers; that nothing is replaced was seen to before."""
    table = placed.table.iloc[part]
    rgb = table[["red", "green", "blue"]].to_numpy()
    write_markers(
        script.with_suffix(".cmm"),
        table.index.tolist(),
        positions.position_angst,
        rgb,
        radius_angst=MARKER_RADIUS * placed.maps.maps.shape[-1] * placed.maps.voxel_size_angst,
        overwrite=True,
    )
    write_script(
        script,
        markers=f"{script.stem}.cmm",
        maps=table["map"].tolist(),
        affine=placed.affine[part],
        rgb=rgb,
        levels=levels.tolist(),
        tomogram=None if volume is None else os.path.relpath(volume.resolve(), script.parent.resolve()),
        overwrite=True,
    )


def _write_stars(
    particles: ParticleSet,
    folder: Path,
    members: dict[str, Iterable[str]],
    *,
    overwrite: bool,
    tell: Callable[[str], None],
) -> list[Path]:
    """A STAR file of each group of particles; what has to be known to read them is told once. The files written."""
    written: list[Path] = []
    with collected_remarks() as remarks:
        for name, ids in members.items():
            written += write_particles(particles.subset(ids), folder / f"{name}.star", overwrite=overwrite)
    if remarks:
        remark = f"{remarks[0]} (the same of {len(members)} files in {folder})"
        logger.info("%s", remark)
        tell(remark)
    return written


def _classes(run: Run, ids: np.ndarray, labels: pd.Series | None) -> pd.Series:
    """Class of each particle: of the labels, or of the clusters of the analysis, whatever columns the source has."""
    index = pd.Index(ids, name="particle_id")
    if labels is None:
        made = analysis_columns(run.folder / "analysis").get("clusters")
        if made is None or "cluster" not in made:
            return pd.Series(0, index=index, name="class")
        labels = made["cluster"]
    missing = index[~index.isin(labels.index)]
    if len(missing):
        raise KeyError(
            f"Got labels without {len(missing)} of {len(index)} particles, first {missing[:3].tolist()}, expected one "
            "for each. Add them, or place only those that have one (particle_ids)."
        )
    return labels.loc[index].rename("class")


def refuse_many(positions: Positions, max_maps: int = MOST_MAPS) -> None:
    """Refuse positions of which a tomogram has more than a script that stays usable opens.

    Raises
    ------
    ValueError
        If one has.
    """
    most = max(tomogram_rows(positions), key=len)
    if len(most) > max_maps:
        raise ValueError(
            f"Got {len(most)} particles in tomogram {positions.tomogram[most[0]]}, expected {max_maps} at most for a "
            "script that stays usable. Choose particles (particle_ids, --particle-ids), or raise max_maps (--max-maps)."
        )


def _points(latents: Latents, classes: pd.Series, maps: Maps) -> tuple[pd.DataFrame, np.ndarray]:
    """Points to decode, by the name of their map, and which of them each particle has."""
    columns = [f"z{i + 1}" for i in range(latents.z_dim)]
    if maps == "one":
        mean = pd.DataFrame(latents.mu.mean(axis=0)[None], index=["mean"], columns=columns)
        return mean, np.zeros(len(classes), dtype=np.int64)
    if maps == "particle":
        names = [f"particle_{i:06d}" for i in range(len(classes))]
        points = pd.DataFrame(latents.mu, index=names, columns=columns)
        points.insert(0, "particle_id", latents.particle_id)
        return points, np.arange(len(classes))
    codes, values = pd.factorize(classes, sort=True)
    files = _class_names(classes)
    centres = cluster_centres(latents, pd.Series(codes, index=latents.index, name="cluster"))
    return centres[["particle_id", *columns]].set_axis([files[str(value)] for value in values]), codes


def _class_names(classes: pd.Series) -> dict[str, str]:
    """A name of a file for each class, none twice."""
    labels = sorted(classes.unique())
    return dict(zip(labels, _unique(f"class_{safe_name(label)}" for label in labels), strict=True))


def _unique(names: Iterable[str]) -> list[str]:
    """Names of which none is another's but for its case: those that come later get the first number that is free."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        free, number = name, 2
        while taken & {free.lower() + ending for ending in ENDINGS}:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
        taken |= {free.lower() + ending for ending in ENDINGS}
    return found


def _score_all(
    files: dict[str, Path], positions: Positions, rows: list[np.ndarray], mean: VolumeStack
) -> dict[str, HandScore]:
    """Scores of the tomograms whose volumes are there."""
    hands = {}
    for part in rows:
        series = tilt_series_of(str(positions.tomogram[part[0]]))
        if series not in files:
            continue
        tomogram, voxel_size = open_tomogram(files[series])
        if voxel_size <= 0:
            raise ValueError(
                f"Got tomogram {files[series]} without a voxel size in its header, expected one in angstrom. Set it."
            )
        own = positions.take(part)
        hands[series] = score_hands(tomogram, voxel_size, own, mean.maps[0], voxel_size_angst=mean.voxel_size_angst)
        logger.info("%s: %s", series, hands[series])
    return hands


def _file_names(positions: Positions, rows: list[np.ndarray]) -> list[str]:
    """A name of a file for each tomogram."""
    return _unique(safe_name(tilt_series_of(str(positions.tomogram[part[0]]))) for part in rows)


def _table(
    positions: Positions, classes: pd.Series, files: list[str], *, rgb: np.ndarray, affine: np.ndarray
) -> pd.DataFrame:
    columns = {
        "tomogram": positions.tomogram,
        "label": classes.to_numpy(),
        "map": files,
        **{name: rgb[:, i] for i, name in enumerate(("red", "green", "blue"))},
        **{f"m{i + 1}{j + 1}": affine[:, i, j] for i in range(3) for j in range(4)},
    }
    return pd.DataFrame(columns, index=pd.Index(positions.particle_id, name="particle_id"))
