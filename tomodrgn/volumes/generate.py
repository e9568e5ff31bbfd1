"""Latents -> VolumeStack, in batches on the device."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32

from tomodrgn.imaging import fourier, grid, resolution
from tomodrgn.model.linear import LinearSubspace
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.training.devices import default_device
from tomodrgn.training.embed import load_model
from tomodrgn.training.linear_run import load_subspace
from tomodrgn.training.run import Run
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["decode_volumes", "generate_volumes"]


def generate_volumes(
    run: Run | Path | str,
    latents: Float[np.ndarray, "v z"] | pd.DataFrame,
    *,
    epoch: int | None = None,
    box_px: int | None = None,
    lowpass_angst: float | None = None,
    flip: bool = False,
    device: str | None = None,
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
    flip
        Mirror the maps (the hand of a data set follows its tilt geometry and may be either).
    device
        ``"cpu"`` or ``"cuda"``; None takes CUDA where it is there.

    Raises
    ------
    ValueError
        If the points have another number of dimensions than the run's latents or are no numbers, the box is odd or
        larger than the images, the resolution is not positive, or the epoch is not on disk.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    points, labels = _points_and_labels(latents, run.z_dim)
    source_box = run.settings["box_px"]
    box = source_box if box_px is None else box_px
    if box % 2 or not 8 <= box <= source_box:
        raise ValueError(
            f"Got box {box}, expected an even number from 8 to {source_box}, the box of the run's images in pixels. "
            "Choose another box."
        )
    if lowpass_angst is not None and not 0 < lowpass_angst < np.inf:
        raise ValueError(
            f"Got a low-pass filter at {lowpass_angst:g} angstrom, expected a resolution above 0. Choose one, or leave "
            "the filter out."
        )
    if run.kind == "linear":
        maps = _decode_linearly(load_subspace(run), points, box_px=box, scale=run.settings["scale"])
    else:
        model = load_model(run, epoch).to(default_device(device))
        maps = decode_volumes(
            model, points, box_px=box, max_radius=run.preprocess_config.max_radius, scale=run.settings["scale"]
        )
    voxel_size = run.settings["pixel_size_angst"] * source_box / box
    if lowpass_angst is not None:
        maps = np.stack([resolution.lowpass_filter(torch.from_numpy(m), lowpass_angst, voxel_size) for m in maps])
    stack = VolumeStack(maps=maps, voxel_size_angst=voxel_size, labels=labels)
    return stack.mirrored() if flip else stack


@torch.no_grad()
def decode_volumes(
    model: TiltSeriesVae,
    points: Float32[np.ndarray, "v z"],
    *,
    box_px: int,
    max_radius: float = 0.5,
    scale: float = 1.0,
    voxels_per_chunk: int = 32_768,
) -> Float32[np.ndarray, "v d d d"]:
    """Real-space maps of latent points, in units of the (centred) raw images, mean 0.

    One pass over the Fourier grid serves all points: features and their layer are computed once a chunk.

    Parameters
    ----------
    points
        Latents, (v, z).
    box_px
        Side of the maps; frequencies beyond `max_radius` of the images are zero.
    scale
        Factor by which the images were divided before training.
    """
    device = next(model.parameters()).device
    lattice = grid.HalfGrid.of_volume(box_px).to(device)
    coordinates = lattice.frequencies * (box_px / model.box_px)  # cycles per image pixel
    inside = coordinates.norm(dim=-1) < max_radius
    index, coordinates = lattice.index[inside], coordinates[inside]
    z = torch.tensor(np.asarray(points, dtype=np.float32), device=device)
    maps = np.empty((len(z),) + (box_px,) * 3, dtype=np.float32)
    # A slice of an orthonormal 3-D transform is the orthonormal 2-D one over sqrt(d); then crop to the asked box.
    factor = scale * model.box_px**-0.5 * (box_px / model.box_px) ** 1.5
    for first in range(0, len(z), 16):
        part = z[first : first + 16]
        half = torch.zeros(len(part), box_px * box_px * (box_px // 2 + 1), dtype=torch.complex64, device=device)
        for chunk in range(0, len(index), voxels_per_chunk):
            piece = slice(chunk, chunk + voxels_per_chunk)
            values = model.decode_shared(coordinates[piece], part).float()  # (v, m, 2)
            half[:, index[piece]] = torch.view_as_complex(values.contiguous()) * factor
        half = half.view(len(part), box_px, box_px, -1)
        fourier.complete_friedel(half, ndim=3)
        maps[first : first + 16] = fourier.irfft3_centred(half, box_px).cpu().numpy()
    return maps


def _decode_linearly(
    subspace: LinearSubspace, points: Float32[np.ndarray, "v z"], *, box_px: int, scale: float
) -> Float32[np.ndarray, "v d d d"]:
    """Maps as of `decode_volumes`: each is a sum, so the sums are taken after the Fourier crop."""
    cropped = replace(
        subspace,
        consensus=fourier.fourier_crop3(subspace.consensus, box_px),
        components=fourier.fourier_crop3(subspace.components, box_px),
    )
    maps = cropped.decode(torch.tensor(points)) * scale
    return (maps - maps.mean(dim=(1, 2, 3), keepdim=True)).numpy()


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
