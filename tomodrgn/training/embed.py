"""Latents of particles under a trained run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from tomodrgn.io import mrc
from tomodrgn.model.linear import LinearSubspace
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor
from tomodrgn.training.devices import default_device, own_share, sum_over_processes
from tomodrgn.training.linear_run import embed_linearly
from tomodrgn.training.run import Run
from tomodrgn.training.tensors import load_weights, read_tensors

__all__ = ["embed_particles", "encode_all", "give_components", "load_model", "particles_at_box"]


def embed_particles(
    run: Run | Path | str,
    particles: ParticleSet,
    *,
    epoch: int | None = None,
    device: str | None = None,
    fabric: Fabric | None = None,
) -> Latents:
    """Latents of any particles under a trained run; they need not have been in its training set.

    Parameters
    ----------
    run
        A run, or its folder.
    particles
        Particles of the same field of view as the run's, with pixels as large as the run's or smaller: their images
        are Fourier-cropped to its box.
    epoch
        Epoch whose weights are used; None is the last. A linear run has epoch 1 only.
    device
        ``"cpu"`` or ``"cuda"``; None takes CUDA where it is there.
    fabric
        Processes that share the particles of a VAE run, as of `training.devices.launch`; each of them returns all
        latents. Then `device` is not used.

    Raises
    ------
    ValueError
        If the epoch is not on disk, the field of view differs from the run's, or the box on disk is smaller.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    run.epoch_folder(epoch)  # an error if it is not there
    particles = particles_at_box(run, particles)
    chosen = default_device(device) if fabric is None else fabric.device
    preprocessor = Preprocessor(particles, run.preprocess_config, scale=run.settings["scale"], device=chosen)
    if run.kind == "linear":
        return embed_linearly(run, preprocessor)
    return encode_all(load_model(run, epoch).to(chosen), preprocessor, fabric=fabric)


def particles_at_box(run: Run, particles: ParticleSet) -> ParticleSet:
    """The particles with images Fourier-cropped to the box of a run.

    Raises
    ------
    ValueError
        If the field of view differs from the run's by more than 1 %, or the box on disk is smaller.
    """
    box, pixel_size = run.settings["box_px"], run.settings["pixel_size_angst"]
    field = particles.box_px * particles.pixel_size_angst / (box * pixel_size)
    if abs(field - 1) > 0.01 or particles.stack_box_px < box:
        across, wanted = particles.box_px * particles.pixel_size_angst, box * pixel_size
        raise ValueError(
            f"Got images of box {particles.stack_box_px} px, {across:g} A across, in {particles.source.path}, expected "
            f"{box} px or more, {wanted:g} A across, as in run {run.folder} (box {box}, {pixel_size:g} A/px). "
            "Extract them again with that field of view."
        )
    return particles.cropped_to(box)


@torch.no_grad()
def encode_all(
    model: TiltSeriesVae, preprocessor: Preprocessor, *, batch_size: int = 64, fabric: Fabric | None = None
) -> Latents:
    """Latents of all particles of a preprocessor's set, in its order, from all tilts.

    Pooling "concatenate" takes as many of the first tilts as it has places for. Of many processes (those of `fabric`)
    each encodes its share of the batches, and all get all latents.
    """
    particles = preprocessor.particles
    choices = sample_batches(particles, batch_size)
    if fabric is not None:
        choices = choices[own_share(fabric, len(choices))]
    found = torch.zeros(2, len(particles), model.config.z_dim, device=preprocessor.device)
    for batch in preprocessor.batches(choices):
        found[:, batch.particles] = torch.stack(model.encode(batch)).float()
    if fabric is not None:
        found = sum_over_processes(fabric, found)
    mu, logvar = found.cpu().numpy()
    return Latents(particle_id=particles.particle_id, mu=mu, logvar=logvar)


def build_model(run: Run) -> TiltSeriesVae:
    """The model of a run with its initial weights."""
    settings = run.settings
    model = TiltSeriesVae(
        run.model_config,
        settings["box_px"],
        max_radius=run.preprocess_config.max_radius,
        n_tilts=settings["n_tilts"],
        seed=run.train_config.seed,
    )
    if run.model_config.consensus:
        path = run.folder / "consensus.mrc"
        average = mrc.read_volume(path)[0]
        if len(average) != settings["box_px"]:
            raise ValueError(
                f"Got {path} of box {len(average)}, expected that of run.json, {settings['box_px']}. Restore the file."
            )
        model.set_consensus(torch.from_numpy(average))
    if run.subspace_path.is_file():
        model.set_subspace(LinearSubspace.from_tensors(read_tensors(run.subspace_path)))
    else:
        give_components(run, model)
    return model


def give_components(run: Run, model: TiltSeriesVae) -> None:
    """Give a model the maps of its latent coordinates from the run folder, if they are there."""
    if run.component_path.is_file():
        box = run.settings["box_px"]
        stack = np.array(mrc.open_stack(run.component_path), dtype=np.float32)
        if stack.shape[1] != box or len(stack) % box or len(stack) // box > run.z_dim:
            raise ValueError(
                f"Got {run.component_path} of {len(stack)} images of box {stack.shape[1]}, expected maps of box {box}, "
                f"at most {run.z_dim}. Restore the file."
            )
        volumes = torch.from_numpy(stack.reshape(-1, box, box, box))
        model.set_components(volumes.to(next(model.parameters()).device))


def load_model(run: Run, epoch: int | None = None) -> TiltSeriesVae:
    """The model of a run with the weights of an epoch (None is the last), on the CPU, ready for evaluation."""
    model = build_model(run)
    load_weights(model, run.epoch_folder(epoch) / "weights.safetensors")
    return model.eval()
