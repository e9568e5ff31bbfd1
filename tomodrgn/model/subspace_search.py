"""How fine and how many: the radius and the number of components that predict held-out tilts best.

Each quarter of the tilts of every particle is held out once. Components are fitted to the other three, coordinates are
found from these alone, and the held-out tilts are scored by their log likelihood given those coordinates. Noise that
was fitted predicts nothing and costs likelihood, so that the score falls when the low-pass is opened too far, and with
each component too many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float32
from torch import Tensor

from tomodrgn.imaging.lattice import VoxelLattice
from tomodrgn.model.slice_statistics import PARTS, SliceMatrices, SliceStatistics
from tomodrgn.model.subspace_em import Evidence, SubspaceEm, canonical, evidence, held_out_gain, size, spread

__all__ = ["SearchStage", "SubspaceSearch", "stage_radii"]

FIRST_SHELL, GROWTH = 4, 1.2
FIRST_ITERATIONS, ITERATIONS = 12, 4
FIRST_COMPONENTS = 4
SPARE = 1  # components tested beyond those that were found
SIGNIFICANT, SMALLEST = 3.0, 3.0  # standard errors; natural units of log likelihood


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
    components
        Fitted without the last part of the tilts, (c, v).
    fitted_sizes
        For each part of the tilts, the norms of the components that were fitted without it, (t, c).
    held_out
        For each part of the tilts, what it says of the coordinates along these.
    """

    radius: float
    gain: Float32[Tensor, " n"]
    error: Float32[Tensor, " c"]
    components: Tensor
    fitted_sizes: Float32[Tensor, "t c"]
    held_out: list[Evidence]

    @cached_property
    def sizes(self) -> Float32[Tensor, " c"]:
        """Norm of a standard deviation of the volumes along each component, as held-out tilts show it."""
        spreads = torch.stack([spread(seen, [0]) for seen in self.held_out])
        return (self.fitted_sizes * spreads).mean(dim=0)

    @property
    def n_components(self) -> int:
        """Number of leading components that each add more than chance would."""
        added = self.gain.diff()
        return int(((added > SIGNIFICANT * self.error) & (added > SMALLEST)).int().cumprod(dim=0).sum())

    def score(self, wanted: int | None = None) -> float:
        """Held-out gain by `wanted` components; None takes as many as this stage suggests."""
        return float(self.gain[self.n_components if wanted is None else wanted])

    @property
    def overfits(self) -> bool:
        """Whether even the first component predicts held-out tilts worse than none, beyond chance."""
        return float(self.gain[1]) < -SIGNIFICANT * float(self.error[0])


@dataclass(kw_only=True)
class SubspaceSearch:
    """Opens the low-pass stage by stage, until held-out tilts are predicted worse.

    Parameters
    ----------
    blocks
        Residuals of all images.
    box_px
        Side of the images.
    noise
        Variance of the noise in each Fourier shell, (s,).
    mask
        Real-space mask of the components.
    max_components
        Most components that are tested.
    wanted
        Number of components that the score is of; None takes what each stage suggests.
    """

    blocks: Sequence[SliceStatistics]
    box_px: int
    noise: Float32[Tensor, " s"]
    mask: Float32[Tensor, "d d d"]
    max_components: int
    wanted: int | None = None
    seed: int
    stages: list[SearchStage] = field(default_factory=list)

    def run(self, radii: Sequence[float]) -> Iterator[SearchStage]:
        """Score radii from low to high; ends after the best one was followed by a worse one."""
        kept: list[Tensor | None] = [None] * PARTS
        for radius in radii:
            stage = self._stage(radius, kept)
            n = stage.n_components
            while self.wanted is None and n == len(stage.error) < self.max_components:
                kept = [None] * PARTS
                stage = self._stage(radius, kept, n_components=min(2 * n + 2, self.max_components))
                n = stage.n_components
            self.stages.append(stage)
            yield stage
            if stage.overfits or stage.score(self.wanted) < self.best().score(self.wanted):
                return
            kept = [c if self.wanted or c is None else c[: max(n + SPARE, 2)] for c in kept]

    def best(self) -> SearchStage:
        """The stage under which held-out tilts were predicted best."""
        return max(self.stages, key=lambda stage: stage.score(self.wanted))

    def _stage(self, radius: float, kept: list[Tensor | None], n_components: int | None = None) -> SearchStage:
        """Fit at one radius, from what was kept of the last one, which is replaced."""
        lattice = VoxelLattice.within(self.box_px, radius, device=self.mask.device)
        matrices = SliceMatrices.of(self.blocks, radius, len(lattice))
        n = self.wanted or n_components or min(FIRST_COMPONENTS, self.max_components)
        gains = torch.zeros((), device=self.mask.device)
        sizes, unseen = [], []
        for held_out in range(PARTS):
            parts = [part for part in range(PARTS) if part != held_out]
            em = SubspaceEm(lattice, self.noise, self.mask, parts)
            before = kept[held_out]
            if before is None:
                found, iterations = em.random_start(matrices, n, self.seed), FIRST_ITERATIONS
            else:
                found, iterations = lattice.widened(before), ITERATIONS
            for _ in range(iterations):
                found = em.step([matrices], found)
            kept[held_out] = found = canonical(found)
            seen = evidence(matrices, found, em.noise)
            gains = gains + held_out_gain(seen, parts)
            sizes.append(size(found))
            unseen.append(seen.of_part(held_out))
        error = gains.diff(dim=0).std(dim=1) * gains.shape[1] ** 0.5
        return SearchStage(
            radius=radius,
            gain=gains.sum(dim=1),
            error=error,
            components=found,
            fitted_sizes=torch.stack(sizes),
            held_out=unseen,
        )


def stage_radii(box_px: int, max_radius: float) -> list[float]:
    """Radii from Fourier shell 4 up, each about a fifth larger, the last `max_radius`."""
    radii, shell = [], FIRST_SHELL
    while (shell + 0.5) / box_px < max_radius:
        radii.append((shell + 0.5) / box_px)
        shell = max(shell + 1, round(shell * GROWTH))
    return [*radii, max_radius]
