"""Controls of the LatentExplorer, each linked to one of its traits, and where they are."""

from __future__ import annotations

from typing import Any

import ipywidgets

from tomodrgn.widgets.in_place import shown_in

__all__ = ["axis_controls", "click_controls", "explorer_layout", "style_controls"]

NARROW = {"description_width": "50px"}


FOLDS = ("Style", "Histogram of a column", "Table of the chosen particles", "Three columns")


def explorer_layout(explorer: Any) -> list[ipywidgets.Widget]:
    """Where everything is: axes, points beside maps, what is chosen, and folds."""
    note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
    note.add_class("tomodrgn-explorer-note")
    ipywidgets.dlink((explorer, "message"), (note, "value"), shown_in)
    parts = [style_controls(explorer), explorer.histogram, explorer.chosen_table, explorer.space]
    folded = ipywidgets.Accordion(parts, titles=FOLDS, selected_index=None)
    folded.add_class("tomodrgn-folds")
    for number, part in ((1, explorer.histogram), (2, explorer.chosen_table)):
        ipywidgets.dlink((folded, "selected_index"), (part, "active"), lambda opened, number=number: opened == number)
    wrap = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
    clicks = [*click_controls(explorer), note] if explorer.maps is not None else [note]
    half = {"flex": "1 1 420px", "min_width": "300px"}
    points = ipywidgets.VBox(
        [explorer.scatter.show(), ipywidgets.HBox(clicks, layout=wrap)], layout=ipywidgets.Layout(**half)
    )
    pictures = [points]
    if explorer.maps is not None:
        explorer.maps.layout = ipywidgets.Layout(**half)
        pictures.append(explorer.maps)
    return [
        ipywidgets.HBox([*explorer._axes, explorer._umap_button], layout=wrap),
        ipywidgets.HBox(pictures, layout=ipywidgets.Layout(flex_flow="row wrap")),
        explorer.chooser,
        explorer.bar,
        folded,
    ]


def axis_controls(explorer: Any) -> list[ipywidgets.Dropdown]:
    """What is on the axes, and what colours the points."""
    controls = []
    for name, options in (("x", explorer.axes), ("y", explorer.axes), ("colour", explorer.colours)):
        choice = ipywidgets.Dropdown(options=options, description=name, layout={"width": "240px"}, style=NARROW)
        choice.add_class(f"tomodrgn-{name}")
        ipywidgets.link((explorer, name), (choice, "value"))
        controls.append(choice)
    return controls


def click_controls(explorer: Any) -> list[ipywidgets.Widget]:
    """What a click does, and the kind of path."""
    controls: list[ipywidgets.Widget] = []
    for name, label, width in (("click", "a click", "210px"), ("path_kind", "path", "210px")):
        choice = ipywidgets.Dropdown(
            options=explorer.traits()[name].values, description=label, layout={"width": width}, style=NARROW
        )
        choice.add_class(f"tomodrgn-{name.replace('_', '-')}")
        ipywidgets.link((explorer, name), (choice, "value"))
        controls.append(choice)
    number = ipywidgets.BoundedIntText(min=2, max=100, description="maps", layout={"width": "120px"}, style=NARROW)
    ipywidgets.link((explorer, "path_points"), (number, "value"))
    return [*controls, number]


def style_controls(explorer: Any) -> ipywidgets.VBox:
    """Size, opacity, range of colours, what the mouse tells, and the epoch."""
    size = ipywidgets.FloatSlider(min=0.5, max=30, step=0.5, description="size (px)")
    opacity = ipywidgets.FloatSlider(min=0.02, max=1, step=0.02, description="opacity")
    density = ipywidgets.Checkbox(description="fade where points are crowded", indent=False)
    logarithm = ipywidgets.Checkbox(description="logarithm of colours", indent=False)
    limits = ipywidgets.Text(
        placeholder="lowest, highest (empty: all)", description="colours from", continuous_update=False
    )
    hover = ipywidgets.SelectMultiple(options=[str(name) for name in explorer.table], rows=5, description="mouse tells")
    found = explorer.run.epochs
    epochs = ipywidgets.SelectionSlider(
        options=found or [explorer.epoch], value=explorer.epoch, description="epoch", continuous_update=False
    )
    named = {
        "size": size, "opacity": opacity, "density": density, "log-colour": logarithm, "colour-limits": limits,
        "hover": hover, "epoch": epochs,
    }  # fmt: skip
    for name, control in named.items():
        control.add_class(f"tomodrgn-{name}")
    for name, control in (("size", size), ("opacity", opacity), ("density", density), ("epoch", epochs)):
        ipywidgets.link((explorer, name), (control, "value"))
    ipywidgets.link((explorer, "log_colour"), (logarithm, "value"))
    ipywidgets.link((explorer, "hover"), (hover, "value"))
    ipywidgets.link((explorer, "colour_limits"), (limits, "value"), transform=(_as_text, _as_numbers))
    return ipywidgets.VBox(
        [
            ipywidgets.HBox([size, opacity, density], layout={"flex_flow": "row wrap"}),
            ipywidgets.HBox([limits, logarithm], layout={"flex_flow": "row wrap"}),
            ipywidgets.HBox([hover, epochs], layout={"flex_flow": "row wrap"}),
        ]
    )


def _as_text(limits: tuple[float, ...]) -> str:
    return ", ".join(f"{x:g}" for x in limits)


def _as_numbers(text: str) -> tuple[float, ...]:
    """Two numbers, or none where there are not two."""
    try:
        numbers = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        return ()
    return numbers if len(numbers) == 2 else ()
