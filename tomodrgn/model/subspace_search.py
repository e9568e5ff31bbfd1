"""How fine and how many: the radius and the number of components that predict held-out tilts best.

Each quarter of the tilts of every particle is held out once. Components are fitted to the other three, coordinates are
found from these alone, and the held-out tilts are scored by their log likelihood given those coordinates. Noise that was
fitted predicts nothing and costs likelihood, so that the score falls when the low-pass is opened too far, and with each
component too many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float32
from torch import Tensor

from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.slice_statistics import PARTS, SliceMatrices, SliceStatistics
from tomodrgn.model.subspace_em import SubspaceEm, canonical, held_out_gain

__all__ = ["SearchStage", "SubspaceSearch", "stage_radii"]

FIRST_SHELL, GROWTH = 4, 1.2
ITERATIONS = 8
SIGNIFICANT = 3.0  # standard errors


@dataclass(frozen=True, kw_only=True)
class SearchStage:
    """Score of one radius.

    Parameters
    ----------
    radius
        In cycles per pixel.
    gain
        Log likelihood of held-out tilts by 0, 1 ... c components over that by none, summed over particles, (c + 1,).
    error
        Standard error of what each component adds, (c,).
    """

    radius: float
    gain: Float32[Tensor, " n"]
    error: Float32[Tensor, " c"]

    @property
    def n_components(self) -> int:
        """Number of leading components that each add more than `SIGNIFICANT` standard errors."""
        added = self.gain.diff() > SIGNIFICANT * self.error
        return int(added.int().cumprod(dim=0).sum())


@dataclass(kw_only=True)
class SubspaceSearch:
    """Opens the low-pass stage by stage, until held-out tilts are predicted worse.

    Parameters
    ----------
    statistics
        Residuals of all images.
    box_px
        Side of the images.
    noise
        Variance of the noise in each Fourier shell, (s,).
    mask
        Real-space mask of the components.
    n_components
        Number of components tested.
    """

    statistics: Sequence[SliceStatistics]
    box_px: int
    noise: Float32[Tensor, " s"]
    mask: Float32[Tensor, "d d d"]
    n_components: int
    seed: int
    stages: list[SearchStage] = field(default_factory=list)

    def run(self, radii: Sequence[float], wanted: int | None = None) -> Iterator[SearchStage]:
        """Score radii from low to high; ends after the best one was followed by a worse one.

        Parameters
        ----------
        wanted
            Number of components that the score is of; None takes what each stage suggests.
        """
        components: list[Tensor | None] = [None] * PARTS
        best = -float("inf")
        for radius in radii:
            lattice = VoxelLattice.within(self.box_px, radius, device=self.mask.device)
            matrices = SliceMatrices.of(self.statistics, radius, len(lattice))
            gains = torch.zeros(())
            for held_out in range(PARTS):
                parts = [part for part in range(PARTS) if part != held_out]
                em = SubspaceEm(matrices, lattice, self.noise, mask=self.mask, parts=parts)
                started = components[held_out]
                if started is None:
                    found = em.random_start(self.n_components, self.seed)
                else:
                    found = torch.nn.functional.pad(started, (0, len(lattice) - started.shape[1]))
                for _ in range(ITERATIONS if started is not None else 2 * ITERATIONS):
                    found, _ = em.step(found)
                components[held_out] = found = canonical(found)
                gains = gains + held_out_gain(em.evidence(found), parts)
            stage = SearchStage(
                radius=radius,
                gain=gains.sum(dim=1),
                error=gains.diff(dim=0).std(dim=1) * gains.shape[1] ** 0.5,
            )
            self.stages.append(stage)
            yield stage
            score = float(stage.gain[stage.n_components if wanted is None else wanted])
            if score < best:
                return
            best = max(score, best)

    def best(self, wanted: int | None = None) -> SearchStage:
        """The stage under which held-out tilts were predicted best."""
        return max(self.stages, key=lambda stage: float(stage.gain[stage.n_components if wanted is None else wanted]))


def stage_radii(box_px: int, max_radius: float) -> list[float]:
    """Radii from Fourier shell 4 up, each about a fifth larger, the last `max_radius`."""
    radii, shell = [], FIRST_SHELL
    while (shell + 0.5) / box_px < max_radius:
        radii.append((shell + 0.5) / box_px)
        shell = max(shell + 1, round(shell * GROWTH))
    return [*radii, max_radius]
