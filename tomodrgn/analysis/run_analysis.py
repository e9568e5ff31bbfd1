"""All of the analysis of a run with sensible defaults, in one call: tables, maps and verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomodrgn import __version__
from tomodrgn.analysis import run_steps as steps
from tomodrgn.analysis.analysis_files import (
    LOCAL_RESOLUTION,
    MAPBACK,
    list_placed,
    refuse_analyzed,
    remove_earlier,
)
from tomodrgn.analysis.associations import associate_columns
from tomodrgn.analysis.convergence import EpochComparison, compare_epochs, compare_tilt_halves
from tomodrgn.analysis.enrichment import enrich_in_tomograms
from tomodrgn.analysis.landscape import VolumeComponents
from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
from tomodrgn.analysis.mapback import map_back, refuse_many
from tomodrgn.analysis.occupancy import occupied_shares
from tomodrgn.analysis.outliers import score_outliers
from tomodrgn.analysis.paths import traverse_latents
from tomodrgn.analysis.regions import read_region
from tomodrgn.analysis.run_positions import own_positions
from tomodrgn.analysis.run_steps import HalfMapResolution, RunNeighbours
from tomodrgn.analysis.validation import SelectionValidation, validate_selection
from tomodrgn.io.atomic import replacing
from tomodrgn.io.mrc import write_volume
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.position_set import Positions
from tomodrgn.training.particle_table import ANALYSIS_FILE
from tomodrgn.training.run import Run
from tomodrgn.volumes.generate import generate_volumes
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["RunAnalysis", "analyze_run"]

OCCUPANCY_BOX = 32
TRAVERSAL_POINTS = 5


@dataclass(frozen=True, kw_only=True)
class RunAnalysis:
    """What was found about a run.

    Parameters
    ----------
    run, epoch, seed
        What was analyzed.
    particles
        One row a particle (index particle_id): PC1 ..., UMAP1, UMAP2, `cluster`, the columns of `score_outliers`, and
        `occupancy_<mask>`.
    cluster_numbers
        Index n_clusters: `bic`, `best` (of Gaussian mixtures) and `stability` (of k-means).
    cluster_methods
        Of `compare_methods`: what other methods find.
    centres
        The clusters and the particle nearest to the mean of each; see `cluster_centres`.
    maps
        Stacks by name: ``clusters``, ``path``, ``pc1``, ``pc2``, ``map_components``.
    path
        From the largest cluster to the next, through particles, with its support.
    map_space
        Principal components of an ensemble of maps, each with the particle and the cluster it was decoded at.
    occupancy_shares
        Of `occupied_shares`, one row a mask.
    associations, tomograms
        Of `associate_columns` and `enrich_in_tomograms`.
    epochs
        Comparison of the epochs.
    tilt_halves, validation, resolution, neighbours
        Agreement of halves of the tilts, the largest cluster against its complement, the resolution of its half maps,
        and neighbours in the tomograms; None, as `path` and `map_space`, where the run does not have what they need.
    placed
        Where `save` places the maps of the clusters; None where that is not known, or a tomogram has too many.
    notes
        What was not made, and why.
    device
        On which `save` decodes; as given to `analyze_run`.
    """

    run: Run
    epoch: int
    seed: int
    particles: pd.DataFrame
    cluster_numbers: pd.DataFrame
    cluster_methods: pd.DataFrame
    centres: pd.DataFrame
    maps: dict[str, VolumeStack]
    path: pd.DataFrame | None
    map_space: VolumeComponents | None
    occupancy_shares: pd.DataFrame | None
    associations: pd.DataFrame
    tomograms: pd.DataFrame
    epochs: EpochComparison
    tilt_halves: pd.DataFrame | None
    validation: SelectionValidation | None
    resolution: HalfMapResolution | None
    neighbours: RunNeighbours | None
    placed: Positions | None
    notes: tuple[str, ...]
    device: str | None = None

    @property
    def warnings(self) -> list[str]:
        """Columns that should not go with the latents and do, in words; the strongest axis of each."""
        found = self.associations[self.associations["warning"]].drop_duplicates("column")
        return [
            f"{row.nuisance}: {row.column} goes with {row.axis} (strength {row.strength:.2f}, p {row.p_family:.2g})"
            for row in found.itertuples()
        ]

    def save(self, *, overwrite: bool = False) -> Path:
        """Write tables to ``RUN/analysis`` and maps to ``RUN/volumes``; the folder of the tables.

        Tables with one row a particle are thereby part of `Run.table`. Where the particles have positions, the maps of
        their clusters (64 voxels a side at most) are decoded and placed in the tomograms: ``RUN/analysis/mapback``,
        see `map_back`. With `overwrite`, what an earlier analysis wrote is taken away first, and nothing else.

        Raises
        ------
        FileExistsError
            If the run has an analysis and `overwrite` is False.
        """
        folder = self.run.folder / "analysis"
        refuse_analyzed(self.run, overwrite=overwrite)
        remove_earlier(self.run)
        folder.mkdir(exist_ok=True)
        for name, table in self._tables().items():
            with replacing(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary)
        for name, stack in self.maps.items():
            stack.save(self.run.folder / "volumes" / name)
        if self.validation is not None:
            self.validation.save(folder / "validation")
        if self.resolution is not None:
            local, path = self.resolution, folder / "validation" / LOCAL_RESOLUTION
            write_volume(path, np.nan_to_num(local.local_angst), local.voxel_size_angst)
        if self.placed is not None:
            clusters = self.particles["cluster"]
            placed = map_back(
                self.run,
                folder / MAPBACK,
                positions=self.placed,
                labels=clusters,
                epoch=self.epoch,
                overwrite=overwrite,
                device=self.device,
            )
            list_placed(self.run, placed.files)
        with replacing(folder / ANALYSIS_FILE) as temporary:
            temporary.write_text(json.dumps(self._settings(), indent=2) + "\n", encoding="utf-8")
        return folder

    def _tables(self) -> dict[str, pd.DataFrame]:
        """Tables by the name of their file; those of `TABLES` that were made."""
        near, half_maps = self.neighbours, None if self.resolution is None else self.resolution.curve
        found = {
            "embedding": self.particles.filter(regex=r"^(PC|UMAP)\d+$"),
            "clusters": self.particles[["cluster"]],
            "outliers": self.particles[["z_norm", "z_norm_score", "width", "width_score", "outlier"]],
            "occupancy": self.particles.filter(regex="^occupancy_"),
            "occupancy_shares": self.occupancy_shares,
            "cluster_numbers": self.cluster_numbers,
            "cluster_methods": self.cluster_methods,
            "cluster_centres": self.centres.rename_axis("map"),
            "path": None if self.path is None else self.path.rename_axis("point"),
            "map_space": None if self.map_space is None else self.map_space.coordinates.rename_axis("map"),
            "associations": self.associations.set_index("column"),
            "tomograms": self.tomograms.set_index("tomogram"),
            "epochs": self.epochs.table,
            "epoch_fsc": self.epochs.curves,
            "tilt_halves": self.tilt_halves,
            "half_map_fsc": half_maps,
            "pair_distances": None if near is None else near.distances.set_index("from_angst"),
            "recurrent_pairs": None if near is None else near.pairs[near.pairs["recurrent"]].rename_axis("pair"),
            "class_neighbours": None if near is None else near.classes.set_index("class"),
        }
        return {name: table for name, table in found.items() if table is not None and table.shape[1]}

    def _settings(self) -> dict[str, Any]:
        return {
            "tomodrgn": __version__,
            "epoch": self.epoch,
            "seed": self.seed,
            "n_clusters": len(self.centres),
            "convergence": self.epochs.verdict,
            "validation": None if self.validation is None else self.validation.verdict,
            "warnings": self.warnings,
            "notes": list(self.notes),
        }


def analyze_run(
    run: Run | Path | str,
    *,
    epoch: int | None = None,
    n_clusters: int | None = None,
    masks: Mapping[str, Path | str] | None = None,
    reference: Path | str | None = None,
    positions: Positions | None = None,
    seed: int = 0,
    device: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> RunAnalysis:
    """Analyze a run, VAE or linear.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch to analyze; None is the last.
    n_clusters
        Number of k-means clusters; None is that of the Gaussian mixture with the lowest BIC, at least 2.
    masks
        Masks (MRC) by name, whose occupancy is measured in the map of every particle.
    reference
        A map (MRC) of the field of the run's maps, to which each epoch is compared.
    positions
        Positions of the particles in their tomograms, of `read_positions`; None takes those of the run's particles, if
        their file has them.
    seed
        Of every random step: the same seed gives the same result.
    device
        ``"cpu"`` or ``"cuda"``; None takes CUDA where it is there.
    tell
        Called with a line at the start of every step.

    Raises
    ------
    ValueError
        If the model has no latents (z_dim 0), the run has no finished epoch or fewer than 10 particles, the number of
        clusters does not fit, or a mask or the reference has another field.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    number = int(run.epoch_folder(epoch).name)
    latents = run.latents(number)
    _check_enough(run, latents)
    side, pixel = run.settings["box_px"], run.settings["pixel_size_angst"]
    box = min(side, OCCUPANCY_BOX)
    regions = {name: read_region(path, box, pixel * side / box) for name, path in (masks or {}).items()}
    wanted_map = None if reference is None else steps.read_reference(reference, side, pixel)
    notes: list[str] = []
    tell("latents: components, UMAP, outliers, clusters ...")
    with steps.embedded_beside(latents, seed, notes) as embedding:
        numbers = steps.count_clusters(latents, seed)
        clusters = cluster_latents(latents, _number_of_clusters(n_clusters, latents, numbers), seed=seed)
        methods = steps.compare_methods(latents, clusters, seed)
        centres = cluster_centres(latents, clusters)
        tell(f"maps: {len(centres)} clusters, paths and an ensemble ...")
        path = steps.path_between_clusters(latents, centres, notes)
        points = {"clusters": centres} | ({} if path is None else {"path": path}) | _traversals(latents)
        maps = {name: generate_volumes(run, table, epoch=number, device=device) for name, table in points.items()}
        ensemble = steps.decode_ensemble(run, latents, epoch=number, seed=seed, device=device)
        space = steps.map_landscape(ensemble, clusters, notes, seed=seed)
        if space is not None:
            maps["map_components"] = _as_stack(space, ensemble.voxel_size_angst)
        per_particle, shares = score_outliers(latents).assign(cluster=clusters), None
        if regions:
            tell("occupancy of the masks in every particle ...")
            occupancy = steps.occupy(run, latents, regions, epoch=number, device=device)
            per_particle = per_particle.join(occupancy.add_prefix("occupancy_"))
            shares = occupied_shares(occupancy, seed=seed)
        particles = run.particles_without_images
        tell("associations with the columns of the particles ...")
        columns = steps.particle_columns(particles)
        associations = associate_columns(latents, columns, clusters=clusters.rename("cluster"), seed=seed)
        tell("epochs ...")
        epochs = compare_epochs(run, reference=wanted_map, seed=seed, device=device)
        from_images = _from_images(run, clusters, number, seed=seed, device=device, tell=tell, notes=notes)
        tell("neighbours in the tomograms ...")
        tomograms = enrich_in_tomograms(clusters, columns["tomogram"], seed=seed)
        in_tomograms = _in_tomograms(run, clusters, positions, seed=seed, notes=notes)
        return RunAnalysis(
            run=run,
            epoch=number,
            seed=seed,
            particles=embedding().join(per_particle),  # waited for last, as it is made beside
            cluster_numbers=numbers,
            cluster_methods=methods,
            centres=centres,
            maps=maps,
            path=path,
            map_space=space,
            occupancy_shares=shares,
            associations=associations,
            tomograms=tomograms,
            epochs=epochs,
            **from_images,
            **in_tomograms,
            notes=tuple(notes),
            device=device,
        )


