"""PublishedDecoder: the decoder that cryoDRGN and tomoDRGN 1.0 share, for maps of runs that they made.

Zhong et al. 2021 (10.1038/s41592-020-01049-4, Methods) and Powell & Davis 2024 (10.1038/s41592-024-02210-z): sines and
cosines of a frequency, joined by the latent, go through residual layers ``relu(x + W x)``; the result is the real and
the imaginary part of the volume's transform at frequencies of the half k_z <= 0. The other half is its conjugate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from tomodrgn.config import PublishedConfig
from tomodrgn.io.fault import FaultError

__all__ = ["PublishedDecoder", "decoder_config", "decoder_tensors"]

PREFIX = "decoder.decoder.main."


class PublishedDecoder(nn.Module):
    """Latents and frequencies to Fourier amplitudes, as the published programs do it.

    Parameters
    ----------
    config
        Sizes of the network.
    box_px
        Side of the images in pixels.
    """

    vectors: Tensor
    mean: Tensor

    def __init__(self, config: PublishedConfig, box_px: int) -> None:
        super().__init__()
        self.config, self.box_px = config, box_px
        width, n = config.decoder_dim, config.n_frequencies
        self.register_buffer("vectors", torch.zeros(3, n))
        self.register_buffer("mean", torch.zeros(()))
        self.first = nn.Linear(2 * n, width)
        self.from_latent = nn.Linear(config.z_dim, width, bias=False) if config.z_dim else None
        self.residual = nn.ModuleList(nn.Linear(width, width) for _ in range(config.decoder_layers))
        self.last = nn.Linear(width, 2)

    def decode_shared(self, coordinates: Float[Tensor, "m 3"], z: Float[Tensor, "v z"]) -> Float[Tensor, "v m 2"]:
        """Real and imaginary part of v volumes at the same frequencies, in cycles per pixel."""
        other, plane = coordinates[:, 2] > 0, coordinates[:, 2] == 0
        values = self._network(torch.where(other[:, None], -coordinates, coordinates), z)
        real, imaginary = values[..., 0], torch.where(other, -values[..., 1], values[..., 1])
        # The programs take k and -k of the plane k_z = 0 as they come and add them up in a Hartley transform.
        pair = values[:, plane], self._network(-coordinates[plane], z)
        here, there = (part[..., 0] - part[..., 1] for part in pair)
        real[:, plane], imaginary[:, plane] = (here + there) / 2, (there - here) / 2
        return torch.stack([real + self.mean, imaginary], dim=-1)

    def _network(self, coordinates: Float[Tensor, "m 3"], z: Float[Tensor, "v z"]) -> Float[Tensor, "v m 2"]:
        phase = coordinates @ self.vectors
        seen = self.first(torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1))  # (m, h)
        offsets = self.from_latent(z) if self.from_latent is not None else seen.new_zeros(len(z), seen.shape[1])
        return torch.stack([self._after_first(seen + offset) for offset in offsets])

    def _after_first(self, hidden: Tensor) -> Tensor:
        hidden = torch.relu(hidden)
        for layer in self.residual:
            hidden = torch.relu(hidden + layer(hidden))
        return self.last(hidden)


def decoder_config(
    state: Mapping[str, np.ndarray], options: Mapping[str, Any], *, z_dim: int, program: Literal["tomodrgn", "cryodrgn"]
) -> PublishedConfig:
    """Sizes of the decoder in a state dictionary.

    Parameters
    ----------
    state
        ``model_state_dict`` of the published program.
    options
        Its ``model_args``.

    Raises
    ------
    ValueError
        If the decoder is of another layout; the message says what was found, without the file.
    """
    layers = _layers(state)
    width = len(layers[0][0])
    if any(weight.shape != (width, width) for weight, _ in layers[1:-1]) or layers[-1][0].shape != (2, width):
        raise FaultError(f"layers of the shapes {[weight.shape for weight, _ in layers]}")
    seen = layers[0][0].shape[1] - z_dim
    if seen <= 0 or seen % 6:
        raise FaultError(f"{seen} features of a frequency")
    if options.get("activation", "relu") != "relu":
        raise FaultError(f"the activation {options['activation']!r:.40}")
    return PublishedConfig(
        program=program, z_dim=z_dim, decoder_dim=width, decoder_layers=len(layers) - 2, n_frequencies=seen // 2
    )


def decoder_tensors(
    state: Mapping[str, np.ndarray], options: Mapping[str, Any], config: PublishedConfig, *, box_px: int, mean: float
) -> dict[str, Tensor]:
    """The weights of a published decoder under the names of `PublishedDecoder`.

    Parameters
    ----------
    mean
        What the program added to every amplitude, in units of the standard deviation of the images.

    Raises
    ------
    ValueError
        If the frequencies of its features are of an unknown kind.
    """
    layers, n = _layers(state), config.n_frequencies
    first = layers[0][0]
    kind = str(options.get("pe_type", "gaussian"))
    # Features of random frequencies are all sines, then all cosines; of geometric ones so along each axis.
    order = np.arange(2 * n)
    if "decoder.rand_freqs" in state:
        vectors = state["decoder.rand_freqs"].reshape(-1, 3).T * (box_px // 2)
    else:
        vectors = np.kron(np.eye(3), _series(kind, n // 3, box_px))
        order = np.arange(2 * n).reshape(3, 2, n // 3).transpose(1, 0, 2).ravel()
    if vectors.shape != (3, n):
        raise FaultError(f"{vectors.shape[1]} frequencies of features for {2 * n} features")
    found = {"vectors": vectors, "mean": np.float32(mean), "first.weight": first[:, : 2 * n][:, order],
             "first.bias": layers[0][1], "last.weight": layers[-1][0], "last.bias": layers[-1][1]}  # fmt: skip
    if config.z_dim:
        found["from_latent.weight"] = first[:, 2 * n :]
    for i, (weight, bias) in enumerate(layers[1:-1]):
        found |= {f"residual.{i}.weight": weight, f"residual.{i}.bias": bias}
    return {name: torch.tensor(np.array(value, dtype=np.float32, order="C")) for name, value in found.items()}


def _layers(state: Mapping[str, np.ndarray]) -> list[tuple[Float32[np.ndarray, "o i"], Float32[np.ndarray, " o"]]]:
    """Weights and biases of the decoder's linear layers in their order; every other place is an activation."""
    numbers = sorted({int(name[len(PREFIX) :].split(".")[0]) for name in state
                      if name.startswith(PREFIX) and name[len(PREFIX) :].split(".")[0].isdecimal()})  # fmt: skip
    if len(numbers) < 2 or numbers != list(range(0, 2 * len(numbers), 2)):
        raise FaultError(f"the layers {numbers[:8]} of a decoder")
    layers = []
    for number in numbers:
        middle = "linear." if f"{PREFIX}{number}.linear.weight" in state else ""
        if (number in (numbers[0], numbers[-1])) == bool(middle):
            raise FaultError(f"layer {number} that is {'' if middle else 'not '}residual")
        weight, bias = (np.asarray(state.get(f"{PREFIX}{number}.{middle}{part}")) for part in ("weight", "bias"))
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.dtype.kind != "f":
            raise FaultError(f"layer {number} of the shapes {weight.shape}, {bias.shape}")
        layers.append((weight.astype(np.float32), bias.astype(np.float32)))
    return layers


def _series(kind: str, n: int, box_px: int) -> Float[np.ndarray, " n"]:
    """Angular frequencies of the features along an axis, times the box."""
    half, steps = box_px // 2, np.arange(n)
    share = steps / (half - 1)
    if kind == "geom_ft":
        return 2 * half * math.pi * (1 / half) ** share
    if kind == "geom_full":
        return 2 * half * math.pi * (1 / (2 * half * math.pi)) ** share
    if kind == "geom_lowf":
        return half * (1 / half) ** share
    if kind == "geom_nohighf":
        return half * (2 * math.pi / half) ** share
    if kind == "linear_lowf":
        return steps.astype(float)
    raise FaultError(f"features of the kind {kind!r:.40}")
