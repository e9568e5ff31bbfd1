"""Tilt pooling: the features of a particle's tilt images, combined into those of the particle.

All take any number of tilts; only "concatenate" depends on their order.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

__all__ = ["AttentionBlock", "AttentionPooling", "TiltPooling", "mean_by_owner", "pad_by_owner"]

N_HEADS = 4


class TiltPooling(nn.Module):
    """Features of a particle's tilt images, combined over the tilts.

    Parameters
    ----------
    kind
        ``"mean"``, ``"max"``, ``"median"``, ``"attention"`` or ``"concatenate"``.
    feature_dim
        Number of features of an image, f.
    n_tilts
        Number of places for tilts, t; used by concatenate only.
    """

    def __init__(self, kind: str, feature_dim: int, n_tilts: int) -> None:
        super().__init__()
        self.kind, self.n_tilts = kind, n_tilts
        self.out_dim = feature_dim * n_tilts if kind == "concatenate" else feature_dim
        self.attention = AttentionPooling(feature_dim) if kind == "attention" else None

    def forward(
        self, features: Float[Tensor, "i f"], owner: Int64[Tensor, " i"], slot: Int64[Tensor, " i"], n_particles: int
    ) -> Float[Tensor, "b o"]:
        """Pooled features (b, f), or (b, t f) for concatenate.

        The number of an image in its particle's series, its `slot`, is its place in a concatenation. Places without an
        image are zero, and the others are raised in proportion (as in dropout); images beyond the last place do not
        count.
        """
        if self.kind == "mean":
            return mean_by_owner(features, owner, n_particles)
        if self.kind == "max":
            index = owner[:, None].expand_as(features)
            empty = features.new_full((n_particles, features.shape[-1]), -torch.inf)
            return empty.scatter_reduce(0, index, features, reduce="amax")
        if self.kind == "concatenate":
            return self._concatenated(features, owner, slot, n_particles)
        padded, present = pad_by_owner(features, owner, n_particles)
        return _median(padded, present) if self.attention is None else self.attention(padded, present)

    def _concatenated(self, features: Tensor, owner: Tensor, slot: Tensor, n_particles: int) -> Tensor:
        placed = slot < self.n_tilts
        features, owner, slot = features[placed], owner[placed], slot[placed]
        counts = torch.bincount(owner, minlength=n_particles).clamp(min=1)
        raised = features * (self.n_tilts / counts)[owner, None].to(features.dtype)
        empty = features.new_zeros(n_particles, self.n_tilts, features.shape[-1])
        return empty.index_put((owner, slot), raised).flatten(1)


class AttentionPooling(nn.Module):
    """Set transformer: tilts attend to each other, then one learned query attends to them.

    A set attention block and pooling by multihead attention with one seed (Lee et al. 2019, arXiv 1810.00825, equations
    8 and 11).
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.among = AttentionBlock(feature_dim)
        self.feed = nn.Linear(feature_dim, feature_dim)
        self.query = nn.Embedding(1, feature_dim)
        self.pool = AttentionBlock(feature_dim)

    def forward(self, features: Float[Tensor, "b t f"], present: Bool[Tensor, "b t"]) -> Float[Tensor, "b f"]:
        """Features of each particle; rows that are not present do not count."""
        shared = torch.relu(self.feed(self.among(features, features, present)))
        query = self.query.weight.expand(len(features), 1, -1)
        return self.pool(query, shared, present)[:, 0]


class AttentionBlock(nn.Module):
    """Multihead attention block (Lee et al. 2019, arXiv 1810.00825, equations 6 and 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.n_heads = math.gcd(dim, N_HEADS)
        self.to_query, self.to_key, self.to_value, self.mix, self.feed = (nn.Linear(dim, dim) for _ in range(5))
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(
        self, queries: Float[Tensor, "b q f"], rows: Float[Tensor, "b t f"], present: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b q f"]:
        """What each query finds among the rows that are present."""
        query, key, value = (
            layer(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (b, heads, rows, f / heads)
            for layer, x in ((self.to_query, queries), (self.to_key, rows), (self.to_value, rows))
        )
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=present[:, None, None, :])
        seen = self.norm_1(queries + self.mix(found.transpose(1, 2).flatten(2)))
        return self.norm_2(seen + torch.relu(self.feed(seen)))


def pad_by_owner(
    rows: Float[Tensor, "i f"], owner: Int64[Tensor, " i"], n_owners: int
) -> tuple[Float[Tensor, "b t f"], Bool[Tensor, "b t"]]:
    """Rows of each owner side by side, with zeros up to the largest count, and where there are rows.

    Examples
    --------
    >>> values, present = pad_by_owner(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1]), 2)
    >>> values[..., 0].tolist(), present.tolist()
    ([[1.0, 2.0], [3.0, 0.0]], [[True, True], [True, False]])
    """
    counts = torch.bincount(owner, minlength=n_owners)
    order = torch.argsort(owner, stable=True)
    rows, owner = rows[order], owner[order]
    column = torch.arange(len(owner), device=owner.device) - (torch.cumsum(counts, 0) - counts)[owner]
    present = torch.arange(int(counts.max()), device=owner.device) < counts[:, None]
    padded = rows.new_zeros(*present.shape, rows.shape[-1]).index_put((owner, column), rows)
    return padded, present


def mean_by_owner(rows: Float[Tensor, "i f"], owner: Int64[Tensor, " i"], n_owners: int) -> Float[Tensor, "b f"]:
    """Mean of the rows of each owner."""
    total = rows.new_zeros(n_owners, rows.shape[-1]).index_add(0, owner, rows)
    count = torch.bincount(owner, minlength=n_owners)
    return total / count[:, None]


def _median(padded: Float[Tensor, "b t f"], present: Bool[Tensor, "b t"]) -> Float[Tensor, "b f"]:
    """Median over the rows that are present, the mean of the middle two for an even count."""
    ordered = padded.masked_fill(~present[..., None], torch.inf).sort(dim=1).values
    counts = present.sum(dim=1)
    middle = torch.stack([(counts - 1) // 2, counts // 2], dim=1)  # (b, 2)
    return ordered.gather(1, middle[..., None].expand(-1, -1, padded.shape[-1])).mean(dim=1)
