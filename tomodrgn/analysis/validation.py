"""Is what a selection shows in the images? Its reconstruction beside the decoded maps, without help of the model.

A model may show differences that its images do not have; and particles that were chosen by latents share noise as well
as structure, so that even their reconstruction shows what they were chosen by. Hence two tests: decoded maps are
compared to reconstructions from images and poses alone; and particles are chosen by one half of their tilts and
reconstructed from the other half.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32

from tomodrgn.analysis.convergence import tilt_halves
from tomodrgn.analysis.differences import DifferenceMap
from tomodrgn.imaging import resolution
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.training.embed import embed_particles
from tomodrgn.training.run import Run
from tomodrgn.volumes.backproject import Reconstruction, backproject
from tomodrgn.volumes.generate import generate_volumes
from tomodrgn.volumes.volume_stack import VolumeStack

__all__ = ["SelectionValidation", "validate_selection"]

DECODED_PARTICLES = 24
NEIGHBOURS = 15
MIN_PARTICLES = 8
SURE, DOUBTFUL = 5.0, 3.0  # standard errors


@dataclass(frozen=True, kw_only=True)
class SelectionValidation:
    """A selection and all other particles, reconstructed and decoded.

    Parameters
    ----------
    selected, others
        Reconstructions from images and poses.
    decoded
        Two maps, ``selected`` and ``others``: the means of maps decoded at particles of each.
    curves
        Columns shell, resolution_angst; FSC of the half maps of each (`fsc_selected_halves`, `fsc_others_halves`); of
        each decoded map with its own reconstruction (`fsc_selected`, `fsc_others`) and with the other one
        (`fsc_crossed`, mean of both); and of the decoded difference with the reconstructed one (`fsc_difference`).
    difference_scale, difference_error
        The reconstructed difference, selected minus others, as a multiple of the decoded one, with its standard error;
        see `DifferenceMap.scale_of`. 1: the images have all of it; 0: they have none. Particles that were chosen by
        their noise give more than 0 as well.
    independent_z
        Agreement of the two differences that come from choosing by one half of the tilts and reconstructing from the
        other, in standard errors of what noise gives; NaN if not made.
    verdict
        What follows, in one line.
    """

    selected: Reconstruction
    others: Reconstruction
    decoded: VolumeStack
    curves: pd.DataFrame
    difference_scale: float
    difference_error: float
    independent_z: float
    verdict: str

    def save(self, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
        """Write the maps into selected/, others/ and decoded/ of a folder, and fsc.csv and verdict.txt.

        Raises
        ------
        FileExistsError
            If a file exists and `overwrite` is False.
        """
        folder = Path(folder)
        tables = {"fsc.csv": self.curves.to_csv(index=False), "verdict.txt": self.verdict + "\n"}
        for name in tables:
            refuse_existing(folder / name, overwrite=overwrite)
        paths = self.selected.save(folder / "selected", overwrite=overwrite)
        paths += self.others.save(folder / "others", overwrite=overwrite)
        paths += self.decoded.save(folder / "decoded", overwrite=overwrite)
        for name, text in tables.items():
            with replacing(folder / name, overwrite=overwrite) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return [*paths, *(folder / name for name in tables)]


def validate_selection(
    run: Run | Path | str,
    selection: Iterable[str] | Any,
    *,
    particles: ParticleSet | None = None,
    epoch: int | None = None,
    independent: bool = True,
    seed: int = 0,
    device: str | None = None,
) -> SelectionValidation:
    """Compare a selection with all other particles, in decoded maps and in reconstructions from the images.

    For the independent test each particle is chosen anew from one half of its tilts (every second image): it is
    selected if most of its 15 nearest neighbours among the latents of all tilts are. Maps are then made from the other
    half of the tilts, so that no image both chooses and shows.

    Parameters
    ----------
    run
        A run, or its folder.
    selection
        Particle ids, or anything with an attribute `particle_ids`.
    particles
        The particles of the run with their images, if these have moved; None takes those of the run.
    epoch
        Epoch whose latents and weights are used; None is the last.
    independent
        Whether to choose by halves of the tilts too; it cannot be done with pooling ``concatenate``, with fewer than
        four images a particle, or without latents.
    seed
        Draws the particles whose maps are decoded, and half sets where the source names none.

    Raises
    ------
    KeyError
        If an id is not in the run.
    ValueError
        If fewer than eight particles are selected, or left.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    particles = run.particles if particles is None else particles
    chosen = np.zeros(len(particles), dtype=bool)
    chosen[particles.positions_of(getattr(selection, "particle_ids", selection))] = True
    if min(chosen.sum(), (~chosen).sum()) < MIN_PARTICLES:
        raise ValueError(
            f"Got a selection of {chosen.sum()} of {len(chosen)} particles, expected at least {MIN_PARTICLES} selected "
            f"and {MIN_PARTICLES} others to compare. Choose others."
        )
    latents = run.latents(epoch).aligned_to(particles.particle_id)
    decoded = _decoded_means(run, latents, chosen, epoch=epoch, seed=seed, device=device)
    expected = decoded.maps[0] - decoded.maps[1]

    def reconstructed(images: ParticleSet, rows: Bool[np.ndarray, " k"]) -> list[Reconstruction]:
        ids, options = images.particle_id, run.preprocess_config
        return [backproject(images.subset(ids[r]), preprocess=options, seed=seed, device=device) for r in (rows, ~rows)]

    selected, others = reconstructed(particles, chosen)
    scale, error = DifferenceMap.of(selected, others).scale_of(expected)
    z = np.nan
    if independent and _can_halve(run, particles):
        found = []
        halves = tilt_halves(particles)
        for choosing, showing in (halves, halves[::-1]):
            mu = embed_particles(run, choosing, epoch=epoch, device=device).aligned_to(showing.particle_id).mu
            rows = _chosen_anew(latents.mu, chosen, mu)
            if min(rows.sum(), (~rows).sum()) >= 2:
                found.append(DifferenceMap.of(*reconstructed(showing, rows)))
        z = found[0].agreement_with(found[1], expected) if len(found) == 2 else 0.0
    return SelectionValidation(
        selected=selected,
        others=others,
        decoded=decoded,
        curves=_curves(decoded, selected, others),
        difference_scale=scale,
        difference_error=error,
        independent_z=z,
        verdict=_verdict(scale, error, z),
    )


