"""Steps of the analysis of a run: its latents, paths, maps, half maps and neighbours, each with sensible defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from tomodrgn.analysis.clusters import (
    cluster_stability,
    density_clusters,
    graph_clusters,
    mixture_bic,
    mixture_clusters,
)
from tomodrgn.analysis.enrichment import enrich_around_classes
from tomodrgn.analysis.landscape import VolumeComponents, reduce_volumes
from tomodrgn.analysis.latent_space import adjusted_rand_index, cluster_centres, cluster_latents, reduce_latents
from tomodrgn.analysis.neighbourhood import pair_distances, recurrent_pairs
from tomodrgn.analysis.occupancy import region_occupancy
from tomodrgn.analysis.paths import graph_path, straight_path
from tomodrgn.analysis.regions import automatic_region
from tomodrgn.analysis.resolution import half_map_fsc, local_resolution
from tomodrgn.analysis.support import path_support
from tomodrgn.analysis.umap_job import UmapJob
from tomodrgn.analysis.validation import SelectionValidation
from tomodrgn.imaging import fourier
from tomodrgn.io.mrc import read_volume
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.position_set import Positions
from tomodrgn.training.run import Run
from tomodrgn.volumes.generate import generate_volumes
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = [
    "HalfMapResolution",
    "RunNeighbours",
    "decode_ensemble",
    "map_landscape",
    "particle_columns",
    "path_between_clusters",
]

MOST_CLUSTERS = 10
MOST_COMPARED = 20  # clusters with which a mixture is compared
COUNTED_PARTICLES = 5000  # by which the number of clusters is chosen
OCCUPANCY_BATCH = 256
PATH_POINTS = 7
ENSEMBLE_MAPS, ENSEMBLE_BOX = 64, 32
LANDSCAPE_COMPONENTS = 4
LOCAL_BOX = 64
NEIGHBOUR_BOXES = 3.0  # distances of pairs are counted up to so many boxes
CLASS_BOXES = 1.5  # particles so near are neighbours
PAIRED_PARTICLES = 3000  # among which geometry that comes back is looked for


@contextmanager
def embedded_beside(latents: Latents, seed: int, notes: list[str]) -> Iterator[Callable[[], pd.DataFrame]]:
    """Principal components, and UMAP where they do not show all, made in a process of its own beside other work.

    Yields what waits for them and gives the table; at the end the process is stopped if it still runs.
    """
    components = reduce_latents(latents, min(latents.z_dim, 4))
    if latents.z_dim < 3:
        notes.append(f"UMAP: {latents.z_dim} latent dimensions are shown as they are")
        yield lambda: components
        return
    job = UmapJob(latents, seed=seed)
    try:
        yield lambda: components.join(job.result())
    finally:
        if job.running:
            job.cancel()


def count_clusters(latents: Latents, seed: int) -> pd.DataFrame:
    """BIC and stability of 1 to 10 clusters, by 5,000 particles at most."""
    some = _some_of(latents, COUNTED_PARTICLES, seed)
    distinct = len(np.unique(some.mu, axis=0))
    most = max(1, min(MOST_CLUSTERS, len(some) // 5, distinct))
    table = mixture_bic(some, range(1, most + 1), seed=seed)
    table["stability"] = cluster_stability(some, range(2, most + 1), seed=seed)["stability"] if most > 1 else np.nan
    return table


def compare_methods(latents: Latents, clusters: pd.Series, seed: int) -> pd.DataFrame:
    """Whether other methods find the same groups, by 5,000 particles at most.

    Returns
    -------
    Index method (Gaussian mixture, where there are 20 clusters at most, HDBSCAN, Leiden): `n_clusters`, `noise` (share
    of the particles in none) and `agreement` with `clusters`, the adjusted Rand index of those that are in one; NaN
    where there are not two clusters to compare.
    """
    some = _some_of(latents, COUNTED_PARTICLES, seed)
    n_clusters = clusters.loc[some.index].nunique()
    found = {"HDBSCAN": density_clusters(some)["cluster"], "Leiden": graph_clusters(some, seed=seed)}
    if n_clusters <= MOST_COMPARED:
        found = {"Gaussian mixture": mixture_clusters(some, n_clusters, seed=seed)["cluster"], **found}
    rows = {}
    for method, labels in found.items():
        inside = labels[labels >= 0]
        own = clusters.loc[inside.index]
        comparable = min(inside.nunique(), own.nunique()) > 1
        agreement = adjusted_rand_index(inside, own) if comparable else float("nan")
        rows[method] = (inside.nunique(), 1 - len(inside) / len(labels), agreement)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["n_clusters", "noise", "agreement"])
    return table.rename_axis("method")


def particle_columns(particles: ParticleSet) -> pd.DataFrame:
    """`ParticleSet.frame`, and the mean defocus of each particle's images, which some programs keep with the tilts."""
    frame = particles.frame()
    if particles.ctf is None or "mean_defocus_angst" in frame:
        return frame
    defocus = 0.5 * (particles.ctf.defocus_u_angst + particles.ctf.defocus_v_angst).astype(np.float64)
    return frame.assign(mean_defocus_angst=np.add.reduceat(defocus, particles.offsets[:-1]) / particles.tilt_counts)


