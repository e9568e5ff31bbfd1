"""Recognise the dialect of a STAR file by the columns it needs, and say what is wrong with one that is not readable."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from tomodrgn.particles.particle_set import SourceStar
from tomodrgn.particles.tilt_series import PROJECTION, TILT_SERIES_FILE, tilt_series_blocks

__all__ = [
    "DIALECTS",
    "OPTIMISATION_SETS",
    "UnknownDialectError",
    "lone_particles",
    "recognise",
    "refuse_other_files",
    "single_images",
]

DIALECTS = {
    "warptools": "WarpTools optimisation set with 2-D stacks",
    "relion5": "RELION 5 optimisation set with 2-D stacks",
    "nextpyp_relion5": "NextPYP optimisation set for RELION 5",
    "warp": "Warp v1 or M image series",
    "cryosrpnt": "cryoSRPNT image series",
    "nextpyp": "NextPYP particle file",
    "cistem": "cisTEM particle file",
    "emclarity": "emClarity export for cisTEM",
    "tomodrgn": "tomodrgn image table",
}
OPTIMISATION_SETS = ("warptools", "relion5", "nextpyp_relion5")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
CISTEM = ("cisTEMPositionInStack", "cisTEMAnglePsi", "cisTEMAngleTheta", "cisTEMAnglePhi", "cisTEMParticleGroup",
          "cisTEMPixelSize")  # fmt: skip
STACKS = ("rlnImageName", "rlnTomoName", *ANGLES, "rlnTomoVisibleFrames", "rlnOpticsGroup")
NEEDED = {
    "warp": ("rlnImageName", "rlnMicrographName", "rlnGroupName", *ANGLES, "rlnDefocusU", "rlnCtfBfactor",
             "rlnCtfScalefactor"),
    "cryosrpnt": ("rlnImageName", "rlnGroupName", *ANGLES, "rlnDetectorPixelSize"),
    "nextpyp": ("rlnImageName", "rlnMicrographName", "rlnGroupNumber", "rlnTiltIndex", *ANGLES, "rlnOriginXAngst",
                "rlnCtfBfactor", "rlnCtfScalefactor"),
    "cistem": CISTEM,
    "emclarity": (*CISTEM, "cisTEMPreExposure", "cisTEMTotalExposure"),
    "tomodrgn": ("tomodrgnParticleId", "rlnImageName", *ANGLES, "tomodrgnPreExposure", "tomodrgnTiltAngle"),
    **dict.fromkeys(OPTIMISATION_SETS, STACKS),
}  # fmt: skip
FORBIDDEN = {
    "warp": ("rlnCoordinateZ", "rlnTiltIndex"),
    "cryosrpnt": ("rlnCoordinateZ", "rlnMicrographName", "rlnOpticsGroup"),
    "nextpyp": ("rlnCoordinateZ",),
    "emclarity": ("cisTEMImageActivity",),
}
# Image series, in the order in which they are looked for.
SERIES = ("tomodrgn", "emclarity", "cistem", "nextpyp", "warp", "cryosrpnt")


class UnknownDialectError(ValueError):
    """A file whose dialect is not known, or known and not readable as tilt images."""


def refuse_other_files(path: Path) -> None:
    """Refuse particle lists that are no STAR files.

    Raises
    ------
    UnknownDialectError
        For PyTom XML, Dynamo tables and table maps, and TOM/AV3 motive lists.
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
    if suffix == ".doc" and b"data_" not in head.lower():
        raise UnknownDialectError(
            f"Got {path}, which names tomograms by their numbers (Dynamo's table map), expected particles. Give the "
            f"Dynamo table, and this file beside it: tomodrgn convert-positions TABLE.tbl OUT.star --tomogram-names "
            f"{path}"
        )
    if b"data_" not in head.lower() and (suffix == ".tbl" or _is_dynamo_table(head)):
        raise _three_dimensional(path, "a Dynamo table")


def _is_dynamo_table(head: bytes) -> bool:
    """Whether text begins with rows of 26 to 42 numbers."""
    rows = [line.split() for line in head.splitlines()[:3]]
    return bool(rows) and 26 <= len(rows[0]) <= 42 and all(re.match(rb"[-+.\dNnIi]", cell) for cell in rows[0])


