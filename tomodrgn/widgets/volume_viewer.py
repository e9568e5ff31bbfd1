"""Isosurface of the maps of a VolumeStack, in the browser."""

from __future__ import annotations

import ipywidgets
import k3d
import numpy as np
import traitlets
from jaxtyping import Float32

from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["VolumeViewer"]

COLOUR = 0x5B8DB8


class VolumeViewer(ipywidgets.VBox):
    """One map at a time as an isosurface; x to the right, y up, z towards the viewer, in angstrom from the centre.

    Parameters
    ----------
    stack
        The maps.
    height
        Of the picture, in pixels of the screen.

    Attributes
    ----------
    map_name
        The map that is shown, one of `stack.names`.
    level
        The surface, in standard deviations (sigma) above the mean of the map.

    Raises
    ------
    ValueError
        If the stack is empty, or all its maps are flat.
    """

    map_name = traitlets.Unicode()
    level = traitlets.Float(3.0)

    def __init__(self, stack: VolumeStack, *, height: int = 420) -> None:
        if not len(stack) or not np.any(stack.maps.std(axis=(1, 2, 3)) > 0):
            raise ValueError("Got no map with a density that varies, expected at least one. Generate maps first.")
        self.stack = stack
        deviations = [float((m.max() - m.mean()) / max(m.std(), 1e-30)) for m in stack.maps]
        highest = round(max(deviations), 1)
        start = min(3.0, highest / 2)
        side = stack.voxel_size_angst * stack.maps.shape[-1]
        self.surface = k3d.marching_cubes(
            self._field(0),
            level=start,
            color=COLOUR,
            flat_shading=False,
            bounds=[-side / 2, side / 2] * 3,
        )
        self.plot = k3d.plot(
            height=height,
            grid_visible=False,
            menu_visibility=False,
            camera_auto_fit=False,
            axes=["x", "y", "z"],
        )
        self.plot += self.surface
        # From the front, a little from the right and from above: position, target, up.
        self.plot.camera = [0.25 * side, 0.25 * side, 0.75 * side, 0, 0, 0, 0, 1, 0]
        self.plot.add_class("tomodrgn-map")
        names = ipywidgets.Dropdown(options=stack.names, description="map")
        slider = ipywidgets.FloatSlider(
            min=min(0.5, highest / 2), max=highest, step=0.1, description="level (σ)", readout_format=".1f"
        )
        slider.add_class("tomodrgn-level")
        super().__init__([ipywidgets.HBox([names, slider]), self.plot], map_name=stack.names[0], level=start)
        ipywidgets.link((self, "map_name"), (names, "value"))
        ipywidgets.link((self, "level"), (slider, "value"))

    def _field(self, position: int) -> Float32[np.ndarray, "d d d"]:
        """A map in sigma above its mean, axes zyx."""
        volume = self.stack.maps[position]
        return ((volume - volume.mean()) / max(float(volume.std()), 1e-30)).astype(np.float32)

    @traitlets.validate("map_name")
    def _known(self, proposal: dict) -> str:
        name = str(proposal["value"])
        if name not in self.stack.names:
            raise ValueError(f"Got map {name!r}, expected one of {self.stack.names}.")
        return name

    @traitlets.observe("map_name")
    def _swap(self, change: dict) -> None:
        self.surface.scalar_field = self._field(self.stack.names.index(change["new"]))

    @traitlets.observe("level")
    def _move(self, change: dict) -> None:
        self.surface.level = float(change["new"])
