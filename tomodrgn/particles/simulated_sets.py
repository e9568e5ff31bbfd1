"""The STAR files of a simulated acquisition with one row a particle: WarpTools, RELION 5 and NextPYP sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from tomodrgn.particles.acquisition import Acquisition
from tomodrgn.particles.simulated_formats import PARTICLES, SET, TOMOGRAMS
from tomodrgn.particles.simulated_tables import columns_of, particle_names, text_of, user_columns

__all__ = ["set_files"]

Files = dict[str, dict[str, pd.DataFrame]]
RELION_PARTICLES, RELION_TOMOGRAMS = "Extract/job001/particles.star", "Tomograms/job001/tomograms.star"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ORIGIN = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")


def set_files(
    acquisition: Acquisition,
    dialect: str,
    image_names: Sequence[str],
    *,
    box_px: int,
    premultiplied: bool,
    extra_columns: bool,
) -> Files:
    """Names and blocks of the STAR files of an optimisation set.

    WarpTools as of July 2026 (stacks of visible tilts, pixels of the images throughout); RELION 5 with subtomogram
    angles that are not zero, coordinates in angstrom from the centre, a file of tilts for each tomogram, and paths from
    the project's folder; NextPYP's export for RELION 5.

    Parameters
    ----------
    acquisition
        What was recorded.
    dialect
        ``"warptools"``, ``"relion5"`` or ``"nextpyp_relion5"``.
    image_names
        rlnImageName of each particle.
    box_px, premultiplied
        Side of the images, and whether they were multiplied by their CTF.
    extra_columns
        Whether to add the user's columns.
    """
    a = acquisition
    optics = _optics(a, box_px)
    if dialect != "nextpyp_relion5":
        optics["rlnCtfDataAreCtfPremultiplied"] = str(int(premultiplied))
    poses = _relion_poses(a) if dialect == "relion5" else _plain_poses(a)
    series = _series_names(a, dialect)
    particles = {
        "rlnTomoName": np.array(series)[a.tomogram],
        **poses,
        "rlnTomoParticleName": particle_names(a, dialect),
        "rlnOpticsGroup": a.tomogram + 1,
        "rlnImageName": image_names,
        "rlnTomoVisibleFrames": ["[" + ",".join("1" if shown else "0" for shown in row) + "]" for row in a.visible],
        **(user_columns(a, np.arange(len(a.tomogram)), half_sets=True) if extra_columns else {}),
    }
    blocks = {
        "general": _simple(rlnTomoSubTomosAre2DStacks="1"),
        "optics": pd.DataFrame(optics),
        "particles": pd.DataFrame(particles).astype(str),
    }
    tables = {name: _tilt_table(a, i, dialect) for i, name in enumerate(series)}
    tomograms = _tomograms(a, dialect, series, optics)
    if dialect != "relion5":
        named = _simple(rlnTomoParticlesFile=PARTICLES, rlnTomoTomogramsFile=TOMOGRAMS)
        return {PARTICLES: blocks, TOMOGRAMS: {"global": tomograms, **tables}, SET: {"": named}}
    named = _simple(rlnTomoParticlesFile=RELION_PARTICLES, rlnTomoTomogramsFile=RELION_TOMOGRAMS)
    series_files = {_series_file(name): {name: table} for name, table in tables.items()}
    return {
        RELION_PARTICLES: blocks,
        RELION_TOMOGRAMS: {"global": tomograms},
        **series_files,
        "Extract/job001/optimisation_set.star": {"": named},
    }


def _series_names(a: Acquisition, dialect: str) -> list[str]:
    return [f"{name}.tomostar" if dialect == "warptools" else str(name) for name in a.tomograms]


def _series_file(name: str) -> str:
    return f"Tomograms/job001/tilt_series/{name}.star"


def _simple(**values: str) -> pd.DataFrame:
    frame = pd.DataFrame({name: [value] for name, value in values.items()})
    frame.attrs["simple"] = True
    return frame


def _optics(a: Acquisition, box_px: int) -> dict[str, object]:
    """One optics group a tomogram."""
    groups = range(1, len(a.tomograms) + 1)
    return {
        "rlnOpticsGroup": [str(i) for i in groups],
        "rlnOpticsGroupName": [f"opticsGroup{i}" for i in groups],
        **_microscope(a),
        "rlnImageDimensionality": "2",
        "rlnTomoSubtomogramBinning": "1.00000",
        "rlnImagePixelSize": f"{a.pixel_size_angst:.5f}",
        "rlnImageSize": str(box_px),
    }


def _microscope(a: Acquisition) -> dict[str, object]:
    voltage, cs, contrast = a.optics
    return {
        "rlnVoltage": f"{voltage:.3f}",
        "rlnSphericalAberration": f"{cs:.3f}",
        "rlnAmplitudeContrast": f"{contrast:.3f}",
        "rlnTomoTiltSeriesPixelSize": f"{a.pixel_size_angst:.5f}",
    }


def _plain_poses(a: Acquisition) -> dict[str, object]:
    """Coordinates in pixels of the images from the corner, and angles in the tomogram."""
    return {
        "rlnTomoParticleId": np.arange(len(a.tomogram)) + 1,
        **columns_of([f"rlnCoordinate{axis}" for axis in "XYZ"], a.coordinate_px, 6),
        **columns_of(ANGLES, a.euler_deg, 7),
        **columns_of(ORIGIN, a.origin_angst, 6),
    }


def _relion_poses(a: Acquisition) -> dict[str, object]:
    """The same poses as a subtomogram's orientation, drawn at random, and the particle's in it."""
    count = len(a.tomogram)
    subtomogram_deg = Rotation.random(count, rng=np.random.default_rng(count)).as_euler("ZYZ", degrees=True)
    subtomogram = Rotation.from_euler("ZYZ", subtomogram_deg, degrees=True).inv()
    whole = Rotation.from_euler("ZYZ", a.euler_deg, degrees=True).inv()
    particle_deg = (subtomogram.inv() * whole).inv().as_euler("ZYZ", degrees=True)
    centred_angst = (a.coordinate_px - a.size_px / 2) * a.pixel_size_angst
    return {
        **columns_of(SUBTOMOGRAM, subtomogram_deg, 7),
        **columns_of(ANGLES, particle_deg, 7),
        **columns_of([f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"], centred_angst, 6),
        **columns_of(ORIGIN, subtomogram.inv().apply(a.origin_angst), 6),
    }


def _tomograms(a: Acquisition, dialect: str, series: list[str], optics: dict[str, object]) -> pd.DataFrame:
    """The table of tomograms. Defocus rises with depth: hand -1 in Warp's tables, 1 in RELION's."""
    hand = "-1.0" if dialect == "warptools" else "1.0"
    size_x, size_y, size_z = (str(size) for size in a.size_px)
    own: dict[str, object] = {"rlnTomoTiltSeriesName": "dummy_tiltseries.mrc"}
    if dialect == "relion5":
        own = {"rlnTomoTiltSeriesStarFile": [_series_file(name) for name in series]}
    elif dialect == "nextpyp_relion5":
        own = {"rlnTomoTiltSeriesName": [f"Movies/{name}.mrc" for name in series]}
    return pd.DataFrame({
        "rlnTomoName": series, **own, "rlnTomoFrameCount": str(len(a.tilt_deg)), "rlnTomoSizeX": size_x,
        "rlnTomoSizeY": size_y, "rlnTomoSizeZ": size_z, "rlnTomoHand": hand if a.has_ctf else "0.0",
        "rlnOpticsGroupName": optics["rlnOpticsGroupName"], **_microscope(a),
        "rlnTomoImportFractionalDose": f"{a.dose_step_e_per_angst2:.3f}",
    })  # fmt: skip


def _tilt_table(a: Acquisition, tomogram: int, dialect: str) -> pd.DataFrame:
    rotations, cosine = a.tilt_rotations[tomogram], np.cos(np.deg2rad(a.tilt_deg))
    geometry: dict[str, object] = {}
    if dialect == "relion5":
        axis_deg = np.rad2deg(np.arctan2(-rotations[:, 0, 1], rotations[:, 1, 1]))
        angles = np.stack([a.tilt_deg, np.zeros_like(axis_deg), a.tilt_deg, axis_deg], axis=1)
        names = ("rlnTomoNominalStageTiltAngle", "rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
        geometry = {**columns_of(names, angles, 7)}
    else:
        for i, axis in enumerate("XYZ"):
            geometry[f"rlnTomoProj{axis}"] = [f"[{x:.9f},{y:.9f},{z:.9f},0]" for x, y, z in rotations[:, i]]
        geometry["rlnTomoProjW"] = "[0,0,0,1]"
    return pd.DataFrame({
        **geometry, **columns_of(("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), a.defocus[tomogram], 3),
        "rlnPhaseShift": "0.000",
        "rlnCtfScalefactor": text_of(np.ones_like(cosine) if dialect == "nextpyp_relion5" else cosine, 8),
        "rlnMicrographPreExposure": text_of(a.dose_e_per_angst2, 3),
    })  # fmt: skip
