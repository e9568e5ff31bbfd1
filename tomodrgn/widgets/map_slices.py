"""Three planes through a map, each moved by a slider."""

from __future__ import annotations

import io

import ipywidgets
import numpy as np
import traitlets
from jaxtyping import Float32
from PIL import Image

__all__ = ["MapSlices"]

PLANES = (("z", "xy"), ("y", "xz"), ("x", "yz"))  # normal, and the axes to the right and up


class MapSlices(ipywidgets.HBox):
    """Planes across z, y and x of one map or of several beneath each other, in one grey scale.

    Parameters
    ----------
    size_px
        Side of each picture on the screen.

    Attributes
    ----------
    x_angst, y_angst, z_angst
        Places of the planes, in angstrom from the centre of the box.
    """

    x_angst = traitlets.Float(0.0)
    y_angst = traitlets.Float(0.0)
    z_angst = traitlets.Float(0.0)

    def __init__(self, *, size_px: int = 220) -> None:
        self._maps: list[np.ndarray] = []
        self._voxel_angst, self._range = 1.0, (0.0, 1.0)
        self._columns: dict[str, tuple[ipywidgets.FloatSlider, ipywidgets.VBox]] = {}
        self._size_px = size_px
        columns = []
        for normal, axes in PLANES:
            slider = ipywidgets.FloatSlider(
                description=f"{normal} (Å)",
                readout_format=".0f",
                layout=ipywidgets.Layout(width=f"{size_px}px"),
                style={"description_width": "40px"},
            )
            slider.add_class(f"tomodrgn-plane-{normal}")
            ipywidgets.link((self, f"{normal}_angst"), (slider, "value"))
            pictures = ipywidgets.VBox()
            pictures.add_class(f"tomodrgn-slice-{normal}")
            self._columns[normal] = slider, pictures
            columns.append(
                ipywidgets.VBox([ipywidgets.Label(f"{axes[0]} to the right, {axes[1]} up"), pictures, slider])
            )
        super().__init__(columns)

    def show(self, maps: list[Float32[np.ndarray, "d d d"]], voxel_size_angst: float) -> None:
        """Show these maps, axes zyx, one beneath the other."""
        self._maps, self._voxel_angst = list(maps), voxel_size_angst
        low, high = np.percentile(np.stack(maps), [0.5, 99.9])
        self._range = float(low), max(float(high), float(low) + 1e-12)
        half = maps[0].shape[0] // 2 * voxel_size_angst
        for slider, _ in self._columns.values():
            slider.min, slider.max, slider.step = -half, half - voxel_size_angst, voxel_size_angst
        for normal, _ in PLANES:
            self._draw(normal)

    @traitlets.observe("x_angst", "y_angst", "z_angst")
    def _moved(self, change: dict) -> None:
        if self._maps:
            self._draw(change["name"][0])

    def _draw(self, normal: str) -> None:
        pictures = self._columns[normal][1]
        if len(pictures.children) != len(self._maps):
            side = f"{self._size_px}px"
            layout = ipywidgets.Layout(width=side, height=side)
            pictures.children = [ipywidgets.Image(format="png", layout=layout) for _ in self._maps]
        for picture, volume in zip(pictures.children, self._maps, strict=True):
            picture.value = self._png(volume, normal)

    def _png(self, volume: np.ndarray, normal: str) -> bytes:
        box = volume.shape[0]
        row = int(np.clip(round(getattr(self, f"{normal}_angst") / self._voxel_angst) + box // 2, 0, box - 1))
        plane = volume[tuple(row if axis == normal else slice(None) for axis in "zyx")][::-1]
        low, high = self._range
        grey = (255 * np.clip((plane - low) / (high - low), 0, 1)).astype(np.uint8)
        written = io.BytesIO()
        Image.fromarray(grey).resize((self._size_px,) * 2, Image.Resampling.BICUBIC).save(written, format="PNG")
        return written.getvalue()
