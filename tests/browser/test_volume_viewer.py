"""VolumeViewer and ParticleViewer as a person uses them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tomodrgn.volumes.volume_stack import VolumeStack

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MAPS = """import json, tomodrgn as td
run = td.Run.open({run!r})
centres = td.cluster_latents(run.latents(), 3)
from tomodrgn.analysis.latent_space import cluster_centres
stack = td.generate_volumes(run, cluster_centres(run.latents(), centres))
viewer = td.widgets.VolumeViewer(stack, height=300)
viewer"""


def coloured(picture: np.ndarray) -> int:
    """Number of pixels that are neither grey nor white."""
    return int((np.ptp(picture.astype(int), axis=-1) > 40).sum())


def hues(picture: np.ndarray) -> tuple[int, int]:
    """Number of pixels that are clearly blue, and clearly orange."""
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    return int((blue - red > 50).sum()), int((red - blue > 50).sum())


def test_maps_are_compared_cut_played_and_written(open_cells, linear_run, tmp_path):
    view = open_cells(MAPS.replace("{run!r}", repr(str(linear_run))))
    plots = view.page.locator(".tomodrgn-map canvas:visible")
    first = plots.first
    high = view.until(lambda: coloured(view.picture(first)), lambda n: n > 1000, 60)
    view.shot("viewer-one")

    # The level slider: a lower level is a larger surface.
    level = view.page.locator(".tomodrgn-level .noUi-handle").first
    level.focus()
    for _ in range(12):
        view.page.keyboard.press("ArrowLeft")
    view.until(lambda: coloured(view.picture(first)), lambda n: n > 1.05 * high, 30)
    assert float(view.ask("viewer.level")) < 2.0

    view.choose("tomodrgn-arrangement", "side by side")
    names = view.page.locator(".tomodrgn-compared select")
    names.select_option(["cluster_001", "cluster_002"])
    panels = view.page.locator(".tomodrgn-map:visible")
    view.until(panels.count, lambda n: n == 3, 30)
    for i in range(3):
        view.until(lambda i=i: coloured(view.picture(panels.nth(i))), lambda n: n > 400, 30)
        view.page.get_by_text(f"cluster_{i:03d}", exact=True).locator("visible=true").last.wait_for(timeout=10_000)
    view.shot("viewer-side-by-side")
    # Turning one turns all.
    others = view.picture(panels.nth(2))
    view.lasso(panels.nth(0), [(0.5, 0.5), (0.7, 0.6)])
    view.until(lambda: (view.picture(panels.nth(2)) != others).any(axis=-1).mean(), lambda x: x > 0.02, 30)

    view.choose("tomodrgn-arrangement", "overlay")
    view.until(panels.count, lambda n: n == 1, 30)
    blue, orange = view.until(lambda: hues(view.picture(panels.first)), lambda n: min(n) > 100, 30)
    view.shot("viewer-overlay")

    view.choose("tomodrgn-arrangement", "difference")
    blue, orange = view.until(lambda: hues(view.picture(panels.first)), lambda n: min(n) > 50, 30)
    assert min(blue, orange) > 50
    view.page.get_by_text("cluster_000 minus cluster_001: blue more, orange less").wait_for(timeout=10_000)
    view.shot("viewer-difference")

    view.choose("tomodrgn-arrangement", "one map")
    view.page.locator(".tomodrgn-slices input").check()
    cut = view.page.locator(".tomodrgn-slice-z img").first
    cut.wait_for(timeout=20_000)
    before = view.picture(cut)
    plane = view.page.locator(".tomodrgn-plane-z .noUi-handle")
    plane.focus()
    for _ in range(5):
        view.page.keyboard.press("ArrowRight")
    view.until(lambda: (view.picture(cut) != before).any(axis=-1).mean(), lambda x: x > 0.1, 20)
    assert float(view.ask("viewer.planes.z_angst")) > 0
    view.shot("viewer-slices")
    view.dark()
    view.page.wait_for_timeout(800)
    view.shot("viewer-dark")

    view.page.get_by_text("Export and statistics").click()
    path, note = view.page.locator(".tomodrgn-export-path input"), view.page.locator(".tomodrgn-map-note")
    for name, told in (("maps.gif", "maps.gif"), ("maps.mp4", "maps.mp4"), ("maps", "maps/cluster_000")):
        path.fill(str(tmp_path / name))
        path.press("Tab")
        view.page.locator(".tomodrgn-export").click()
        note.get_by_text(f"wrote {tmp_path / told}").wait_for(timeout=60_000)
    with Image.open(tmp_path / "maps.gif") as movie:
        assert movie.n_frames == 3
    assert (tmp_path / "maps.mp4").stat().st_size > 1000
    assert VolumeStack.open(tmp_path / "maps").names == ["cluster_000", "cluster_001", "cluster_002"]
    view.page.locator(".tomodrgn-export").click()
    note.get_by_text("exists already").or_(note.get_by_text("holds")).first.wait_for(timeout=20_000)
    view.shot("viewer-export")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])


PARTICLES = """import json, tomodrgn as td
viewer = td.widgets.ParticleViewer(run=td.Run.open({run!r}))
viewer"""


def test_predictions_stand_beside_the_images(open_cells, linear_run):
    view = open_cells(PARTICLES.replace("{run!r}", repr(str(linear_run))))
    picture = view.page.locator(".tomodrgn-tilt-images")

    def size() -> list[int]:
        return picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")

    nine = view.until(size, lambda s: s[1] > 300, 60)  # three particles, three views each
    view.shot("particles-predicted")
    names = view.page.locator(".tomodrgn-particles select")
    names.select_option(names.locator("option").nth(1).inner_text())
    view.until(size, lambda s: s[1] < 0.4 * nine[1], 30)
    view.page.locator(".tomodrgn-views select").select_option(["raw", "CTF-flipped", "prediction", "residual"])
    view.until(size, lambda s: s[1] > 0.4 * nine[1], 30)
    view.choose("tomodrgn-tilt-arrangement", "one tilt")
    view.until(size, lambda s: s[0] < nine[0], 30)
    before = view.picture(picture)
    view.page.locator(".tomodrgn-tilt .noUi-handle").focus()
    for _ in range(3):
        view.page.keyboard.press("ArrowRight")
    view.until(lambda: view.ask("viewer.tilt"), lambda t: t == "3", 20)
    view.until(lambda: (view.picture(picture) != before).any(axis=-1).mean(), lambda x: x > 0.2, 20)
    assert json.loads(view.ask("json.dumps(viewer.views)")) == ["raw", "CTF-flipped", "prediction", "residual"]
    view.dark()
    view.page.wait_for_timeout(800)
    view.shot("particles-dark")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
