"""How latents and maps change between epochs and between halves of the tilts, and whether training went on too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from scipy import stats

from tomodrgn.analysis.latent_space import cluster_centres, cluster_latents
from tomodrgn.imaging import grid, resolution
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.embed import embed_particles
from tomodrgn.training.run import Run
from tomodrgn.volumes.generate import generate_volumes

__all__ = [
    "EpochComparison",
    "compare_epochs",
    "compare_tilt_halves",
    "latent_agreement",
    "neighbours_kept",
    "tilt_halves",
]

QUERIED_PARTICLES = 1000
MASK_RADIUS = 0.7
# What counts as the same result as that of the last epoch.
SAME_LATENTS, SAME_DIFFERENCES = 0.9, 0.9
SETTLED_EPOCHS = 2  # so many kept epochs after the first stable one
# A held-out loss rises: so many epochs after its lowest, on a line that is chance less often than that, by more than a
# share of its range.
RISING_EPOCHS, RISING_BY_CHANCE, OVERFIT_SHARE = 3, 0.02, 0.05


@dataclass(frozen=True, kw_only=True)
class EpochComparison:
    """What changed from epoch to epoch of a run.

    Parameters
    ----------
    table
        One row an epoch that is on disk (index `epoch`): losses `reconstruction`, `held_out` (NaN without held-out
        tilts) and `kl`; with the epoch before in the table, and (`..._last`) with the last one: `latent_agreement`,
        `neighbours_kept`, and of the maps of fixed particles `map_fsc` (mean over maps and over shells from 1 to half
        of Nyquist) and `difference_correlation` (of how each map differs from the mean of the maps). Against a
        reference map, if one was given: `reference_fsc` and `reference_resolution_angst`, at FSC 0.5, of the mean of
        the maps.
    curves
        FSC between the maps of each epoch and those of the last one, mean over maps, (e, s): index epoch, columns
        Fourier shells.
    particle_ids
        The particles whose maps were compared.
    stable_from
        First epoch from which latents and maps are those of the last one; None if that is not so for long enough.
    warnings
        Signs of over-fitting, and what could not be told.
    verdict
        All that in one line.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    particle_ids: np.ndarray
    stable_from: int | None
    warnings: tuple[str, ...]
    verdict: str


