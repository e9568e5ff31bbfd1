"""The STAR tables of a simulated acquisition with one row an image, as each program writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tomodrgn.imaging.pose import rotation_to_euler
from tomodrgn.particles.acquisition import Acquisition

__all__ = ["SERIES_BLOCKS", "columns_of", "particle_names", "text_of", "user_columns"]

Blocks = dict[str, pd.DataFrame]


def particle_names(acquisition: Acquisition, dialect: str) -> list[str]:
    """The particle_id of each particle in a dialect."""
    tomogram = acquisition.tomogram
    number = (np.arange(len(tomogram)) - np.searchsorted(tomogram, tomogram)).tolist()
    series = acquisition.tomograms[tomogram].tolist()
    if dialect in ("cistem", "emclarity"):
        return [str(i + 1) for i in range(len(tomogram))]
    if dialect == "warp":
        return [f"{name}_{i:07d}" for name, i in zip(series, number, strict=True)]
    if dialect == "cryosrpnt":
        return [f"{t:03d}_{i:06d}" for t, i in zip(tomogram.tolist(), number, strict=True)]
    if dialect == "nextpyp":
        rows = zip(series, tomogram.tolist(), number, strict=True)
        return [f"{name}/{t}_{i}" for name, t, i in rows]
    return [f"{name}/{i + 1}" for name, i in zip(series, number, strict=True)]


def warp_blocks(a: Acquisition, images: np.ndarray, image_names: Sequence[str], *, premultiplied: bool) -> Blocks:
    """Warp v1: a particle's images by rising exposure.

    Parameters
    ----------
    a
        What was recorded.
    images
        Numbers of the images in the order of the rows, (n,).
    image_names
        rlnImageName of each row.
    premultiplied
        Written as rlnCtfDataAreCtfPremultiplied where it is True.
    """
    particle, tilt = a.image_particle[images], a.image_tilt[images]
    movies = [
        f"{a.tomograms[a.tomogram[p]]}_{t + 1:03d}_{a.tilt_deg[t]:.1f}.mrc" for p, t in zip(particle, tilt, strict=True)
    ]
    on_image_px = a.centred_angst[images, :2] / a.pixel_size_angst + a.size_px[:2] / 2
    columns: dict[str, object] = {
        "rlnMagnification": "10000",
        "rlnDetectorPixelSize": f"{a.pixel_size_angst:.5f}",
        **_microscope(a),
        "rlnPhaseShift": "0.0",
        **_defocus(a, images),
        "rlnImageName": image_names,
        "rlnMicrographName": movies,
        **columns_of(("rlnCoordinateX", "rlnCoordinateY"), on_image_px, 5),
        **_angles(a, images),
        **_dose_and_tilt(a, tilt),
        "rlnGroupName": np.array(particle_names(a, "warp"))[particle],
        **columns_of(("rlnOriginX", "rlnOriginY"), a.shifts_px[images], 7),
    }
    if premultiplied:
        columns["rlnCtfDataAreCtfPremultiplied"] = "1"
    return {"": _frame(columns)}


def cryosrpnt_blocks(a: Acquisition, images: np.ndarray, image_names: Sequence[str], *, premultiplied: bool) -> Blocks:
    """CryoSRPNT: numbers of images without leading zeros; see `warp_blocks`."""
    del premultiplied
    particle, tilt = a.image_particle[images], a.image_tilt[images]
    return {"": _frame({
        "rlnImageName": image_names, "rlnDetectorPixelSize": f"{a.pixel_size_angst:.5f}", **_defocus(a, images),
        **_microscope(a), "rlnPhaseShift": "0.0", **_angles(a, images),
        **columns_of(("rlnOriginX", "rlnOriginY"), a.shifts_px[images], 7), **_dose_and_tilt(a, tilt),
        "rlnGroupName": np.array(particle_names(a, "cryosrpnt"))[particle],
    })}  # fmt: skip


def nextpyp_blocks(a: Acquisition, images: np.ndarray, image_names: Sequence[str], *, premultiplied: bool) -> Blocks:
    """NextPYP: an optics block, names of stacks without folder, subsets drawn image by image; see `warp_blocks`."""
    del premultiplied
    particle, tilt = a.image_particle[images], a.image_tilt[images]
    groups = [name.rpartition("/")[2] for name in particle_names(a, "nextpyp")]
    optics = {
        "rlnOpticsGroupName": "opticsGroup1", "rlnOpticsGroup": "1",
        "rlnMicrographOriginalPixelSize": f"{a.pixel_size_angst:.1f}", **_microscope(a),
        "rlnImagePixelSize": f"{a.pixel_size_angst:.2f}", "rlnImageDimensionality": "2",
    }  # fmt: skip
    shifts_angst = a.shifts_px[images] * a.pixel_size_angst
    rows = {
        "rlnImageName": image_names,
        "rlnMicrographName": [f"/project/mrc/{name}.mrc" for name in a.tomograms[a.tomogram[particle]]],
        **_angles(a, images), **columns_of(("rlnOriginXAngst", "rlnOriginYAngst"), shifts_angst, 6),
        **_defocus(a, images), "rlnPhaseShift": "0.0", "rlnOpticsGroup": "1",
        "rlnGroupNumber": np.array(groups)[particle], **_dose_and_tilt(a, tilt),
        "rlnRandomSubset": (np.arange(len(images)) % 2 + 1).tolist(), "rlnTiltIndex": [f"{t:.1f}" for t in tilt],
    }  # fmt: skip
    return {"optics": pd.DataFrame([optics]).astype(str), "particles": _frame(rows)}


def cistem_blocks(a: Acquisition, images: np.ndarray, image_names: Sequence[str], *, premultiplied: bool) -> Blocks:
    """CisTEM: positions in one stack that is named elsewhere; see `warp_blocks`."""
    del premultiplied
    rows = _cistem_rows(a, images, image_names)
    particle = a.image_particle[images]
    return {"": _frame(rows | {
        "cisTEMImageActivity": "1", "cisTEMOccupancy": "100.00", "cisTEMMicroscopeVoltagekV": f"{a.optics[0]:.2f}",
        "cisTEMMicroscopeCsMM": f"{a.optics[1]:.2f}", "cisTEMAssignedSubset": a.half_set[particle],
        "cisTEMOriginalImageFilename": [f"{name}.mrc" for name in a.tomograms[a.tomogram[particle]]],
    })}  # fmt: skip


def emclarity_blocks(a: Acquisition, images: np.ndarray, image_names: Sequence[str], *, premultiplied: bool) -> Blocks:
    """EmClarity through cisTEM: half sets as beam-tilt groups; see `warp_blocks`."""
    del premultiplied
    rows = _cistem_rows(a, images, image_names)
    particle, tilt = a.image_particle[images], a.image_tilt[images]
    names = zip(a.tomograms[a.tomogram[particle]], tilt.tolist(), strict=True)
    return {"": _frame(rows | {
        "cisTEMOccupancy": "100.00", "cisTEMVoltage": f"{a.optics[0]:.2f}", "cisTEMCs": f"{a.optics[1]:.2f}",
        "cisTEMBeamTiltGroup": a.half_set[particle], "cisTEMOriginalXPosition": text_of(a.tilt_deg[tilt], 6),
        "cisTEMOriginalImageFilename": [f"{name}_{t:03d}" for name, t in names],
    })}  # fmt: skip


def _cistem_rows(a: Acquisition, images: np.ndarray, image_names: Sequence[str]) -> dict[str, object]:
    """What cisTEM and emClarity share. The exposure of the simulation is that at the end of the image."""
    particle, dose = a.image_particle[images], a.dose_e_per_angst2[a.image_tilt[images]]
    shifts_angst = -a.shifts_px[images] * a.pixel_size_angst
    psi_theta_phi = _euler_deg(a, images)[:, ::-1]
    return {
        "cisTEMPositionInStack": [int(name.partition("@")[0]) for name in image_names],
        **columns_of(("cisTEMAnglePsi", "cisTEMAngleTheta", "cisTEMAnglePhi"), psi_theta_phi, 7),
        **columns_of(("cisTEMXShift", "cisTEMYShift"), shifts_angst, 6),
        **columns_of(("cisTEMDefocus1", "cisTEMDefocus2", "cisTEMDefocusAngle"), a.image_defocus[images], 3),
        "cisTEMPhaseShift": "0.00", "cisTEMLogP": "-5000", "cisTEMSigma": "1.0000", "cisTEMScore": "10.00",
        "cisTEMPixelSize": f"{a.pixel_size_angst:.5f}", "cisTEMAmplitudeContrast": f"{a.optics[2]:.4f}",
        "cisTEMParticleGroup": particle + 1,
        "cisTEMPreExposure": text_of(np.maximum(dose - a.dose_step_e_per_angst2, 0.0), 3),
        "cisTEMTotalExposure": text_of(dose, 3),
    }  # fmt: skip


SERIES_BLOCKS: dict[str, Callable[..., Blocks]] = {
    "warp": warp_blocks,
    "cryosrpnt": cryosrpnt_blocks,
    "nextpyp": nextpyp_blocks,
    "cistem": cistem_blocks,
    "emclarity": emclarity_blocks,
}


def user_columns(acquisition: Acquisition, particles: np.ndarray, *, half_sets: bool) -> dict[str, object]:
    """Columns that a user may have added, for the given particles, after RELION's column of half sets."""
    columns: dict[str, object] = {"rlnRandomSubset": acquisition.half_set[particles]} if half_sets else {}
    return columns | {
        "userGridSquare": acquisition.grid_square[acquisition.tomogram[particles]],
        "userIceThickness": text_of(acquisition.ice_thickness_angst[particles], 1),
    }


