"""TiltSeriesVae: tilt images of a particle -> latent -> Fourier amplitudes of its volume.

Powell & Davis 2024, Nature Methods (10.1038/s41592-024-02210-z): a network for each tilt image, pooling over tilts, a
network for the particle, and a decoder of Fourier coordinates. By default four things differ, each with an option:

- The tilt network sees the image's density at points fixed to the particle instead of the image (`encoder_frame`).
- It sees what is left of the image when the projection of the consensus is subtracted (`consensus`).
- The particle's latent is the sum of a linear map of the pooled densities, started from what two halves of the tilts
  agree in, and of the networks, which start at zero (`encoder_frame`).
- The decoder adds its network, which starts at zero, to the consensus and to one map for each of the first latent
  coordinates (`consensus`).

A model can also start from a linear subspace (`set_subspace`): its first latents are then the exact posteriors of the
subspace plus what the networks add, and the decoder's maps are its components.

The decoder sees one Friedel half of Fourier space only: callers flip coordinates into it and conjugate the result.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tomodrgn.config import VaeConfig
from tomodrgn.imaging import grid, gridding
from tomodrgn.model.layers import (
    FixedNorm,
    FourierFeatures,
    ParticleFrame,
    ResidualMlp,
    draw_weights,
)
from tomodrgn.model.linear import LinearSubspace
from tomodrgn.model.pooling import TiltPooling, mean_by_owner
from tomodrgn.model.split_components import find_split_components
from tomodrgn.model.subspace_encoder import SubspaceEncoder
from tomodrgn.particles.preprocess import FourierBatch

__all__ = ["TiltSeriesVae"]


class TiltSeriesVae(nn.Module):
    """Variational autoencoder of tilt series.

    Parameters
    ----------
    config
        Sizes of the networks; `z_dim` 0 leaves out the encoder (homogeneous reconstruction).
    box_px
        Side of the images in pixels.
    max_radius
        Highest spatial frequency of the images, in cycles per pixel.
    n_tilts
        Largest number of tilts of a particle, for pooling "concatenate".
    seed
        Seed of the initial weights and of the random Fourier features.
    """

    def __init__(
        self, config: VaeConfig, box_px: int, *, max_radius: float = 0.5, n_tilts: int = 1, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.box_px = config, box_px
        generator = torch.Generator().manual_seed(seed)
        if config.z_dim:
            self._build_encoder(max_radius, n_tilts)
        n_frequencies = config.n_frequencies or 3 * box_px // 2
        self.features = FourierFeatures(
            n_frequencies, box_px, config.feature_sigma, generator=generator, kind=config.positional_encoding
        )
        self.decoder = ResidualMlp(self.features.out_dim, config.decoder_dim, 2, config.decoder_layers)
        self.from_latent = nn.Linear(config.z_dim, config.decoder_dim, bias=False) if config.z_dim else None
        draw_weights(self, generator)
        self.subspace_encoder: SubspaceEncoder | None = None
        self.maps: Tensor | None  # transforms of the consensus and of the components, for sampling
        self.register_buffer("maps", None, persistent=False)
        if config.consensus:
            nn.init.zeros_(self.decoder.last.weight)
            nn.init.zeros_(self.decoder.last.bias)

    def set_consensus(self, volume: Float[Tensor, "d d d"]) -> None:
        """Give the map (axes zyx, in units of the scaled images) from which the decoder's differences are counted."""
        self.maps = gridding.prepare_sampling(volume[None])

    def set_components(self, volumes: Float[Tensor, "c d d d"]) -> None:
        """Give the maps that the decoder adds to the consensus in proportion to the first c latent coordinates."""
        if self.maps is None:
            raise ValueError("Got components of a model without consensus, expected one first. Call set_consensus.")
        self.maps = gridding.join_prepared(self.maps[:1], gridding.prepare_sampling(volumes))

    def set_subspace(self, subspace: LinearSubspace) -> None:
        """Give a linear subspace: its average, its components for the first latent coordinates, and their posteriors.

        Raises
        ------
        ValueError
            If it has more components than the model has latent dimensions, or none.
        """
        if not 0 < subspace.z_dim <= self.config.z_dim:
            raise ValueError(
                f"Got a subspace of {subspace.z_dim} components for {self.config.z_dim} latent dimensions, expected 1 "
                "or more, and no more than those. Take its leading components."
            )
        self.set_consensus(subspace.consensus)
        self.set_components(subspace.components * subspace.prior_std[:, None, None, None])
        self.subspace_encoder = SubspaceEncoder(subspace.noise, max_radius=subspace.max_radius, box_px=self.box_px)

    def _build_encoder(self, max_radius: float, n_tilts: int) -> None:
        config, layers, width = self.config, self.config.encoder_layers, self.config.encoder_dim
        if config.encoder_frame == "particle":
            self.frame = ParticleFrame(
                self.box_px, max_radius, n_across=config.encoder_grid, radius=config.particle_radius
            )
            seen = len(self.frame)
        else:
            seen = 2 * len(grid.HalfGrid.of_image(self.box_px, max_radius=max_radius))
        self.pooling = TiltPooling(config.pooling, config.tilt_feature_dim, n_tilts)
        self.tilt_norm = FixedNorm(seen)
        self.tilt_encoder = ResidualMlp(seen, width, config.tilt_feature_dim, layers)
        self.particle_encoder = ResidualMlp(self.pooling.out_dim, width, 2 * config.z_dim, layers)
        self.linear_encoder = nn.Linear(seen, config.z_dim) if config.encoder_frame == "particle" else None

    def seen_by_encoder(self, batch: FourierBatch) -> Float[Tensor, "i s"]:
        """What the encoder sees of each image: densities at the particle's points, or Fourier coefficients.

        Densities are those of the image minus the projection of the consensus, if there is one.
        """
        return self._seen(batch, self.residual(batch) if self.config.encoder_frame == "particle" else batch)

    def _seen(self, batch: FourierBatch, residual: FourierBatch) -> Tensor:
        if self.config.encoder_frame == "image":
            return batch.encoder_input.flatten(1)
        return self.frame(residual.gridding_terms()[0], batch.rotations)

    def residual(self, batch: FourierBatch) -> FourierBatch:
        """The same images minus the projection of the consensus, if there is one."""
        if self.maps is None:
            return batch
        coordinates, sign = grid.fold_into_half(grid.slice_coordinates(batch.frequencies, batch.rotations))
        slices = gridding.sample_half_volume(self.maps[:1], coordinates.reshape(-1, 3))[:, 0]  # (i p, 2)
        slices = torch.complex(slices[:, 0], slices[:, 1] * sign.flatten()).view(sign.shape)
        return replace(batch, values=batch.values - batch.transfer * slices)

    @torch.no_grad()
    def start_encoder(self, first: Float[Tensor, "k s"], second: Float[Tensor, "k s"], seen_std: float) -> None:
        """Start the encoder of frame "particle" from the components in which two halves of the tilts agree.

        The linear part is set to these components. With reliability r (share of signal in the variance) latent means
        get the variance r and posteriors the variance 1 - r, as a standard normal prior asks. The networks
        start at zero on top of that.

        Parameters
        ----------
        first, second
            For each particle the mean over either half of its tilts of what the encoder sees.
        seen_std
            Root mean square of what is seen of single tilts.
        """
        if self.linear_encoder is None:
            raise ValueError(
                "Got an encoder of frame 'image', expected frame 'particle'. Train it from its random start."
            )
        found = find_split_components(first.double(), second.double(), self.config.z_dim)
        self.start_encoder_at_zero(found.centre.float(), seen_std)
        self.linear_encoder.weight.copy_(found.weight)
        self.linear_encoder.bias.copy_(-found.weight @ found.centre)
        self.particle_encoder.last.bias[self.config.z_dim :].copy_(torch.log(1 - found.reliability))

    @torch.no_grad()
    def start_encoder_at_zero(self, seen_mean: Float[Tensor, " s"], seen_std: float) -> None:
        """Start the encoder so that its networks add nothing to latents, nor to the logarithm of their variances.

        Parameters
        ----------
        seen_mean, seen_std
            Mean, and root mean square, of what the encoder sees of single tilts.
        """
        if self.linear_encoder is not None:
            nn.init.zeros_(self.linear_encoder.weight)
            nn.init.zeros_(self.linear_encoder.bias)
        self.tilt_norm.mean.copy_(seen_mean)
        self.tilt_norm.std.fill_(seen_std)
        nn.init.zeros_(self.particle_encoder.last.weight)
        nn.init.zeros_(self.particle_encoder.last.bias)

    def encode(self, batch: FourierBatch) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """Mean and log variance of the latent of each particle of a batch."""
        if not self.config.z_dim:
            empty = batch.ctf.new_zeros(batch.n_particles, 0)
            return empty, empty
        with torch.autocast(batch.values.device.type, enabled=False):  # positions need all their digits
            residual = self.residual(batch)
            seen = self._seen(batch, residual)
        pooled = self.pooling(self.tilt_encoder(self.tilt_norm(seen)), batch.owner, batch.slot, batch.n_particles)
        mean, log_variance = self.particle_encoder(pooled).chunk(2, dim=-1)
        if self.linear_encoder is not None:
            mean = mean + self.linear_encoder(mean_by_owner(seen, batch.owner, batch.n_particles))
        if self.subspace_encoder is not None and self.maps is not None:
            with torch.autocast(batch.values.device.type, enabled=False):
                found = self.subspace_encoder(residual, self.maps[1:])
            rest = (0, self.config.z_dim - found.mean.shape[1])
            mean = mean + nn.functional.pad(found.mean, rest)
            variance = found.covariance.diagonal(dim1=-2, dim2=-1)
            log_variance = log_variance + nn.functional.pad(variance.log(), rest)
        return mean, log_variance

    def decode(
        self, coordinates: Float[Tensor, "m 3"], owner: Int64[Tensor, " m"], z: Float[Tensor, "b z"]
    ) -> Float[Tensor, "m 2"]:
        """Real and imaginary part of the volume of particle ``owner`` at each frequency of the canonical half.

        The first layer is linear in features and latent, so the latent's part is computed once a particle.
        """
        hidden = self.first_layer(coordinates)
        if self.from_latent is not None:
            hidden += self.from_latent(z).index_select(0, owner)
        values = self.decoder.after_first(hidden)
        with torch.autocast(coordinates.device.type, enabled=False):
            values = values.float()
            if self.maps is not None:
                sampled = gridding.sample_half_volume(self.maps, coordinates)  # (m, 1 + c, 2)
                shares = self._shares(z).index_select(0, owner)
                values = values + (shares[:, :, None] * sampled).sum(dim=1)
        return values

    def first_layer(self, coordinates: Float[Tensor, "m 3"]) -> Float[Tensor, "m h"]:
        """What the decoder computes of frequencies alone, before it knows of latents."""
        return self.decoder.first(self.features(coordinates))

    def decode_shared(
        self, coordinates: Float[Tensor, "m 3"], z: Float[Tensor, "v z"], hidden: Float[Tensor, "m h"] | None = None
    ) -> Float[Tensor, "v m 2"]:
        """Values of v volumes at the same frequencies; features and their layer are computed once for all.

        Parameters
        ----------
        hidden
            `first_layer` of the frequencies, where it is known.
        """
        hidden = self.first_layer(coordinates) if hidden is None else hidden
        if self.from_latent is None:
            values = self.decoder.after_first(hidden.clone()).expand(len(z), -1, -1)
        else:
            values = torch.stack([self.decoder.after_first(hidden + offset) for offset in self.from_latent(z)])
        if self.maps is not None:
            sampled = gridding.sample_half_volume(self.maps, coordinates)
            values = values + torch.einsum("vc,mcr->vmr", self._shares(z), sampled)
        return values

    def _shares(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b s"]:
        """Share of each of the maps in a volume: one of the consensus, the latent coordinate of each component."""
        n_components = 0 if self.maps is None else len(self.maps) - 1
        return torch.cat([z.new_ones(len(z), 1), z[:, :n_components]], dim=1).float()
