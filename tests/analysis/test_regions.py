"""Regions are where they were asked for: order xyz, angstrom from the centre, soft edges."""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.ensembles import BOX, PLACES, VOXEL, planted_maps
from tomodrgn.analysis.regions import automatic_region, read_region, sphere_region
from tomodrgn.imaging import grid
from tomodrgn.io.mrc import write_volume


def test_sphere_lies_where_it_was_asked_for_in_xyz():
    region = sphere_region(32, 2.0, (10.0, -4.0, 6.0), radius_angst=8.0)
    z, y, x = np.argwhere(region > 0.5).mean(axis=0)
    assert [x, y, z] == pytest.approx([16 + 5, 16 - 2, 16 + 3])
    assert region.sum() == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.05)
    assert (region.min(), region.max()) == (0.0, 1.0)


def test_centred_sphere_is_that_of_the_grid():
    own = sphere_region(32, 1.0, radius_angst=0.7 * 16, edge_angst=0.1 * 16)
    np.testing.assert_allclose(own, grid.soft_spherical_mask(32, 0.7, 0.1).numpy(), atol=1e-5)


def test_automatic_region_covers_what_few_maps_have():
    maps, _ = planted_maps(0, {"knob": 0.1}, n=100, noise=0.02)
    region = automatic_region(maps)
    x, y, z = (round(c / VOXEL) + BOX // 2 for c in PLACES["knob"])
    assert region[z, y, x] > 0.9
    assert region[BOX // 2, BOX // 2, BOX // 2] > 0.9
    assert region[0, 0, 0] == 0
    assert (region > 0).mean() < 0.4


def test_mask_of_a_file_is_cropped_to_the_box_of_the_maps(tmp_path):
    fine = sphere_region(64, 2.0, (20.0, 0.0, 0.0), radius_angst=24.0, edge_angst=16.0)
    write_volume(tmp_path / "mask.mrc", fine, 2.0)
    coarse = read_region(tmp_path / "mask.mrc", 32, 4.0)
    wanted = sphere_region(32, 4.0, (20.0, 0.0, 0.0), radius_angst=24.0, edge_angst=16.0)
    np.testing.assert_allclose(coarse, wanted, atol=0.03)
    np.testing.assert_array_equal(read_region(tmp_path / "mask.mrc", 64, 2.0), fine)


def test_masks_that_do_not_fit_are_refused(tmp_path):
    write_volume(tmp_path / "mask.mrc", np.ones((16, 16, 16), np.float32), 2.0)
    for box, voxel in ((32, 1.0), (16, 3.0), (8, 2.0)):
        with pytest.raises(ValueError, match=r"mask\.mrc of 16 voxels of 2 A, expected the field of the maps"):
            read_region(tmp_path / "mask.mrc", box, voxel)
    write_volume(tmp_path / "empty.mrc", np.zeros((16, 16, 16), np.float32), 2.0)
    with pytest.raises(ValueError, match="greatest value is 0"):
        read_region(tmp_path / "empty.mrc", 16, 2.0)


def test_spheres_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"radius 0\.0 A"):
        sphere_region(16, 2.0, radius_angst=0.0)
    with pytest.raises(ValueError, match="no voxel in a box of 16"):
        sphere_region(16, 2.0, (90.0, 0.0, 0.0), radius_angst=5.0)
