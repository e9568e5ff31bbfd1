"""Labels given to maps, and through them to particles: which particles a map stands for, and how labels are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tomodrgn.io.atomic import replacing
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.write_back import write_particles
from tomodrgn.training.run import Run

__all__ = [
    "LABELS_FILE",
    "label_particles",
    "labels_of_maps",
    "particles_of_maps",
    "read_labels",
    "save_labels",
    "write_labelled",
]

LABELS_FILE = "labels.csv"
LABEL_COLUMN = "tomodrgnLabel"


def particles_of_maps(maps: pd.DataFrame, clusters: pd.Series | None = None) -> pd.Series:
    """The map that each particle belongs to.

    Parameters
    ----------
    maps
        Labels of a VolumeStack: indexed by the name of the map, with `cluster` or `particle_id` where they are known.
    clusters
        Of each particle (index particle_id) the name of its map, or the number that the column `cluster` has for it;
        None takes for each map the particle that it was decoded at. Particles of other clusters, such as noise (-1),
        belong to no map.

    Returns
    -------
    Series "map" of names, indexed by particle_id.

    Raises
    ------
    ValueError
        If no particle belongs to any of the maps.

    Examples
    --------
    >>> maps = pd.DataFrame({"cluster": [0, 1]}, index=["cluster_000", "cluster_001"])
    >>> particles_of_maps(maps, pd.Series([1, 0, -1], index=["a", "b", "c"])).to_dict()
    {'a': 'cluster_001', 'b': 'cluster_000'}
    """
    names = [str(name) for name in maps.index]
    if clusters is None:
        ids = maps["particle_id"].astype(str) if "particle_id" in maps else pd.Series(dtype=str)
        found = pd.Series(names[: len(ids)], index=pd.Index(ids, name="particle_id"), name="map", dtype="str")
        return found[~found.index.duplicated()]
    wanted = {name: name for name in names}
    if "cluster" in maps:
        wanted |= {str(label): name for label, name in zip(maps["cluster"], names, strict=True)}
    found = clusters.astype(str).map(wanted).dropna()
    if clusters.index.has_duplicates:
        twice = clusters.index[clusters.index.duplicated()][0]
        raise ValueError(f"Got particle {twice!r} in several clusters, expected one row for each. Remove the others.")
    if found.empty:
        raise ValueError(
            f"Got clusters {sorted(clusters.astype(str).unique())[:5]}, none of which is one of the maps {names[:5]} "
            "or of their column cluster. Give the clusters that the maps were made of."
        )
    return pd.Series(found.to_numpy(), index=pd.Index(found.index.astype(str), name="particle_id"), name="map")


def label_particles(members: pd.Series, labels: Mapping[str, str]) -> pd.Series:
    """Label of each particle whose map has one.

    Parameters
    ----------
    members
        Of `particles_of_maps`.
    labels
        Label of each map; an empty one is none.

    Returns
    -------
    Series "label", indexed by particle_id.

    Examples
    --------
    >>> members = pd.Series(["m1", "m2"], index=["a", "b"], name="map")
    >>> label_particles(members, {"m1": "50S", "m2": ""}).to_dict()
    {'a': '50S'}
    """
    known = {name: label for name, label in labels.items() if label}
    found = members.map(known).dropna()
    return pd.Series(found.to_numpy(dtype=object), index=found.index, name="label", dtype="str")


def labels_of_maps(members: pd.Series, labels: pd.Series) -> tuple[dict[str, str], list[str]]:
    """Label of each map whose particles all bear the same one; and the names of maps whose particles bear several.

    Parameters
    ----------
    members
        Of `particles_of_maps`.
    labels
        Label of particles, indexed by particle_id; empty or missing is none.
    """
    own = labels.reindex(members.index).fillna("").astype(str)
    found: dict[str, str] = {}
    mixed = []
    for name, values in own.groupby(members):
        kinds = values.unique()
        if len(kinds) > 1:
            mixed.append(str(name))
        elif kinds[0]:
            found[str(name)] = str(kinds[0])
    return found, mixed


def save_labels(run: Run, labels: pd.Series, *, overwrite: bool = False) -> str:
    """Write labels to ``RUN/analysis/labels.csv``, one row for each particle of the run, empty where it has none.

    They thereby are the column `label` of `Run.table`, and ``tomodrgn filter --labels`` takes the file.

    Returns
    -------
    Path of the file.

    Raises
    ------
    FileExistsError
        If there are labels and `overwrite` is False.
    KeyError
        If a particle is not in the run.
    """
    ids = pd.Index(run.latents().particle_id, name="particle_id")
    strange = labels.index.difference(ids)
    if len(strange):
        raise KeyError(
            f"Got labels of {len(strange)} particles that are not among the {len(ids)} of run {run.folder}, first "
            f"{strange[0]!r}. Label particles of this run."
        )
    path = run.folder / "analysis" / LABELS_FILE
    with replacing(path, overwrite=overwrite) as temporary:
        labels.reindex(ids).fillna("").rename("label").to_csv(temporary)
    return str(path)


def read_labels(run: Run) -> pd.Series:
    """What `save_labels` wrote: Series "label" of the particles that have one, indexed by particle_id.

    Raises
    ------
    FileNotFoundError
        If the run has no labels.
    ValueError
        If the file has other columns.
    """
    path = run.folder / "analysis" / LABELS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"Got run {run.folder} without labels ({path} is not there). Save some first.")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not {"particle_id", "label"} <= set(table):
        raise ValueError(
            f"Got {path} with the columns {', '.join(map(str, table))}, expected particle_id and label. Rename them."
        )
    found = table.set_index("particle_id")["label"]
    return found[found != ""]


def write_labelled(
    particles: ParticleSet, labels: pd.Series, path: Path | str, *, only: str | None = None, overwrite: bool = False
) -> list[Path]:
    """Write particles with their labels in the column ``tomodrgnLabel``, empty where there is none.

    Parameters
    ----------
    labels
        Of particles of the set, indexed by particle_id; see `label_particles`.
    only
        Write particles with this label alone.

    Returns
    -------
    The files written.

    Raises
    ------
    FileExistsError, KeyError, ValueError
        See `write_particles`; or if no particle has the label.
    """
    if only is not None:
        if only not in set(labels):
            raise ValueError(f"Got label {only!r}, expected one of {sorted(set(labels))}. Label some maps so.")
        particles = particles.subset(labels.index[labels == only])
    column = labels.reindex(particles.particle_id).fillna("").rename(LABEL_COLUMN)
    return write_particles(particles, path, columns=column.to_frame(), overwrite=overwrite)