def compare_epochs(
    run: Run | Path | str,
    *,
    n_maps: int = 6,
    max_epochs: int = 20,
    n_neighbors: int = 15,
    box_px: int | None = None,
    reference: Float32[np.ndarray, "d d d"] | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EpochComparison:
    """Compare the epochs of a run: losses, latents, neighbourhoods, and maps at fixed particles.

    Latents of two epochs agree by the share of the variance that is left after the best rotation, shift and scale
    (orthogonal Procrustes analysis, Schoenemann 1966): 1 is the same picture, 0 none in common. An epoch is stable if
    from it on that share with the last epoch is 0.9 or more, and the maps differ from each other as those of the last
    one do (correlation 0.9 or more). At least two later epochs must bear it out.

    Parameters
    ----------
    run
        A run, or its folder; a linear run has one result, with nothing to compare.
    n_maps
        Number of fixed particles: those nearest to the centres of k-means clusters of the last latents.
    max_epochs
        Of more epochs on disk so many are taken, evenly spaced, the first and last among them.
    n_neighbors
        Neighbours of a particle that are looked for again in the other epoch.
    box_px
        Side of the compared maps; None is the run's, 64 at most.
    reference
        Map of the run's box, axes zyx, to score each epoch against.
    seed
        Draws the clusters and the particles whose neighbours are compared.
    progress
        Called with the number of epochs done and their number.

    Raises
    ------
    ValueError
        If the run has no finished epoch, numbers are below 1, or the reference has another box than the run.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    for name, value in (("n_maps", n_maps), ("max_epochs", max_epochs), ("n_neighbors", n_neighbors)):
        if value < 1:
            raise ValueError(f"Got {name}={value}, expected 1 or more. Choose another number.")
    run.epoch_folder()  # refuses a run without a finished epoch
    epochs = _spread(run.epochs, max_epochs)
    box = min(run.settings["box_px"], 64) if box_px is None else box_px
    if reference is not None and reference.shape != (run.settings["box_px"],) * 3:
        side = run.settings["box_px"]
        raise ValueError(
            f"Got a reference map of shape {reference.shape}, expected {(side,) * 3}, the box of the run. Resample it."
        )
    last = run.latents(epochs[-1])
    chosen = _fixed_particles(last, n_maps, seed)
    latents: dict[int, Latents] = {}
    maps: dict[int, np.ndarray] = {}
    for done, epoch in enumerate(epochs):
        latents[epoch] = run.latents(epoch).aligned_to(last.particle_id)
        points = latents[epoch].mu[chosen]
        maps[epoch] = generate_volumes(run, points, epoch=epoch, box_px=box, device=device).maps
        if progress is not None:
            progress(done + 1, len(epochs))
    table = _losses(run, epochs)
    curves = _compare(table, latents, maps, n_neighbors=n_neighbors, seed=seed)
    if reference is not None:
        for epoch in epochs:
            mean = generate_volumes(run, latents[epoch].mu[chosen], epoch=epoch, device=device).maps.mean(axis=0)
            fsc = resolution.fourier_shell_correlation(mean, reference, _mask(len(reference)))
            table.loc[epoch, "reference_fsc"] = fsc[1 : len(fsc) // 2 + 1].mean()
            resolved = resolution.resolution_at(fsc, run.settings["pixel_size_angst"], 0.5)
            table.loc[epoch, "reference_resolution_angst"] = resolved
    stable = _stable_from(table)
    warnings = _warnings(run)
    return EpochComparison(
        table=table,
        curves=curves,
        particle_ids=last.particle_id[chosen],
        stable_from=stable,
        warnings=warnings,
        verdict=_verdict(table, stable, warnings),
    )


def compare_tilt_halves(
    run: Run | Path | str,
    particles: ParticleSet | None = None,
    *,
    epoch: int | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """How far two halves of each particle's tilts give the same latents: what is not noise agrees.

    Every second image of a particle, in the order of the file, makes one half. Particles with fewer than four images
    are left out.

    Parameters
    ----------
    run
        A run, or its folder, with a model that takes any number of tilts (every one but pooling ``concatenate``).
    particles
        The particles to embed; None takes those of the run.

    Returns
    -------
    One row a latent axis (``z1`` ...): `correlation` of the halves' means (Pearson), and `reliability`, what follows
    for all tilts together, ``2 r / (1 + r)`` (Spearman 1910, Brown 1910), 0 for r below 0. ``attrs["n_particles"]``.

    Raises
    ------
    ValueError
        If the model needs a fixed number of tilts, or fewer than three particles have four images.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if run.kind == "vae" and run.model_config.pooling == "concatenate":
        raise ValueError(
            f"Got run {run.folder}, whose pooling 'concatenate' takes a fixed number of tilts, expected one that takes "
            "half of them. Train with another pooling."
        )
    particles = run.particles if particles is None else particles
    halves = tilt_halves(particles)
    means = [embed_particles(run, half, epoch=epoch, device=device).mu.astype(np.float64) for half in halves]
    a, b = (mean - mean.mean(axis=0) for mean in means)
    spread = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    correlation = (a * b).sum(axis=0) / np.maximum(spread, 1e-300)
    positive = correlation.clip(min=0)
    table = pd.DataFrame(
        {"correlation": correlation, "reliability": 2 * positive / (1 + positive)},
        index=pd.Index([f"z{i + 1}" for i in range(len(correlation))], name="axis"),
    )
    table.attrs["n_particles"] = len(halves[0])
    return table


def tilt_halves(particles: ParticleSet) -> tuple[ParticleSet, ParticleSet]:
    """The even and the odd images of each particle, in the order of the file; of particles with four images or more.

    Raises
    ------
    ValueError
        If fewer than three particles have four images.
    """
    enough = particles.tilt_counts >= 4
    if enough.sum() < 3:
        raise ValueError(f"Got {enough.sum()} particles with four images or more, expected at least 3. Give others.")
    particles = particles.subset(particles.particle_id[enough])
    place = np.arange(particles.n_images) - np.repeat(particles.offsets[:-1], particles.tilt_counts)
    return particles.subset_images(place % 2 == 0), particles.subset_images(place % 2 == 1)


def latent_agreement(a: Float[np.ndarray, "k z"], b: Float[np.ndarray, "k z"]) -> float:
    """Share of the variance that two sets of latents have in common after the best rotation, shift and scale.

    Square of the sum of the singular values of the cross-covariance, over the product of both variances (orthogonal
    Procrustes analysis, Schoenemann 1966). NaN if one of them does not vary.
    """
    a, b = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in (a, b))
    total = np.square(a).sum() * np.square(b).sum()
    return float(np.linalg.svd(a.T @ b, compute_uv=False).sum() ** 2 / total) if total > 0 else np.nan


