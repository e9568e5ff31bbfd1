"""Latents -> VolumeStack, in batches on the device."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from lightning_fabric import Fabric

from tomodrgn.imaging import resolution
from tomodrgn.training.devices import default_device, own_share, sum_over_processes
from tomodrgn.training.run import Run
from tomodrgn.volumes.decoder import MapDecoder
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["generate_volumes"]


def generate_volumes(
    run: Run | Path | str,
    latents: Float[np.ndarray, "v z"] | pd.DataFrame,
    *,
    epoch: int | None = None,
    box_px: int | None = None,
    lowpass_angst: float | None = None,
    bfactor_angst2: float = 0.0,
    flip: bool = False,
    invert: bool = False,
    batch_size: int = 16,
    device: str | None = None,
    fabric: Fabric | None = None,
) -> VolumeStack:
    """Decode points of the latent space to maps.

    Parameters
    ----------
    run
        A run, or its folder.
    latents
        Points, (v, z): an array, or a table with the columns z1, z2 ... whose index names the maps; further columns
        are kept as labels. ``table.attrs["path"]`` names the file it came from in messages.
    epoch
        Epoch whose weights are used; None is the last.
    box_px
        Side of the maps; None is that of the images. A smaller one has larger voxels over the same field.
    lowpass_angst
        Remove detail finer than this resolution.
    bfactor_angst2
        B-factor applied to the maps, as in RELION's post-processing: below 0 sharpens. Choose a low-pass filter too.
    flip
        Mirror the maps (the hand of a data set follows its tilt geometry and may be either).
    invert
        Change the sign of the maps, for programs that want density dark.
    batch_size
        Number of maps decoded at once: fewer take less memory.
    device
        ``"cpu"`` or ``"cuda"``; None takes CUDA where it is there.
    fabric
        Processes that share the maps, as of `training.devices.launch`; each of them returns all maps. Then `device` is
        not used.

    Raises
    ------
    ValueError
        If the points have another number of dimensions than the run's latents or are no numbers, the box is odd or
        larger than the images, the resolution or the number of maps at once is not positive, the B-factor is no
        number, or the epoch is not on disk.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    points, labels = _points_and_labels(latents, run.z_dim)
    if lowpass_angst is not None and not 0 < lowpass_angst < np.inf:
        raise ValueError(
            f"Got a low-pass filter at {lowpass_angst:g} angstrom, expected a resolution above 0. Choose one, or leave "
            "the filter out."
        )
    if not abs(bfactor_angst2) < np.inf:
        raise ValueError(
            f"Got a B-factor of {bfactor_angst2:g} square angstrom, expected a number, below 0 to sharpen. Choose one."
        )
    share = slice(None) if fabric is None else own_share(fabric, len(points))
    chosen = default_device(device) if fabric is None else fabric.device
    decoder = MapDecoder(run, epoch, box_px=box_px, batch_size=batch_size, device=chosen)
    maps = np.zeros((len(points),) + (decoder.box_px,) * 3, dtype=np.float32)
    maps[share] = decoder(points[share])
    voxel_size = decoder.voxel_size_angst
    if lowpass_angst is not None:
        for volume in maps[share]:
            volume[:] = resolution.lowpass_filter(torch.from_numpy(volume), lowpass_angst, voxel_size)
    if bfactor_angst2:
        for volume in maps[share]:
            volume[:] = resolution.apply_bfactor(torch.from_numpy(volume), bfactor_angst2, voxel_size)
    if invert:
        np.negative(maps, out=maps)
    if fabric is not None:
        for part in (maps[first : first + batch_size] for first in range(0, len(maps), batch_size)):
            part[:] = sum_over_processes(fabric, torch.from_numpy(part)).cpu().numpy()
    stack = VolumeStack(maps=maps, voxel_size_angst=voxel_size, labels=labels)
    return stack.mirrored() if flip else stack


def _points_and_labels(latents: np.ndarray | pd.DataFrame, z_dim: int) -> tuple[np.ndarray, pd.DataFrame]:
    columns = [f"z{i + 1}" for i in range(z_dim)]
    if not isinstance(latents, pd.DataFrame):
        array = np.asarray(latents, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != z_dim:
            raise ValueError(f"Got latent points of shape {array.shape}, expected (v, {z_dim}) for this run.")
        names = [f"map_{i:03d}" for i in range(len(array))]
        latents = pd.DataFrame(array, columns=columns, index=names)
    missing = [c for c in columns if c not in latents]
    extra = f"z{z_dim + 1}" in latents
    origin = latents.attrs.get("path", "the table of points")
    if missing or extra:
        given = [str(c) for c in latents.columns if re.fullmatch(r"z\d+", str(c))]
        wanted = f"z1 to z{z_dim}" if z_dim > 1 else "z1" if z_dim else "none, as it has no latent dimension"
        raise ValueError(
            f"Got {origin} with the latent columns {', '.join(given) or 'none'}, expected {wanted} for this run. "
            "Give one column for each latent dimension of the run."
        )
    if latents.empty and z_dim:
        raise ValueError(f"Got {origin} without a row, expected at least one point. Add one.")
    points = latents[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    unfit = np.argwhere(~np.isfinite(points))
    if len(unfit):
        row, column = unfit[0]
        raise ValueError(
            f"Got {str(latents[columns].iloc[row, column])!r} as {columns[column]} of point {latents.index[row]} in "
            f"{origin}, expected a finite number. Give numbers in the latent columns."
        )
    return points, latents
