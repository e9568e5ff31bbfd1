"""Isosurfaces side by side, in the browser; all are seen from one side."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
import k3d
import numpy as np
from jaxtyping import Float32

from tomodrgn.widgets.page_theme import PageTheme

__all__ = ["MOST_PLOTS", "Surface", "SurfacePlots"]

MOST_PLOTS = 4  # a browser keeps 16 WebGL canvases on a page


@dataclass(frozen=True, kw_only=True)
class Surface:
    """One isosurface: a density (axes zyx), its level in the same unit, and how it looks."""

    field: Float32[np.ndarray, "d d d"]
    level: float
    colour: int
    opacity: float = 1.0


class SurfacePlots(ipywidgets.HBox):
    """Up to four plots of isosurfaces; x to the right, y up, z towards the viewer, in angstrom from the centre.

    Turning one turns all.

    Parameters
    ----------
    side_angst
        Side of the box of the maps.
    height
        Of the pictures, in pixels of the screen.
    """

    def __init__(self, side_angst: float, *, height: int = 420) -> None:
        self.plots: list[k3d.plot.Plot] = []
        self.surfaces: list[list[k3d.objects.MarchingCubes]] = []
        self._columns: list[ipywidgets.VBox] = []
        self._titles: list[ipywidgets.Label] = []
        self.side_angst, self._height = side_angst, height
        super().__init__((), layout=ipywidgets.Layout(height=f"{height + 30}px"))
        PageTheme.follow(self._paint_background)

    def draw(self, panels: list[list[Surface]], titles: list[str]) -> None:
        """Show these surfaces, a plot for each list of them."""
        shown = panels[:MOST_PLOTS]
        while len(self.plots) < len(shown):
            self._add_plot()
        for i, column in enumerate(self._columns):
            column.layout.display = "flex" if i < len(shown) else "none"
        for i, wanted in enumerate(shown):
            self._titles[i].value = titles[i]
            self._fill(i, wanted)
        # Shown when there is something in them: a surface that comes while the page makes the plot may be lost.
        self.children = tuple(self._columns)

    def resize(self, side_angst: float) -> None:
        """Have maps of another size from now on."""
        if np.isclose(side_angst, self.side_angst):
            return
        self.side_angst = side_angst
        for i in range(len(self.plots)):
            self._fill(i, [])
        self.look_from_front()

    def set_levels(self, panels: list[list[float]]) -> None:
        """Move the surfaces that are shown; only the levels cross to the browser."""
        for surfaces, levels in zip(self.surfaces, panels, strict=False):
            for surface, level in zip(surfaces, levels, strict=False):
                surface.level = float(level)

    def look_from_front(self) -> None:
        """Turn the camera to where it was at first: in front, a little to the right and above."""
        for plot in self.plots:
            plot.camera = self._front()

    def _front(self) -> list[float]:
        """Position, target, up."""
        return [0.25 * self.side_angst, 0.25 * self.side_angst, 0.75 * self.side_angst, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]

    def _paint_background(self, colour: str) -> None:
        for plot in self.plots:
            plot.background_color = int(colour[1:], 16)

    def _add_plot(self) -> None:
        plot = k3d.plot(
            height=self._height,
            grid_visible=False,
            menu_visibility=False,
            camera_auto_fit=False,
            axes=["x", "y", "z"],
        )
        plot.camera = list(self.plots[0].camera) if self.plots else self._front()
        plot += _speck()
        plot.add_class("tomodrgn-map")
        if self.plots:
            ipywidgets.jslink((self.plots[0], "camera"), (plot, "camera"))
        title = ipywidgets.Label(layout=ipywidgets.Layout(height="26px"))
        self.plots.append(plot)
        self._titles.append(title)
        self.surfaces.append([])
        self._paint_background(PageTheme.shared().background)
        self._columns.append(ipywidgets.VBox([title, plot], layout=ipywidgets.Layout(flex="1 1 0", min_width="0")))

    def _fill(self, i: int, wanted: list[Surface]) -> None:
        """Change the surfaces of a plot; those that can stay are kept, so that nothing flickers."""
        half = self.side_angst / 2
        there = self.surfaces[i]
        while len(there) > len(wanted):
            self.plots[i] -= there.pop()
        for surface, new in zip(there, wanted, strict=False):
            with surface.hold_sync():  # one message: the page makes the surface anew for each
                surface.level, surface.color, surface.opacity = float(new.level), new.colour, new.opacity
                if surface.scalar_field.shape != new.field.shape or not np.array_equal(surface.scalar_field, new.field):
                    surface.scalar_field = new.field
        for new in wanted[len(there) :]:
            surface = k3d.marching_cubes(
                new.field,
                level=float(new.level),
                color=new.colour,
                opacity=new.opacity,
                flat_shading=False,
                bounds=[-half, half] * 3,
            )
            there.append(surface)
            self.plots[i] += surface


def _speck() -> k3d.objects.MarchingCubes:
    """A surface too small to be seen, which stays.

    A page makes each surface anew when it changes. While another one of its kind is there the page keeps the program
    that draws them; else it compiles it each time, which takes longer than all the rest.
    """
    field = np.zeros((2, 2, 2), dtype=np.float32)
    field[0, 0, 0] = 1.0
    return k3d.marching_cubes(field, level=0.5, flat_shading=False, bounds=[-1e-3, 1e-3] * 3)
