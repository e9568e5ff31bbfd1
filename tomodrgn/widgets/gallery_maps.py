"""The maps of a gallery, decoded one by one, so that the work can be watched and stopped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
from tomodrgn.training.run import Run
from tomodrgn.volumes.decoder import MapDecoder
from tomodrgn.volumes.volume_stack import VolumeStack
from tomodrgn.widgets.map_panel import QUICK_BOX

__all__ = ["centre_maps"]


def centre_maps(
    run: Run,
    n_clusters: int,
    *,
    epoch: int | None,
    box_px: int | None,
    seed: int,
    tell: Callable[[str], None],
    outdated: Callable[[], bool],
) -> tuple[VolumeStack, pd.Series] | None:
    """Maps at the centres of k-means clusters, and the map of each particle.

    Parameters
    ----------
    box_px
        Side of the maps; None is that of the images, but 64 at most.
    tell
        Called with what is being done.
    outdated
        Asked before every map; True ends the work.

    Returns
    -------
    None if the work was ended.
    """
    latents = run.latents(epoch)
    tell(f"k-means of {len(latents.particle_id)} particles in {n_clusters} clusters ...")
    clusters = cluster_latents(latents, n_clusters, seed=seed)
    centres = cluster_centres(latents, clusters)
    size = min(int(run.settings["box_px"]), QUICK_BOX) if box_px is None else box_px
    decoder = MapDecoder(run, epoch, box_px=size)
    points = centres[[f"z{i + 1}" for i in range(latents.z_dim)]].to_numpy(np.float32)
    maps = []
    for i, point in enumerate(points, 1):
        if outdated():
            return None
        tell(f"decoding map {i} of {len(points)} ...")
        maps.append(decoder(point[None])[0])
    return VolumeStack(maps=np.stack(maps), voxel_size_angst=decoder.voxel_size_angst, labels=centres), clusters
