"""Recognise the dialect of a STAR file by the columns it needs, and say what is wrong with one that is not readable."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tomodrgn.particles.particle_set import SourceStar
from tomodrgn.particles.tilt_series import PROJECTION, tilt_series_blocks

__all__ = ["DIALECTS", "UnknownDialectError", "lone_particles", "recognise", "refuse_other_files", "single_images"]

DIALECTS = {
    "warptools": "WarpTools optimisation set with 2-D stacks",
    "warp": "Warp v1 or M image series",
    "cryosrpnt": "cryoSRPNT image series",
}
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
NEEDED = {
    "warp": ("rlnImageName", "rlnMicrographName", "rlnGroupName", *ANGLES, "rlnDefocusU", "rlnCtfBfactor",
             "rlnCtfScalefactor"),
    "cryosrpnt": ("rlnImageName", "rlnGroupName", *ANGLES, "rlnDetectorPixelSize"),
    "warptools": ("rlnImageName", "rlnTomoName", *ANGLES, "rlnTomoVisibleFrames", "rlnOpticsGroup"),
}  # fmt: skip
FORBIDDEN = {
    "warp": ("rlnCoordinateZ",),
    "cryosrpnt": ("rlnCoordinateZ", "rlnMicrographName", "rlnOpticsGroup"),
    "warptools": (),
}
OTHER_PROGRAMS = {
    "cisTEMParticleGroup": "a cisTEM or emClarity file of tilt series",
    "rlnTiltIndex": "a NextPYP particle file",
    "wrpCoordinateX1": "a particle list of an M species (positions without images)",
}


class UnknownDialectError(ValueError):
    """A file whose dialect is not known, or known and not readable as tilt images."""


def refuse_other_files(path: Path) -> None:
    """Refuse particle lists that are no STAR files.

    Raises
    ------
    UnknownDialectError
        For PyTom XML, Dynamo tables, TOM/AV3 motive lists and binary cisTEM files.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(4096).lstrip()
    suffix = path.suffix.lower()
    if head.startswith(b"<") and (b"<Particle" in head or suffix == ".xml"):
        raise _three_dimensional(path, "a PyTom particle list")
    if suffix == ".em":
        raise _three_dimensional(path, "a TOM/AV3 motive list")
    if suffix == ".tbl" and b"data_" not in head:
        raise _three_dimensional(path, "a Dynamo table")
    if suffix == ".cistem":
        raise UnknownDialectError(f"Got {path}, a binary cisTEM file, which is not read. Export it as {_readable()}.")


def recognise(source: SourceStar) -> str:
    """Name of the dialect.

    Columns decide, never their order; unknown columns and blocks do not matter.

    Raises
    ------
    UnknownDialectError
        If the file holds 3-D subtomograms, particles without their tomograms, the images of another program, or
        nothing known; the message names what was found and what to do.
    """
    _refuse_three_dimensional(source)
    columns = set(source.rows)
    if source.optimisation_set:
        return _tomogram_dialect(source)
    if "rlnTomoName" in columns and columns & {"rlnImageName", "rlnCoordinateZ", "rlnCenteredCoordinateZAngst"}:
        raise lone_particles(source.path)
    if tilt_series_blocks(source.particles) or "rlnTomoTiltSeriesPixelSize" in columns:
        raise UnknownDialectError(
            f"Got {source.path}, which holds tomograms, expected particles. Give the optimisation set: a STAR file "
            "with _rlnTomoParticlesFile and _rlnTomoTomogramsFile."
        )
    if "cisTEMPositionInStack" in columns and _groups_of_one(source.rows.get("cisTEMParticleGroup")):
        raise single_images(source.path, "no _cisTEMParticleGroup that gathers the tilt images of a particle")
    for column, title in OTHER_PROGRAMS.items():
        if column in columns:
            raise UnknownDialectError(f"Got {source.path}, {title}, which is not read yet. Export it as {_readable()}.")
    for name in ("warp", "cryosrpnt"):
        if columns.issuperset(NEEDED[name]) and columns.isdisjoint(FORBIDDEN[name]):
            return name
    flat = "rlnImageName" in columns and "rlnCoordinateZ" not in columns
    if flat and _groups_of_one(source.rows.get("rlnGroupName")):
        raise single_images(source.path, "no _rlnGroupName that gathers the tilt images of a particle")
    raise unknown(source.path, source.particles)


def _groups_of_one(groups: pd.Series | None) -> bool:
    """Whether no two rows share a group."""
    return groups is None or groups.is_unique


