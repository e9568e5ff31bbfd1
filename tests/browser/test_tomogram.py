"""The tomogram viewer beside the explorer: a lasso in either marks the same particles in the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tomodrgn as td

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHOSEN = "json.dumps(list(viewer.selection.particle_ids))"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A linear run of 60 particles in four tomograms, and the folder of the volumes of three of them."""
    folder = tmp_path_factory.mktemp("tomograms")
    particles = td.simulate_particles(
        folder / "data", n_particles=60, n_tilts=9, snr=0.3, seed=0, dialect="warptools", tomograms=True
    )
    (folder / "data/reconstruction/TS_004_24.00Apx.mrc").unlink()
    run = td.fit_linear(particles, folder / "run", td.LinearConfig(n_components=3))
    return run.folder, folder / "data/reconstruction"


@pytest.fixture(scope="module")
def real_run(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear run of the real WarpTools set: 40 particles, four tomograms."""
    particles = td.read_particles(
        shared_data / "warptools/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
    )
    return td.fit_linear(particles, tmp_path_factory.mktemp("real") / "run", td.LinearConfig(n_components=2)).folder


def coloured(picture: np.ndarray) -> np.ndarray:
    """Which pixels are neither grey nor white."""
    return np.ptp(picture.astype(int), axis=-1) > 60


def ringed(picture: np.ndarray) -> int:
    """How many pixels have the colour of the marks, #D55E00."""
    return int((np.abs(picture.astype(int) - [213, 94, 0]).max(axis=-1) < 30).sum())


def chosen_around(view, where, names: list[str]) -> list[str]:
    """Draw a lasso around these particles; who is chosen then."""
    before = view.ask(CHOSEN)
    around(view, where, names)
    return json.loads(view.until(lambda: view.ask(CHOSEN), lambda now: now != before, 30))


def around(view, where, names: list[str]) -> None:
    """Draw a lasso around the places of these particles, as a person sees them."""
    view.lasso(where, corners_around(view, where, names))


def corners_around(view, where, names: list[str]) -> list[tuple[float, float]]:
    """A line around the places of these particles, as shares of the width and height of the plot."""
    ranges = json.loads(
        view.ask("json.dumps([list(viewer.picture.figure.layout[a].range) for a in ('xaxis', 'yaxis')])")
    )
    found = f"dict(zip(viewer.positions.particle_id, viewer.positions.position_angst.tolist()))[n] for n in {names}"
    places = json.loads(view.ask(f"json.dumps([{found}])"))
    box = where.bounding_box()
    (x_low, x_high), (y_low, y_high) = ranges
    x = [(p[0] - x_low) / (x_high - x_low) for p in places]
    y = [1 - (p[1] - y_low) / (y_high - y_low) for p in places]
    pad_x, pad_y = 14 / box["width"], 14 / box["height"]
    low, high = (min(x) - pad_x, min(y) - pad_y), (max(x) + pad_x, max(y) + pad_y)
    corners = [low, (high[0], low[1]), high, (low[0], high[1]), (low[0], low[1] + pad_y)]
    return [(float(np.clip(a, 0.003, 0.997)), float(np.clip(b, 0.003, 0.997))) for a, b in corners]


def test_tomogram_and_scatter_choose_together(open_cells, simulated):
    run, volumes = simulated
    view = open_cells(
        "import json, tomodrgn as td",
        f"explorer = td.widgets.LatentExplorer({str(run)!r}, maps=False, height=300)\n"
        f"viewer = td.widgets.TomogramViewer(explorer.run, tomograms={str(volumes)!r}, selection=explorer.selection,"
        " height=420)\nexplorer",
        "viewer",
        seconds=300,
    )
    page = view.page
    plot = page.locator(".tomodrgn-tomogram-picture .nsewdrag").first
    plot.wait_for(timeout=60_000)

    # The second tomogram, which is flat: 300 x 300 x 75 voxels.
    view.choose("tomodrgn-tomogram-tomogram", "TS_002.tomostar")
    page.get_by_text("TS_002_24.00Apx.mrc (same tilt series), 300 × 300 × 75 voxels of 24 Å").wait_for()
    thick = page.locator(".tomodrgn-tomogram-thickness input").first
    thick.fill("600")
    thick.press("Enter")
    view.until(lambda: view.ask("viewer.thickness_angst"), lambda x: float(x) == 600, 20)
    view.until(lambda: len(np.unique(view.picture(plot).reshape(-1, 3), axis=0)), lambda n: n > 150, 30)
    inside = json.loads(view.ask("json.dumps(viewer.shown_ids)"))
    assert len(inside) >= 3
    before = view.picture(plot)
    assert ringed(before) == 0
    view.shot("tomogram")

    # A lasso here marks the scatter.
    found = chosen_around(view, plot, inside[:1])
    assert inside[0] in found
    assert set(found) <= set(inside)
    wanted = sorted(json.loads(view.ask("json.dumps(explorer.selection.positions())")))
    marked = "json.dumps(sorted(int(i) for i in explorer.scatter.widget.selection))"
    assert view.until(lambda: json.loads(view.ask(marked)), lambda rows: rows == wanted, 20) == wanted
    view.until(lambda: ringed(view.picture(plot)), lambda n: n > 30, 20)
    view.shot("tomogram-lasso")

    # In the add mode a second lasso adds.
    page.locator(".tomodrgn-tomogram-adding input").first.check()
    both = chosen_around(view, plot, inside[1:2])
    assert {*found, inside[1]} <= set(both)

    # A choice elsewhere is marked here, and in this tomogram only.
    view.ask(f"explorer.select({[inside[2]]} + [viewer.positions.particle_id[0]])")
    view.until(lambda: view.ask("len(viewer.picture.figure.data[3].x)"), lambda n: n == "1", 20)
    view.until(lambda: ringed(view.picture(plot)), lambda n: 15 < n < 1500, 20)

    # A lasso in the scatter marks the same particles here.
    canvas = page.locator(".tomodrgn-scatter canvas").first
    canvas.scroll_into_view_if_needed()
    view.lasso(canvas, [(0.3, 0.005), (0.995, 0.005), (0.995, 0.995), (0.3, 0.995), (0.3, 0.2)])
    chosen = view.until(lambda: json.loads(view.ask(CHOSEN)), lambda names: len(names) > 5, 20)
    here = json.loads(view.ask("json.dumps([viewer._own().particle_id[i] for i in viewer._rows])"))
    n_marked = len(set(chosen) & set(here))
    assert view.until(lambda: int(view.ask("len(viewer.picture.figure.data[3].x)")), lambda n: n == n_marked, 20)
    view.until(lambda: ringed(view.picture(plot)), lambda n: n > 100, 20)

    # A column of text recolours, with a legend.
    view.ask("explorer.select([])")
    plain = view.picture(plot)
    view.choose("tomodrgn-tomogram-colour", "userGridSquare")
    view.until(lambda: view.picture(plot), lambda p: (p != plain).any(axis=-1).sum() > 100, 20)
    legend = page.locator(".tomodrgn-tomogram-legend .tomodrgn-legend-entry")
    view.until(legend.all_inner_texts, lambda words: len(words) == 4, 20)
    assert all(word.startswith("square_") for word in legend.all_inner_texts())

    # Planes across: the xz plane is flat.
    view.choose("tomodrgn-tomogram-plane", "xz")
    view.until(lambda: view.ask("viewer.plane"), lambda x: x == "xz", 20)
    view.ask("viewer.wait(30.0)")
    page.wait_for_timeout(1000)
    view.shot("tomogram-xz")
    box = plot.bounding_box()
    assert box["height"] < 0.5 * box["width"]

    # No volume: particles alone, in space; in the dark theme as well.
    view.choose("tomodrgn-tomogram-tomogram", "TS_004.tomostar")
    space = page.locator(".tomodrgn-tomogram-space canvas").first
    space.wait_for(timeout=30_000)
    view.until(lambda: coloured(view.picture(space)).sum(), lambda n: n > 50, 30)
    view.shot("tomogram-space")
    view.dark()
    page.wait_for_timeout(1000)
    view.shot("tomogram-dark")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])


