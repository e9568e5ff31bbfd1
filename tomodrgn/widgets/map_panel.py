"""Maps of a run as they are asked for: decoded beside other work, the newest wish first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import traitlets
from jaxtyping import Float32

from tomodrgn.training.run import Run
from tomodrgn.volumes.decoder import MapDecoder
from tomodrgn.volumes.volume_stack import VolumeStack
from tomodrgn.widgets.in_place import shown_in, told
from tomodrgn.widgets.latest_work import LatestWork, Outdated
from tomodrgn.widgets.volume_viewer import VolumeViewer

__all__ = ["MapPanel"]

QUICK_BOX = 64


class MapPanel(ipywidgets.VBox):
    """Decodes points of the latent space and shows their maps; at first the map at the mean of the latents.

    One large map of an autoencoder is shown at 64 px until it is ready.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch whose weights are used; None is the last.
    box_px
        Side of the maps; None is that of the images, but 64 at most.
    height
        Of the picture, in pixels of the screen.

    Attributes
    ----------
    viewer
        The VolumeViewer, once there is a map.
    title
        What is shown.
    message
        What is being decoded, or what went wrong; empty when all is done.
    box_px
        Side of the maps from now on.

    Raises
    ------
    ValueError
        If the box is odd, below 8 or larger than that of the images.
    """

    title = traitlets.Unicode("", read_only=True)
    message = traitlets.Unicode("", read_only=True)
    box_px = traitlets.Int()

    def __init__(
        self, run: Run | Path | str, epoch: int | None = None, *, box_px: int | None = None, height: int = 420
    ) -> None:
        self._run = run if isinstance(run, Run) else Run.open(run)
        self._epoch, self._height = epoch, height
        self.viewer: VolumeViewer | None = None
        self._decoders: dict[tuple[int | None, int], MapDecoder] = {}
        self._wanted: tuple[str, pd.DataFrame] | None = None
        self._drawn: tuple[int, int | None] | None = None
        self._work = LatestWork("MapPanel", lambda error: self.set_trait("message", told(error)))
        own = int(self._run.settings["box_px"])
        sizes = sorted({size for size in (32, 48, 64, 96, 128) if size < own} | {own})
        self._place = ipywidgets.VBox(layout=ipywidgets.Layout(min_height=f"{height + 150}px"))
        note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
        note.add_class("tomodrgn-decoding")
        size = ipywidgets.Dropdown(options=sizes, description="box (px)", layout=ipywidgets.Layout(width="150px"))
        size.add_class("tomodrgn-box")
        self._size = size
        super().__init__(
            [ipywidgets.HBox([size, note]), self._place], box_px=min(own, QUICK_BOX) if box_px is None else box_px
        )
        self.add_class("tomodrgn-map-panel")
        size.observe(self._choose_box, "value")
        self.observe(self._offer_box, "box_px")
        self._offer_box()
        ipywidgets.dlink((self, "message"), (note, "value"), lambda text: shown_in(text or self.title))
        self.show_mean()

    @property
    def stack(self) -> VolumeStack | None:
        """The maps that are shown."""
        return None if self.viewer is None else self.viewer.stack

    @property
    def epoch(self) -> int | None:
        """Epoch whose weights are used; None is the last. Setting it decodes anew."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int | None) -> None:
        self._epoch = epoch
        self._again()

    def show_mean(self) -> None:
        """Show the map at the mean of all latents."""
        mean = self._run.latents(self._epoch).mu.mean(axis=0, keepdims=True)
        self.show_points(_points(mean, ["mean"]), "map at the mean of the latents")

    def show_particles(self, particle_ids: list[str]) -> None:
        """Show the maps at the latents of these particles.

        Raises
        ------
        KeyError
            If one of them has no latent.
        """
        latents = self._run.latents(self._epoch)
        rows = pd.Index(latents.particle_id).get_indexer(pd.Index(particle_ids))
        if (rows < 0).any():
            missing = particle_ids[int(np.argmax(rows < 0))]
            raise KeyError(f"Got particle id {missing!r}, expected one of run {self._run.folder}. Use one of its ids.")
        table = _points(latents.mu[rows], [str(i) for i in range(1, len(rows) + 1)]).assign(particle_id=particle_ids)
        title = f"map at {particle_ids[0]}" if len(rows) == 1 else f"maps at {len(rows)} particles"
        self.show_points(table, title)

    def show_points(self, table: pd.DataFrame, title: str, *, play: bool = False) -> None:
        """Show the maps at points of the latent space, as of `generate_volumes`; the work is done beside other work.

        Parameters
        ----------
        table
            Columns z1, z2 ...; its index names the maps.
        title
            What it is, for the reader.
        play
            Play the maps when they are there.
        """
        self._wanted, wish = (title, table), _Wish(title=title, table=table, epoch=self._epoch, box_px=self.box_px)
        self._work.ask(lambda outdated: self._decode(wish, outdated, play=play))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was asked for is shown; whether it is."""
        return self._work.wait(timeout)

    @traitlets.validate("box_px")
    def _possible(self, proposal: dict) -> int:
        box_px, own = int(proposal["value"]), int(self._run.settings["box_px"])
        if box_px != own and (box_px % 2 or not 8 <= box_px <= own):
            raise ValueError(
                f"Got box {box_px}, expected an even number from 8 to {own}, the box of the run's images in pixels. "
                "Choose another box."
            )
        return box_px

    def _choose_box(self, change: dict) -> None:
        if change["new"] is not None:
            self.box_px = change["new"]

    def _offer_box(self, change: dict | None = None) -> None:
        """Have the choice say what is set, which may be a box that it did not offer."""
        self._size.unobserve(self._choose_box, "value")  # new options choose the first of them
        if self.box_px not in self._size.options:
            self._size.options = sorted({*self._size.options, self.box_px})
        self._size.value = self.box_px
        self._size.observe(self._choose_box, "value")

    @traitlets.observe("box_px")
    def _again(self, change: dict | None = None) -> None:
        if self._wanted is not None:
            title, table = self._wanted
            self.show_points(table, title)

    def _decode(self, wish: _Wish, outdated: Outdated, *, play: bool) -> None:
        self.set_trait("message", f"decoding the {wish.title} ...")
        large = len(wish.table) == 1 and self._run.kind != "linear" and wish.box_px > QUICK_BOX
        if large and self._drawn != (id(wish.table), wish.epoch):
            if not self._show(replace(wish, box_px=QUICK_BOX), outdated):
                return
            self.set_trait("message", f"decoding the {wish.title} ... (shown at {QUICK_BOX} px)")
        if not self._show(wish, outdated):
            return
        self.set_trait("message", "")
        if play and self.viewer is not None:
            self.viewer.play()

    def _show(self, wish: _Wish, outdated: Outdated) -> bool:
        """Decode maps and show them, unless they are outdated by then; whether they are shown."""
        found = self._maps(wish, outdated)
        if found is None:
            return False
        decoder, maps = found
        stack = VolumeStack(maps=np.stack(maps), voxel_size_angst=decoder.voxel_size_angst, labels=wish.table)
        if self.viewer is None:
            self.viewer = VolumeViewer(stack, height=self._height)
            self._place.children = [self.viewer]
        else:
            self.viewer.pause()
            self.viewer.show(stack)
        self._drawn = id(wish.table), wish.epoch
        self.set_trait("title", wish.title)
        return True

    def _maps(self, wish: _Wish, outdated: Outdated) -> tuple[MapDecoder, list[Float32[np.ndarray, "d d d"]]] | None:
        """The maps and what decoded them; None once they are outdated."""
        points = wish.table[[f"z{i + 1}" for i in range(self._run.z_dim)]].to_numpy(np.float32)
        maps: list[Float32[np.ndarray, "d d d"]] = []
        for i, point in enumerate(points):
            if outdated():
                return None
            if len(points) > 1:
                self.set_trait("message", f"decoding map {i + 1} of {len(points)} of the {wish.title} ...")
            maps.append(self._decoder(wish.epoch, wish.box_px)(point[None])[0])
        return None if outdated() else (self._decoder(wish.epoch, wish.box_px), maps)

    def _decoder(self, epoch: int | None, box_px: int) -> MapDecoder:
        """The decoder of an epoch; those of this size and of large maps' first sight are kept."""
        if (epoch, box_px) not in self._decoders:
            kept = {(epoch, QUICK_BOX), (epoch, self.box_px)}
            self._decoders = {key: decoder for key, decoder in self._decoders.items() if key in kept}
            self._decoders[epoch, box_px] = MapDecoder(self._run, epoch, box_px=box_px)
        return self._decoders[epoch, box_px]


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What was asked for, as it was then."""

    title: str
    table: pd.DataFrame
    epoch: int | None
    box_px: int


def _points(values: np.ndarray, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[f"z{i + 1}" for i in range(values.shape[1])], index=names)