def _decoded_means(
    run: Run, latents: Latents, chosen: Bool[np.ndarray, " k"], *, epoch: int | None, seed: int, device: str | None
) -> VolumeStack:
    """Means of maps decoded at particles of the selection and of the others."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(rows))[:DECODED_PARTICLES] for rows in (chosen, ~chosen)]
    stack = generate_volumes(run, latents.mu[np.concatenate(drawn)], epoch=epoch, device=device)
    means = [part.mean(axis=0) for part in np.split(stack.maps, [len(drawn[0])])]
    labels = pd.DataFrame({"n_particles": [int(chosen.sum()), int((~chosen).sum())]}, index=["selected", "others"])
    return VolumeStack(maps=np.stack(means), voxel_size_angst=stack.voxel_size_angst, labels=labels)


def _can_halve(run: Run, particles: ParticleSet) -> bool:
    fixed = run.kind == "vae" and run.model_config.pooling == "concatenate"
    return bool(run.z_dim) and not fixed and bool((particles.tilt_counts >= 4).all())


def _chosen_anew(
    known: Float32[np.ndarray, "k z"], chosen: Bool[np.ndarray, " k"], points: Float[np.ndarray, "m z"]
) -> Bool[np.ndarray, " m"]:
    """Whether most of the nearest known latents of each point are selected ones."""
    from sklearn.neighbors import NearestNeighbors

    n = min(NEIGHBOURS, len(known))
    near = NearestNeighbors(n_neighbors=n).fit(known).kneighbors(points, return_distance=False)
    return np.asarray(chosen[near].mean(axis=1) > 0.5)


def _curves(decoded: VolumeStack, selected: Reconstruction, others: Reconstruction) -> pd.DataFrame:
    mask = selected.mask

    def fsc(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return resolution.fourier_shell_correlation(one, other, mask)

    curve = selected.curve().rename(columns={"fsc": "fsc_selected_halves"})
    curve["fsc_others_halves"] = others.fsc
    curve["fsc_selected"] = fsc(decoded.maps[0], selected.full)
    curve["fsc_others"] = fsc(decoded.maps[1], others.full)
    curve["fsc_crossed"] = 0.5 * (fsc(decoded.maps[0], others.full) + fsc(decoded.maps[1], selected.full))
    curve["fsc_difference"] = fsc(decoded.maps[0] - decoded.maps[1], selected.full - others.full)
    return curve


def _verdict(scale: float, error: float, z: float) -> str:
    said = f"the reconstructed difference is {scale:.2f} +- {error:.2f} times the decoded one"
    if not np.isfinite(error):
        said = "the decoded maps do not differ"
    if np.isnan(z):
        return f"{said}; whether that is more than the noise the particles were chosen by was not tested"
    tested = f"particles chosen by half of their tilts differ in the other half by {z:.1f} standard errors of noise"
    if z >= SURE:
        return f"borne out: {said}, and {tested}"
    if z >= DOUBTFUL:
        return f"doubtful: {said}, but {tested}"
    return f"not borne out: {tested}; {said}, which may be the noise that they were chosen by"