def test_a_lasso_drawn_while_the_kernel_is_busy_counts(open_cells, simulated):
    run, volumes = simulated
    view = open_cells(
        "import json, tomodrgn as td",
        f"explorer = td.widgets.LatentExplorer({str(run)!r}, maps=False, height=300)\n"
        f"viewer = td.widgets.TomogramViewer(explorer.run, tomograms={str(volumes)!r}, selection=explorer.selection,"
        " height=420)\nviewer.thickness_angst = 600\nexplorer",
        "viewer",
        seconds=300,
    )
    plot = view.page.locator(".tomodrgn-tomogram-picture .nsewdrag").first
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    for part in (canvas, plot):
        view.until(lambda part=part: len(np.unique(view.picture(part).reshape(-1, 3), axis=0)), lambda n: n > 20, 60)
    inside = json.loads(view.ask("json.dumps(viewer.shown_ids)"))

    def busy_meanwhile(draw) -> list[str]:
        """Who is chosen by what was drawn while the kernel slept, and the mouse went on to wander."""
        view.keep_busy(20)
        draw()
        for place in ((300, 300), (500, 420), (420, 640), (350, 500)):
            view.page.mouse.move(*place, steps=8)
        assert view.is_busy()
        return json.loads(view.until(lambda: view.ask(CHOSEN), lambda chosen: chosen != "[]", 60))

    plot.scroll_into_view_if_needed()
    corners = corners_around(view, plot, inside[:1])
    found = busy_meanwhile(lambda: view.lasso(plot, corners))
    assert inside[0] in found
    assert set(found) <= set(inside)
    view.ask("explorer.select([])")
    canvas.scroll_into_view_if_needed()
    right = [(0.5, 0.005), (0.995, 0.005), (0.995, 0.995), (0.5, 0.995), (0.5, 0.2)]
    found = busy_meanwhile(lambda: view.lasso(canvas, right))
    values = dict(json.loads(view.ask("json.dumps([*explorer.table[explorer.x].items()])")))
    chosen, rest = [values[name] for name in found], [x for name, x in values.items() if name not in found]
    assert len(chosen) > 5
    assert min(chosen) > max(rest) - 0.1 * (max(values.values()) - min(values.values()))
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])


