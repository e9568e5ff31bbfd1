"""Isosurfaces and slices of a VolumeStack, in the browser: one map, several at once, or played as a movie."""

from __future__ import annotations

from pathlib import Path

import ipywidgets
import numpy as np
import traitlets
from jaxtyping import Float32
from PIL import Image

from tomodrgn.analysis.palette import CATEGORY_COLOURS
from tomodrgn.plots.surfaces import render_surface, save_movie, sigma_units, surface_level
from tomodrgn.volumes.volume_stack import VolumeStack
from tomodrgn.widgets.in_place import shown_in
from tomodrgn.widgets.map_slices import MapSlices
from tomodrgn.widgets.surface_plots import MOST_PLOTS, Surface, SurfacePlots

__all__ = ["VolumeViewer"]

COLOUR = 0x5B8DB8
MORE, LESS = 0x0072B2, 0xD55E00  # of a difference
ARRANGEMENTS = ("one map", "side by side", "overlay", "difference")
FRAME_MILLISECONDS = 400


class VolumeViewer(ipywidgets.VBox):
    """Maps as isosurfaces, or slices; x to the right, y up, z towards the viewer, in angstrom from the centre.

    Parameters
    ----------
    stack
        The maps.
    height
        Of the picture, in pixels of the screen.

    Attributes
    ----------
    stack
        The maps; another stack can be set at any time.
    map_name
        The map that is shown, one of `stack.names`.
    compared
        Names of the maps shown beside it where `arrangement` is another than "one map".
    arrangement
        ``"one map"``, ``"side by side"`` (four at most), ``"overlay"``, or ``"difference"``: the map shown minus the
        first one compared, blue where it has more density and orange where it has less.
    level
        The surface, in standard deviations (sigma) above the mean of each map; of a difference, from its mean.
    slices
        Whether planes through the maps are shown as well; ``viewer.planes.z_angst`` moves one.
    loop
        Whether playing begins again at the end.
    message
        What went wrong, or where a file was written.

    Raises
    ------
    ValueError
        If the stack is empty, or all its maps are flat.
    """

    stack = traitlets.Instance(VolumeStack)
    map_name = traitlets.Unicode()
    compared = traitlets.Tuple()
    arrangement = traitlets.Enum(ARRANGEMENTS, default_value="one map")
    level = traitlets.Float(3.0)
    slices = traitlets.Bool(default_value=False)
    loop = traitlets.Bool(default_value=True)
    message = traitlets.Unicode("", read_only=True)

    def __init__(self, stack: VolumeStack, *, height: int = 420) -> None:
        start, _ = surface_level(stack.maps)
        self._fields: dict[str, np.ndarray] = {}
        self._ready = False
        self.surfaces = SurfacePlots(stack.voxel_size_angst * stack.maps.shape[-1], height=height)
        self.planes = MapSlices()
        super().__init__(stack=stack, map_name=stack.names[0], level=_on_slider(start))
        self.add_class("tomodrgn-volumes")
        self._build()
        self._ready = True
        self._take_stack()

    def _build(self) -> None:
        self._names = ipywidgets.Dropdown(description="map", layout=ipywidgets.Layout(width="260px"))
        self._names.add_class("tomodrgn-map-name")
        slider = ipywidgets.FloatSlider(step=0.1, description="level (σ)", readout_format=".1f", min=-1e9, max=1e9)
        slider.add_class("tomodrgn-level")
        self._slider = slider
        arrangement = ipywidgets.Dropdown(options=ARRANGEMENTS, layout=ipywidgets.Layout(width="130px"))
        arrangement.add_class("tomodrgn-arrangement")
        self._compared = ipywidgets.SelectMultiple(rows=4, layout=ipywidgets.Layout(width="260px"))
        self._compared.add_class("tomodrgn-compared")
        self._play = ipywidgets.Play(interval=FRAME_MILLISECONDS, min=0, show_repeat=False)
        self._play.add_class("tomodrgn-play")
        loop = ipywidgets.Checkbox(description="loop", indent=False, layout=ipywidgets.Layout(width="70px"))
        slices = ipywidgets.Checkbox(description="slices", indent=False, layout=ipywidgets.Layout(width="80px"))
        slices.add_class("tomodrgn-slices")
        front = ipywidgets.Button(description="Front", tooltip="The camera as it was", layout={"width": "64px"})
        front.on_click(lambda _: self.surfaces.look_from_front())
        self._path = ipywidgets.Text(placeholder="file.gif, file.mp4, or a folder for MRC", layout={"width": "260px"})
        self._path.add_class("tomodrgn-export-path")
        export = ipywidgets.Button(
            description="Export", tooltip="Write all maps of the stack", layout={"width": "80px"}
        )
        export.add_class("tomodrgn-export")
        export.on_click(lambda _: self._export_pressed())
        note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
        note.add_class("tomodrgn-map-note")
        self._statistics = ipywidgets.HTML()
        ipywidgets.link((self, "level"), (slider, "value"))
        ipywidgets.link((self, "arrangement"), (arrangement, "value"))
        ipywidgets.link((self, "loop"), (loop, "value"))
        ipywidgets.link((self, "loop"), (self._play, "repeat"))
        ipywidgets.link((self, "slices"), (slices, "value"))
        ipywidgets.dlink((self, "message"), (note, "value"), shown_in)
        self._names.observe(self._named, names="value")
        self._compared.observe(self._picked, names="value")
        self._play.observe(self._played, names="value")
        wrap = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        more = ipywidgets.Accordion(
            [ipywidgets.VBox([ipywidgets.HBox([self._path, export, front], layout=wrap), self._statistics])],
            titles=("Export and statistics",),
            selected_index=None,
        )
        self._beside = ipywidgets.HBox([ipywidgets.Label("compared with"), self._compared])
        self.children = [
            ipywidgets.HBox([self._names, self._play, loop, slider, arrangement, slices], layout=wrap),
            self._beside,
            self.surfaces,
            self.planes,
            note,
            more,
        ]

    # --- what is shown ---

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the maps in the picture, the main one first."""
        if self.arrangement == "one map":
            return (self.map_name,)
        beside = [name for name in self.compared if name != self.map_name]
        return (self.map_name, *beside)[: 2 if self.arrangement == "difference" else MOST_PLOTS]

    def show(self, stack: VolumeStack, map_name: str | None = None) -> None:
        """Show another stack, beginning with this map."""
        with self.hold_trait_notifications():
            self.stack = stack
            self.map_name = stack.names[0] if map_name is None else map_name

    def play(self) -> None:
        """Play the maps one after the other."""
        self._play.playing = True

    def pause(self) -> None:
        """Stay at the map that is shown."""
        self._play.playing = False

    @property
    def playing(self) -> bool:
        """Whether maps are played."""
        return bool(self._play.playing)

    def export(self, path: Path | str, *, size_px: int = 320, overwrite: bool = False) -> list[Path]:
        """Write the stack: a movie of its surfaces at the level shown (``.gif``, ``.mp4``), or a folder of MRC files.

        Raises
        ------
        FileExistsError
            If it is there and `overwrite` is False.
        FileNotFoundError
            If a video is asked for and there is no ffmpeg.
        """
        path = Path(path)
        if path.suffix.lower() not in (".gif", ".mp4"):
            return self.stack.save(path, overwrite=overwrite)
        frames = [_on_white(render_surface(volume, self.level, size_px=size_px)) for volume in self.stack.maps]
        return [save_movie(path, frames, frames_per_second=1000 / FRAME_MILLISECONDS, overwrite=overwrite)]

    # --- what happens ---

    @traitlets.validate("map_name", "compared")
    def _known(self, proposal: dict) -> str | tuple[str, ...]:
        value = proposal["value"]
        for name in [value] if isinstance(value, str) else value:
            if str(name) not in self.stack.names:
                raise ValueError(f"Got map {name!r}, expected one of {self.stack.names}. Choose one of these.")
        return value if isinstance(value, str) else tuple(str(name) for name in value)

    @traitlets.validate("level")
    def _exact(self, proposal: dict) -> float:
        # The page's slider answers a new range with 3.0000000000000004, for which every surface would be made anew.
        return round(float(proposal["value"]), 6)

    @traitlets.observe("stack")
    def _take_stack(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        self._ready = False
        try:
            names = self.stack.names
            self._fields.clear()
            self.surfaces.resize(float(self.stack.voxel_size_angst) * self.stack.maps.shape[-1])
            _, highest = surface_level(self.stack.maps)
            self._slider.min, self._slider.max = min(0.5, _on_slider(highest / 2)), max(highest, self.level)
            self._names.options = self._compared.options = names
            self._play.max, self._play.value, self._play.disabled = len(names) - 1, 0, len(names) < 2
            self._compared.disabled = len(names) < 2
            if self.map_name not in names:
                self.map_name = names[0]
            self.compared = tuple(name for name in self.compared if name in names) or tuple(names[1:2])
            self._names.value, self._compared.value = self.map_name, self.compared
        finally:
            self._ready = True
        self._draw()

    @traitlets.observe("map_name", "compared", "arrangement", "slices")
    def _draw(self, change: dict | None = None) -> None:
        if not self._ready:
            return
        self._names.value, self._compared.value = self.map_name, self.compared
        panels = self._panels()
        titles = [""] if len(panels) == 1 and self.arrangement == "one map" else self._titles(len(panels))
        self.surfaces.draw(panels, titles)
        self._beside.layout.display = "none" if self.arrangement == "one map" else "flex"
        self.planes.layout.display = "flex" if self.slices else "none"
        if self.slices:
            self.planes.show(self._densities(), self.stack.voxel_size_angst)
        self._statistics.value = self.stack.statistics().to_html(border=0, float_format="{:.4g}".format)

    @traitlets.observe("level")
    def _move(self, change: dict) -> None:
        if self._ready:
            self.surfaces.set_levels([[self.level for _ in panel] for panel in self.surfaces.surfaces])

    def _panels(self) -> list[list[Surface]]:
        names = self.shown
        if self.arrangement == "difference" and len(names) == 2:
            field = sigma_units(self._map(names[0]) - self._map(names[1]))
            more = Surface(field=field, level=self.level, colour=MORE)
            return [[more, Surface(field=-field, level=self.level, colour=LESS)]]
        plain = self.arrangement != "overlay" or len(names) == 1
        colours = [COLOUR] * len(names) if plain else [int(colour[1:], 16) for colour in CATEGORY_COLOURS]
        surfaces = [
            Surface(field=self._field(name), level=self.level, colour=colour, opacity=1.0 if plain else 0.6)
            for name, colour in zip(names, colours, strict=False)
        ]
        return [surfaces] if not plain else [[surface] for surface in surfaces]

    def _titles(self, n_panels: int) -> list[str]:
        if self.arrangement == "difference" and len(self.shown) == 2:
            return [f"{self.shown[0]} minus {self.shown[1]}: blue more, orange less"]
        return list(self.shown) if n_panels > 1 else [", ".join(self.shown)]

    def _densities(self) -> list[Float32[np.ndarray, "d d d"]]:
        if self.arrangement == "difference" and len(self.shown) == 2:
            return [self._map(self.shown[0]) - self._map(self.shown[1])]
        return [self._map(name) for name in self.shown]

    def _map(self, name: str) -> Float32[np.ndarray, "d d d"]:
        return self.stack.maps[self.stack.names.index(name)]

    def _field(self, name: str) -> Float32[np.ndarray, "d d d"]:
        """A map in sigma above its mean, axes zyx."""
        if name not in self._fields:
            self._fields[name] = sigma_units(self._map(name))
        return self._fields[name]

    def _named(self, change: dict) -> None:
        if self._ready and change["new"] is not None:
            self.map_name = change["new"]
            self._play.value = self.stack.names.index(self.map_name)

    def _picked(self, change: dict) -> None:
        if self._ready:
            self.compared = tuple(change["new"])

    def _played(self, change: dict) -> None:
        if self._ready:
            self.map_name = self.stack.names[int(change["new"])]

    def _export_pressed(self) -> None:
        """What the button does: an error is shown in place."""
        try:
            if not self._path.value.strip():
                raise ValueError("Got no name of a file, expected one. Type it beside the button.")
            paths = self.export(self._path.value.strip())
        except (OSError, ValueError) as error:
            self.set_trait("message", str(error))
        else:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            self.set_trait("message", f"wrote {paths[0]}{more}")


def _on_slider(level: float) -> float:
    """The next lower step of the slider; a level too low for that stays."""
    return int(10 * level + 1e-6) / 10 or level


def _on_white(picture: np.ndarray) -> np.ndarray:
    """Red, green and blue of a picture with opacity, before white."""
    white = Image.new("RGBA", picture.shape[1::-1], "white")
    return np.asarray(Image.alpha_composite(white, Image.fromarray(picture)).convert("RGB"))