def _number_of_clusters(asked: int | None, latents: Latents, numbers: pd.DataFrame) -> int:
    """As asked for, or that of the best mixture, at least 2 where there are so many places."""
    if asked is not None:
        return asked
    best = int(numbers.index.to_numpy()[numbers["best"].to_numpy().argmax()])
    return min(max(2, best), len(np.unique(latents.mu, axis=0)))


def _traversals(latents: Latents) -> dict[str, pd.DataFrame]:
    """Points along the first two components."""
    numbers = range(1, min(latents.z_dim, 2) + 1)
    return {f"pc{i}": traverse_latents(latents, i, n_points=TRAVERSAL_POINTS) for i in numbers}


def _as_stack(space: VolumeComponents, voxel_size_angst: float) -> VolumeStack:
    """The components of the maps as maps."""
    shares = space.explained_variance_ratio
    labels = pd.DataFrame({"share_of_variance": shares}, index=[f"component_{i + 1}" for i in range(len(shares))])
    return VolumeStack(maps=space.components, voxel_size_angst=voxel_size_angst, labels=labels)


def _from_images(
    run: Run,
    clusters: pd.Series,
    epoch: int,
    *,
    seed: int,
    device: str | None,
    tell: Callable[[str], None],
    notes: list[str],
) -> dict[str, Any]:
    """`tilt_halves`, `validation`, `resolution`: what needs the images again; where they are gone, that is a note."""
    halves = validation = None
    tell("halves of the tilts ...")
    try:
        halves = compare_tilt_halves(run, epoch=epoch, device=device)
    except (FileNotFoundError, ValueError) as error:
        notes.append(f"halves of the tilts: {error}")
    tell("the largest cluster, reconstructed ...")
    try:
        largest = clusters.index[clusters == 0]
        validation = validate_selection(run, largest, epoch=epoch, seed=seed, device=device)
    except (FileNotFoundError, ValueError) as error:
        notes.append(f"reconstruction of the largest cluster: {error}")
    resolution = None if validation is None else HalfMapResolution.of(validation, seed=seed)
    return {"tilt_halves": halves, "validation": validation, "resolution": resolution}


def _in_tomograms(
    run: Run, clusters: pd.Series, positions: Positions | None, *, seed: int, notes: list[str]
) -> dict[str, Any]:
    """`neighbours`, `placed`: by the positions given, or by those of the run; where there are none, that is a note."""
    particles = run.particles_without_images
    if positions is None:
        try:
            positions = own_positions(run)
        except ValueError:
            notes.append("neighbours: the particles of the run have no positions in their tomograms (--positions FILE)")
            return {"neighbours": None, "placed": None}
    matched = positions.aligned_to(particles).positions
    placed: Positions | None = matched
    try:
        refuse_many(matched)
    except ValueError as error:
        notes.append(f"maps of the clusters in the tomograms: {error}")
        placed = None
    box_angst = particles.box_px * particles.pixel_size_angst
    return {"neighbours": RunNeighbours.of(matched, clusters, box_angst=box_angst, seed=seed), "placed": placed}


def _check_enough(run: Run, latents: Latents) -> None:
    if latents.z_dim == 0 or len(latents) < 10:
        raise ValueError(
            f"Got run {run.folder} with {latents.z_dim} latent dimensions of {len(latents)} particles, expected at "
            "least 1 dimension and 10 particles. Its maps come from `tomodrgn generate`."
        )