def path_between_clusters(latents: Latents, centres: pd.DataFrame, notes: list[str]) -> pd.DataFrame | None:
    """From the largest cluster to the next: through the neighbour graph, or straight; with its support; None of one.

    Returns
    -------
    Columns particle_id, z1, z2 ..., n_particles and density; see `graph_path` and `path_support`.
    """
    if len(centres) < 2:
        notes.append("path between clusters: there is one cluster only")
        return None
    ends = centres["particle_id"].iloc[:2].tolist()
    try:
        path = graph_path(latents, ends, n_points=PATH_POINTS)
    except ValueError:
        notes.append("path between clusters: no chain of neighbours joins the two largest, the straight path is shown")
        path = straight_path(latents, *ends, n_points=PATH_POINTS, on_data=True)
    names = ["particle_id", *(f"z{i + 1}" for i in range(latents.z_dim))]
    path = path[names].set_axis([f"path_{i:03d}" for i in range(len(path))])
    return path.join(path_support(latents, path)[["n_particles", "density"]])


def decode_ensemble(
    run: Run,
    latents: Latents,
    *,
    n_maps: int = ENSEMBLE_MAPS,
    box_px: int | None = None,
    epoch: int | None = None,
    seed: int = 0,
    device: str | None = None,
) -> VolumeStack:
    """A map a particle, or, of more than `n_maps` particles, at those nearest to the centres of as many clusters.

    Parameters
    ----------
    n_maps
        Most maps.
    box_px
        Side of the maps; None is that of the run, 32 at most.

    Returns
    -------
    Maps named map_00000 ..., labels particle_id, n_particles (that it stands for) and the latent.

    Raises
    ------
    ValueError
        If fewer than one map is asked for.
    """
    if n_maps < 1:
        raise ValueError(f"Got {n_maps} maps, expected 1 or more. Choose another number.")
    points = latents.frame()[[f"z{i + 1}" for i in range(latents.z_dim)]]
    if len(latents) > n_maps:
        some = _some_of(latents, max(COUNTED_PARTICLES, n_maps), seed)
        distinct = len(np.unique(some.mu, axis=0))
        points = cluster_centres(some, cluster_latents(some, min(n_maps, distinct), seed=seed))
        points = points.drop(columns="cluster")
    else:
        points = points.reset_index().assign(n_particles=1)
    points.index = pd.Index([f"map_{i:05d}" for i in range(len(points))])
    box = min(run.settings["box_px"], ENSEMBLE_BOX) if box_px is None else box_px
    return generate_volumes(run, points, epoch=epoch, box_px=box, device=device)


def map_landscape(
    ensemble: VolumeStack, clusters: pd.Series, notes: list[str], *, seed: int = 0
) -> VolumeComponents | None:
    """Principal components of an ensemble about its density; None where its maps do not differ.

    Coordinates are named by map; the column `cluster` is that of the particle each was decoded at, `map_cluster` that
    of k-means among the maps, with as many clusters.
    """
    if len(ensemble) < 2 or not float(np.ptp(ensemble.maps, axis=0).max()) > 0:
        notes.append("space of the maps: they do not differ")
        return None
    region = automatic_region(ensemble.maps)
    found = reduce_volumes(ensemble.maps, ensemble.names, region=region, n_components=LANDSCAPE_COMPONENTS)
    ids = ensemble.labels["particle_id"]
    own = clusters.loc[ids].to_numpy()
    among_maps = cluster_latents(found.coordinates, min(len(np.unique(own)), len(ids)), seed=seed)
    labelled = found.coordinates.assign(particle_id=ids.to_numpy(), cluster=own, map_cluster=among_maps)
    return VolumeComponents(
        coordinates=labelled,
        explained_variance_ratio=found.explained_variance_ratio,
        mean=found.mean,
        components=found.components,
    )


