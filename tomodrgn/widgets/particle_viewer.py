"""The tilt images of the chosen particles, as recorded and as a run predicts them."""

from __future__ import annotations

from pathlib import Path

import ipywidgets
import numpy as np
import traitlets

from tomodrgn import plots
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.tilt_images import TiltImages, rows_by_tilt, tilt_images
from tomodrgn.training.run import Run
from tomodrgn.volumes.predict import ImagePredictor
from tomodrgn.widgets.in_place import shown_in, told
from tomodrgn.widgets.latest_work import LatestWork, Outdated
from tomodrgn.widgets.selection import Selection

__all__ = ["ParticleViewer"]

MAX_ROWS = 6
# A browser is slow with lists of many thousand names: so many are listed, and any other is found by its name.
MAX_NAMES = 500
VIEWS = ("raw", "low-passed", "CTF-flipped", "prediction", "residual")
ARRANGEMENTS = ("spread over tilts", "one tilt")


class ParticleViewer(ipywidgets.VBox):
    """Tilt images of up to six chosen particles, by rising tilt angle; read and predicted beside other work.

    Parameters
    ----------
    particles
        The set; None takes that of the run.
    selection
        Shared with other views; None makes one of three particles spread over the set.
    run
        A run (or its folder) that has latents of the particles: its predictions can be shown.
    epoch
        Epoch of the run; None is the last.
    n_tilts
        Number of images of each particle where they are spread over its tilts.

    Attributes
    ----------
    selection
        The chosen particles.
    views
        What is shown, of ``"raw"`` (as on disk), ``"low-passed"`` (centred and windowed, as a model sees it),
        ``"CTF-flipped"`` (low-passed, with the sign of the CTF taken out), ``"prediction"`` (what the run says of the
        low-passed image) and ``"residual"`` (their difference). The low-passed one, the prediction and the residual of
        a particle share one grey scale.
    lowpass_angst
        Resolution of all views but the raw one, in angstrom.
    arrangement
        ``"spread over tilts"``: a row a view, seven tilts or `n_tilts`; or ``"one tilt"``: a row a particle, its views
        side by side.
    tilt
        Which tilt is shown then, counted from 0 by rising angle; of a particle of fewer tilts its last.
    search
        Names with this text in them are listed; up to 500.
    message
        What went wrong, is being done, or is not shown; empty when all is well.
    """

    views = traitlets.Tuple(("raw",))
    lowpass_angst = traitlets.Float(min=0.1)
    arrangement = traitlets.Enum(ARRANGEMENTS, default_value=ARRANGEMENTS[0])
    tilt = traitlets.Int(0, min=0)
    search = traitlets.Unicode("")
    message = traitlets.Unicode("", read_only=True)

    def __init__(
        self,
        particles: ParticleSet | None = None,
        selection: Selection | None = None,
        *,
        run: Run | Path | str | None = None,
        epoch: int | None = None,
        n_tilts: int = 7,
    ) -> None:
        self.run = run if run is None or isinstance(run, Run) else Run.open(run)
        if particles is None and self.run is None:
            raise ValueError("Got neither particles nor a run, expected one of them. Give td.read_particles(...).")
        self.particles = particles if particles is not None else self.run.particles  # type: ignore[union-attr]
        names = [str(name) for name in self.particles.particle_id]
        spread = dict.fromkeys((0, len(names) // 2, len(names) - 1))
        self.epoch, self.n_tilts, self._listing = epoch, n_tilts, False
        self._predictor: ImagePredictor | None = None
        self._read: dict[tuple[str, bool], TiltImages] = {}
        self._work = LatestWork("ParticleViewer", self._failed)
        self.selection = Selection(names, [names[i] for i in spread]) if selection is None else selection
        nyquist = 2 * self.particles.pixel_size_angst
        super().__init__(
            lowpass_angst=round(max(20.0, 2.5 * nyquist), 1),
            views=("raw",) if self.run is None else ("low-passed", "prediction", "residual"),
        )
        self.add_class("tomodrgn-particle-viewer")
        self._build()
        self._list_names()
        self._draw()
        self._names.observe(self._picked, names="value")
        self.selection.observe(self._chosen, names="particle_ids")

    def _build(self) -> None:
        search = ipywidgets.Text(placeholder="part of a name", continuous_update=False)
        self._names = ipywidgets.SelectMultiple(rows=8)
        self._views = ipywidgets.SelectMultiple(options=self.possible_views, rows=5)
        arrangement = ipywidgets.Dropdown(options=ARRANGEMENTS)
        narrow = {"description_width": "90px"}
        lowpass = ipywidgets.BoundedFloatText(min=0.1, max=1e4, step=5, description="low-pass (Å)", style=narrow)
        most = max(int(self.particles.tilt_counts.max()) - 1, 1)
        self._slider = ipywidgets.IntSlider(min=0, max=most, description="tilt", style={"description_width": "30px"})
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(height="auto", min_width="0"))
        self._note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
        named = {"search": search, "particles": self._names, "views": self._views, "lowpass": lowpass,
                 "tilt-arrangement": arrangement, "tilt": self._slider}  # fmt: skip
        for name, control in named.items():
            control.add_class(f"tomodrgn-{name}")
            control.layout.width = "220px"
        self._note.layout.width = "220px"
        self._picture.add_class("tomodrgn-tilt-images")
        side = ipywidgets.VBox([*named.values(), self._note], layout=ipywidgets.Layout(flex="0 0 auto"))
        self.children = [ipywidgets.HBox([side, self._picture], layout=ipywidgets.Layout(align_items="flex-start"))]
        ipywidgets.link((self, "search"), (search, "value"))
        ipywidgets.link((self, "views"), (self._views, "value"))
        ipywidgets.link((self, "lowpass_angst"), (lowpass, "value"))
        ipywidgets.link((self, "arrangement"), (arrangement, "value"))
        ipywidgets.link((self, "tilt"), (self._slider, "value"))
        ipywidgets.dlink((self, "message"), (self._note, "value"), shown_in)

    @property
    def possible_views(self) -> tuple[str, ...]:
        """What can be shown: predictions only of a run."""
        return VIEWS if self.run is not None else VIEWS[:3]

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the particles in the picture."""
        return self.selection.particle_ids[:MAX_ROWS]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is drawn; whether it is."""
        return self._work.wait(timeout)

    # --- the list of names ---

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
            self.selection.set(change["new"], made_by="list of particles")

    def _chosen(self, change: dict) -> None:
        self._listing = True
        self._mark()
        self._listing = False
        self._draw()

    # --- the pictures ---

    @traitlets.validate("views")
    def _known(self, proposal: dict) -> tuple[str, ...]:
        wanted = tuple(str(view) for view in proposal["value"])
        for view in wanted:
            if view not in self.possible_views:
                raise ValueError(
                    f"Got view {view!r}, expected some of {self.possible_views}. Predictions need a run: "
                    "ParticleViewer(run=...)."
                )
        return tuple(view for view in VIEWS if view in wanted)

    @traitlets.observe("views", "lowpass_angst", "arrangement", "tilt")
    def _draw(self, change: dict | None = None) -> None:
        if not hasattr(self, "_slider"):
            return
        self._slider.disabled = self.arrangement != ARRANGEMENTS[1]
        self._work.ask(self._make)

    def _make(self, outdated: Outdated) -> None:
        """Work of a thread: read, predict and draw what is chosen."""
        shown, views, chosen = self.shown, self.views, len(self.selection)
        if not shown or not views:
            self._picture.value = b""
            self._tell("Choose what to show." if shown else "No particle is chosen.")
            return
        self._tell("reading ...")
        predicted = any(view in views for view in VIEWS[3:])
        images = {}
        for i, name in enumerate(shown, 1):
            if outdated():
                return
            if predicted and (name, True) not in self._read:
                self._tell(f"predicting particle {i} of {len(shown)} ...")
            images[name] = self._images(name, predicted=predicted)
        self._read = {(name, predicted): found for name, found in images.items()}  # others need not be kept
        drawn = self._one_tilt(images) if self.arrangement == ARRANGEMENTS[1] else self._spread(images)
        if not outdated():
            self._picture.value = drawn
            self._tell(f"{len(shown)} of {chosen} chosen are shown" if chosen > len(shown) else "")

    def _images(self, name: str, *, predicted: bool) -> TiltImages:
        """All tilts of a particle, by rising angle."""
        if (name, predicted) in self._read:
            return self._read[name, predicted]
        particle = int(self.particles.positions_of([name])[0])
        if not predicted or self.run is None:
            return tilt_images(self.particles, rows_by_tilt(self.particles, particle))
        if self._predictor is None:
            self._predictor = ImagePredictor(self.run, self.epoch, particles=self.particles)
        own = self._predictor.particles
        return self._predictor(rows_by_tilt(own, int(own.positions_of([name])[0])))

    def _pictures(self, images: TiltImages) -> dict[str, np.ndarray]:
        """The views of some images, (i, d, d) each."""
        smooth = images.lowpassed(self.lowpass_angst)
        made = {"raw": images.raw, "low-passed": smooth.observed, "CTF-flipped": smooth.flipped}
        if smooth.predicted is not None:
            made |= {"prediction": smooth.predicted, "residual": smooth.residual}
        return {view: made[view] for view in self.views}

    def _spread(self, images: dict[str, TiltImages]) -> bytes:
        rows, titles, heads, scales = [], [], [], []
        for number, (name, own) in enumerate(images.items()):
            some = own.take(np.unique(np.linspace(0, len(own) - 1, min(self.n_tilts, len(own))).astype(int)))
            pictures = self._pictures(some)
            for view, found in pictures.items():
                first = view == self.views[0]
                rows.append(list(found))
                titles.append(_shortened(name) if len(pictures) == 1 else f"{_shortened(name, 14)}\n{view}")
                heads.append(_angles(some) if first else [])
                scales.append(10 * number + _scale(view))
        return plots.figure_png(plots.plot_image_grid(rows, titles, heads, shared=scales))

    def _one_tilt(self, images: dict[str, TiltImages]) -> bytes:
        rows: list[list[np.ndarray]] = []
        titles: list[str] = []
        heads: list[list[str]] = []
        for name, own in images.items():
            some = own.take(np.array([min(self.tilt, len(own) - 1)]))
            pictures = self._pictures(some)
            # Views of different scales stand in one row: each is brought to its own first.
            limits = {scale: _limits([p for v, p in pictures.items() if _scale(v) == scale]) for scale in range(3)}
            row = []
            for view, found in pictures.items():
                low, high = limits[_scale(view)]
                row.append(np.clip((found[0] - low) / (high - low), 0, 1).astype(np.float32))
            rows.append(row)
            titles.append(f"{_shortened(name, 16)}\n{_angles(some)[0]}")
            heads.append(list(pictures) if not heads else [])
        return plots.figure_png(plots.plot_image_grid(rows, titles, heads))

    def _tell(self, message: str) -> None:
        self.set_trait("message", message)

    def _failed(self, error: Exception) -> None:
        self._picture.value = b""
        self._tell(told(error))


def _scale(view: str) -> int:
    """Views of one number share a grey scale."""
    return {"raw": 0, "CTF-flipped": 1}.get(view, 2)


def _limits(pictures: list[np.ndarray]) -> tuple[float, float]:
    if not pictures:
        return 0.0, 1.0
    low, high = np.percentile(np.stack(pictures), [0.5, 99.5])
    return float(low), max(float(high), float(low) + 1e-12)


def _angles(images: TiltImages) -> list[str]:
    return [f"{angle:.0f}°" if np.isfinite(angle) else f"image {i}" for i, angle in enumerate(images.tilt_deg, 1)]


def _shortened(name: str, length: int = 20) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
