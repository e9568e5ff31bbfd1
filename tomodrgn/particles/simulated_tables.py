"""The STAR tables of a simulated acquisition, as Warp v1 and WarpTools write them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from tomodrgn.particles.acquisition import Acquisition

__all__ = ["warp_blocks", "warptools_blocks"]


def warp_blocks(
    acquisition: Acquisition, images: np.ndarray, image_names: list[str], *, premultiplied: bool, extra_columns: bool
) -> dict[str, pd.DataFrame]:
    """Blocks of a Warp v1 image series: one row an image, a particle's images by rising exposure.

    Parameters
    ----------
    acquisition
        What was recorded.
    images
        Numbers of the images in the order of the rows, (n,).
    image_names
        rlnImageName of each row.
    premultiplied
        Written as rlnCtfDataAreCtfPremultiplied where it is True.
    extra_columns
        Whether to add the user's columns.
    """
    a = acquisition
    particle, tilt = a.image_particle[images], a.image_tilt[images]
    euler = Rotation.from_matrix(a.rotations[images].transpose(0, 2, 1)).as_euler("ZYZ", degrees=True)
    voltage, cs, contrast = a.optics
    movies = [
        f"{a.tomograms[a.tomogram[p]]}_{t + 1:03d}_{a.tilt_deg[t]:.1f}.mrc" for p, t in zip(particle, tilt, strict=True)
    ]
    on_image_px = a.centred_angst[images, :2] / a.pixel_size_angst + a.size_px[:2] / 2
    columns: dict[str, object] = {
        "rlnMagnification": "10000",
        "rlnDetectorPixelSize": f"{a.pixel_size_angst:.5f}",
        "rlnVoltage": f"{voltage:.1f}",
        "rlnSphericalAberration": f"{cs:.4f}",
        "rlnAmplitudeContrast": f"{contrast:.3f}",
        "rlnPhaseShift": "0.0",
        **_columns(("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), a.image_defocus[images], 2),
        "rlnImageName": image_names,
        "rlnMicrographName": movies,
        **_columns(("rlnCoordinateX", "rlnCoordinateY"), on_image_px, 5),
        **_columns(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), euler, 5),
        "rlnCtfBfactor": _text(-4 * a.dose_e_per_angst2[tilt], 3),
        "rlnCtfScalefactor": _text(np.cos(np.deg2rad(a.tilt_deg[tilt])), 5),
        "rlnGroupName": np.array(a.particle_names("warp"))[particle],
        **_columns(("rlnOriginX", "rlnOriginY"), a.shifts_px[images], 5),
    }
    if premultiplied:
        columns["rlnCtfDataAreCtfPremultiplied"] = "1"
    return {"": pd.DataFrame(columns | (_user_columns(a, particle) if extra_columns else {})).astype(str)}


def warptools_blocks(
    acquisition: Acquisition, image_names: list[str], *, box_px: int, premultiplied: bool, extra_columns: bool
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Blocks of the particles and the tomograms file of a WarpTools export, as of July 2026 (stacks of visible tilts).

    Parameters
    ----------
    acquisition
        What was recorded.
    image_names
        rlnImageName of each particle.
    box_px, premultiplied
        Side of the images, and whether they were multiplied by their CTF.
    extra_columns
        Whether to add the user's columns.
    """
    a = acquisition
    groups = [f"opticsGroup{i + 1}" for i in range(len(a.tomograms))]
    series = [f"{name}.tomostar" for name in a.tomograms]
    voltage, cs, contrast = a.optics
    microscope = {
        "rlnVoltage": f"{voltage:.3f}",
        "rlnSphericalAberration": f"{cs:.3f}",
        "rlnAmplitudeContrast": f"{contrast:.3f}",
        "rlnTomoTiltSeriesPixelSize": f"{a.pixel_size_angst:.5f}",
    }
    general = pd.DataFrame({"rlnTomoSubTomosAre2DStacks": ["1"]})
    general.attrs["simple"] = True
    optics = pd.DataFrame({
        "rlnOpticsGroup": [str(i + 1) for i in range(len(groups))], "rlnOpticsGroupName": groups, **microscope,
        "rlnCtfDataAreCtfPremultiplied": str(int(premultiplied)), "rlnImageDimensionality": "2",
        "rlnTomoSubtomogramBinning": "1.00000", "rlnImagePixelSize": f"{a.pixel_size_angst:.5f}",
        "rlnImageSize": str(box_px),
    })  # fmt: skip
    masks = ["[" + ",".join("1" if shown else "0" for shown in row) + "]" for row in a.visible]
    names = a.particle_names("warptools")
    particles = pd.DataFrame({
        "rlnTomoName": np.array(series)[a.tomogram], "rlnTomoParticleId": np.arange(len(names)) + 1,
        **_columns([f"rlnCoordinate{axis}" for axis in "XYZ"], a.coordinate_px, 4),
        **_columns(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), a.euler_deg, 5),
        "rlnTomoParticleName": names, "rlnOpticsGroup": a.tomogram + 1, "rlnImageName": image_names,
        **_columns([f"rlnOrigin{axis}Angst" for axis in "XYZ"], a.origin_angst, 4), "rlnTomoVisibleFrames": masks,
        **(_user_columns(a, np.arange(len(names))) if extra_columns else {}),
    })  # fmt: skip
    size_x, size_y, size_z = (str(size) for size in a.size_px)
    dose_step = np.diff(np.sort(a.dose_e_per_angst2)).min(initial=np.inf) if len(a.tilt_deg) > 1 else 0.0
    tomograms = pd.DataFrame({
        "rlnTomoName": series, "rlnTomoTiltSeriesName": "dummy_tiltseries.mrc",
        "rlnTomoFrameCount": str(len(a.tilt_deg)), "rlnTomoSizeX": size_x, "rlnTomoSizeY": size_y,
        "rlnTomoSizeZ": size_z, "rlnTomoHand": "-1.0" if a.has_ctf else "0.0", "rlnOpticsGroupName": groups,
        **microscope, "rlnTomoImportFractionalDose": f"{dose_step:.3f}",
    })  # fmt: skip
    tables = {name: _tilt_table(a, i) for i, name in enumerate(series)}
    blocks = {"general": general, "optics": optics, "particles": particles.astype(str)}
    return blocks, {"global": tomograms, **tables}


