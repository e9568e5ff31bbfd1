"""A tile a map: tick, name, label; labels flow to the particles of each map, to the Selection and to STAR files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import traitlets
from PIL import Image

from tomodrgn.analysis import map_labels
from tomodrgn.analysis.map_labels import label_particles, particles_of_maps
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.plots.surfaces import render_surface, sigma_units, surface_level
from tomodrgn.training.run import Run
from tomodrgn.volumes.volume_stack import VolumeStack
from tomodrgn.widgets.gallery_controls import gallery_controls
from tomodrgn.widgets.gallery_maps import centre_maps
from tomodrgn.widgets.in_place import told
from tomodrgn.widgets.latest_work import LatestWork, Outdated
from tomodrgn.widgets.map_tile import MapTile
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.volume_viewer import VolumeViewer

__all__ = ["VolumeGallery"]

SETTLE_SECONDS = 0.25  # a level that moves is drawn when it has rested so long


class VolumeGallery(ipywidgets.VBox):
    """Pictures of many maps, all seen from one side at one level; a click on one shows it large below.

    Parameters
    ----------
    stack
        The maps; None leaves the gallery empty until `show`.
    clusters
        Of each particle (index particle_id) the name of its map or its number in the column `cluster` of the labels of
        the stack, such as of `cluster_latents`. None: each map is that of the particle it was decoded at, if any.
    run
        Where labels are kept, and whose particles are written; a run, or its folder.
    selection
        Shared with other views; None makes one of the particles of the run or of the maps.
    viewer
        Shows the map that is opened; None makes one below the tiles.
    tile_px
        Side of the pictures.

    Attributes
    ----------
    labels
        Label of each map that has one, by the name of the map; it can be set.
    ticked
        Names of the ticked maps.
    level
        Of the surfaces, in standard deviations (sigma) above the mean of each map.
    opened
        Name of the map that is shown large; setting it shows it.
    label
        What the button gives to the ticked maps.
    quick_labels
        Labels that have a button each.
    message
        What was done, is being done, or went wrong.

    Examples
    --------
    >>> stack = VolumeStack(
    ...     maps=np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32),
    ...     voxel_size_angst=4.0,
    ...     labels=pd.DataFrame(index=["small", "large"]),
    ... )
    >>> gallery = VolumeGallery(stack, pd.Series(["large", "small", "large"], index=["a", "b", "c"]))
    >>> gallery.labels = {"large": "70S"}
    >>> gallery.particle_labels.to_dict()
    {'a': '70S', 'c': '70S'}
    """

    labels = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Unicode())
    ticked = traitlets.Tuple()
    level = traitlets.Float(3.0)
    opened = traitlets.Unicode("")
    label = traitlets.Unicode("")
    quick_labels = traitlets.Tuple(("good", "junk"))
    message = traitlets.Unicode("", read_only=True)

    def __init__(
        self,
        stack: VolumeStack | None = None,
        clusters: pd.Series | None = None,
        *,
        run: Run | Path | str | None = None,
        selection: Selection | None = None,
        viewer: VolumeViewer | None = None,
        tile_px: int = 150,
    ) -> None:
        self.run = run if run is None or isinstance(run, Run) else Run.open(run)
        self.viewer, self._tile_px = viewer, tile_px
        self.stack: VolumeStack | None = None
        self.members = pd.Series([], dtype="str", name="map")
        self.tiles: dict[str, MapTile] = {}
        self._own_viewer, self._quiet = viewer is None, False
        self._drawing = LatestWork("VolumeGallery", self._failed, settle_seconds=SETTLE_SECONDS)
        self._making = LatestWork("VolumeGallery maps", self._failed)
        if selection is None:
            known = particles_of_maps(stack.labels, clusters).index if self.run is None and stack is not None else ()
            selection = Selection(known if self.run is None else self.run.latents().particle_id)
        self.selection = selection
        super().__init__()
        selection.observe(self._count, names="particle_ids")
        self.add_class("tomodrgn-gallery")
        self.controls = gallery_controls(self)
        self._grid = ipywidgets.Box(layout=ipywidgets.Layout(flex_flow="row wrap", min_height=f"{tile_px + 80}px"))
        self._large = ipywidgets.VBox()
        self.children = [self.controls.above, self._grid, self.controls.below, self._large]
        if stack is not None:
            self.show(stack, clusters)

    @classmethod
    def of_run(
        cls,
        run: Run | Path | str,
        kmeans: int = 20,
        *,
        epoch: int | None = None,
        box_px: int | None = None,
        seed: int = 0,
        selection: Selection | None = None,
        viewer: VolumeViewer | None = None,
    ) -> VolumeGallery:
        """The maps at the centres of k-means clusters (the particle nearest to each), decoded beside other work.

        Parameters
        ----------
        kmeans
            Number of clusters; at most that of the particles.
        epoch
            Epoch of latents and weights; None is the last.
        box_px
            Side of the maps; None is that of the images, but 64 at most.
        seed
            Of k-means.
        """
        gallery = cls(run=run, selection=selection, viewer=viewer)
        gallery.make(kmeans, epoch=epoch, box_px=box_px, seed=seed)
        return gallery

    def make(self, kmeans: int, *, epoch: int | None = None, box_px: int | None = None, seed: int = 0) -> None:
        """Show the maps of so many clusters of the run when they are decoded; see `of_run`. `stop` ends the work.

        Raises
        ------
        ValueError
            If the gallery has no run.
        """
        run = self._own_run()

        def work(outdated: Outdated) -> None:
            found = centre_maps(run, kmeans, epoch=epoch, box_px=box_px, seed=seed, tell=self._tell, outdated=outdated)
            if found is None:
                self._tell("Stopped; nothing was changed.")
            else:
                self.show(*found)

        self._making.ask(work)

    def stop(self) -> None:
        """End the making of maps."""
        self._making.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all maps are made and drawn; whether they are."""
        return self._making.wait(timeout) and self._drawing.wait(timeout)

    # --- what is shown ---

    def show(self, stack: VolumeStack, clusters: pd.Series | None = None) -> None:
        """Show other maps; labels and ticks of maps of other names go.

        Raises
        ------
        KeyError
            If the clusters have particles that the Selection does not know.
        ValueError
            If there is no map whose density varies, or none that the clusters name.
        """
        start, highest = surface_level(stack.maps)
        members = particles_of_maps(stack.labels, clusters)
        strange = members.index.difference(pd.Index(self.selection.known_ids))
        if len(strange):
            raise KeyError(
                f"Got maps of {len(strange)} particles that this view does not know, first {strange[0]!r}. Give "
                "clusters of its particles."
            )
        first, self.stack, self.members = self.stack is None, stack, members
        tiles = {}
        for name in stack.names:
            tile = MapTile(name=name, size_px=self._tile_px)
            tile.on_open(self._open)
            tile.observe(self._tile_changed, names=["ticked", "label"])
            tiles[name] = tile
        self.tiles = tiles
        self._grid.children = tuple(tiles.values())
        self.controls.level.min, self.controls.level.max = -1e9, 1e9
        if first or self.level > highest:
            self.level = min(start, *(peak / 2 for peak in _peaks(stack) if peak > 0))  # each map has a surface
        self.controls.level.min, self.controls.level.max = min(0.5, highest / 2), max(highest, self.level)
        self.labels = {name: label for name, label in self.labels.items() if name in tiles}
        self.ticked = tuple(name for name in self.ticked if name in tiles)
        self._show_state()
        self._count()
        self._draw()
        if self.opened not in tiles:
            self.opened = ""
        elif self.opened:
            self._show_large()

    def _draw(self) -> None:
        stack, level, tiles = self.stack, self.level, self.tiles
        if stack is None:
            return

        def work(outdated: Outdated) -> None:
            for i, (volume, tile) in enumerate(zip(stack.maps, tiles.values(), strict=True), 1):
                if outdated():
                    return
                tile.picture = _png(render_surface(volume, level, size_px=self._tile_px))
                self._tell(f"drawing {i} of {len(tiles)} ..." if i < len(tiles) else "")

        self._drawing.ask(work)

    @traitlets.observe("level")
    def _move(self, change: dict) -> None:
        self._draw()
        if self._own_viewer and self.viewer is not None:
            self.viewer.level = self.level

    def _open(self, name: str) -> None:
        self.opened = ""
        self.opened = name

    @traitlets.observe("opened")
    def _show_large(self, change: dict | None = None) -> None:
        for name, tile in self.tiles.items():
            tile.opened = name == self.opened
        if not self.opened or self.stack is None:
            return
        if self.viewer is None:
            self.viewer = VolumeViewer(self.stack)
            self._large.children = [self.viewer]
        self.viewer.show(self.stack, self.opened)
        if self._own_viewer:
            self.viewer.level = self.level

    # --- ticks and labels ---

    @traitlets.validate("ticked", "opened", "labels")
    def _known(self, proposal: dict) -> tuple[str, ...] | str | dict[str, str]:
        value, trait = proposal["value"], proposal["trait"].name
        for name in [value] if isinstance(value, str) else value:
            if name and str(name) not in self.tiles:
                raise ValueError(
                    f"Got map {name!r} for {trait}, expected one of {list(self.tiles)}. Choose one of these."
                )
        if trait == "labels":
            return {str(name): label.strip() for name, label in value.items() if label.strip()}
        return value if isinstance(value, str) else tuple(name for name in self.tiles if name in set(value))

    def tick(self, names: Iterable[str]) -> None:
        """Tick these maps and no others."""
        self.ticked = tuple(names)

    def label_ticked(self, label: str) -> None:
        """Give a label to the ticked maps; an empty one takes theirs away."""
        if not self.ticked:
            self._tell("Got no ticked map, expected some. Tick the maps to label.")
            return
        self.labels = {**self.labels, **dict.fromkeys(self.ticked, label)}
        self._tell(f"{len(self.ticked)} maps are labelled {label!r}." if label.strip() else "Labels taken away.")

    @property
    def particle_labels(self) -> pd.Series:
        """Label of each particle whose map has one: Series "label", indexed by particle_id."""
        return label_particles(self.members, self.labels)

    @traitlets.observe("labels", "ticked", "quick_labels")
    def _show_state(self, change: dict | None = None) -> None:
        self._quiet = True
        try:
            for name, tile in self.tiles.items():
                tile.ticked, tile.label = name in self.ticked, self.labels.get(name, "")
            self.controls.renew(self)
        finally:
            self._quiet = False

    def _count(self, change: dict | None = None) -> None:
        """Tell on each tile how many particles its map has, and how many of them are chosen."""
        chosen = self.members[self.members.index.isin(self.selection.particle_ids)].value_counts().to_dict()
        for name, number in self.members.value_counts().to_dict().items():
            some = f"{chosen[name]} of " if name in chosen else ""
            self.tiles[str(name)].note = f"{some}{number}"

    def _tile_changed(self, change: dict) -> None:
        if self._quiet:
            return
        if change["name"] == "ticked":
            self.ticked = tuple(name for name, tile in self.tiles.items() if tile.ticked)
        else:
            self.labels = {name: tile.label for name, tile in self.tiles.items() if tile.label.strip()}

    # --- particles ---

    def particles_of(self, names: Iterable[str]) -> list[str]:
        """Ids of the particles of some maps."""
        return list(self.members.index[self.members.isin([str(name) for name in names])])

    def choose_ticked(self) -> None:
        """Choose the particles of the ticked maps in the Selection."""
        self.selection.set(self.particles_of(self.ticked), made_by=f"maps {', '.join(self.ticked) or 'none'}")
        self._tell(f"{len(self.selection)} particles of {len(self.ticked)} maps are chosen.")

    def choose_label(self, label: str) -> None:
        """Choose the particles of all maps with this label in the Selection."""
        found = self.particle_labels
        self.selection.set(found.index[found == label], made_by=f"label {label}")
        self._tell(f"{len(self.selection)} particles labelled {label!r} are chosen.")

    def save(self, *, overwrite: bool = False) -> str:
        """Keep the labels in the run: column `label` of `Run.table`, and a file for ``tomodrgn filter --labels``.

        Raises
        ------
        FileExistsError
            If the run has labels and `overwrite` is False.
        ValueError
            If the gallery has no run.
        """
        path = map_labels.save_labels(self._own_run(), self.particle_labels, overwrite=overwrite)
        self._tell(f"labels of {len(self.particle_labels)} particles kept in {path}")
        return path

    def load(self) -> None:
        """Take the labels of the run: a map gets the one that all its particles bear.

        Raises
        ------
        FileNotFoundError
            If the run has none.
        """
        self.labels, mixed = map_labels.labels_of_maps(self.members, map_labels.read_labels(self._own_run()))
        some = f"; particles of {', '.join(mixed[:4])} bear several, so these have none" if mixed else ""
        self._tell(f"{len(self.labels)} maps have labels of the run{some}")

    def write_star(
        self,
        path: Path | str,
        *,
        only: str | None = None,
        particles: ParticleSet | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the particles of the run with their labels; see `write_labelled`.

        Parameters
        ----------
        only
            Write particles with this label alone.
        particles
            The set to write; None is that of the run.
        """
        chosen = self._own_run().particles_without_images if particles is None else particles
        paths = map_labels.write_labelled(chosen, self.particle_labels, path, only=only, overwrite=overwrite)
        self._tell(f"particles with their labels written to {paths[0]}")
        return paths

    def _own_run(self) -> Run:
        if self.run is None:
            raise ValueError("Got no run, expected one. Give it to the gallery: VolumeGallery(stack, run=...).")
        return self.run

    def _tell(self, message: str) -> None:
        self.set_trait("message", message)

    def _failed(self, error: Exception) -> None:
        self._tell(told(error))


def _peaks(stack: VolumeStack) -> list[float]:
    """Highest density of each map, in sigma above its mean."""
    return [float(sigma_units(volume).max()) for volume in stack.maps]


def _png(picture: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, format="PNG")
    return written.getvalue()
