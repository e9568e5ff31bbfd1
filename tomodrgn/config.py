"""Every option, defined once: default, unit, range and help.

The command line, the run folder's JSON and the notebook's forms are all made from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

__all__ = ["LinearConfig", "PreprocessConfig", "PublishedConfig", "TrainConfig", "VaeConfig", "fault_of_options"]


class Config(BaseModel):
    """Base of all configurations: frozen, and unknown options are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def fault_of_options(config: type[Config], options: dict[str, Any]) -> str:
    """What is wrong with the options of a configuration: the first of them, and what was expected; empty if nothing.

    Examples
    --------
    >>> fault_of_options(PreprocessConfig, {"max_radius": 0.9})
    'max_radius 0.9, expected another (Input should be less than or equal to 0.5)'
    """
    try:
        config.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place} {first['input']!r:.60}, expected another ({first['msg']})"
    return ""


class PreprocessConfig(Config):
    """How raw tilt images become weighted Fourier coefficients."""

    window: bool = True
    """Multiply images by a soft circular window before the Fourier transform."""
    window_inner: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Radius up to which the window is 1, as a fraction of the half box."""
    window_outer: Annotated[float, Field(gt=0, le=1.5, validate_default=True)] = 0.9
    """Radius beyond which the window is 0, as a fraction of the half box."""
    max_radius: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    """Highest spatial frequency used, in cycles per pixel; 0.5 is Nyquist."""
    exposure_weighting: bool = True
    """Weight frequencies by the exposure filter, and leave out those beyond the optimal exposure."""
    tilt_weighting: bool = True
    """Weight images by the cosine of their tilt angle."""

    @field_validator("window_outer")
    @classmethod
    def _outer_beyond_inner(cls, outer: float, info: Any) -> float:  # a ValidationInfo, a protocol not for isinstance
        if outer < info.data.get("window_inner", 0.0):
            raise ValueError(f"Got {outer}, expected at least window_inner, {info.data['window_inner']}")
        return outer


class VaeConfig(Config):
    """The tilt-series variational autoencoder."""

    z_dim: Annotated[int, Field(ge=0, le=1024)] = 8
    """Number of latent dimensions; 0 is a homogeneous reconstruction by the same decoder."""
    encoder_dim: Annotated[int, Field(ge=8, le=4096)] = 256
    """Width of the encoder's layers."""
    encoder_layers: Annotated[int, Field(ge=1, le=16)] = 3
    """Number of residual layers in each of the two encoders."""
    tilt_feature_dim: Annotated[int, Field(ge=2, le=4096)] = 128
    """Number of features of each tilt image that are pooled over the tilts of a particle."""
    pooling: Literal["mean", "max", "median", "attention", "concatenate"] = "mean"
    """How the features of a particle's tilt images are combined: attention is a set transformer; concatenate
    gives each tilt of the series a place of its own."""
    encoder_frame: Literal["particle", "image"] = "particle"
    """What the encoder sees of a tilt image: its density at points fixed to the particle (so that poses need not be
    learned), or the image's own Fourier coefficients (as published)."""
    encoder_grid: Annotated[int, Field(ge=3, le=64)] = 11
    """Number of points across the particle at which the encoder sees its density; for frame 'particle'."""
    particle_radius: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Radius of the particle, as a fraction of the half box; for frame 'particle' and the consensus."""
    consensus: bool = True
    """Decode differences from the average of all particles (their weighted backprojection, within a soft sphere),
    instead of whole volumes."""
    decoder_dim: Annotated[int, Field(ge=8, le=4096)] = 256
    """Width of the decoder's layers."""
    decoder_layers: Annotated[int, Field(ge=1, le=16)] = 3
    """Number of residual layers in the decoder."""
    positional_encoding: Literal["gaussian", "geometric"] = "gaussian"
    """Features of a coordinate: sines and cosines along random vectors, or along the axes in geometric series."""
    n_frequencies: Annotated[int | None, Field(ge=4, le=4096)] = None
    """Number of sines (and of cosines) of a coordinate; none given: 3/2 of the box."""
    feature_sigma: Annotated[float, Field(gt=0, le=2)] = 0.5
    """Standard deviation of the random Fourier features, in half boxes."""


