"""How long a person waits: lasso to Python, colours, and from a click to the map on screen; in a real JupyterLab.

    python tests/benchmarks/interaction.py [--particles 25000 200000 500000] [--boxes 32 64 128] [--out FILE]

The lasso and the colours are those of a LatentExplorer of a run with so many particles (a small linear run whose table
and latents are repeated with other names and a little noise). The click is one of the mouse on a point of a run of 40
particles, linear or VAE with the sizes of the defaults; the page tells when the button goes up and when the surface
of the new map is drawn to the last pixel, which a browser without a graphics card does on the processor. The kernel
has all threads. Seconds are the least of three; of five clicks the least and the median, and the median to
the first sight of a map, which may be a smaller one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from common import machine, print_rows, write_json
from playwright.sync_api import sync_playwright

import tomodrgn as td
from tomodrgn.io.star import read_star, write_star
from tomodrgn.particles.latents import Latents

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the driver of the browser tests
from tests.browser.lab import CHROMIUM_FLAGS, Notebook, cells_notebook, open_in_lab, running_lab
from tests.browser.test_explorer import lonely, places

REPEATS = 3
EXPLORER = """
import json, time
import tomodrgn as td
stamps = []
explorer = td.widgets.LatentExplorer({run!r}, maps={maps})
explorer.selection.observe(lambda change: stamps.append(time.time()), names="particle_ids")
explorer
"""
RENDERER = """() => { const gl = document.createElement('canvas').getContext('webgl2');
    const info = gl && gl.getExtension('WEBGL_debug_renderer_info');
    return info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : 'none'; }"""
# When the mouse button went up last, and when surfaces that came to the graphics card after it were drawn.
WATCH = """
const watched = (window.tomodrgnWatch = {});
window.addEventListener('mouseup', () => { watched.up = performance.now(); watched.drawn = []; }, true);
const card = WebGL2RenderingContext.prototype;
const ofMap = (gl) => gl.canvas.closest?.('.tomodrgn-map');
const { bufferData } = card;
card.bufferData = function (target, data, ...rest) {
    if (data?.byteLength > 1000 && ofMap(this)) this.tomodrgnFresh = true;
    return bufferData.call(this, target, data, ...rest);
};
for (const name of ['drawElements', 'drawArrays']) {
    const draw = card[name];
    card[name] = function (...given) {
        draw.apply(this, given);
        if (!this.tomodrgnFresh) return;
        this.tomodrgnFresh = false;
        queueMicrotask(() => {  // the picture is whole then; to read a pixel waits for it
            this.readPixels(0, 0, 1, 1, this.RGBA, this.UNSIGNED_BYTE, new Uint8Array(4));
            watched.drawn?.push(performance.now());
        });
    };
}
"""
CORNERS = [(0.3, 0.05), (0.95, 0.05), (0.95, 0.95), (0.3, 0.95), (0.3, 0.3)]


def many(small: td.Run, folder: Path, n_particles: int) -> Path:
    """A run folder of so many particles, made of those of a small run again and again."""
    shutil.copytree(small.folder, folder)
    blocks = read_star(folder / "particles.star")
    rows, name = blocks["particles"], "rlnTomoParticleName"
    latents = small.latents()
    picked = np.arange(n_particles) % len(rows)
    table = rows.iloc[picked].reset_index(drop=True)
    table[name] = [f"{tomogram}/{i}" for i, tomogram in enumerate(table["rlnTomoName"])]
    # The names given at the first reading are made anew at the next.
    table = table.drop(columns=[column for column in table if column.startswith("tomodrgn")])
    write_star(folder / "particles.star", {**blocks, "particles": table}, overwrite=True)
    ids = td.Run.open(folder).particles_without_images.particle_id
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(n_particles, latents.z_dim)).astype(np.float32)
    rows_of = pd.Index(latents.particle_id).get_indexer(rows_ids(small))
    mu = latents.mu[rows_of[picked]] + noise
    logvar = latents.logvar[rows_of[picked]]
    epoch = td.Run.open(folder).epoch_folder()
    Latents(particle_id=ids, mu=mu, logvar=logvar).save(epoch / "latents.npz", overwrite=True)
    return folder


def rows_ids(run: td.Run) -> np.ndarray:
    """Ids in the order of the rows of the table."""
    return run.particles_without_images.particle_id


def least(measure: Callable[[], float]) -> float:
    """The least of several."""
    return min(measure() for _ in range(REPEATS))


def lasso_seconds(view: Notebook) -> float:
    """From the mouse button's release to the callback in Python."""
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    view.ask("[explorer.selection.clear(), stamps.clear()]")
    box = canvas.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in CORNERS]
    view.page.mouse.move(*points[0])
    view.page.mouse.down()
    for point in points[1:]:
        view.page.mouse.move(*point, steps=12)
    began = time.time()
    view.page.mouse.up()
    view.until(lambda: int(view.ask("len(stamps)")), lambda n: n > 0, 120)
    return float(view.ask("stamps[0]")) - began


