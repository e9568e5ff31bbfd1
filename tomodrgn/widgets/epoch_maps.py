"""Pictures of maps at a few fixed particles, epoch after epoch, made beside other work."""

from __future__ import annotations

import html
import io
import threading
import time
from collections import OrderedDict
from pathlib import Path

import ipywidgets
import numpy as np
import traitlets
from PIL import Image

from tomodrgn.analysis.latent_space import reduce_latents
from tomodrgn.analysis.palette import CATEGORY_COLOURS
from tomodrgn.particles.latents import Latents
from tomodrgn.plots.surfaces import render_surface, surface_level
from tomodrgn.training.run import Run
from tomodrgn.volumes.decoder import MapDecoder
from tomodrgn.widgets.in_place import shown_in, told
from tomodrgn.widgets.latest_work import LatestWork

__all__ = ["MAP_COLOURS", "EpochMaps", "spread_particles"]

MAP_COLOURS = (CATEGORY_COLOURS[4], CATEGORY_COLOURS[1], CATEGORY_COLOURS[2])
LARGEST_BOX = 48
SIZE_PX = 150
KEPT_EPOCHS = 32
REST = 2.0  # times as long as pictures took is left to the training before the next
EMPTY = io.BytesIO()
Image.new("RGBA", (SIZE_PX, SIZE_PX)).save(EMPTY, format="PNG")


class EpochMaps(ipywidgets.VBox):
    """Three particles, of each the isosurface of its map after an epoch.

    The pictures are made in a thread of their own, on the CPU: while it is busy, newer epochs take the place of those
    that wait.

    Attributes
    ----------
    particle_ids
        Whose maps are shown, three at most.
    epoch
        Whose pictures are shown; 0 before the first.
    message
        What is being done, or what went wrong; empty when all is done.
    """

    particle_ids = traitlets.Tuple()
    epoch = traitlets.Int(0, read_only=True)
    message = traitlets.Unicode("", read_only=True)

    def __init__(self) -> None:
        self._work = LatestWork("EpochMaps", lambda error: self.set_trait("message", told(error)))
        self._hurry = threading.Event()
        self._kept: OrderedDict[tuple, list[bytes]] = OrderedDict()
        side = f"{SIZE_PX}px"
        layout = ipywidgets.Layout(width=side, height=side)
        self._pictures = [ipywidgets.Image(value=EMPTY.getvalue(), format="png", layout=layout) for _ in MAP_COLOURS]
        captions = [ipywidgets.HTML(layout=ipywidgets.Layout(width=side, height="34px")) for _ in MAP_COLOURS]
        self._captions = captions
        tiles = []
        for picture, caption in zip(self._pictures, captions, strict=True):
            picture.add_class("tomodrgn-epoch-map")
            tiles.append(ipywidgets.VBox([picture, caption]))
        note = ipywidgets.HTML(layout=ipywidgets.Layout(height="24px"))
        note.add_class("tomodrgn-epoch-maps-note")
        super().__init__([note, ipywidgets.HBox(tiles)], layout=ipywidgets.Layout(flex="0 0 auto"))
        self.observe(lambda change: self._label(note), names=["epoch", "message"])
        self._label(note)

    @traitlets.validate("particle_ids")
    def _few(self, proposal: dict) -> tuple[str, ...]:
        if len(proposal["value"]) > len(MAP_COLOURS):
            raise traitlets.TraitError(
                f"Got {len(proposal['value'])} particles, expected {len(MAP_COLOURS)} at most. Choose fewer."
            )
        return tuple(map(str, proposal["value"]))

    @traitlets.observe("particle_ids")
    def _name(self, change: dict) -> None:
        names = [*self.particle_ids, *[""] * len(MAP_COLOURS)]
        for caption, name, colour in zip(self._captions, names, MAP_COLOURS, strict=False):
            dot = f'<span style="color: {colour}">&#9679;</span> ' if name else ""
            style = "line-height: 1.2; font-size: 85%; overflow-wrap: anywhere; max-height: 34px; overflow: hidden"
            caption.value = f'<div style="{style}" title="{html.escape(name)}">{dot}{html.escape(name)}</div>'

    def show(self, folder: Path, epoch: int, *, urgent: bool = False) -> None:
        """Show the maps of an epoch of a run when they are ready.

        Parameters
        ----------
        folder
            The run.
        epoch
            One that is on disk.
        urgent
            Somebody waits for it: begin at once.
        """
        if urgent:
            self._hurry.set()
        self._work.ask(lambda _, ids=self.particle_ids: self._draw(folder, epoch, ids))  # type: ignore[misc]

    def clear(self) -> None:
        """Show nothing, and forget all pictures: another run begins."""
        self._work.cancel()
        self._kept = OrderedDict()
        for picture in self._pictures:
            picture.value = EMPTY.getvalue()
        self.set_trait("epoch", 0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was asked for is shown; whether it is."""
        return self._work.wait(timeout)

    def _draw(self, folder: Path, epoch: int, particle_ids: tuple[str, ...]) -> None:
        began = time.monotonic()
        try:
            self._show(folder, epoch, particle_ids)
        finally:
            self._hurry.wait(REST * (time.monotonic() - began))
            self._hurry.clear()

    def _show(self, folder: Path, epoch: int, particle_ids: tuple[str, ...]) -> None:
        run = Run.open(folder)
        key = run.settings["created"], epoch, particle_ids
        if key not in self._kept:
            self.set_trait("message", f"drawing maps after epoch {epoch} ...")
            self._kept[key] = map_pictures(run, epoch, particle_ids)
            while len(self._kept) > KEPT_EPOCHS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        shown = [*self._kept[key], *[EMPTY.getvalue()] * len(MAP_COLOURS)]
        for picture, png in zip(self._pictures, shown, strict=False):
            picture.value = png
        self.set_trait("epoch", epoch)
        self.set_trait("message", "")

    def _label(self, note: ipywidgets.HTML) -> None:
        made = f"Maps after epoch {self.epoch}" if self.epoch else "Maps after each epoch"
        note.value = shown_in(self.message or made)


def map_pictures(run: Run, epoch: int, particle_ids: tuple[str, ...]) -> list[bytes]:
    """Pictures (PNG) of the maps at these particles, all at one level; of a run without latents its one map."""
    latents = run.latents(epoch)
    points = latents.aligned_to(np.array(particle_ids)).mu if latents.z_dim else np.zeros((1, 0), np.float32)
    own = int(run.settings["box_px"])
    box = own if own <= LARGEST_BOX or own % 2 else LARGEST_BOX
    maps = MapDecoder(run, epoch, box_px=box, device="cpu")(points)
    level = surface_level(maps)[0]
    pictures = []
    for volume, colour in zip(maps, MAP_COLOURS, strict=False):
        rgb = int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
        file = io.BytesIO()
        Image.fromarray(render_surface(volume, level, size_px=SIZE_PX, colour=rgb)).save(file, format="PNG")
        pictures.append(file.getvalue())
    return pictures


def spread_particles(latents: Latents, number: int = len(MAP_COLOURS)) -> tuple[str, ...]:
    """Particles spread along the first principal component: in the middle of equal parts of all."""
    if not latents.z_dim:
        return ()
    order = np.argsort(reduce_latents(latents, 1)["PC1"].to_numpy(), kind="stable")
    places = ((np.arange(number) + 0.5) / number * len(order)).astype(int)
    return tuple(dict.fromkeys(latents.particle_id[order[places]].astype(str).tolist()))