class LinearConfig(Config):
    """The linear model: probabilistic PCA of volumes."""

    n_components: Annotated[int | None, Field(ge=1, le=64)] = None
    """Number of components; none given: as many as help to predict tilts that were held out, but at least one."""
    max_components: Annotated[int, Field(ge=1, le=64)] = 12
    """Most components that are tested on held-out tilts."""
    component_radius: Annotated[float | None, Field(gt=0, le=0.5)] = None
    """Radius up to which components are fitted, in cycles per pixel; none given: that at which held-out tilts are
    predicted best."""
    component_mask: Literal["density", "sphere"] = "density"
    """Where components may differ from zero: about the density of the average, or in the whole sphere."""
    mask_radius: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Radius of the sphere that holds average and components, as a fraction of the half box."""
    iterations: Annotated[int, Field(ge=1, le=1000)] = 20
    """Number of iterations of the last fit."""
    memory_gib: Annotated[float, Field(gt=0)] = 4.0
    """Memory for statistics of images in GiB; if those of all images need more, the fit begins with a random part of
    the particles and ends with passes over all, and if those of 1,000 need more, it ends at a lower radius and says so.
    """


class PublishedConfig(Config):
    """The decoder of an imported run of tomoDRGN 1.0 or cryoDRGN; sizes of 0 are those of a run without one."""

    program: Literal["tomodrgn", "cryodrgn"] = "tomodrgn"
    """Program that made the run."""
    z_dim: Annotated[int, Field(ge=0, le=1024)] = 8
    """Number of latent dimensions."""
    decoder_dim: Annotated[int, Field(ge=0, le=16384)] = 0
    """Width of the decoder's layers."""
    decoder_layers: Annotated[int, Field(ge=0, le=64)] = 0
    """Number of residual layers in the decoder."""
    n_frequencies: Annotated[int, Field(ge=0, le=16384)] = 0
    """Number of sines (and of cosines) of a coordinate."""


class TrainConfig(Config):
    """How the model is fitted."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    """Number of passes over all particles."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    """Number of particles in a batch."""
    learning_rate: Annotated[float | None, Field(gt=0, le=1)] = None
    """Learning rate of Adam; none given: 6e-4 times the square root of the batch size."""
    beta: Annotated[float | None, Field(ge=0)] = None
    """Weight of the KL divergence; none given: 0.1 / z_dim (published: 1 / z_dim), as split tilts keep noise out."""
    beta_schedule: Literal["constant", "linear", "cyclical"] = "constant"
    """Course of beta: constant; linear, from 0 over the first half of the epochs; or cyclical, four such rises."""
    kl_target: Annotated[float | None, Field(ge=0)] = None
    """KL divergence of a particle, in nats, away from which beta pulls; none given: towards 0."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate: constant, or falling to a hundredth over all epochs."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decoupled weight decay (AdamW)."""
    tilts_per_particle: Annotated[int | None, Field(ge=1)] = None
    """Number of tilt images taken from each particle in each epoch; none given: all."""
    tilt_sampling: Literal["random", "first"] = "random"
    """Which tilts_per_particle tilts: drawn anew in each epoch, or always those of the lowest exposure."""
    held_out_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of each particle's tilts, at least one tilt, that is never trained on; its loss is in history.csv as split
    test."""
    start_from: str | None = None
    """Folder of a linear run of particles with the same box, from which encoder and decoder start; none given: they
    start from what two halves of the tilts agree in."""
    split_tilts: bool = True
    """Encode a random half of a particle's tilts and reconstruct the other half, so that latents cannot memorise
    noise."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the initial weights, the order of particles and the latent noise."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of device."""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of devices on each node, each with a process of its own; they share every batch."""
    num_nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of nodes, on each of which torchrun or srun starts this command."""
    cache: bool = True
    """Read and transform images once and keep them in half precision; otherwise in each epoch."""
    cache_gib: Annotated[float, Field(ge=0)] = 4.0
    """Memory for these images on a node, in GiB; more of them go to a temporary file."""
    cache_dir: str | None = None
    """Folder of that file, best on a disk of the node itself; none given: the run folder."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Arithmetic of the networks; auto is bf16-mixed on CUDA and 32-true elsewhere."""
    points_per_chunk: Annotated[int | None, Field(ge=64)] = None
    """Number of coordinates decoded at once; none given: 2,048 on a CPU, 524,288 on CUDA."""