def recognise(source: SourceStar) -> str:
    """Name of the dialect.

    Columns decide, never their order; unknown columns and blocks do not matter.

    Raises
    ------
    UnknownDialectError
        If the file holds 3-D subtomograms, particles without their tomograms, single images, or nothing known; the
        message names what was found and what to do.
    """
    _refuse_three_dimensional(source)
    columns = set(source.rows)
    if source.optimisation_set:
        return _tomogram_dialect(source)
    if columns.issuperset(NEEDED["tomodrgn"]):
        return "tomodrgn"
    if "rlnTomoName" in columns and columns & {"rlnImageName", "rlnCoordinateZ", "rlnCenteredCoordinateZAngst"}:
        raise lone_particles(source.path)
    if tilt_series_blocks(source.particles) or "rlnTomoTiltSeriesPixelSize" in columns:
        raise UnknownDialectError(
            f"Got {source.path}, which holds tomograms, expected particles. Give the optimisation set: a STAR file "
            "with _rlnTomoParticlesFile and _rlnTomoTomogramsFile."
        )
    if "cisTEMPositionInStack" in columns:
        if _groups_of_one(source.rows.get("cisTEMParticleGroup")):
            raise single_images(
                source.path, "no _cisTEMParticleGroup that gathers the tilt images of a particle", "cistem"
            )
        named = "emClarity" in source.particles_block or _comment_names_emclarity(source.path)
        if named and columns.issuperset(CISTEM):
            return "emclarity"
    for name in SERIES:
        if columns.issuperset(NEEDED[name]) and columns.isdisjoint(FORBIDDEN.get(name, ())):
            return name
    if "rlnImageName" in columns and _groups_of_one(source.rows.get("rlnGroupName")):
        raise single_images(
            source.path,
            "no _rlnGroupName that gathers the tilt images of a particle",
            "warp" if "rlnGroupName" in columns else None,
        )
    raise unknown(source.path, source.particles)


def _comment_names_emclarity(path: Path) -> bool:
    """Whether a comment before the first block names emClarity."""
    with path.open("rb") as file:
        head = file.read(4096)
    return any(b"emclarity" in line.lower() for line in head.splitlines() if line.lstrip().startswith(b"#"))


def _groups_of_one(groups: pd.Series | None) -> bool:
    """Whether no two rows share a group."""
    return groups is None or groups.is_unique


def _tomogram_dialect(source: SourceStar) -> str:
    blocks = tilt_series_blocks(source.tomograms)
    tables = [block for name, block in source.tomograms.items() if name not in blocks]
    general = pd.concat(tables) if tables else pd.DataFrame()
    if (not blocks and TILT_SERIES_FILE not in general) or "rlnImageName" not in source.rows:
        raise unknown(source.path, {**source.particles, **source.tomograms})
    if TILT_SERIES_FILE in general:
        return "relion5"
    series = [str(name) for name in general.get("rlnTomoTiltSeriesName", [])]
    angle_tables = not any(PROJECTION[0] in block for block in blocks.values())
    if angle_tables or all(n.endswith(".tomostar") for n in blocks) or any(n.startswith("dummy") for n in series):
        return "warptools"
    optics = source.particles.get("optics", pd.DataFrame())
    if any(n.startswith("Movies/") for n in series) or "rlnCtfDataAreCtfPremultiplied" not in optics:
        return "nextpyp_relion5"
    return "relion5"


def _refuse_three_dimensional(source: SourceStar) -> None:
    rows, optics = source.rows, source.particles.get("optics", pd.DataFrame())
    flags = [block["rlnTomoSubTomosAre2DStacks"] for block in source.particles.values()
             if "rlnTomoSubTomosAre2DStacks" in block]  # fmt: skip
    if any((flag.astype(str).str.strip() == "1").any() for flag in flags):
        return
    if "stopgap_wedgelist" in source.particles:
        raise UnknownDialectError(
            f"Got {source.path}, a STOPGAP wedge list, which holds no particles, expected tilt images. Give it beside "
            f"the motive list: tomodrgn convert-positions MOTIVE_LIST.star OUT.star --wedge-list {source.path}"
        )
    evidence = _three_dimensional_evidence(source, rows, optics)
    if evidence:
        raise _three_dimensional(source.path, evidence, optics)


def _three_dimensional_evidence(source: SourceStar, rows: pd.DataFrame, optics: pd.DataFrame) -> str:
    """What shows that a file holds 3-D images or nothing but positions; empty if nothing does."""
    images = rows.get("rlnImageName", pd.Series(dtype=str))
    volumes = images.str.endswith(".mrc").any()
    flat = "rlnTomoVisibleFrames" in rows or (
        images.str.contains("@").any() and not _groups_of_one(rows.get("rlnGroupName"))
    )
    if "stopgap_motivelist" in source.particles or "motl_idx" in rows:
        return "a STOPGAP motive list"
    if {"wrpCoordinateX1", "rlnCoordinateX1"} & set(rows):
        return "positions of an M species"
    if "rlnImageDimensionality" in optics and (optics["rlnImageDimensionality"] == "3").any():
        program = "RELION 4 or 5 pseudo-subtomograms" if "rlnTomoName" in rows else "RELION 3 or Warp subtomograms"
        return f"{program}: rlnImageDimensionality 3"
    if "rlnCtfImage" in rows and volumes:
        return "Warp or RELION 3 volume series: rlnCtfImage beside .mrc images"
    if "rlnCoordinateZ" in rows and "rlnMicrographName" in rows and not flat and "rlnTomoName" not in rows:
        return "volume series: rlnCoordinateZ without tilt images"
    return ""


