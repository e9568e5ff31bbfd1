"""The same maps, tomogram and Selection as napari layers, in a window beside the notebook, when there is a display."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomodrgn.analysis.mapback import MapBack
from tomodrgn.analysis.palette import column_rgb
from tomodrgn.analysis.placed_surfaces import merged_meshes, surface_mesh
from tomodrgn.analysis.run_positions import run_positions
from tomodrgn.particles.position_set import Positions
from tomodrgn.particles.tomogram_files import find_tomograms
from tomodrgn.particles.tomogram_slab import TomogramVolume
from tomodrgn.training.run import Run
from tomodrgn.volumes.volume_stack import VolumeStack
from tomodrgn.widgets.display_probe import display_problem
from tomodrgn.widgets.selection import Selection

__all__ = ["NapariView", "open_in_napari"]

logger = logging.getLogger(__name__)
LEVEL_SIGMA = 3.0
MARK = "#D55E00"


@dataclass(frozen=True, kw_only=True)
class NapariView:
    """A napari window and what is linked to it.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    selection
        The chosen particles: choosing points in napari changes it, and the other way round.
    """

    viewer: Any
    selection: Selection | None

    def close(self) -> None:
        """Close the window."""
        self.viewer.close()


def open_in_napari(
    run: Run | Path | str | None = None,
    *,
    maps: VolumeStack | None = None,
    tomogram: str | None = None,
    tomograms: Mapping[str, Path | str] | Path | str | None = None,
    positions: Positions | None = None,
    voxel_size_angst: float | None = None,
    placed: MapBack | None = None,
    selection: Selection | None = None,
    colour_by: str | None = None,
    epoch: int | None = None,
    level_sigma: float = LEVEL_SIGMA,
) -> Any:
    """Open napari with maps, or with a tomogram of a run, its particles and their maps at their poses.

    All layers are in angstrom, order zyx, from the centre of the first voxel. Without a display, napari would end this
    process: that is found out first, the reason is logged, and the viewer for the notebook is returned instead
    (TomogramViewer, or VolumeViewer for maps alone).

    Parameters
    ----------
    run
        A run, or its folder: its particles are shown as points, with all columns of its table as properties, and
        vectors along their own z axes.
    maps
        Maps to show as isosurfaces, each a layer.
    tomogram
        Name of the tomogram; None is the first.
    tomograms, positions, voxel_size_angst
        As for TomogramViewer.
    placed
        Of `map_back`: its maps are shown as surfaces at their particles, one layer a map.
    selection
        A Selection to be shared with the points; None makes one.
    colour_by
        Column of the run's table that colours the points; None is the first column of clusters, or one colour.
    epoch
        Epoch of the table; None is the last.
    level_sigma
        Level of the surfaces, in standard deviations above the mean of each map.

    Returns
    -------
    A NapariView; without a display, the widget for the notebook.

    Raises
    ------
    ValueError
        If neither a run nor maps are given, or the run has no positions.
    KeyError
        If the tomogram or the column is not there.
    """
    if run is None and maps is None:
        raise ValueError("Got neither a run nor maps, expected one of them. Give open_in_napari something to show.")
    opened = run if run is None or isinstance(run, Run) else Run.open(run)
    problem = display_problem()
    if problem is not None:
        logger.warning("napari cannot open a window here (%s): this is the viewer for the notebook instead.", problem)
        return _in_notebook(opened, maps, tomograms, positions, voxel_size_angst=voxel_size_angst, selection=selection)
    napari = importlib.import_module("napari")
    viewer = napari.Viewer(ndisplay=3, show=True, title="tomodrgn")
    if maps is not None:
        add_maps(viewer, maps, level_sigma=level_sigma)
    shared = selection
    if opened is not None:
        found = run_positions(opened, positions).positions
        name = str(found.tomogram[0]) if tomogram is None else tomogram
        own = found.take(found.tomogram.astype(str) == name)
        if not len(own):
            names = list(dict.fromkeys(map(str, found.tomogram)))
            raise KeyError(f"Got tomogram {name!r}, expected one of {names[:20]}. Choose one of these.")
        files = find_tomograms(map(str, found.tomogram), tomograms).files
        if name in files:
            add_tomogram(viewer, TomogramVolume(files[name], voxel_size_angst), name)
        table = opened.table(epoch)
        shared = Selection(table.index.astype(str)) if shared is None else shared
        if placed is not None:
            add_placed_maps(viewer, placed, own, level_sigma=level_sigma)
        link(add_particles(viewer, own, table, colour_by=colour_by), shared)
    viewer.reset_view()
    return NapariView(viewer=viewer, selection=shared)


def _in_notebook(
    run: Run | None,
    maps: VolumeStack | None,
    tomograms: Mapping[str, Path | str] | Path | str | None,
    positions: Positions | None,
    *,
    voxel_size_angst: float | None,
    selection: Selection | None,
) -> Any:
    """The widget that shows the same in the notebook."""
    if run is None and maps is not None:
        from tomodrgn.widgets.volume_viewer import VolumeViewer

        return VolumeViewer(maps)
    from tomodrgn.widgets.tomogram_viewer import TomogramViewer

    if run is None:
        raise ValueError("Got no run, expected one. Give it.")
    return TomogramViewer(
        run, tomograms=tomograms, positions=positions, voxel_size_angst=voxel_size_angst, selection=selection
    )


def add_maps(viewer: Any, maps: VolumeStack, *, level_sigma: float = LEVEL_SIGMA) -> list[Any]:
    """Maps as isosurfaces, each a layer; all but the first are hidden."""
    layers = []
    for i, (name, volume) in enumerate(zip(maps.names, maps.maps, strict=True)):
        level = float(volume.mean() + level_sigma * volume.std())
        layers.append(
            viewer.add_image(
                volume,
                name=f"map {name}",
                scale=(maps.voxel_size_angst,) * 3,
                rendering="iso",
                iso_threshold=level,
                contrast_limits=(min(float(volume.min()), level), float(volume.max())),
                visible=i == 0,
            )
        )
    return layers


def add_tomogram(viewer: Any, volume: TomogramVolume, name: str) -> Any:
    """A tomogram as a plane that can be moved through it; the file stays on the disk until it is drawn."""
    nx, ny, nz = volume.size_xyz
    return viewer.add_image(
        volume.values,
        name=f"tomogram {name}",
        scale=(volume.voxel_size_angst,) * 3,
        contrast_limits=volume.contrast("xy", 0.0),  # napari draws voxels, not their means
        colormap="gray",
        depiction="plane",
        plane={"position": (nz // 2, ny // 2, nx // 2), "normal": (1, 0, 0), "thickness": 5},
    )


def add_particles(viewer: Any, positions: Positions, table: pd.DataFrame, *, colour_by: str | None = None) -> Any:
    """Particles as points, with every column of the table as a feature, and vectors along their own z axes."""
    features = table.loc[positions.particle_id].reset_index(names="particle_id")
    if colour_by is not None and colour_by not in table:
        raise KeyError(
            f"Got column {colour_by!r} for the colours, expected one of the run's table: {list(table)[:12]}."
        )
    column = colour_by or ("cluster" if "cluster" in table else None)
    rgb = np.tile([0.0, 0.45, 0.7], (len(positions), 1))
    if column is not None:
        rgb = column_rgb(table[column])[table.index.get_indexer(pd.Index(positions.particle_id))]
    places = positions.position_angst[:, ::-1]
    side = float(np.ptp(positions.position_angst, axis=0).max(initial=0.0)) or 1000.0
    directions = positions.rotations[:, ::-1, 2]  # zyx of where the particle's own z axis points
    vectors = np.stack([places, directions], axis=1)
    viewer.add_vectors(vectors, name="directions", length=0.03 * side, edge_width=0.004 * side, edge_color="#9E9E9E")
    layer = viewer.add_points(
        places, name="particles", features=features, size=0.02 * side, face_color=rgb, border_color="#222222"
    )
    layer.mode = "select"
    viewer.layers.selection.active = layer
    return layer


def add_placed_maps(viewer: Any, placed: MapBack, positions: Positions, *, level_sigma: float = LEVEL_SIGMA) -> None:
    """The maps of `map_back` at the particles of one tomogram: one layer of surfaces for each map."""
    rows = np.flatnonzero(placed.table.index.isin(positions.particle_id))
    files = placed.table["map"].to_numpy()[rows]
    for file in dict.fromkeys(files):
        own = rows[files == file]
        name = Path(str(file)).stem
        volume = placed.maps.maps[placed.maps.names.index(name)]
        level = float(volume.mean() + level_sigma * volume.std())
        mesh = surface_mesh(volume, level, placed.maps.voxel_size_angst, step=2 if volume.shape[0] > 48 else 1)
        merged = merged_meshes(mesh, placed.affine_zyx[own])
        colour = placed.table.iloc[own[0]][["red", "green", "blue"]].to_numpy(dtype=np.float64)
        viewer.add_surface(
            (merged.vertices_zyx_angst, merged.triangles),
            name=f"placed {name} ({len(own)})",
            vertex_colors=np.tile(colour, (len(merged.vertices_zyx_angst), 1)),
            shading="smooth",
            metadata={"particle_id": placed.table.index[own].tolist()},
        )


def link(points: Any, selection: Selection) -> None:
    """Choosing points in napari changes the Selection, and the other way round; neither calls forth the other again."""
    names = points.features["particle_id"].astype(str).to_numpy()
    rows_of = pd.Index(names)
    busy: list[bool] = []

    def to_selection(event: Any = None) -> None:
        if busy:
            return
        busy.append(True)
        try:
            here = {str(names[i]) for i in points.selected_data}
            elsewhere = [name for name in selection.particle_ids if name not in rows_of]
            if here != {name for name in selection.particle_ids if name in rows_of}:
                selection.set([*elsewhere, *here], made_by="chosen in napari")
        finally:
            busy.pop()

    def to_points(change: dict | None = None) -> None:
        rows = rows_of.get_indexer(pd.Index(selection.particle_ids))
        chosen = {int(i) for i in rows if i >= 0}
        if not busy and set(points.selected_data) != chosen:
            busy.append(True)
            try:
                points.selected_data = chosen
            finally:
                busy.pop()
        mark = np.isin(np.arange(len(names)), list(chosen))
        points.border_color = np.where(mark[:, None], _rgba(MARK), _rgba("#222222"))
        points.border_width = np.where(mark, 0.35, 0.05)

    points.selected_data.events.items_changed.connect(to_selection)
    selection.observe(to_points, names="particle_ids")
    to_points()


def _rgba(colour: str) -> np.ndarray:
    return np.array([*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0])
