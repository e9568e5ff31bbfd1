"""All of the analysis of a run with sensible defaults, in one call: tables, maps and verdicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomodrgn import __version__
from tomodrgn.analysis.associations import associate_columns
from tomodrgn.analysis.clusters import cluster_stability, mixture_bic
from tomodrgn.analysis.convergence import EpochComparison, compare_epochs, compare_tilt_halves
from tomodrgn.analysis.enrichment import enrich_in_tomograms
from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents, reduce_latents, umap_latents
from tomodrgn.analysis.neighbourhood import pair_distances
from tomodrgn.analysis.occupancy import region_occupancy
from tomodrgn.analysis.outliers import score_outliers
from tomodrgn.analysis.paths import traverse_latents
from tomodrgn.analysis.regions import read_region
from tomodrgn.analysis.validation import SelectionValidation, validate_selection
from tomodrgn.io.atomic import replacing
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.position_set import Positions
from tomodrgn.training.run import Run
from tomodrgn.volumes.generate import generate_volumes
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["SETTINGS_FILE", "RunAnalysis", "analyze_run"]

SETTINGS_FILE = "analysis.json"
TABLES = (
    "embedding", "clusters", "outliers", "occupancy", "cluster_numbers", "cluster_centres", "associations", "tomograms",
    "epochs", "epoch_fsc", "tilt_halves", "pair_distances",
)  # fmt: skip
MAPS = ("clusters", "pc1", "pc2")
MOST_CLUSTERS = 10
COUNTED_PARTICLES = 5000  # by which the number of clusters is chosen
OCCUPANCY_BOX, OCCUPANCY_BATCH = 32, 256
TRAVERSAL_POINTS = 5
NEIGHBOUR_BOXES = 3.0  # distances of pairs are counted up to so many boxes


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
    centres
        The clusters and the particle nearest to the mean of each; see `cluster_centres`.
    maps
        Stacks by name: ``clusters``, ``pc1``, ``pc2``.
    associations, tomograms
        Of `associate_columns` and `enrich_in_tomograms`.
    epochs
        Comparison of the epochs.
    tilt_halves, distances, validation
        Agreement of halves of the tilts, distances of neighbours, and the largest cluster against its complement; None
        where the run does not have what they need.
    notes
        What was not made, and why.
    """

    run: Run
    epoch: int
    seed: int
    particles: pd.DataFrame
    cluster_numbers: pd.DataFrame
    centres: pd.DataFrame
    maps: dict[str, VolumeStack]
    associations: pd.DataFrame
    tomograms: pd.DataFrame
    epochs: EpochComparison
    tilt_halves: pd.DataFrame | None
    distances: pd.DataFrame | None
    validation: SelectionValidation | None
    notes: tuple[str, ...]

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

        Tables with one row a particle are thereby part of `Run.table`.

        Raises
        ------
        FileExistsError
            If the run has an analysis and `overwrite` is False.
        """
        folder = self.run.folder / "analysis"
        refuse_analyzed(self.run, overwrite=overwrite)
        _remove_earlier(self.run)
        folder.mkdir(exist_ok=True)
        for name, table in self._tables().items():
            with replacing(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary)
        for name, stack in self.maps.items():
            stack.save(self.run.folder / "volumes" / name)
        if self.validation is not None:
            self.validation.save(folder / "validation")
        with replacing(folder / SETTINGS_FILE) as temporary:
            temporary.write_text(json.dumps(self._settings(), indent=2) + "\n", encoding="utf-8")
        return folder

    def _tables(self) -> dict[str, pd.DataFrame]:
        """Tables by the name of their file; those of `TABLES` that were made."""
        distances = None if self.distances is None else self.distances.set_index("from_angst")
        found = {
            "embedding": self.particles.filter(regex=r"^(PC|UMAP)\d+$"),
            "clusters": self.particles[["cluster"]],
            "outliers": self.particles[["z_norm", "z_norm_score", "width", "width_score", "outlier"]],
            "occupancy": self.particles.filter(regex="^occupancy_"),
            "cluster_numbers": self.cluster_numbers,
            "cluster_centres": self.centres.rename_axis("map"),
            "associations": self.associations.set_index("column"),
            "tomograms": self.tomograms.set_index("tomogram"),
            "epochs": self.epochs.table,
            "epoch_fsc": self.epochs.curves,
            "tilt_halves": self.tilt_halves,
            "pair_distances": distances,
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


def refuse_analyzed(run: Run, *, overwrite: bool) -> None:
    """Refuse a run that has been analyzed, or has other files where those of an analysis would be.

    Raises
    ------
    FileExistsError
        If it has, and `overwrite` is False.
    """
    there = [path for path in _own_paths(run) if path.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"Got run {run.folder}, which has an analysis already ({there[0].relative_to(run.folder)} is there). Pass "
            "overwrite=True (--overwrite) to replace it."
        )


def _own_paths(run: Run) -> list[Path]:
    """All that an analysis may write."""
    tables = [run.folder / "analysis" / name for name in (SETTINGS_FILE, *(f"{name}.csv" for name in TABLES))]
    volumes = [run.folder / "volumes" / name / "volumes.csv" for name in MAPS]
    return [*tables, run.folder / "analysis" / "validation" / "verdict.txt", *volumes]


def _remove_earlier(run: Run) -> None:
    """Take away the files of an earlier analysis, so that none of them passes for one of this."""
    for table in (run.folder / "volumes" / name / "volumes.csv" for name in MAPS):
        files = pd.read_csv(table, dtype=str)["file"] if table.is_file() else ()
        for name in files:
            if name == Path(name).name:
                (table.parent / name).unlink(missing_ok=True)
    for part in ("selected", "others", "decoded"):
        shutil.rmtree(run.folder / "analysis" / "validation" / part, ignore_errors=True)
    for path in (*_own_paths(run), run.folder / "analysis" / "validation" / "fsc.csv"):
        path.unlink(missing_ok=True)


def analyze_run(
    run: Run | Path | str,
    *,
    epoch: int | None = None,
    n_clusters: int | None = None,
    masks: Mapping[str, Path | str] | None = None,
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
    positions
        Positions of the particles in their tomograms, of `read_positions`, for the distances of neighbours.
    seed
        Of every random step: the same seed gives the same result.
    device
        ``"cpu"`` or ``"cuda"``; None takes CUDA where it is there.
    tell
        Called with a line at the start of every step.

    Raises
    ------
    ValueError
        If the model has no latents (z_dim 0), the run has no finished epoch or fewer than 10 particles, or the number
        of clusters does not fit.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    number = int(run.epoch_folder(epoch).name)
    latents = run.latents(number)
    if latents.z_dim == 0 or len(latents.particle_id) < 10:
        raise ValueError(
            f"Got run {run.folder} with {latents.z_dim} latent dimensions of {len(latents.particle_id)} particles, "
            "expected at least 1 dimension and 10 particles. Its maps come from `tomodrgn generate`."
        )
    box = min(run.settings["box_px"], OCCUPANCY_BOX)
    voxel_size = run.settings["pixel_size_angst"] * run.settings["box_px"] / box
    regions = {name: read_region(path, box, voxel_size) for name, path in (masks or {}).items()}
    notes: list[str] = []
    tell("latents: components, UMAP, outliers, clusters ...")
    embedding = _embedding(latents, seed, notes)
    numbers = _cluster_numbers(latents, seed)
    distinct = len(np.unique(latents.mu, axis=0))
    best = int(numbers.index.to_numpy()[numbers["best"].to_numpy().argmax()])
    wanted = min(max(2, best), distinct) if n_clusters is None else n_clusters
    clusters = cluster_latents(latents, wanted, seed=seed)
    centres = cluster_centres(latents, clusters)
    tell(f"maps: {wanted} clusters and traversals ...")
    maps = {"clusters": generate_volumes(run, centres, epoch=number, device=device)}
    for i in range(1, min(latents.z_dim, 2) + 1):
        points = traverse_latents(latents, i, n_points=TRAVERSAL_POINTS)
        maps[f"pc{i}"] = generate_volumes(run, points, epoch=number, device=device)
    per_particle = [embedding, clusters.rename("cluster"), score_outliers(latents)]
    if regions:
        tell("occupancy of the masks in every particle ...")
        per_particle.append(_occupancy(run, latents, regions, epoch=number, device=device))
    particles = run.particles_without_images
    frame = particles.frame()
    tell("associations with the columns of the particles ...")
    associations = associate_columns(latents, frame, clusters=clusters.rename("cluster"), seed=seed)
    tell("epochs ...")
    epochs = compare_epochs(run, seed=seed, device=device)
    halves, validation = _from_images(run, clusters, number, seed=seed, device=device, tell=tell, notes=notes)
    distances = None
    if positions is None:
        notes.append("distances of neighbours: no positions in the tomograms were given (--positions)")
    else:
        matched = positions.aligned_to(particles).positions
        reach = NEIGHBOUR_BOXES * particles.box_px * particles.pixel_size_angst
        distances = pair_distances(matched, max_distance_angst=reach, seed=seed)
    return RunAnalysis(
        run=run,
        epoch=number,
        seed=seed,
        particles=pd.concat(per_particle, axis=1),
        cluster_numbers=numbers,
        centres=centres,
        maps=maps,
        associations=associations,
        tomograms=enrich_in_tomograms(clusters, frame["tomogram"], seed=seed),
        epochs=epochs,
        tilt_halves=halves,
        distances=distances,
        validation=validation,
        notes=tuple(notes),
    )


def _embedding(latents: Latents, seed: int, notes: list[str]) -> pd.DataFrame:
    components = reduce_latents(latents, min(latents.z_dim, 4))
    if latents.z_dim < 3:
        notes.append(f"UMAP: {latents.z_dim} latent dimensions are shown as they are")
        return components
    return components.join(umap_latents(latents, seed=seed))


def _cluster_numbers(latents: Latents, seed: int) -> pd.DataFrame:
    """BIC and stability of 1 to 10 clusters, by 5,000 particles at most."""
    rows = np.random.default_rng(seed).permutation(len(latents.particle_id))[:COUNTED_PARTICLES]
    some = latents.aligned_to(latents.particle_id[np.sort(rows)])
    distinct = len(np.unique(some.mu, axis=0))
    most = max(1, min(MOST_CLUSTERS, len(rows) // 5, distinct))
    table = mixture_bic(some, range(1, most + 1), seed=seed)
    table["stability"] = cluster_stability(some, range(2, most + 1), seed=seed)["stability"] if most > 1 else np.nan
    return table


def _occupancy(
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
    return pd.concat(parts).add_prefix("occupancy_")


def _from_images(
    run: Run,
    clusters: pd.Series,
    epoch: int,
    *,
    seed: int,
    device: str | None,
    tell: Callable[[str], None],
    notes: list[str],
) -> tuple[pd.DataFrame | None, SelectionValidation | None]:
    """What needs the images again; where they are gone, that is a note."""
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
    return halves, validation