def _tomogram_dialect(source: SourceStar) -> str:
    blocks = tilt_series_blocks(source.tomograms)
    tables = [block for name, block in source.tomograms.items() if name not in blocks]
    general = pd.concat(tables) if tables else pd.DataFrame()
    if "rlnTomoTiltSeriesStarFile" in general:
        raise _not_yet(source, "RELION 5 (tilt-series files in _rlnTomoTiltSeriesStarFile)")
    if not blocks:
        raise unknown(source.path, {**source.particles, **source.tomograms})
    series = [str(name) for name in general.get("rlnTomoTiltSeriesName", [])]
    if any(name.startswith("Movies/") for name in series):
        raise _not_yet(source, "NextPYP")
    angle_tables = not any(PROJECTION[0] in block for block in blocks.values())
    named_by_warp = all(name.endswith(".tomostar") for name in blocks) or any(n.startswith("dummy") for n in series)
    if angle_tables or named_by_warp:
        return "warptools"
    raise _not_yet(source, "RELION 4 (tilt tables that no WarpTools wrote)")


def _refuse_three_dimensional(source: SourceStar) -> None:
    rows, optics = source.rows, source.particles.get("optics", pd.DataFrame())
    flags = [block["rlnTomoSubTomosAre2DStacks"] for block in source.particles.values()
             if "rlnTomoSubTomosAre2DStacks" in block]  # fmt: skip
    if any((flag.astype(str).str.strip() == "1").any() for flag in flags):
        return
    evidence = None
    if "rlnImageDimensionality" in optics and (optics["rlnImageDimensionality"] == "3").any():
        evidence = "rlnImageDimensionality 3"
    elif "rlnCtfImage" in rows and "rlnImageName" in rows and rows["rlnImageName"].str.endswith(".mrc").any():
        evidence = "rlnCtfImage beside .mrc images"
    elif "stopgap_motivelist" in source.particles or "motl_idx" in rows:
        evidence = "a STOPGAP motive list"
    if evidence:
        raise _three_dimensional(source.path, evidence)


def _three_dimensional(path: Path, evidence: str) -> UnknownDialectError:
    return UnknownDialectError(
        f"Got {path}, which holds 3-D (pseudo-)subtomograms ({evidence}), expected tilt images. TomoDRGN needs the "
        "tilt images; they cannot be recovered from a sum. Re-extract: RELION >= 5 `relion_tomo_subtomo --stack2d "
        "--no_ctf` (reads RELION 4 optimisation sets) or WarpTools `ts_export_particles --2d --dont_premultiply`. "
        "This file can still be used for mapback."
    )


def lone_particles(path: Path) -> UnknownDialectError:
    """The error for particles whose tomograms file is not named."""
    return UnknownDialectError(
        f"Got {path}, which holds particles without the tomograms file that has their tilts, expected an optimisation "
        "set. Give the optimisation set: a STAR file with _rlnTomoParticlesFile and _rlnTomoTomogramsFile."
    )


def single_images(path: Path, evidence: str) -> UnknownDialectError:
    """The error for single-particle data."""
    return UnknownDialectError(
        f"Got {path}, in which each particle has one image ({evidence}): single-particle data, expected tilt series. "
        f"Give a file that names the tilt images of each particle: {_readable()}."
    )


def _not_yet(source: SourceStar, program: str) -> UnknownDialectError:
    return UnknownDialectError(
        f"Got {source.path} in the form of {program}, which is not read yet. Export it as {_readable()}, or pass "
        'dialect="warptools" (--dialect warptools) if WarpTools wrote it.'
    )


def unknown(path: Path, blocks: dict[str, pd.DataFrame]) -> UnknownDialectError:
    """The error for a file of no known dialect: what was found, and the nearest dialect."""
    found = [f"data_{name}: {', '.join(map(str, list(block)[:40])) or 'no columns'}" for name, block in blocks.items()]
    found = [*found[:4], f"{len(found) - 4} more"] if len(found) > 4 else found
    columns = {column for block in blocks.values() for column in block}
    lacking = {name: [c for c in needed if c not in columns] for name, needed in NEEDED.items()}
    odd = {name: [c for c in forbidden if c in columns] for name, forbidden in FORBIDDEN.items()}
    nearest = min(NEEDED, key=lambda name: (len(lacking[name]) + len(odd[name])) / len(NEEDED[name]))
    differs = [f"lacks {', '.join(lacking[nearest])}"] if lacking[nearest] else []
    differs += [f"has {', '.join(odd[nearest])}"] if odd[nearest] else []
    return UnknownDialectError(
        f"Got {path} with the blocks {'; '.join(found)}, expected {_readable()}. The nearest is {nearest}: this file "
        f"{' and '.join(differs) or 'is laid out otherwise'}. Export it again with the right columns, or say what it "
        f"is: dialect (--dialect) {', '.join(DIALECTS)}."
    )


def _readable() -> str:
    return " or ".join(f"a {title} ({name})" for name, title in DIALECTS.items())