def _microscope(a: Acquisition) -> dict[str, str]:
    voltage, cs, contrast = a.optics
    return {
        "rlnVoltage": f"{voltage:.1f}",
        "rlnSphericalAberration": f"{cs:.4f}",
        "rlnAmplitudeContrast": f"{contrast:.3f}",
    }


def _euler_deg(a: Acquisition, images: np.ndarray) -> np.ndarray:
    """RELION's rot, tilt and psi of the whole pose of each image."""
    return rotation_to_euler(a.rotations[images]).T


def _angles(a: Acquisition, images: np.ndarray) -> dict[str, list[str]]:
    return columns_of(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), _euler_deg(a, images), 7)


def _defocus(a: Acquisition, images: np.ndarray) -> dict[str, list[str]]:
    return columns_of(("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), a.image_defocus[images], 3)


def _dose_and_tilt(a: Acquisition, tilt: np.ndarray) -> dict[str, list[str]]:
    return {
        "rlnCtfBfactor": text_of(-4 * a.dose_e_per_angst2[tilt], 3),
        "rlnCtfScalefactor": text_of(np.cos(np.deg2rad(a.tilt_deg[tilt])), 8),
    }


def _frame(columns: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(columns).astype(str)


def text_of(values: np.ndarray, digits: int) -> list[str]:
    """Numbers with so many decimals, and no -0.0."""
    return [f"{value:.{digits}f}" for value in (values.round(digits) + 0.0).tolist()]


def columns_of(names: Sequence[str], values: np.ndarray, digits: int) -> dict[str, list[str]]:
    """The columns of an array under their names, as text."""
    return {name: text_of(column, digits) for name, column in zip(names, values.T, strict=True)}
