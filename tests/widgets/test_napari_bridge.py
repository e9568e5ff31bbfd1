"""napari under a display in memory: layers, properties, the Selection both ways, pixels; and no display at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tomodrgn as td
from tomodrgn.analysis.mapback import map_back
from tomodrgn.analysis.placed_surfaces import merged_meshes, surface_mesh
from tomodrgn.widgets.napari_bridge import open_in_napari

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[td.Run, Path]:
    """A run of particles in two tomograms, and the folder of their volumes."""
    place = tmp_path_factory.mktemp("napari")
    particles = td.simulate_particles(
        place / "data", n_particles=16, n_tilts=5, n_tomograms=2, box_px=16, pixel_size_angst=16.0, snr=1.0, seed=2,
        dialect="warptools", tomograms=True,
    )  # fmt: skip
    return td.fit_linear(particles, place / "run", td.LinearConfig(n_components=1)), place / "data" / "reconstruction"


@pytest.fixture(scope="module")
def seen(data: tuple[td.Run, Path], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What was seen in a session of napari."""
    out = Path(os.environ.get("TOMODRGN_SCREENSHOTS", tmp_path_factory.mktemp("out")))
    environment = {
        **os.environ, "QT_QPA_PLATFORM": "xcb", "LIBGL_ALWAYS_SOFTWARE": "1", "PYTHONPATH": str(CHECKOUT),
        "NAPARI_CONFIG": str(out / "napari.yaml"),
    }  # fmt: skip
    session = Path(__file__).with_name("napari_session.py")
    done = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 1280x1024x24", sys.executable, str(session), str(data[0].folder),
         str(data[1]), str(out)],
        env=environment, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "seen.json").read_text())


@pytest.mark.napari
@pytest.mark.slow
def test_layers_are_there_and_in_angstrom(seen, data):
    run, _ = data
    own = td.read_positions(run.settings["source"]["path"])
    own = own.take(own.tomogram == "TS_002.tomostar")
    kinds = list(seen["layers"].values())
    assert {"Image", "Points", "Vectors", "Surface"} == set(kinds)
    assert seen["names"] == own.particle_id.tolist()
    np.testing.assert_allclose(seen["places"], own.position_angst[:, ::-1], atol=1e-3)
    table = run.table().loc[own.particle_id]
    assert set(table) <= set(seen["features"])
    np.testing.assert_allclose(seen["z1"], table["z1"])
    vectors = np.array(seen["vectors"])
    np.testing.assert_allclose(vectors[:, 0], own.position_angst[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(vectors[:, 1, ::-1], own.rotations[:, :, 2], atol=1e-5)
    assert seen["tomogram"] == {"scale": [48.0] * 3, "shape": [38, 150, 150]}
    # The surfaces lie about the particles: within half a box of the outermost.
    low, high = own.position_angst[:, ::-1].min(axis=0), own.position_angst[:, ::-1].max(axis=0)
    assert (np.array(seen["surface"]["low"]) > low - 128).all()
    assert (np.array(seen["surface"]["high"]) < high + 128).all()
    assert seen["triangles"] > 100 * len(own)


@pytest.mark.napari
@pytest.mark.slow
def test_the_selection_goes_both_ways(seen):
    names = seen["names"]
    assert set(seen["chosen in napari"]) == {names[0], names[2]}
    assert seen["made by"] == "chosen in napari"
    assert seen["chosen elsewhere"] == seen["marked"] == [1]
    assert set(seen["kept of others"]) == {names[3], "TS_001/1"}
    assert seen["changes"] == 3


@pytest.mark.napari
@pytest.mark.slow
def test_pixels_are_drawn(seen):
    for kind in ("Surface", "Points"):
        assert seen[f"colours {kind}"] > 50
        assert seen[f"drawn {kind}"] > 0.0005
    assert seen["colours Image"] > 50


def test_without_a_display_the_viewer_for_the_notebook_comes(data, monkeypatch, caplog):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    run, volumes = data
    view = open_in_napari(run, tomograms=volumes)
    assert isinstance(view, td.widgets.TomogramViewer)
    assert "napari cannot open a window here (" in caplog.text
    maps = td.generate_volumes(run, run.latents().mu[:1])
    assert isinstance(open_in_napari(maps=maps), td.widgets.VolumeViewer)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    caplog.clear()
    assert isinstance(open_in_napari(run), td.widgets.TomogramViewer)
    assert "Qt draws to no screen (QT_QPA_PLATFORM=offscreen)" in caplog.text
    with pytest.raises(ValueError, match="neither a run nor maps"):
        open_in_napari()


def test_merged_surfaces_are_where_the_matrices_say(data, tmp_path):
    placed = map_back(data[0], tmp_path, maps="one")
    volume = placed.maps.maps[0]
    mesh = surface_mesh(volume, float(volume.mean() + 2 * volume.std()), placed.maps.voxel_size_angst)
    outward = ((mesh.vertices_zyx_angst - mesh.vertices_zyx_angst.mean(axis=0)) * mesh.normals_zyx).sum(axis=1)
    assert (outward > 0).mean() > 0.6
    merged = merged_meshes(mesh, placed.affine_zyx)
    n = len(mesh.vertices_zyx_angst)
    assert len(merged.vertices_zyx_angst) == n * len(placed.table)
    for i in (0, 7):
        matrix = placed.affine[i]
        wanted = mesh.vertices_zyx_angst[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(merged.vertices_zyx_angst[i * n : (i + 1) * n, ::-1], wanted, atol=0.05)
        assert merged.triangles[i * len(mesh.triangles)].tolist() == (mesh.triangles[0] + i * n).tolist()
    with pytest.raises(ValueError, match="Change the level"):
        surface_mesh(volume, 1e9, 1.0)