def neighbours_kept(
    a: Float[np.ndarray, "k z"], b: Float[np.ndarray, "k z"], *, n_neighbors: int = 15, seed: int = 0
) -> float:
    """Share of the nearest neighbours of a particle that are its nearest neighbours in the other latents too.

    Of 1,000 particles drawn at random, if there are more; chance gives ``n_neighbors / (k - 1)``. NaN of one particle.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = np.random.default_rng(seed).permutation(len(a))[:QUERIED_PARTICLES]
    n = min(n_neighbors, len(a) - 1)
    if n < 1:
        return np.nan
    found = []
    for points in (a, b):
        near = NearestNeighbors(n_neighbors=n + 1).fit(points).kneighbors(points[rows], return_distance=False)
        # Of equal points the particle itself may not come first.
        found.append([set(line.tolist()) - {int(row)} for line, row in zip(near, rows, strict=True)])
    return float(np.mean([len(one & other) / n for one, other in zip(*found, strict=True)]))


def _spread(epochs: list[int], n: int) -> list[int]:
    if len(epochs) <= n:
        return list(epochs)
    return [epochs[i] for i in np.unique(np.linspace(0, len(epochs) - 1, max(n, 2)).round().astype(int))]


def _fixed_particles(latents: Latents, n_maps: int, seed: int) -> np.ndarray:
    """Rows of particles that stand for the whole latent space."""
    if latents.z_dim == 0:
        return np.zeros(1, dtype=np.int64)
    n = min(n_maps, len(latents.particle_id))
    centres = cluster_centres(latents, cluster_latents(latents, n, seed=seed))
    return pd.Index(latents.particle_id).get_indexer(centres["particle_id"])


def _losses(run: Run, epochs: list[int]) -> pd.DataFrame:
    history = run.history.set_index("epoch")
    train, test = (history[history["split"] == split].reindex(epochs) for split in ("train", "test"))
    columns = {"reconstruction": train["reconstruction"], "held_out": test["reconstruction"], "kl": train["kl"]}
    return pd.DataFrame(columns, index=pd.Index(epochs, name="epoch"), dtype=np.float64)


def _compare(
    table: pd.DataFrame, latents: dict[int, Latents], maps: dict[int, np.ndarray], *, n_neighbors: int, seed: int
) -> pd.DataFrame:
    """Fill in how each epoch agrees with the one before and with the last; FSC curves with the last."""
    epochs, curves = list(table.index), {}
    mask = _mask(maps[epochs[0]].shape[-1])
    for end, others in (("", [None, *epochs[:-1]]), ("_last", [epochs[-1]] * len(epochs))):
        for epoch, other in zip(epochs, others, strict=True):
            if other is None:
                continue
            mu, mu_other = latents[epoch].mu, latents[other].mu
            if mu.shape[1]:
                table.loc[epoch, f"latent_agreement{end}"] = latent_agreement(mu_other, mu)
                kept = neighbours_kept(mu_other, mu, n_neighbors=n_neighbors, seed=seed)
                table.loc[epoch, f"neighbours_kept{end}"] = kept
            curve = np.mean(
                [
                    resolution.fourier_shell_correlation(one, two, mask)
                    for one, two in zip(maps[other], maps[epoch], strict=True)
                ],
                axis=0,
            )
            table.loc[epoch, f"map_fsc{end}"] = curve[1 : len(curve) // 2 + 1].mean()
            differences = [(m - m.mean(axis=0)) * mask for m in (maps[other], maps[epoch])]
            table.loc[epoch, f"difference_correlation{end}"] = _correlation(*differences)
            if end:
                curves[epoch] = curve
    return pd.DataFrame(curves).T.rename_axis("epoch")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    spread = float(np.sqrt(np.square(a, dtype=np.float64).sum() * np.square(b, dtype=np.float64).sum()))
    return float((a.astype(np.float64) * b).sum()) / spread if spread > 0 else np.nan


def _mask(box_px: int) -> Float32[np.ndarray, "d d d"]:
    return grid.soft_spherical_mask(box_px, MASK_RADIUS).numpy()


def _stable_from(table: pd.DataFrame) -> int | None:
    """First epoch from which all agree with the last; None if fewer than two others follow it."""
    same = pd.Series(data=True, index=table.index)
    if "latent_agreement_last" in table:
        same &= table["latent_agreement_last"] >= SAME_LATENTS
        same &= table["difference_correlation_last"] >= SAME_DIFFERENCES
    else:  # one map only, which has nothing to differ from
        same &= table["map_fsc_last"] >= SAME_DIFFERENCES
    stable = table.index[same[::-1].cummin()[::-1]]
    return int(stable[0]) if len(stable) > SETTLED_EPOCHS else None


def _warnings(run: Run) -> tuple[str, ...]:
    """Signs of over-fitting in all epochs' losses."""
    if run.kind == "linear":
        return ()
    history = run.history
    held_out = history[history["split"] == "test"].set_index("epoch")["reconstruction"]
    if held_out.empty:
        return ("over-fitting cannot be told from the losses: no tilts were held out (--held-out-fraction 0.1)",)
    best = held_out.idxmin()
    later = held_out.loc[best:].iloc[1:]
    if len(later) >= RISING_EPOCHS:
        trend = stats.linregress(later.index.to_numpy(dtype=np.float64), later.to_numpy(), alternative="greater")
        if trend.pvalue < RISING_BY_CHANCE and later.iloc[-1] > held_out.min() + OVERFIT_SHARE * np.ptp(held_out):
            return (f"over-fitting: the loss of held-out tilts rises since epoch {best}, prefer that epoch",)
    return ()


def _verdict(table: pd.DataFrame, stable: int | None, warnings: tuple[str, ...]) -> str:
    last = int(table.index[-1])
    if len(table) == 1:
        said = f"one result, that of epoch {last}, with nothing to compare it with"
    elif stable is not None:
        said = f"stable from epoch {stable} of {last}"
    elif len(table) <= SETTLED_EPOCHS:
        said = f"{len(table)} epochs on disk are too few to tell"
    else:
        before = table.iloc[-2]
        latents = f"latents agree {before['latent_agreement_last']:.2f}, " if "latent_agreement_last" in table else ""
        said = (
            f"not stable at epoch {last}: between the last two, {latents}differences of maps "
            f"{before['difference_correlation_last']:.2f}; train longer"
        )
    return "; ".join((said, *warnings))
