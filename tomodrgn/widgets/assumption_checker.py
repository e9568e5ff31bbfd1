"""Compares the flags with which particles were read with what their images say."""

from __future__ import annotations

import html
import threading
from dataclasses import replace

import ipywidgets
import traitlets

from tomodrgn import plots
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.volumes.assumptions import MIN_PARTICLES, AssumptionCheck, compare_assumptions

__all__ = ["AssumptionChecker"]

FLAGS = {
    "ctf_premultiplied": "images are multiplied by their CTF",
    "dose_weighted": "images are dose weighted",
    "invert": "invert the contrast (protein is dark in the images)",
}
COLOURS = {True: "var(--jp-error-color1, #c62828)", False: "var(--jp-success-color1, #2e7d32)"}


class AssumptionChecker(ipywidgets.VBox):
    """Choose flags, press Compare, and read what the images of some particles say about them.

    The comparison runs in a thread, of at most 1,500 images; the notebook is free meanwhile.

    Parameters
    ----------
    particles
        The set as it was read, at least 16 particles; its flags are those chosen at first.
    n_particles
        Number of particles drawn for the comparison; more decide better and take longer.
    seed
        Draws the particles.

    Attributes
    ----------
    ctf_premultiplied, dose_weighted, invert
        The flags chosen now. A change clears the result.
    n_particles
        How many particles are drawn.
    state
        "none", "running", "done" or "failed".
    check
        The result, None before the first.
    message
        What went wrong; empty when all is well.

    Raises
    ------
    ValueError
        If there are fewer than 16 particles.
    """

    ctf_premultiplied = traitlets.Bool()
    dose_weighted = traitlets.Bool()
    invert = traitlets.Bool()
    n_particles = traitlets.Int(100, min=MIN_PARTICLES)
    state = traitlets.Unicode("none", read_only=True)
    check = traitlets.Instance(AssumptionCheck, allow_none=True, read_only=True)
    message = traitlets.Unicode("", read_only=True)

    def __init__(self, particles: ParticleSet, *, n_particles: int = 100, seed: int = 0) -> None:
        if len(particles) < MIN_PARTICLES:
            raise ValueError(
                f"Got {len(particles)} particles, expected at least {MIN_PARTICLES} to judge their flags. Use more."
            )
        self._read, self.seed, self._thread = particles, seed, threading.Thread()
        flags = {name: bool(getattr(particles, name)) for name in FLAGS}
        most = max(MIN_PARTICLES, min(n_particles, len(particles)))
        super().__init__(n_particles=most, **flags)
        self.children = self._build()
        self.observe(self._changed, names=[*FLAGS, "n_particles"])
        self._show()

    def _build(self) -> list[ipywidgets.Widget]:
        self._controls: list[ipywidgets.Widget] = []
        for name, words in FLAGS.items():
            box = ipywidgets.Checkbox(description=words, indent=False, layout=ipywidgets.Layout(width="auto"))
            box.add_class(f"tomodrgn-{name.replace('_', '-')}")
            ipywidgets.link((self, name), (box, "value"))
            self._controls.append(box)
        count = ipywidgets.BoundedIntText(
            min=MIN_PARTICLES, max=len(self._read), description="particles", layout=ipywidgets.Layout(width="180px")
        )
        ipywidgets.link((self, "n_particles"), (count, "value"))
        button = ipywidgets.Button(description="Compare", icon="balance-scale", button_style="primary")
        button.add_class("tomodrgn-compare")
        button.on_click(lambda _: self.compare())
        self._controls += [count, button]
        self._said = ipywidgets.HTML()
        self._said.add_class("tomodrgn-verdict")
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        middle = ipywidgets.Layout(align_items="center")
        return [*self._controls[:3], ipywidgets.HBox([count, button], layout=middle), self._said, self._picture]

    @property
    def settings(self) -> dict[str, bool]:
        """The flags chosen now, as arguments of `read_particles`."""
        return {name: getattr(self, name) for name in FLAGS}

    @property
    def particles(self) -> ParticleSet:
        """The set with the flags chosen now."""
        return replace(
            self._read,
            ctf_premultiplied=self.ctf_premultiplied,
            dose_weighted=self.dose_weighted,
            invert=self.invert,
        )

    def compare(self) -> None:
        """Start the comparison; what the button does. Nothing happens if one is running."""
        if self.state == "running":
            return
        self.set_trait("message", "")
        self.set_trait("check", None)
        self.set_trait("state", "running")
        self._show()
        self._thread = threading.Thread(target=self._work, name="AssumptionChecker")
        self._thread.start()

    def wait(self, seconds: float | None = None) -> AssumptionCheck | None:
        """Wait for the comparison that is running; returns its result, None if there is none yet."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return self.check

    def _work(self) -> None:
        """Compare until the flags are still those that were compared; they may be changed meanwhile."""
        try:
            while self.check is None:
                asked = (self.settings, self.n_particles)
                check = compare_assumptions(self.particles, n_particles=self.n_particles, seed=self.seed)
                picture = plots.figure_png(plots.plot_assumptions(check))
                if asked == (self.settings, self.n_particles):
                    self.set_trait("check", check)
            self._picture.value = picture
            self.set_trait("state", "done")
        except Exception as error:  # whatever it is, its place is beside the button
            self.set_trait("message", str(error))
            self.set_trait("state", "failed")
        self._show()

    def _changed(self, change: dict) -> None:
        if self.state != "running":
            self.set_trait("check", None)
            self.set_trait("state", "none")
            self._show()

    def _show(self) -> None:
        for control in self._controls:
            control.disabled = self.state == "running"
        if self.state != "done":
            self._picture.value = b""
        self._said.value = self._words()

    def _words(self) -> str:
        if self.state == "running":
            return "Backprojecting and comparing…"
        if self.state == "failed":
            return _paragraph(self.message, bad=True)
        if self.check is None:
            return "Press Compare to hear what the images say about these flags."
        check = self.check
        lines = [_paragraph(check.verdict, bad=bool(check.warnings)), _paragraph(check.best_setting)]
        lines += [_paragraph(f"Warning: {warning}", bad=True) for warning in check.warnings]
        return "".join(lines)


def _paragraph(text: str, *, bad: bool | None = None) -> str:
    style = "" if bad is None else f' style="border-left: 4px solid {COLOURS[bad]}; padding-left: 8px"'
    return f"<p{style}>{html.escape(text)}</p>"
