"""Controls of the TomogramViewer: each is linked to one of its traits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets

from tomodrgn.particles.tomogram_slab import PLANES, TomogramVolume

__all__ = ["MODES", "OUTSIDE", "match_text", "place_controls", "style_controls"]

MODES = ("slices", "3-D")
OUTSIDE = ("faint", "hidden")

NARROW = {"description_width": "70px"}


def place_controls(viewer: Any) -> tuple[list[ipywidgets.Widget], ipywidgets.FloatSlider]:
    """Which tomogram, which plane, and where; and the slider through the tomogram."""
    controls: list[ipywidgets.Widget] = []
    for name, options, label, width in (
        ("tomogram", viewer.tomograms, "tomogram", "260px"),
        ("mode", MODES, "shown as", "170px"),
        ("plane", tuple(PLANES), "plane", "140px"),
        ("colour", viewer.colours, "colour", "260px"),
    ):
        choice = ipywidgets.Dropdown(options=options, description=label, layout={"width": width}, style=NARROW)
        controls.append(_linked(viewer, name, choice))
    centre = ipywidgets.FloatSlider(
        description="centre (Å)", min=-1e9, max=1e9, readout_format=".0f", layout={"flex": "1 1 320px"}, style=NARROW
    )
    _linked(viewer, "centre_angst", centre)
    return controls, centre


def style_controls(viewer: Any) -> list[ipywidgets.Widget]:
    """Thickness, contrast, the particles elsewhere, and whether a lasso adds."""
    thickness = ipywidgets.BoundedFloatText(
        description="thickness (Å)", min=0, max=1e6, step=10, layout={"width": "190px"},
        style={"description_width": "90px"},
    )  # fmt: skip
    contrast = ipywidgets.Text(
        description="black, white", placeholder="automatic", continuous_update=False, layout={"width": "240px"},
        style={"description_width": "90px"},
    )  # fmt: skip
    contrast.tooltip = "Two densities; the greater first inverts the picture"
    contrast.add_class("tomodrgn-tomogram-contrast")
    ipywidgets.link((viewer, "contrast"), (contrast, "value"), transform=(_as_text, _as_numbers))
    outside = ipywidgets.Dropdown(
        options=OUTSIDE, description="outside the slab", layout={"width": "210px"},
        style={"description_width": "105px"},
    )  # fmt: skip
    adding = ipywidgets.Checkbox(description="add to the choice", indent=False, layout={"width": "150px"})
    return [
        _linked(viewer, "thickness_angst", thickness),
        contrast,
        _linked(viewer, "outside", outside),
        _linked(viewer, "adding", adding),
    ]


def _linked(viewer: Any, name: str, control: ipywidgets.Widget) -> ipywidgets.Widget:
    control.add_class(f"tomodrgn-tomogram-{name.removesuffix('_angst')}")
    ipywidgets.link((viewer, name), (control, "value"))
    return control


def _as_text(limits: tuple[float, ...]) -> str:
    return ", ".join(f"{x:g}" for x in limits)


def _as_numbers(text: str) -> tuple[float, ...]:
    """Two numbers, or none where there are not two."""
    try:
        numbers = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        return ()
    return numbers if len(numbers) == 2 else ()


def match_text(name: str, n_particles: int, row: Mapping[Any, Any], volume: TomogramVolume | None) -> str:
    """Which file is shown for a tomogram, and how it was found; `row` is from `TomogramFiles.table`."""
    text = f"{name}: {n_particles} particles; "
    if volume is None:
        return f"{text}{'a volume that cannot be read' if row['problem'] else 'no volume'}."
    size = " × ".join(str(side) for side in volume.size_xyz)
    text += f"{volume.path.name} ({row['match']}), {size} voxels of {volume.voxel_size_angst:g} Å"
    return text + (f"; {row['others']} would fit as well." if row["others"] else ".")
