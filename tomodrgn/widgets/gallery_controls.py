"""Controls of the VolumeGallery: level, ticks and labels above the tiles; particles and files below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets

from tomodrgn.widgets.in_place import shown_in, told

__all__ = ["GalleryControls", "gallery_controls"]


@dataclass(frozen=True, kw_only=True)
class GalleryControls:
    """The widgets, and those of them that change with the gallery."""

    above: ipywidgets.Widget
    below: ipywidgets.Widget
    level: ipywidgets.FloatSlider
    quick: ipywidgets.HBox
    used: ipywidgets.Dropdown
    act: Callable[[Callable[[], Any]], None]

    def renew(self, gallery: Any) -> None:
        """Have a button for each quick label, and list the labels that are used."""
        names = [str(name) for name in gallery.quick_labels]
        if [button.description for button in self.quick.children] != names:
            self.quick.children = tuple(self._quick_button(gallery, name) for name in names)
        found = sorted(set(gallery.labels.values()))
        if list(self.used.options) != found:
            kept = self.used.value
            self.used.options = found
            self.used.value = kept if kept in found else found[0] if found else None

    def _quick_button(self, gallery: Any, name: str) -> ipywidgets.Button:
        return _button(name, f"Label the ticked maps {name}", lambda: gallery.label_ticked(name), act=self.act)


def _keeping(gallery: Any, used: ipywidgets.Dropdown, button: Callable[..., ipywidgets.Button]) -> list[Any]:
    """Controls that keep labels in the run and in STAR files."""
    star = ipywidgets.Text(placeholder="file.star", layout={"width": "260px"})
    replace = ipywidgets.Checkbox(description="replace files", indent=False, layout={"width": "120px"})
    only = ipywidgets.Checkbox(description="only that label", indent=False, layout={"width": "140px"})
    _name({"star-path": star, "replace": replace, "only-label": only})

    def write() -> None:
        if not star.value.strip():
            raise ValueError("Got no name of a file, expected one. Type it beside the button.")
        gallery.write_star(star.value.strip(), only=used.value if only.value else None, overwrite=replace.value)

    return [
        button("Save labels", "Keep the labels in the run", lambda: gallery.save(overwrite=replace.value)),
        button("Load labels", "Take the labels of the run", gallery.load),
        star,
        button("Write STAR", "Write the particles of the run with their labels", write),
        only,
        replace,
    ]


def _name(controls: dict[str, ipywidgets.Widget]) -> None:
    for name, control in controls.items():
        control.add_class(f"tomodrgn-{name}")


def gallery_controls(gallery: Any) -> GalleryControls:
    """Controls, linked to the traits of a gallery; what goes wrong is told in its message."""

    def act(work: Callable[[], Any]) -> None:
        try:
            work()
        except (KeyError, OSError, ValueError) as error:
            gallery._tell(told(error))

    wrap = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
    level = ipywidgets.FloatSlider(
        step=0.1, description="level (σ)", readout_format=".1f", min=-1e9, max=1e9, value=gallery.level
    )
    label = ipywidgets.Text(placeholder="label, such as 50S", continuous_update=False, layout={"width": "160px"})
    quick = ipywidgets.HBox()
    used = ipywidgets.Dropdown(options=[], layout={"width": "140px"})
    note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
    _name({"gallery-level": level, "label": label, "gallery-note": note, "used-label": used, "quick-labels": quick})
    ipywidgets.link((gallery, "level"), (level, "value"))
    ipywidgets.link((gallery, "label"), (label, "value"))
    ipywidgets.dlink((gallery, "message"), (note, "value"), shown_in)

    def button(text: str, tooltip: str, work: Callable[[], Any], *, width: str = "auto") -> ipywidgets.Button:
        return _button(text, tooltip, work, act=act, width=width)

    above = [
        level,
        button("Tick all", "Tick all maps", lambda: gallery.tick(gallery.tiles)),
        button("Tick none", "Tick no map", lambda: gallery.tick(())),
        label,
        button("Label ticked", "Give this label to the ticked maps", lambda: gallery.label_ticked(label.value)),
        quick,
        button("Unlabel", "Take the labels of the ticked maps away", lambda: gallery.label_ticked("")),
        *([] if gallery.run is None else [button("Stop", "End the making of maps", gallery.stop)]),
    ]
    choose = [
        button("Choose ticked", "Choose the particles of the ticked maps", gallery.choose_ticked),
        button("Choose label", "Choose the particles of this label", lambda: gallery.choose_label(used.value or "")),
        used,
    ]
    rows = [ipywidgets.HBox(choose, layout=wrap)]
    rows += [] if gallery.run is None else [ipywidgets.HBox(_keeping(gallery, used, button), layout=wrap)]
    return GalleryControls(
        above=ipywidgets.VBox([ipywidgets.HBox(above, layout=wrap), note]),
        below=ipywidgets.VBox(rows),
        level=level,
        quick=quick,
        used=used,
        act=act,
    )


def _button(
    text: str, tooltip: str, work: Callable[[], Any], *, act: Callable[[Callable[[], Any]], None], width: str = "auto"
) -> ipywidgets.Button:
    made = ipywidgets.Button(description=text, tooltip=tooltip, layout=ipywidgets.Layout(width=width))
    made.add_class(f"tomodrgn-{text.lower().replace(' ', '-')}")
    made.on_click(lambda _: act(work))
    return made