def _three_dimensional(path: Path, evidence: str, optics: pd.DataFrame | None = None) -> UnknownDialectError:
    return UnknownDialectError(
        f"Got {path}, which holds 3-D (pseudo-)subtomograms ({evidence}), expected tilt images. TomoDRGN needs the "
        f"tilt images; they cannot be recovered from a sum. Re-extract: {_extraction(optics)}. This file can still be "
        "used for mapback: `tomodrgn.read_positions` reads where its particles are, and `tomodrgn convert-positions "
        f"{path} COORDINATES.star` writes that down for such an extraction."
    )


def _extraction(optics: pd.DataFrame | None) -> str:
    """The commands that extract tilt images, with the numbers that the file has; the rest is in capitals."""

    def known(column: str, unknown: str) -> str:
        cells = [] if optics is None or column not in optics else sorted(set(optics[column]))
        return f"{float(cells[0]):g}" if len(cells) == 1 else unknown

    box, pixel = known("rlnImageSize", "BOX_PX"), known("rlnImagePixelSize", "PIXEL_SIZE_ANGST")
    return (
        f"RELION >= 5 `relion_tomo_subtomo --i optimisation_set.star --stack2d --no_ctf --b {box} --crop {box} --bin "
        f"{known('rlnTomoSubtomogramBinning', 'BINNING')} --o Extract/tilts/` (reads RELION 4 optimisation sets), or "
        "`WarpTools ts_export_particles --settings warp_tiltseries.settings --input_star COORDINATES.star "
        f"--coords_angpix 1 --output_star tilts.star --output_angpix {pixel} --box {box} --diameter DIAMETER_ANGST "
        "--2d --dont_premultiply`"
    )


def lone_particles(path: Path) -> UnknownDialectError:
    """The error for particles whose tomograms file is not named."""
    return UnknownDialectError(
        f"Got {path}, which holds particles without the tomograms file that has their tilts, expected an optimisation "
        "set. Give the optimisation set: a STAR file with _rlnTomoParticlesFile and _rlnTomoTomogramsFile."
    )


def single_images(path: Path, evidence: str, dialect: str | None) -> UnknownDialectError:
    """The error for single-particle data; `dialect` is the one whose columns it has, if any."""
    cure = f" If these are tilt images all the same, say so: dialect {dialect!r} (--dialect {dialect})."
    return UnknownDialectError(
        f"Got {path}, in which each particle has one image ({evidence}): single-particle data, expected tilt series. "
        f"Give a file that names the tilt images of each particle: {_readable()}.{cure if dialect else ''}"
    )


def unknown(path: Path, blocks: dict[str, pd.DataFrame]) -> UnknownDialectError:
    """The error for a file of no known dialect: what was found, and the nearest dialect."""
    found = [f"data_{name}: {', '.join(map(str, list(block)[:40])) or 'no columns'}" for name, block in blocks.items()]
    found = [*found[:4], f"{len(found) - 4} more"] if len(found) > 4 else found
    columns = {column for block in blocks.values() for column in block}
    lacking = {name: [c for c in needed if c not in columns] for name, needed in NEEDED.items()}
    odd = {name: [c for c in FORBIDDEN.get(name, ()) if c in columns] for name in NEEDED}
    nearest = min(NEEDED, key=lambda name: (len(lacking[name]) + len(odd[name])) / len(NEEDED[name]))
    differs = [f"lacks {', '.join(lacking[nearest])}"] if lacking[nearest] else []
    differs += [f"has {', '.join(odd[nearest])}"] if odd[nearest] else []
    return UnknownDialectError(
        f"Got {path} with the blocks {'; '.join(found)}, expected {_readable()}. The nearest is {nearest}: this file "
        f"{' and '.join(differs) or 'is laid out otherwise'}. Export it again with the right columns, or say what it "
        f"is: dialect (--dialect) {', '.join(DIALECTS)}."
    )


def _readable() -> str:
    return "one of: " + ", ".join(f"{title} ({name})" for name, title in DIALECTS.items())