def test_real_optimisation_set(open_cells, real_run):
    """The WarpTools set: particles of its second tomogram are shown in space, and chosen from a map of places."""
    view = open_cells(
        "import json, tomodrgn as td",
        f"viewer = td.widgets.TomogramViewer({str(real_run)!r}, height=420)\nviewer",
        seconds=300,
    )
    view.page.locator(".tomodrgn-tomogram-space canvas").first.wait_for(timeout=60_000)
    names = json.loads(view.ask("json.dumps(viewer.tomograms)"))
    assert len(names) == 4
    view.choose("tomodrgn-tomogram-tomogram", names[1])
    view.until(lambda: view.ask("viewer.tomogram"), lambda name: name == names[1], 20)
    assert int(view.ask("len(viewer.space.figure.data[0].x)")) == 10
    view.choose("tomodrgn-tomogram-mode", "slices")
    plot = view.page.locator(".tomodrgn-tomogram-picture .nsewdrag").first
    plot.wait_for(timeout=30_000)
    view.ask("setattr(viewer, 'thickness_angst', 1e5)")
    inside = json.loads(view.ask("json.dumps(viewer.shown_ids)"))
    assert len(inside) == 10
    assert set(chosen_around(view, plot, inside)) == set(inside)
    view.shot("tomogram-real")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