def occupy(
    run: Run, latents: Latents, regions: dict[str, np.ndarray], *, epoch: int, device: str | None
) -> pd.DataFrame:
    """Occupancy of each mask in the map of each particle, 1 in the map at the mean of the latents."""
    box = len(next(iter(regions.values())))
    mean = generate_volumes(run, latents.mu.mean(axis=0, keepdims=True), epoch=epoch, box_px=box, device=device)
    parts = []
    for first in range(0, len(latents.particle_id), OCCUPANCY_BATCH):
        part = slice(first, first + OCCUPANCY_BATCH)
        maps = generate_volumes(run, latents.mu[part], epoch=epoch, box_px=box, device=device).maps
        parts.append(region_occupancy(maps, latents.particle_id[part], regions, consensus=mean.maps[0]))
    return pd.concat(parts)


@dataclass(frozen=True, kw_only=True)
class HalfMapResolution:
    """Resolution of the reconstruction of a selection, by its half maps in a mask about its density.

    Parameters
    ----------
    curve
        Of `half_map_fsc`.
    local_angst
        Of `local_resolution`, with voxels of `voxel_size_angst`; 64 voxels a side at most.
    """

    curve: pd.DataFrame
    local_angst: Float32[np.ndarray, "d d d"]
    voxel_size_angst: float

    @classmethod
    def of(cls, validation: SelectionValidation, *, seed: int = 0) -> HalfMapResolution:
        """Of the selected particles."""
        found = validation.selected
        mask = automatic_region(np.stack([found.full, validation.others.full]))
        curve = half_map_fsc(found.half_1, found.half_2, found.voxel_size_angst, mask=mask, seed=seed)
        box = len(mask)
        side = min(box, LOCAL_BOX)
        small = fourier.fourier_crop3(torch.from_numpy(np.stack([found.half_1, found.half_2, mask])), side).numpy()
        voxel = found.voxel_size_angst * box / side
        local = local_resolution(small[0], small[1], voxel, mask=(small[2] > 0.5).astype(np.float32))
        return cls(curve=curve, local_angst=local, voxel_size_angst=voxel)


@dataclass(frozen=True, kw_only=True)
class RunNeighbours:
    """The particles of a run and their neighbours in the tomograms.

    Parameters
    ----------
    distances, pairs, classes
        Of `pair_distances`, `recurrent_pairs` and `enrich_around_classes`.
    """

    distances: pd.DataFrame
    pairs: pd.DataFrame
    classes: pd.DataFrame

    @classmethod
    def of(cls, positions: Positions, clusters: pd.Series, *, box_angst: float, seed: int = 0) -> RunNeighbours:
        """Distances up to 3 boxes; classes and geometry of particles up to 1.5 boxes apart.

        Geometry that comes back is looked for in tomograms drawn at random until they hold 3,000 particles.
        """
        near = CLASS_BOXES * box_angst
        return cls(
            distances=pair_distances(positions, max_distance_angst=NEIGHBOUR_BOXES * box_angst, seed=seed),
            pairs=recurrent_pairs(_some_tomograms(positions, seed), max_distance_angst=near, seed=seed),
            classes=enrich_around_classes(positions, clusters.loc[positions.particle_id], radius_angst=near, seed=seed),
        )


def read_reference(path: Path | str, box_px: int, voxel_size_angst: float) -> Float32[np.ndarray, "d d d"]:
    """A reference map in the box of a run; one of the same field in smaller voxels is Fourier-cropped to it.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_volume`; ValueError also if the map has another field.
    """
    volume, own_voxel = read_volume(path)
    own_box = len(volume)
    own_voxel = own_voxel or voxel_size_angst * box_px / own_box
    if own_box < box_px or abs(own_box * own_voxel / (box_px * voxel_size_angst) - 1) > 0.01:
        raise ValueError(
            f"Got reference {path} of {own_box} voxels of {own_voxel:g} A, expected the field of the run's maps, "
            f"{box_px} voxels of {voxel_size_angst:g} A, in voxels of that size or smaller. Resample the map."
        )
    return fourier.fourier_crop3(torch.from_numpy(volume), box_px).numpy()


def _some_of(latents: Latents, n: int, seed: int) -> Latents:
    """So many particles at most, drawn at random, in their order."""
    if len(latents) <= n:
        return latents
    rows = np.random.default_rng(seed).permutation(len(latents))[:n]
    return latents.aligned_to(latents.particle_id[np.sort(rows)])


def _some_tomograms(positions: Positions, seed: int) -> Positions:
    names, counts = np.unique(positions.tomogram, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    before = np.concatenate([[0], np.cumsum(counts[order])[:-1]])
    chosen = names[order[before < PAIRED_PARTICLES]]
    rows = np.flatnonzero(np.isin(positions.tomogram, chosen))
    return positions.take(rows)
