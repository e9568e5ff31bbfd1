"""The dialect of our own: one row an image with everything said outright, for sets that no other dialect can hold.

Labels are RELION's where these mean the same; rlnAngleRot, Tilt and Psi hold the whole pose of the image,
rlnOriginXAngst and Y its shift. Exposure, tilt angle and factor of each image, and what was done to images, are labels
of our own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tomodrgn.imaging.pose import rotation_to_euler
from tomodrgn.particles.particle_set import ParticleSet

__all__ = ["image_table"]

# Columns of other dialects that say nothing true of a single image.
LEFT_OUT = ("rlnTomoVisibleFrames", "rlnOriginZAngst", "rlnOriginX", "rlnOriginY", "rlnOriginZ", "rlnMagnification",
            "rlnDetectorPixelSize", "rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi",
            "rlnCtfBfactor", "rlnCtfScalefactor", "rlnImageSize", "rlnImagePixelSize")  # fmt: skip
CTF = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnVoltage", "rlnSphericalAberration",
       "rlnAmplitudeContrast")  # fmt: skip


def image_table(particles: ParticleSet) -> dict[str, pd.DataFrame]:
    """Blocks ``optics`` and ``particles`` with one row for each image of a set; other columns of its rows are kept.

    Names of stacks are full paths. Box and pixel are those of the images on disk, also of a Fourier-cropped set.
    """
    image = particles.image_particle
    crop = particles.stack_box_px / particles.box_px if particles.box_px else 1.0
    rot, tilt, psi = rotation_to_euler(particles.rotations.astype(np.float64))
    shifts_angst = particles.shifts_px.astype(np.float64) * particles.pixel_size_angst
    paths = np.array([str(path.resolve()) for path in particles.stack_paths], dtype=object)[particles.stack_index]
    columns: dict[str, object] = {
        "tomodrgnParticleId": particles.particle_id[image],
        "rlnTomoName": particles.tomogram[image],
        "rlnImageName": [f"{i + 1:06d}@{path}" for i, path in zip(particles.slice_index, paths, strict=True)],
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": shifts_angst[:, 0],
        "rlnOriginYAngst": shifts_angst[:, 1],
        "tomodrgnPreExposure": particles.dose_e_per_angst2,
        "tomodrgnTiltAngle": particles.tilt_deg,
        "tomodrgnImageScale": particles.image_scale,
        "rlnRandomSubset": particles.half_set[image],
        "rlnOpticsGroup": "1",
    }
    if particles.ctf is not None:
        columns |= dict(zip(CTF, particles.ctf.table().T, strict=True))
    optics = {
        "rlnOpticsGroup": 1,
        "rlnImagePixelSize": particles.pixel_size_angst / crop,
        "rlnImageSize": particles.stack_box_px,
        "rlnImageDimensionality": 2,
        "rlnCtfDataAreCtfPremultiplied": int(particles.ctf_premultiplied),
        "tomodrgnDoseWeighted": int(particles.dose_weighted),
        "tomodrgnInvert": int(particles.invert),
    }
    source = particles.source.rows.iloc[particles.source_row].reset_index(drop=True)
    unknown_to_us = [c for c in source if c not in columns and c not in LEFT_OUT and c not in CTF]
    rows = pd.DataFrame(columns).astype(str)
    return {"optics": pd.DataFrame([optics]).astype(str), "particles": rows.join(source[unknown_to_us])}
