"""Write positions as a STAR file of coordinates that WarpTools and RELION extract particles from."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from tomodrgn.io.star import write_star
from tomodrgn.particles.optimisation_set import ANGLES
from tomodrgn.particles.own_files import refuse_to_replace
from tomodrgn.particles.position_set import Positions, tomogram_root
from tomodrgn.particles.position_tables import CENTRED, COORDINATES, running_names
from tomodrgn.particles.source_table import one_value
from tomodrgn.particles.tomogram_table import TomogramTable, read_tomogram_table

__all__ = ["write_positions"]

HALVES = {"1": "1", "2": "2", "A": "1", "B": "2"}
HALF_COLUMNS = ("rlnRandomSubset", "wrpRandomSubset", "halfset")
RELION_NAME = re.compile(r"[^/\s]+/\d+")


def write_positions(
    positions: Positions, path: Path | str, *, tomograms: Path | str | None = None, overwrite: bool = False
) -> float:
    """Write positions for extraction by WarpTools, and by RELION where the tomograms file is given.

    WarpTools ``ts_export_particles --input_star`` takes rlnMicrographName (``<series>.tomostar``) and rlnCoordinateX, Y
    and Z in pixels of its ``--coords_angpix``, from the centre of the first voxel. RELION 5 ``relion_tomo_subtomo --p``
    takes rlnTomoName and rlnCenteredCoordinateXAngst, YAngst and ZAngst, in angstrom from the centre of the tomogram;
    RELION 4 takes rlnCoordinateX, Y and Z in unbinned pixels. With the tomograms file one table serves all of them.
    Without it there is no rlnTomoName, so RELION refuses the file, and coordinates are in angstrom (pixels of 1).
    Origins are part of the coordinates; rlnAngleRot, Tilt and Psi turn the reference into the tomogram.
    tomodrgnParticleId keeps the names, so that extracted particles can be joined to these positions.

    Parameters
    ----------
    positions
        The positions.
    path
        STAR file to be written.
    tomograms
        Tomograms file (or optimisation set) of the RELION or WarpTools project that will extract.
    overwrite
        Whether a file already there may be replaced.

    Returns
    -------
    Size in angstrom of the pixels of rlnCoordinateX, Y and Z: WarpTools' ``--coords_angpix``.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    FileNotFoundError
        If the tomograms file is missing.
    ValueError
        If the output is one of the files read, tomograms are known by number only or not listed in the tomograms file,
        positions lie outside, or the tomograms have several pixel sizes.
    """
    refuse_to_replace([positions.path, *([] if tomograms is None else [Path(tomograms)])], [Path(path)])
    _refuse_numbers(positions, listed=tomograms is not None)
    euler = rotation_to_euler(positions.rotations)
    columns: dict[str, object] = {}
    pixel = 1.0
    if tomograms is not None:
        table = read_tomogram_table(tomograms)
        at = table.find(positions.tomogram, positions.path)
        table.check_inside(positions.position_angst, at, positions.path)
        pixel = one_value(table.pixel_size_angst[at], "rlnTomoTiltSeriesPixelSize", str(table.path))
        columns |= _relion_columns(positions, table, at)
    columns["rlnMicrographName"] = [f"{tomogram_root(str(name))}.tomostar" for name in positions.tomogram]
    columns |= _text(COORDINATES, positions.position_angst / pixel) | _text(ANGLES, euler)
    if tomograms is None:
        columns["rlnPixelSize"] = f"{pixel:.5f}"
    half = next((positions.source[name] for name in HALF_COLUMNS if name in positions.source), None)
    if half is not None and half.isin(list(HALVES)).all():
        columns["rlnRandomSubset"] = half.map(HALVES).to_numpy()
    columns["tomodrgnParticleId"] = positions.particle_id
    write_star(path, {"particles": pd.DataFrame(columns).astype(str)}, overwrite=overwrite)
    return pixel


def _refuse_numbers(positions: Positions, *, listed: bool) -> None:
    names = sorted(set(positions.tomogram))
    numbered = positions.kind in ("stopgap", "av3", "dynamo") and all(name.isdigit() for name in names)
    if numbered and not listed:
        raise ValueError(
            f"Got tomograms {', '.join(names[:5])} of {positions.path} by number, expected their names. Give a table "
            "of names such as TS_01.tomostar (tomogram_names, --tomogram-names): a CSV file with the columns number "
            "and name, or a Dynamo .doc file."
        )
    if "" in names:
        raise ValueError(f"Got particles without a tomogram in {positions.path}, expected its name. Add it there.")


def _relion_columns(positions: Positions, table: TomogramTable, at: np.ndarray) -> dict[str, object]:
    """What RELION needs: its names of tomogram and particle, and coordinates from the centre of the tomogram."""
    names = table.names[at]
    ids = pd.Series(positions.source.get("rlnTomoParticleName", positions.particle_id), dtype=object)
    own = ids.is_unique and ids.str.fullmatch(RELION_NAME).all()
    centred = positions.position_angst - table.size_angst[at] / 2
    return {
        "rlnTomoName": names,
        "rlnTomoParticleName": ids.to_numpy() if own else running_names(names),
        **_text(CENTRED, centred),
    }


def _text(names: tuple[str, ...], values: np.ndarray) -> dict[str, object]:
    return {name: [f"{value:.6f}" for value in column] for name, column in zip(names, values.T, strict=True)}


def rotation_to_euler(rotations: Float64[np.ndarray, "k 3 3"]) -> Float64[np.ndarray, "k 3"]:
    """RELION's rot, tilt and psi in degrees: the inverse of `euler_to_rotation`, with psi 0 where tilt is 0 or 180."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return Rotation.from_matrix(rotations).inv().as_euler("ZYZ", degrees=True)
