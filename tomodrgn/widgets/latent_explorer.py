"""Scatter of the latents, coloured by any column; a lasso writes the Selection, a click asks for a map."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import traitlets

from tomodrgn.analysis.paths import latent_path
from tomodrgn.analysis.umap_job import UmapJob
from tomodrgn.training.run import Run
from tomodrgn.widgets.chosen_table import ChosenTable
from tomodrgn.widgets.colours import can_be_axis
from tomodrgn.widgets.column_histogram import ColumnHistogram
from tomodrgn.widgets.explorer_controls import axis_controls, explorer_layout
from tomodrgn.widgets.explorer_table import MAX_COMPONENTS, explorer_table, path_on_axes, same_signs, varied_columns
from tomodrgn.widgets.in_place import told
from tomodrgn.widgets.latent_scatter import LatentScatter
from tomodrgn.widgets.latent_scatter_3d import LatentScatter3d
from tomodrgn.widgets.latest_work import LatestWork, Outdated
from tomodrgn.widgets.map_panel import MapPanel
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.selection_bar import SelectionBar
from tomodrgn.widgets.umap_button import UmapButton
from tomodrgn.widgets.value_chooser import ValueChooser

__all__ = ["LatentExplorer"]

CLICKS = ("shows the map", "draws a path", "chooses")
PATH_KINDS = ("straight", "through particles")


class LatentExplorer(ipywidgets.VBox):
    """All particles of a run as points; a lasso chooses some, a click shows a map, the mouse over one tells of it.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch whose latents are shown; None is the last.
    clusters
        A class for each particle, as of `cluster_latents`: the column `cluster`.
    columns
        Further columns to colour by, indexed by particle_id.
    selection
        A Selection of another view, to be shared.
    maps
        Whether there is a panel beside the points for the maps of clicks and paths.
    height
        Of the pictures, in pixels of the screen.

    Attributes
    ----------
    x, y
        The columns on the axes; at first the first two principal components.
    colour
        The column that colours the points.
    colour_limits
        Numbers of the first and the last colour; empty: the least and the greatest.
    log_colour
        Whether numbers are coloured by their logarithm.
    size, opacity
        Of the points, in pixels and from 0 to 1.
    density
        Whether points fade where many are.
    hover
        Further columns that the mouse over a point tells.
    epoch
        Epoch whose latents are shown.
    click
        What a click on a point does: ``"shows the map"``, ``"draws a path"`` (two clicks: from, to) or ``"chooses"``.
    picked
        The particle that was clicked; setting it shows its map.
    path
        The particles between which a path is drawn and played.
    path_kind
        ``"straight"``, or ``"through particles"``: the shortest way through the graph of neighbours.
    path_points
        Number of maps along a path.
    selection
        The chosen particles; `ParticleSet.subset` takes it.
    bar
        The controls below; ``explorer.bar.query = "z1 > 0"`` chooses by a condition on the table.
    chooser
        Chooses all particles of a value, or of a range, of the column that colours: ``explorer.chooser.value = "50S"``,
        then ``explorer.chooser.choose()``.
    space
        Three columns in space: ``explorer.space.z = "PC3"``.
    histogram, chosen_table
        In the folds below.
    maps
        The panel of maps (MapPanel), or None.
    table
        One row a particle: principal components PC1 ..., clusters, every STAR column, latents z1 ... and their standard
        deviations z1_std ...
    message
        What went wrong, or is being worked on.

    Raises
    ------
    ValueError
        If the run has no latents (z_dim 0).
    KeyError
        If `clusters` or `columns` lack a particle, or `selection` is of other particles.
    """

    x = traitlets.Unicode()
    y = traitlets.Unicode()
    colour = traitlets.Unicode()
    colour_limits = traitlets.Tuple()
    log_colour = traitlets.Bool(default_value=False)
    size = traitlets.Float(3.0, min=0.5, max=30.0)
    opacity = traitlets.Float(0.8, min=0.02, max=1.0)
    density = traitlets.Bool(default_value=False)
    hover = traitlets.Tuple()
    epoch = traitlets.Int()
    click = traitlets.Enum(CLICKS, default_value=CLICKS[0])
    picked = traitlets.Unicode("")
    path = traitlets.Tuple()
    path_kind = traitlets.Enum(PATH_KINDS, default_value=PATH_KINDS[0])
    path_points = traitlets.Int(12, min=2, max=100)
    message = traitlets.Unicode("", read_only=True)
    selection = traitlets.Instance(Selection)

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        clusters: pd.Series | None = None,
        columns: pd.DataFrame | None = None,
        selection: Selection | None = None,
        maps: bool = True,
        height: int = 420,
    ) -> None:
        opened = run if isinstance(run, Run) else Run.open(run)
        self.run, self._extra = opened, (clusters, columns)
        self.table = explorer_table(opened, epoch, clusters, columns)
        names = self.table.index.astype(str)
        shared = selection if selection is not None else Selection(names)
        if set(shared.known_ids) != set(names):
            raise KeyError(
                f"Got a Selection of other particles than those of run {opened.folder}. Use one of this run."
            )
        self.colours = varied_columns(self.table)
        self.axes = [name for name in self.colours if can_be_axis(self.table[name])]
        self._names, self._quiet, self._ready = pd.Index(names, dtype=object), False, False
        self._path_points: pd.DataFrame | None = None
        self._path_start = ""
        self._latents = opened.latents(epoch)
        number = int(opened.epoch_folder(epoch).name)
        super().__init__(
            x=self.axes[0],
            y=self.axes[min(1, len(self.axes) - 1)],
            colour="cluster" if "cluster" in self.colours else self.colours[0],
            selection=shared,
            epoch=number,
            size=6.0 if len(names) < 3000 else 3.0,
        )
        self.add_class("tomodrgn-explorer")
        self._points = LatentScatter(self.table, self.x, self.y, height=height)
        self.scatter = self._points.plot
        self._points.paint(self.colour)
        self.bar = SelectionBar(shared, self.table.set_axis(self._names), opened, epoch=number)
        self.maps = MapPanel(opened, number, height=height - 110) if maps else None
        self.histogram = ColumnHistogram(self.bar.table, shared, self.colour)
        self.chooser = ValueChooser(self.bar.table, shared, self.colour)
        self.chosen_table = ChosenTable(self.bar.table, shared, columns=self.colours[:6])
        self.space = LatentScatter3d(self.bar.table, self.axes, shared, x=self.x, y=self.y, colour=self.colour)
        self._paths = LatestWork("LatentExplorer", lambda error: self._say(told(error)))
        self._umap_button = UmapButton(self._latents, self._take_umap)
        self._umap_button.disabled = "UMAP1" in self.axes or self._latents.z_dim < 3
        self._axes = axis_controls(self)
        self.children = explorer_layout(self)
        traitlets.dlink((self, "colour"), (self.chooser, "column"))
        self._ready = True
        self.scatter.widget.observe(self._lassoed, names="selection")
        self.selection.observe(self._show_selection, names="particle_ids")
        self._show_selection()

    # --- what can be typed ---

    def select(self, particle_ids: Iterable[str]) -> None:
        """Choose these particles and no others.

        Raises
        ------
        KeyError
            If a name is unknown.
        """
        self.selection.set(particle_ids)

    def make_umap(self, *, seed: int = 0) -> UmapJob:
        """Make the columns UMAP1 and UMAP2 in another process, and put them on the axes when they are there.

        The button tells the progress; pressed again it ends the work. ``explorer.umap_job.result()`` waits for it.
        """
        return self._umap_button.make(seed=seed)

    @property
    def umap_job(self) -> UmapJob | None:
        """The work on UMAP, once it began."""
        return self._umap_button.job

    def _take_umap(self, found: pd.DataFrame) -> None:
        self.add_columns(found, first=True)
        self.x, self.y = "UMAP1", "UMAP2"

    def add_columns(self, columns: pd.DataFrame, *, first: bool = False) -> None:
        """Have further columns, indexed by particle_id: to colour by, to query, and as axes.

        Raises
        ------
        KeyError
            If they lack a particle.
        """
        missing = self.table.index.difference(columns.index)
        if len(missing):
            raise KeyError(f"Got columns without particle {missing[0]!r} ({len(missing)} such), expected all of them.")
        for name in map(str, columns):
            values = columns[name].loc[self.table.index]
            if name in self.table:
                self.table[name] = values
            else:
                self.table.insert(0 if first else len(self.table.columns), name, values)
        self.colours = varied_columns(self.table)
        self.axes = [name for name in self.colours if can_be_axis(self.table[name])]
        self._share_table()
        x, y, colour = self.x, self.y, self.colour
        for choice, options in zip(self._axes, (self.axes, self.axes, self.colours), strict=True):
            choice.options = options
        self.x, self.y, self.colour = x, y, colour
        self._points.renew(self.table)
        self._recolour()

    # --- what the picture shows ---

    @traitlets.validate("x", "y", "colour")
    def _known(self, proposal: dict) -> str:
        name, trait = str(proposal["value"]), proposal["trait"].name
        allowed = self.colours if trait == "colour" else self.axes
        if name not in allowed:
            raise ValueError(f"Got column {name!r} for {trait}, expected one of {allowed}. Choose one of these.")
        return name

    @traitlets.observe("x", "y")
    def _move(self, change: dict) -> None:
        if self._ready:
            self._points.move(**{change["name"]: change["new"]})
            self.space.set_trait(change["name"], change["new"])
            self._annotate()

    @traitlets.observe("colour", "colour_limits", "log_colour")
    def _recolour(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        limits = (float(self.colour_limits[0]), float(self.colour_limits[1])) if len(self.colour_limits) == 2 else None
        if change is not None and change["name"] == "colour" and limits is not None:
            self.colour_limits = ()  # those of another column mean nothing here; this calls again
            return
        try:
            self._points.paint(self.colour, limits, log=self.log_colour)
            self.space.colour = self.colour
        except ValueError as error:
            self._say(str(error))
        else:
            self._say("")

    @traitlets.observe("size", "opacity", "density")
    def _restyle(self, change: dict) -> None:
        if self._ready:
            self._points.look(size=self.size, opacity=self.opacity, density=self.density)

    @traitlets.observe("hover")
    def _tell_more(self, change: dict) -> None:
        if self._ready:
            self._points.hover([name for name in self.hover if name in self.table])

    @traitlets.observe("epoch")
    def _travel(self, change: dict) -> None:
        if not self._ready:
            return
        components = [f"PC{i + 1}" for i in range(MAX_COMPONENTS) if f"PC{i + 1}" in self.table]
        table = explorer_table(self.run, self.epoch, *self._extra)
        table[components] = same_signs(table[components], self.table[components])
        kept = [name for name in self.table if name not in table]  # such as UMAP, which stays that of its epoch
        self.table = table.join(self.table[kept])
        self._latents = self._umap_button.latents = self.run.latents(self.epoch)
        self._share_table()
        self.bar.epoch = self.epoch
        self._points.renew(self.table)
        for axis in ("x", "y"):
            self._points.move(**{axis: getattr(self, axis)})
        self._recolour()
        if self.maps is not None:
            self.maps.epoch = self.epoch
        self._annotate()

    def _share_table(self) -> None:
        shared = self.table.set_axis(self._names)
        for part in (self.bar, self.histogram, self.chooser, self.chosen_table):
            part.table = shared
        self.space.renew(shared, self.axes)

    # --- choosing ---

    def _lassoed(self, change: dict) -> None:
        if self._quiet:
            return
        rows = np.asarray(change["new"], dtype=np.int64)
        if len(rows) == 1 and self.maps is not None and self.click != "chooses":
            self._show_selection()
            self._clicked(str(self._names[rows[0]]))
        else:
            self.selection.set(self._names[rows].tolist(), made_by="lasso" if len(rows) > 1 else "click")

    def _show_selection(self, change: dict | None = None) -> None:
        rows = self._names.get_indexer(pd.Index(self.selection.particle_ids, dtype=object))
        self._quiet = True
        try:
            self._points.mark(rows)
        finally:
            self._quiet = False

    # --- maps and paths ---

    def _clicked(self, name: str) -> None:
        if self.click == "shows the map":
            self.picked = "" if self.picked == name else self.picked  # a second click shows it again
            self.picked = name
        elif self._path_start and self._path_start != name:
            start, self._path_start = self._path_start, ""
            self.path = (start, name)
        else:
            self.path, self._path_start = (), name
            self.picked = name
            self._say("the path begins here; click where it ends")

    @traitlets.validate("picked", "path")
    def _particles(self, proposal: dict) -> str | tuple[str, ...]:
        value = proposal["value"]
        for name in [value] if isinstance(value, str) else value:
            if name and str(name) not in self._names:
                raise ValueError(
                    f"Got particle id {name!r}, expected one of run {self.run.folder}. Use one of its ids."
                )
        if not isinstance(value, str) and len(value) == 1:
            raise ValueError("Got a path of one particle, expected two or more. Name where it ends.")
        return value if isinstance(value, str) else tuple(str(name) for name in value)

    @traitlets.observe("picked")
    def _show_map(self, change: dict) -> None:
        if self._ready and self.picked:
            if self.maps is not None:
                self.maps.show_particles([self.picked])
            self._annotate()

    @traitlets.observe("path", "path_kind", "path_points")
    def _find_path(self, change: dict) -> None:
        if not self._ready:
            return
        if not self.path:
            self._path_points = None
            self._annotate()
            return
        self._say("looking for the path ...")
        self._paths.ask(self._path_found)

    def _path_found(self, outdated: Outdated) -> None:
        """Work of a thread: the graph of many particles takes a while."""
        ends = self.path
        through = self.path_kind == PATH_KINDS[1]
        table = latent_path(self._latents, ends, through_particles=through, n_points=self.path_points)
        if outdated():
            return
        self._path_points = table
        self._annotate()
        self._say("")
        if self.maps is not None:
            self.maps.show_points(table, f"path from {ends[0]} to {ends[-1]}", play=True)

    def _annotate(self) -> None:
        place = self.table.loc[self.picked, [self.x, self.y]].to_numpy(np.float64) if self.picked else None
        drawn = None
        if self._path_points is not None:
            drawn = path_on_axes(self.table[[self.x, self.y]], self._path_points, self._latents, self.path)
        self._points.draw(drawn, place)

    def _say(self, message: str) -> None:
        self.set_trait("message", message)
