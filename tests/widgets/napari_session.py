"""What a person does in napari, run under a display of its own; what was seen goes to a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tomodrgn as td
from tomodrgn.analysis.mapback import map_back
from tomodrgn.widgets.selection import Selection


def look(viewer: Any, kind: str) -> np.ndarray:
    """The picture with layers of one kind only."""
    for layer in viewer.layers:
        layer.visible = type(layer).__name__ == kind
    viewer.reset_view()
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def main(run_folder: str, volumes: str, out: str) -> None:
    run = td.Run.open(run_folder)
    placed = map_back(run, f"{out}/placed", maps="class", overwrite=True)
    selection = Selection(run.table().index.astype(str))
    view = td.widgets.open_in_napari(
        run,
        maps=td.generate_volumes(run, run.latents().mu[:1]),
        tomogram="TS_002.tomostar",
        tomograms=volumes,
        placed=placed,
        selection=selection,
        colour_by="z1",
    )
    viewer = view.viewer
    points = viewer.layers["particles"]
    names = points.features["particle_id"].tolist()
    seen: dict[str, object] = {"layers": {layer.name: type(layer).__name__ for layer in viewer.layers}, "names": names}
    seen |= {"places": points.data.tolist(), "features": list(points.features), "z1": points.features["z1"].tolist()}
    seen["vectors"] = viewer.layers["directions"].data.tolist()
    tomogram = viewer.layers["tomogram TS_002.tomostar"]
    seen["tomogram"] = {"scale": tomogram.scale.tolist(), "shape": list(tomogram.data.shape)}
    surface = next(layer for layer in viewer.layers if type(layer).__name__ == "Surface")
    corners = surface.data[0]
    seen["surface"] = {"low": corners.min(axis=0).tolist(), "high": corners.max(axis=0).tolist()}
    seen["triangles"] = len(surface.data[1])
    changes: list[tuple[str, ...]] = []
    selection.observe(lambda change: changes.append(change["new"]), names="particle_ids")
    points.selected_data = {0, 2}
    seen |= {"chosen in napari": list(selection.particle_ids), "made by": selection.made_by}
    selection.set([names[1], "TS_001/1"])
    seen["chosen elsewhere"] = sorted(int(i) for i in points.selected_data)
    seen["marked"] = np.flatnonzero(points.border_width > 0.2).tolist()
    points.selected_data = {3}
    seen |= {"kept of others": sorted(selection.particle_ids), "changes": len(changes)}
    for kind in ("Surface", "Points", "Image"):
        shot = look(viewer, kind)
        seen[f"colours {kind}"] = len(np.unique(shot.reshape(-1, 3), axis=0))
        seen[f"drawn {kind}"] = float((np.ptp(shot, axis=-1) > 25).mean())
    for layer in viewer.layers:
        layer.visible = not layer.name.startswith("map")
    viewer.reset_view()
    viewer.camera.angles = (20, 30, 40)
    viewer.screenshot(f"{out}/napari.png", canvas_only=False, flash=False)
    view.close()
    Path(out, "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:4])
