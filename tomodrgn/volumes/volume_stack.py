"""VolumeStack: maps, voxel size, labels; save and open as MRC + CSV."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from tomodrgn.imaging import resolution
from tomodrgn.io import mrc
from tomodrgn.io.atomic import replacing

__all__ = ["VolumeStack", "check_map_names"]

LONGEST_NAME = 200  # bytes


@dataclass(frozen=True, kw_only=True)
class VolumeStack:
    """A few maps of one size.

    Parameters
    ----------
    maps
        Densities, (v, d, d, d), axes zyx.
    voxel_size_angst
        Side of a voxel.
    labels
        One row a map, with whatever is known of it: the index names the map (and its file), columns may hold the
        latent (z1, z2 ...), the particle_id it was decoded at, the number of particles it stands for.
    """

    maps: Float32[np.ndarray, "v d d d"]
    voxel_size_angst: float
    labels: pd.DataFrame

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.maps):
            raise ValueError(f"Got {len(self.labels)} labels for {len(self.maps)} maps, expected one each.")
        if self.labels.index.has_duplicates:
            twice = self.labels.index[self.labels.index.duplicated()][0]
            raise ValueError(f"Got the map name {str(twice)!r} twice, expected unique names. Rename one.")

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def names(self) -> list[str]:
        """Name of each map."""
        return [str(name) for name in self.labels.index]

    def statistics(self) -> pd.DataFrame:
        """Of each map mean, standard deviation, least and greatest density, and correlation with the first map."""
        values = self.maps.reshape(len(self.maps), -1)
        deviation = values.std(axis=1, dtype=np.float64)
        centred = values - values.mean(axis=1, keepdims=True)
        scale = np.maximum(deviation * (deviation[0] if len(values) else 1.0), 1e-30)
        return pd.DataFrame(
            {
                "mean": values.mean(axis=1, dtype=np.float64),
                "sigma": deviation,
                "min": values.min(axis=1),
                "max": values.max(axis=1),
                "correlation_with_first": [
                    float((row * centred[0]).mean()) / s for row, s in zip(centred, scale, strict=True)
                ],
            },
            index=pd.Index(self.names, name="name"),
        )

    def mirrored(self) -> VolumeStack:
        """The maps of the other hand (z mirrored about the centre)."""
        maps = resolution.mirror(self.maps)
        return VolumeStack(maps=maps, voxel_size_angst=self.voxel_size_angst, labels=self.labels)

    def save(self, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
        """Write each map as ``<name>.mrc`` and the labels as ``volumes.csv`` into a folder.

        Raises
        ------
        FileExistsError
            If one of the files exists and `overwrite` is False; nothing is written then.
        ValueError
            If a map cannot be named so in a folder.
        """
        folder = Path(folder)
        check_map_names(self.labels.index, "the labels")
        paths = [folder / f"{name}.mrc" for name in self.names]
        table = folder / "volumes.csv"
        existing = [p for p in [*paths, table] if p.exists()]
        if existing and not overwrite:
            raise FileExistsError(
                f"Got output folder {folder}, which holds {existing[0].name} already. "
                "Choose another folder, or pass overwrite=True (--overwrite)."
            )
        for path, volume in zip(paths, self.maps, strict=True):
            mrc.write_volume(path, volume, self.voxel_size_angst, overwrite=overwrite)
        with replacing(table) as temporary:
            self.labels.rename_axis("name").assign(file=[p.name for p in paths]).to_csv(temporary)
        return paths

    @classmethod
    def open(cls, folder: Path | str) -> VolumeStack:
        """Read a folder that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If the folder has no volumes.csv, or a map named in it is missing.
        ValueError
            If the maps differ in size.
        """
        folder = Path(folder)
        table = folder / "volumes.csv"
        if not table.is_file():
            raise FileNotFoundError(f"Got {folder}, which has no volumes.csv. Give a folder of `tomodrgn generate`.")
        try:
            labels = pd.read_csv(
                table, dtype={"name": str, "particle_id": str, "file": str}, keep_default_na=False, na_values=[""]
            )
        except ValueError as error:  # those of pandas are of this kind
            raise ValueError(f"Got {table}, expected a table in CSV ({error}). Generate the maps again.") from error
        if not {"name", "file"} <= set(labels) or labels.empty:
            raise ValueError(
                f"Got {table} with {len(labels)} rows and the columns {', '.join(map(str, labels))}, expected maps "
                "with the columns name and file. Generate the maps again."
            )
        labels = labels.set_index("name")
        check_map_names(labels.index.fillna(""), str(table))
        check_map_names(labels["file"].fillna(""), str(table))  # no name leads out of the folder
        read = [mrc.read_volume(folder / name) for name in labels.pop("file")]
        if len({volume.shape for volume, _ in read}) != 1:
            raise ValueError(f"Got maps of several sizes in {folder}, expected one. Generate them again.")
        return cls(maps=np.stack([v for v, _ in read]), voxel_size_angst=read[0][1], labels=labels)


def check_map_names(names: Iterable[object], origin: str) -> None:
    """Refuse names of maps that are no names of files in one folder.

    Parameters
    ----------
    origin
        Where the names come from, for the message.

    Raises
    ------
    ValueError
        If a name is empty, has a path separator or a control character, is too long, or stands there twice.
    """
    seen: set[str] = set()
    for name in map(str, names):
        fault = ""
        if not name.strip() or set(name) == {"."}:
            fault = "the name of a file"
        elif any(c in "/\\:" or not c.isprintable() for c in name):
            fault = "a name without / \\ : and control characters, as it names a file"
        elif len(name.encode()) > LONGEST_NAME:
            fault = f"at most {LONGEST_NAME} bytes"
        elif name in seen:
            fault = "each name once"
        if fault:
            raise ValueError(f"Got the map name {name[:60]!r} in {origin}, expected {fault}. Rename the map.")
        seen.add(name)
