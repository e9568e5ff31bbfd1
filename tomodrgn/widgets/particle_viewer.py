"""The tilt images of the chosen particles."""

from __future__ import annotations

import ipywidgets
import traitlets

from tomodrgn import plots
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.widgets.selection import Selection

__all__ = ["ParticleViewer"]

MAX_ROWS = 6
# A browser is slow with lists of many thousand names: so many are listed, and any other is found by its name.
MAX_NAMES = 500


class ParticleViewer(ipywidgets.VBox):
    """Tilt images of up to six chosen particles, a row a particle, by rising tilt angle.

    Parameters
    ----------
    particles
        The set.
    selection
        Shared with other views; None makes one of three particles spread over the set.
    n_tilts
        Number of images of each particle, spread evenly over its tilts.

    Attributes
    ----------
    selection
        The chosen particles.
    search
        Names with this text in them are listed; up to 500.
    message
        What went wrong, or is not shown; empty when all is well.
    """

    search = traitlets.Unicode("")
    message = traitlets.Unicode("", read_only=True)

    def __init__(self, particles: ParticleSet, selection: Selection | None = None, *, n_tilts: int = 7) -> None:
        names = [str(name) for name in particles.particle_id]
        spread = dict.fromkeys((0, len(names) // 2, len(names) - 1))
        self.particles, self.n_tilts, self._listing = particles, n_tilts, False
        self.selection = Selection(names, [names[i] for i in spread]) if selection is None else selection
        search = ipywidgets.Text(placeholder="part of a name", continuous_update=False)
        search.add_class("tomodrgn-search")
        self._names = ipywidgets.SelectMultiple(rows=8)
        self._names.add_class("tomodrgn-particles")
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(height="auto", min_width="0"))
        self._note = ipywidgets.Label()
        for control in (search, self._names):
            control.layout.width = "220px"
        side = ipywidgets.VBox([search, self._names, self._note], layout=ipywidgets.Layout(flex="0 0 auto"))
        super().__init__([ipywidgets.HBox([side, self._picture], layout=ipywidgets.Layout(align_items="flex-start"))])
        ipywidgets.link((self, "search"), (search, "value"))
        ipywidgets.dlink((self, "message"), (self._note, "value"))
        self._list_names()
        self._draw()
        self._names.observe(self._picked, names="value")
        self.selection.observe(self._chosen, names="particle_ids")

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the particles in the picture."""
        return self.selection.particle_ids[:MAX_ROWS]

    @traitlets.observe("search")
    def _list_names(self, change: dict | None = None) -> None:
        """List the names that are searched for, the chosen ones first and marked."""
        found = [name for name in self.selection.known_ids if self.search in name]
        marked = [name for name in self.selection.particle_ids if self.search in name]
        self._listing = True
        self._names.options = list(dict.fromkeys([*marked, *found]))[:MAX_NAMES]
        self._mark()
        self._listing = False

    def _mark(self) -> None:
        chosen = set(self.selection.particle_ids)
        self._names.value = tuple(name for name in self._names.options if name in chosen)

    def _picked(self, change: dict) -> None:
        if not self._listing:
            self.selection.set(change["new"])

    def _chosen(self, change: dict) -> None:
        self._listing = True
        self._mark()
        self._listing = False
        self._draw()

    def _draw(self) -> None:
        """Draw what is chosen; an error is shown in place."""
        chosen, shown = len(self.selection), self.shown
        if not shown:
            self._picture.value = b""
            self.set_trait("message", "No particle is chosen.")
            return
        try:
            some = self.particles.subset(shown)
            figure = plots.plot_tilt_images(some, n_particles=len(shown), n_tilts=self.n_tilts)
            self._picture.value = plots.figure_png(figure)
        except (OSError, ValueError) as error:
            self._picture.value = b""
            self.set_trait("message", str(error))
            return
        self.set_trait("message", f"{len(shown)} of {chosen} chosen are shown" if chosen > len(shown) else "")
