"""A run's decoder, kept in memory: points of the latent space become maps at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from tomodrgn.imaging import fourier, grid
from tomodrgn.model.linear import LinearSubspace
from tomodrgn.model.published_decoder import PublishedDecoder
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.training.devices import default_device
from tomodrgn.training.embed import load_model
from tomodrgn.training.linear_run import load_subspace
from tomodrgn.training.published_run import load_published
from tomodrgn.training.run import Run

__all__ = ["MapDecoder", "decode_volumes"]


REMEMBERED_BYTES = 160 * 2**20


class MapDecoder:
    """Makes maps of latents with the weights of one epoch, which are read once.

    An autoencoder on a CPU remembers what does not depend on the latent, where that is small (up to box 80 or so): the
    next map takes a quarter less time.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch whose weights are used; None is the last.
    box_px
        Side of the maps; None is that of the images. A smaller one has larger voxels over the same field.
    batch_size
        Number of maps decoded at once: fewer take less memory.
    device
        Where an autoencoder decodes; None takes CUDA where it is there. Linear runs decode on the CPU.

    Attributes
    ----------
    voxel_size_angst
        Side of a voxel of the maps.

    Raises
    ------
    ValueError
        If the box is odd, below 8 or larger than the images, the number of maps at once is not positive, or the epoch
        is not on disk.
    """

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        box_px: int | None = None,
        batch_size: int = 16,
        device: torch.device | str | None = None,
    ) -> None:
        run = run if isinstance(run, Run) else Run.open(run)
        source_box = run.settings["box_px"]
        self.box_px = source_box if box_px is None else box_px
        if self.box_px % 2 or not 8 <= self.box_px <= source_box:
            raise ValueError(
                f"Got box {self.box_px}, expected an even number from 8 to {source_box}, the box of the run's images "
                "in pixels. Choose another box."
            )
        if batch_size < 1:
            raise ValueError(
                f"Got {batch_size} maps at once (--batch-size), expected 1 or more. Choose another number."
            )
        self.voxel_size_angst = run.settings["pixel_size_angst"] * source_box / self.box_px
        scale = run.settings["scale"]
        self._decode: Callable[[Float32[np.ndarray, "v z"]], Float32[np.ndarray, "v d d d"]]
        if run.kind == "linear":
            run.epoch_folder(epoch)  # an error if it is not there
            self._decode = partial(_decode_linearly, _cropped(load_subspace(run), self.box_px), scale=scale)
        else:
            device = device if isinstance(device, torch.device) else default_device(device)
            model = (load_published if run.kind == "published" else load_model)(run, epoch).to(device)
            radius = run.preprocess_config.max_radius
            self._decode = partial(
                decode_volumes,
                model,
                box_px=self.box_px,
                max_radius=radius,
                scale=scale,
                batch_size=batch_size,
                known={} if _is_small(model, self.box_px, radius, device) else None,
            )

    def __call__(self, points: Float32[np.ndarray, "v z"]) -> Float32[np.ndarray, "v d d d"]:
        """Maps of latents, axes zyx, in units of the raw images, mean 0."""
        return self._decode(np.asarray(points, dtype=np.float32))


@torch.no_grad()
def decode_volumes(
    model: TiltSeriesVae | PublishedDecoder,
    points: Float32[np.ndarray, "v z"],
    *,
    box_px: int,
    max_radius: float = 0.5,
    scale: float = 1.0,
    batch_size: int = 16,
    points_per_chunk: int | None = None,
    known: dict[int, Float32[torch.Tensor, "m h"]] | None = None,
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
    batch_size
        Number of maps decoded at once.
    points_per_chunk
        Number of frequencies decoded at once for each map; None is a number that suits the device.
    known
        Of a TiltSeriesVae: its `first_layer` of each chunk is kept here from one call to the next, which has to be of
        the same model, box, radius and chunks.
    """
    device = next(model.parameters()).device
    rows = points_per_chunk or (4096 if device.type == "cpu" else 65_536)
    lattice = grid.HalfGrid.of_volume(box_px).to(device)
    coordinates = lattice.frequencies * (box_px / model.box_px)  # cycles per image pixel
    inside = coordinates.norm(dim=-1) < max_radius
    index, coordinates = lattice.index[inside], coordinates[inside]
    z = torch.tensor(np.asarray(points, dtype=np.float32), device=device)
    maps = np.empty((len(z),) + (box_px,) * 3, dtype=np.float32)
    # A slice of an orthonormal 3-D transform is the orthonormal 2-D one over sqrt(d); then crop to the asked box.
    factor = scale * model.box_px**-0.5 * (box_px / model.box_px) ** 1.5
    for first in range(0, len(z), batch_size):
        part = z[first : first + batch_size]
        half = torch.zeros(len(part), box_px * box_px * (box_px // 2 + 1), dtype=torch.complex64, device=device)
        for chunk in range(0, len(index), rows):
            piece = slice(chunk, chunk + rows)
            more = []
            if known is not None and isinstance(model, TiltSeriesVae):
                if chunk not in known:
                    known[chunk] = model.first_layer(coordinates[piece])
                more = [known[chunk]]
            values = model.decode_shared(coordinates[piece], part, *more).float()  # (v, m, 2)
            half[:, index[piece]] = torch.view_as_complex(values.contiguous()) * factor
        half = half.view(len(part), box_px, box_px, -1)
        fourier.complete_friedel(half, ndim=3)
        maps[first : first + batch_size] = fourier.irfft3_centred(half, box_px).cpu().numpy()
    return maps


def _is_small(model: TiltSeriesVae | PublishedDecoder, box_px: int, max_radius: float, device: torch.device) -> bool:
    """Whether what a decoder computes before it knows of latents can stay in memory."""
    if device.type != "cpu" or not isinstance(model, TiltSeriesVae):
        return False
    radius_px = min(max_radius * model.box_px, box_px / 2)
    n_points = 2 / 3 * np.pi * radius_px**3  # half of a sphere
    return 4 * n_points * model.config.decoder_dim <= REMEMBERED_BYTES


def _cropped(subspace: LinearSubspace, box_px: int) -> LinearSubspace:
    """Maps are sums of components, so the sums can be taken after the Fourier crop."""
    return replace(
        subspace,
        consensus=fourier.fourier_crop3(subspace.consensus, box_px),
        components=fourier.fourier_crop3(subspace.components, box_px),
    )


def _decode_linearly(
    subspace: LinearSubspace, points: Float32[np.ndarray, "v z"], *, scale: float
) -> Float32[np.ndarray, "v d d d"]:
    """Maps as of `decode_volumes`."""
    if not len(points):
        return np.zeros((0, *subspace.consensus.shape), dtype=np.float32)
    maps = subspace.decode(torch.tensor(points)) * scale
    return (maps - maps.mean(dim=(1, 2, 3), keepdim=True)).numpy()