def _tilt_table(acquisition: Acquisition, tomogram: int) -> pd.DataFrame:
    rotations = acquisition.tilt_rotations[tomogram]
    rows = {
        f"rlnTomoProj{axis}": [f"[{x:.8f},{y:.8f},{z:.8f},0]" for x, y, z in rotations[:, i]]
        for i, axis in enumerate("XYZ")
    }
    return pd.DataFrame({
        **rows, "rlnTomoProjW": "[0,0,0,1]",
        **_columns(("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), acquisition.defocus[tomogram], 2),
        "rlnPhaseShift": "0.000", "rlnCtfScalefactor": _text(np.cos(np.deg2rad(acquisition.tilt_deg)), 5),
        "rlnMicrographPreExposure": _text(acquisition.dose_e_per_angst2, 3),
    })  # fmt: skip


def _user_columns(acquisition: Acquisition, particles: np.ndarray) -> dict[str, object]:
    """Columns that a user may have added, for the given particles."""
    return {
        "rlnRandomSubset": acquisition.half_set[particles],
        "userGridSquare": acquisition.grid_square[acquisition.tomogram[particles]],
        "userIceThickness": _text(acquisition.ice_thickness_angst[particles], 1),
    }


def _text(values: np.ndarray, digits: int) -> list[str]:
    return [f"{value:.{digits}f}" for value in (values.round(digits) + 0.0).tolist()]  # no -0.0


def _columns(names: tuple[str, ...] | list[str], values: np.ndarray, digits: int) -> dict[str, list[str]]:
    return {name: _text(column, digits) for name, column in zip(names, values.T, strict=True)}
