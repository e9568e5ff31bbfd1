"""Slices of tomograms with the particles of a run in them; a lasso writes the Selection, which is marked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import ipywidgets
import numpy as np
import pandas as pd
import traitlets

from tomodrgn.analysis.run_positions import run_positions
from tomodrgn.particles.position_set import Positions
from tomodrgn.particles.tomogram_files import find_tomograms
from tomodrgn.particles.tomogram_slab import PLANES, Plane, TomogramVolume
from tomodrgn.training.run import Run
from tomodrgn.widgets.colour_legend import legend_html, point_colours
from tomodrgn.widgets.colours import colour_column, is_dark
from tomodrgn.widgets.explorer_table import explorer_table, varied_columns
from tomodrgn.widgets.in_place import shown_in
from tomodrgn.widgets.page_theme import PageTheme
from tomodrgn.widgets.plotly_figure import figure_style
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.slab_reader import SlabReader, SlabWish
from tomodrgn.widgets.tomogram_controls import MODES, OUTSIDE, match_text, place_controls, style_controls
from tomodrgn.widgets.tomogram_picture import Glyphs, TomogramPicture
from tomodrgn.widgets.tomogram_space import TomogramSpace

__all__ = ["TomogramViewer"]


class TomogramViewer(ipywidgets.VBox):
    """The tomograms of a run: slabs of their volumes, and the particles at their places, turned as they are.

    Each particle is a point with an arrow along its own z axis, as seen in the plane. Those in the slab are shown
    fully, and a lasso or a box chooses among them; a click chooses any. Without a volume, particles are shown in three
    dimensions, where a click chooses.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch of the columns that colour; None is the last.
    tomograms
        A folder of volumes (MRC, any binning), matched by name, or volumes by the name of tomogram (`find_tomograms`).
    positions
        Of `read_positions`; None takes those of the run's own particles.
    voxel_size_angst
        Of the volumes, where their headers are wrong.
    clusters, columns
        A class for each particle, and further columns to colour by, indexed by particle_id.
    selection
        A Selection of another view, to be shared.
    height
        Of the picture, in pixels of the screen.

    Attributes
    ----------
    tomogram
        The tomogram that is shown, one of `tomograms`.
    mode
        ``"slices"``, or ``"3-D"``; set to what there is when the tomogram changes.
    plane
        ``"xy"``, ``"xz"`` or ``"yz"``.
    centre_angst, thickness_angst
        Middle of the slab along the third axis, from the first voxel, and its thickness.
    colour
        The column that colours the particles.
    contrast
        Densities of black and of white; empty is automatic; the greater first inverts the picture.
    outside
        Whether particles outside the slab are ``"faint"`` or ``"hidden"``.
    adding
        Whether a lasso adds to the choice instead of replacing it.
    selection
        The chosen particles.
    files
        Which volume belongs to which tomogram (`TomogramFiles`): ``viewer.files.table``.
    positions
        Places of the particles, or None.
    message
        What went wrong, or is being read.

    Raises
    ------
    KeyError
        If `clusters` or `columns` lack a particle, or `selection` is of other particles.
    ValueError
        If `tomograms` has no volume, or names one that is not there.
    """

    tomogram = traitlets.Unicode()
    mode = traitlets.Enum(MODES, default_value=MODES[0])
    plane = traitlets.Enum(tuple(PLANES), default_value="xy")
    centre_angst = traitlets.Float(0.0)
    thickness_angst = traitlets.Float(100.0, min=0.0)
    colour = traitlets.Unicode()
    contrast = traitlets.Tuple()
    outside = traitlets.Enum(OUTSIDE, default_value=OUTSIDE[0])
    adding = traitlets.Bool(default_value=False)
    message = traitlets.Unicode("", read_only=True)
    selection = traitlets.Instance(Selection)

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        tomograms: Mapping[str, Path | str] | Path | str | None = None,
        positions: Positions | None = None,
        voxel_size_angst: float | None = None,
        clusters: pd.Series | None = None,
        columns: pd.DataFrame | None = None,
        selection: Selection | None = None,
        height: int = 520,
    ) -> None:
        self.run = run if isinstance(run, Run) else Run.open(run)
        self.table = explorer_table(self.run, epoch, clusters, columns) if self.run.z_dim else self.run.table(epoch)
        shared = selection if selection is not None else Selection(self.table.index.astype(str))
        if set(shared.known_ids) != set(self.table.index.astype(str)):
            raise KeyError(
                f"Got a Selection of other particles than those of run {self.run.folder}. Use one of this run."
            )
        self.positions, missing = self._placed(positions)
        names = [] if self.positions is None else list(dict.fromkeys(map(str, self.positions.tomogram)))
        self.tomograms, self.colours = names, varied_columns(self.table) or [str(self.table.columns[0])]
        self.files = find_tomograms(names, tomograms if names else None)
        self._voxel_angst, self._height = voxel_size_angst, height
        self._volumes: dict[str, TomogramVolume] = {}
        self._ready = False
        self._side_angst = float(self.run.settings["box_px"]) * float(self.run.settings["pixel_size_angst"])
        super().__init__(
            selection=shared,
            tomogram=names[0] if names else "",
            thickness_angst=round(self._side_angst / 2),
            colour="cluster" if "cluster" in self.colours else self.colours[0],
        )
        self.add_class("tomodrgn-tomogram-viewer")
        self._note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
        self._note.add_class("tomodrgn-tomogram-note")
        ipywidgets.dlink((self, "message"), (self._note, "value"), shown_in)
        if self.positions is None:
            self.set_trait("message", missing)
            self.children = [self._note]
            return
        self._build(missing)
        PageTheme.follow(self._follow_theme)
        self._ready = True
        self._open()
        self.selection.observe(self._show_selection, names="particle_ids")

    def _placed(self, positions: Positions | None) -> tuple[Positions | None, str]:
        """Positions and what has to be said of them."""
        try:
            match = run_positions(self.run, positions)
        except ValueError as error:
            return None, str(error)
        return match.positions, "" if match.matched.all() else str(match)

    def _build(self, missing: str) -> None:
        self._colours, self._texts = np.zeros(0, dtype=object), list[str]()
        self.picture = TomogramPicture(self._caught, height=self._height)
        self._reader = SlabReader(self.picture.show_image, lambda text: self.set_trait("message", text))
        self.space: TomogramSpace | None = None
        self._matched, self._legend = ipywidgets.HTML(), ipywidgets.HTML(layout={"min_height": "26px"})
        self._matched.add_class("tomodrgn-tomogram-match")
        self._legend.add_class("tomodrgn-tomogram-legend")
        self._missing = missing
        places, self._slider = place_controls(self)
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        style = style_controls(self)
        self._flat = [places[2], self._slider, style[0], style[1], style[2]]
        self._stage = ipywidgets.VBox([self.picture.figure], layout={"min_height": f"{self._height + 10}px"})
        self.children = [
            figure_style(),
            ipywidgets.HBox(places, layout=wrap),
            ipywidgets.HBox([self._slider, style[0]], layout=wrap),
            self._stage,
            self._legend,
            ipywidgets.HBox(style[1:], layout=wrap),
            self._matched,
            self._note,
        ]

    # --- what can be typed ---

    def select(self, particle_ids: Iterable[str]) -> None:
        """Choose these particles and no others.

        Raises
        ------
        KeyError
            If a name is unknown.
        """
        self.selection.set(particle_ids)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the slab that was asked for is shown; whether it is."""
        return self._reader.wait(timeout)

    @property
    def shown_ids(self) -> list[str]:
        """Names of the particles of the tomogram that lie in the slab (in 3-D: of all)."""
        rows = self._rows if self.mode == "3-D" else self._rows[self._inside()]
        return [str(name) for name in self._own().particle_id[rows]]

    # --- where ---

    @traitlets.validate("tomogram", "colour")
    def _known(self, proposal: dict) -> str:
        name, trait = str(proposal["value"]), proposal["trait"].name
        allowed = self.colours if trait == "colour" else self.tomograms
        if name not in allowed and (trait == "colour" or allowed):
            raise ValueError(f"Got {trait} {name!r}, expected one of {allowed[:20]}. Choose one of these.")
        return name

    @traitlets.observe("tomogram")
    def _open(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        self._rows = np.flatnonzero(self._own().tomogram.astype(str) == self.tomogram)
        problem = self._take_volume()
        self.set_trait("message", problem or self._missing)
        volume, n_files = self._volumes.get(self.tomogram), len(self.files.files)
        told = match_text(self.tomogram, len(self._rows), dict(self.files.table.loc[self.tomogram]), volume)
        self._matched.value = shown_in(f"{told} {n_files} of {len(self.tomograms)} tomograms have a volume.")
        self._ready = False
        try:
            self.mode = MODES[0] if self.tomogram in self._volumes else MODES[1]
        finally:
            self._ready = True
        self._recolour()
        self._set_mode()

    def _take_volume(self) -> str:
        """Open the tomogram's volume; what is wrong with it."""
        name = self.tomogram
        if name not in self.files.files:
            return ""
        try:
            volume = self._volumes.get(name) or TomogramVolume(self.files.files[name], self._voxel_angst)
        except (OSError, ValueError) as error:
            return str(error)
        self._volumes[name] = volume
        places = self._own().position_angst[self._rows]
        beyond = volume.last_voxel_angst + volume.voxel_size_angst
        outside = ((places < -volume.voxel_size_angst) | (places > beyond)).any(axis=1)
        if outside.any():
            return (
                f"Got {int(outside.sum())} of {len(places)} particles outside {volume.path.name} of "
                f"{' x '.join(f'{x:.0f}' for x in beyond)} A, expected all inside. Check its voxel size, "
                f"{volume.voxel_size_angst:g} A by its header (voxel_size_angst)."
            )
        return ""

    @traitlets.observe("mode", "plane")
    def _set_mode(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        flat = self.mode == MODES[0]
        for control in self._flat:
            control.disabled = not flat
        if flat:
            self._frame()
            self._stage.children = [self.picture.figure]
        else:
            if self.space is None:
                self.space = TomogramSpace(lambda row: self._caught(np.array([row]), "click"), height=self._height)
            self._stage.children = [self.space.figure]
        self._draw()

    def _frame(self) -> None:
        """Go to the middle of the particles of this tomogram, and show all of the plane."""
        right, up, across = PLANES[self.plane]
        places, volume = self._own().position_angst[self._rows], self._volumes.get(self.tomogram)
        if volume is None:
            low, high = places.min(axis=0) - self._side_angst, places.max(axis=0) + self._side_angst
            step = 10.0
        else:
            low, high = np.zeros(3), volume.last_voxel_angst
            step = volume.voxel_size_angst
        self._ready = False
        try:
            centre = float(np.clip(np.median(places[:, across]), low[across], high[across]))
            self._slider.min, self._slider.max, self._slider.step = -1e9, 1e9, step
            self.centre_angst = round(centre / step) * step
            self._slider.min, self._slider.max = float(low[across]), float(high[across])
        finally:
            self._ready = True
        self.picture.frame((low[right], low[up]), (high[right], high[up]), self.plane)

    # --- what is drawn ---

    @traitlets.observe("colour")
    def _recolour(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        colouring = colour_column(self.table[self.colour], dark=is_dark(PageTheme.shared().background))
        own = self.table.index.get_indexer(pd.Index(self._own().particle_id))
        self._colours = np.array(point_colours(colouring), dtype=object)[own]
        values = self.table[self.colour].iloc[own].to_numpy()
        self._texts = [
            f"{name}<br>{self.colour}: {f'{value:.4g}' if isinstance(value, float) else value}"
            for name, value in zip(self._own().particle_id, values, strict=True)
        ]
        self._legend.value = legend_html(colouring, self.colour)
        if change is not None:
            self._draw_particles()

    def _follow_theme(self, background: str) -> None:
        self._recolour({})

    @traitlets.observe("centre_angst", "thickness_angst", "contrast", "outside")
    def _draw(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        if change is None or change["name"] != "contrast":
            self._draw_particles()
        if self.mode == MODES[0] and (change is None or change["name"] != "outside"):
            self._ask_slab()

    def _draw_particles(self) -> None:
        if self.mode == MODES[1]:
            own, rows = self._own(), self._rows
            if self.space is not None:
                self.space.show(
                    own.position_angst[rows],
                    self._arrow_angst * own.rotations[rows, :, 2],
                    colours=self._colours[rows].tolist(),
                    texts=[self._texts[i] for i in rows],
                    chosen=self._chosen(),
                )
            return
        on_image = self.tomogram in self._volumes
        self.picture.show_particles(self._glyphs(), others=self.outside == "faint", on_image=on_image)

    def _show_selection(self, change: dict | None = None) -> None:
        if self.mode == MODES[1] and self.space is not None:
            self.space.mark(self._own().position_angst[self._rows[self._chosen()]])
        else:
            self.picture.mark(self._glyphs(), others=self.outside == "faint")

    @property
    def _arrow_angst(self) -> float:
        return 0.4 * self._side_angst

    def _glyphs(self) -> Glyphs:
        right, up, _ = PLANES[self.plane]
        own, rows = self._own(), self._rows
        return Glyphs(
            places=own.position_angst[rows][:, [right, up]],
            directions=own.rotations[rows][:, [right, up], 2],
            colours=self._colours[rows].tolist(),
            texts=[self._texts[i] for i in rows],
            inside=self._inside(),
            chosen=self._chosen(),
            length_angst=self._arrow_angst,
        )

    def _inside(self) -> np.ndarray:
        depth = self._own().position_angst[self._rows, PLANES[self.plane][2]]
        volume = self._volumes.get(self.tomogram)
        thickness = max(self.thickness_angst, 0.0 if volume is None else volume.voxel_size_angst)
        return np.abs(depth - self.centre_angst) <= 0.5 * thickness

    def _chosen(self) -> np.ndarray:
        names = self._own().particle_id[self._rows]
        return np.isin(names.astype(str), np.array(self.selection.particle_ids, dtype=str))

    # --- choosing ---

    def _caught(self, rows: np.ndarray, kind: str) -> None:
        """Rows, among those of this tomogram, that a lasso, box or click caught."""
        names = [str(name) for name in self._own().particle_id[self._rows[rows]]]
        made_by = f"{kind} in {self.tomogram}"
        if self.adding:
            self.selection.add(names, made_by=made_by)
        else:
            self.selection.set(names, made_by=made_by)

    def _own(self) -> Positions:
        if self.positions is None:
            raise ValueError(f"Got a run without places of its particles. {self.message}")
        return self.positions

    def _ask_slab(self) -> None:
        given = self.contrast
        wish = SlabWish(
            volume=self._volumes.get(self.tomogram),
            plane=cast(Plane, self.plane),
            centre_angst=self.centre_angst,
            thickness_angst=self.thickness_angst,
            contrast=(float(given[0]), float(given[1])) if len(given) == 2 else None,
        )
        self._reader.ask(wish)
