"""The verb for positions in tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["convert_positions"]


def convert_positions(
    file: Path,
    out: Path,
    /,
    *,
    pixel_size_angst: float | None = None,
    tomograms: Path | None = None,
    tomogram_names: Path | None = None,
    wedge_list: Path | None = None,
    binning: float | None = None,
    datadir: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the positions of any program as coordinates that WarpTools and RELION extract particles from.

    Parameters
    ----------
    file
        STAR file of Warp 1, M, WarpTools, RELION 3 to 5, NextPYP, pytom-match-pick or cryoSRPNT, STOPGAP motive list,
        Dynamo table (.tbl), PyTom list (.xml) or TOM/AV3 motive list (.em).
    out
        STAR file to be written.
    pixel_size_angst
        Size of the pixels in which the file counts positions. STOPGAP, TOM/AV3, Dynamo and PyTom count binned pixels:
        give the pixel size of the binned tomograms that particles were picked in.
    tomograms
        Tomograms file (or optimisation set) of the project that will extract; needed for RELION, and to read a
        RELION 5 particles file alone.
    tomogram_names
        Names of numbered tomograms: CSV with the columns number and name, or Dynamo .doc or .vll.
    wedge_list
        STOPGAP wedge list, in place of the pixel size; its pixel size is unbinned, so give the binning too.
    binning
        Binning of the tomograms that particles were picked in; with a wedge list.
    datadir
        Folder in which the files named by an optimisation set are also looked for; may be given several times.
    overwrite
        Replace a file that is there already.
    """
    from tomodrgn.io.atomic import refuse_existing
    from tomodrgn.particles.own_files import refuse_to_replace
    from tomodrgn.particles.positions import read_positions, write_positions

    refuse_existing(out, overwrite=overwrite)
    refuse_to_replace([path for path in (file, tomograms, tomogram_names, wedge_list) if path is not None], [out])
    found = read_positions(
        file,
        pixel_size_angst=pixel_size_angst,
        tomograms=tomograms,
        tomogram_names=tomogram_names,
        wedge_list=wedge_list,
        binning=binning,
        datadir=datadir,
    )
    coords_angpix = write_positions(found, out, tomograms=tomograms, overwrite=overwrite)
    print(f"wrote {len(found)} positions ({found.kind}) to {out}, tomograms: {len(set(found.tomogram))}; extract with")
    print(f"WarpTools ts_export_particles --input_star {out} --coords_angpix {coords_angpix:g} --2d --dont_premultiply")
    if tomograms is not None:
        print(f"relion_tomo_subtomo --p {out} --t {tomograms} --stack2d --no_ctf")