def until_changed(view: Notebook, canvas, act: Callable[[], object]) -> float:
    """From a deed to other pixels in a picture that was still before."""
    before = view.picture(canvas)
    began = time.time()
    act()
    while True:
        picture = view.picture(canvas)
        if (np.abs(picture.astype(int) - before).max(axis=-1) > 24).mean() > 0.002:
            return time.time() - began
        if time.time() - began > 120:
            raise TimeoutError("Got no change in the picture in two minutes.")


def measure_scatter(view: Notebook, n_particles: int) -> dict[str, object]:
    """Lasso and colours of one explorer."""
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=180_000)
    view.page.wait_for_timeout(3000)
    lasso = least(lambda: lasso_seconds(view))
    chosen = int(view.ask("len(explorer.selection)"))
    view.ask("explorer.selection.clear()")
    view.page.wait_for_timeout(3000)
    colours = ["PC2", "rlnTomoName", "PC1"]
    recolour = min(
        until_changed(view, canvas, lambda name=name: view.choose("tomodrgn-colour", name)) for name in colours
    )
    return {"particles": n_particles, "chosen": chosen, "lasso to Python (s)": lasso, "recolour (s)": recolour}


def measure_click(view: Notebook, model: str, box_px: int) -> dict[str, object]:
    """From a click on a point to its map on screen: to the first sight of it, and to its full size."""
    canvas = view.page.locator(".tomodrgn-scatter canvas").first
    view.page.locator(".tomodrgn-map canvas").first.wait_for(timeout=180_000)
    view.ask(f"[setattr(explorer.maps, 'box_px', {box_px}), explorer.maps.wait(120)]")
    view.page.wait_for_timeout(3000)
    where = places(view, canvas)

    def clicked(name: str) -> tuple[float, float]:
        view.page.mouse.move(*where[name], steps=4)
        view.page.wait_for_timeout(1500)  # the scatter finds the point under the mouse, and all is still
        view.page.mouse.click(*where[name])
        view.page.wait_for_function("tomodrgnWatch.drawn.length > 0", timeout=120_000)
        view.ask("explorer.maps.wait(120)")
        view.page.wait_for_timeout(2000)
        if view.ask("explorer.picked") != name:
            raise RuntimeError(f"Got a click on {view.ask('explorer.picked')!r}, expected {name!r}. Run it again.")
        up, drawn = view.page.evaluate("[tomodrgnWatch.up, tomodrgnWatch.drawn]")
        return (drawn[0] - up) / 1000, (drawn[-1] - up) / 1000

    first, full = np.transpose([clicked(name) for name in lonely(where)[: REPEATS + 2]])
    shown = {f"{name} (s)": float(value) for name, value in (("least", full.min()), ("median", np.median(full)))}
    return {"model": model, "box (px)": box_px, **shown, "first sight, median (s)": float(np.median(first))}


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, nargs="*", default=[25_000, 200_000, 500_000])
    parser.add_argument("--boxes", type=int, nargs="*", default=[32, 64, 128])
    parser.add_argument("--out", type=Path, default=Path("interaction.json"))
    options = parser.parse_args()
    scatter, clicks, renderers = [], [], set[str]()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        work = Path(folder)
        (work / "lab").mkdir()
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=CHROMIUM_FLAGS)
        with running_lab(work / "lab", work / "state", threads=os.cpu_count() or 1) as address:

            def opened(run: Path, *, maps: bool) -> Notebook:
                notebook = cells_notebook(EXPLORER.format(run=str(run), maps=maps))
                view = open_in_lab(
                    browser, (address, work / "lab"), notebook, name="cells.ipynb", shots=work, script=WATCH
                )
                view.run_cells(0, 0, 300)
                renderers.add(view.page.evaluate(RENDERER))
                return view

            small = td.simulate_particles(work / "small", n_particles=200, n_tilts=5, snr=0.3, dialect="warptools")
            linear = td.fit_linear(small, work / "linear", td.LinearConfig(n_components=3))
            for n in options.particles:
                view = opened(many(linear, work / f"many-{n}", n), maps=False)
                scatter.append(measure_scatter(view, n))
                print(scatter[-1], flush=True)
                view.page.context.close()
            for box in options.boxes:
                data = td.simulate_particles(work / f"data-{box}", n_particles=40, n_tilts=5, snr=0.5, box_px=box)
                runs = {
                    "linear": td.fit_linear(data, work / f"linear-{box}", td.LinearConfig(n_components=3)),
                    "VAE": td.train(
                        data,
                        work / f"vae-{box}",
                        model=td.VaeConfig(z_dim=3),
                        training=td.TrainConfig(epochs=1, batch_size=8),
                    ),
                }
                for model, run in runs.items():
                    view = opened(run.folder, maps=True)
                    clicks.append(measure_click(view, model, box))
                    print(clicks[-1], flush=True)
                    view.page.context.close()
    renderer = ", ".join(sorted(renderers))
    print(f"{machine()}; renderer of the browser: {renderer}")
    for rows in (scatter, clicks):
        if rows:
            print_rows(rows)
    write_json(options.out, renderer=renderer, scatter=scatter, clicks=clicks)


if __name__ == "__main__":
    main()
