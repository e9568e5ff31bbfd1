"""Speed of training: points decoded a second, share of the matrix-product peak, seconds of an epoch.

    python tests/benchmarks/train_epoch.py [--box 32] [--particles 100] [--tilts 21] [--out train_epoch.json]

The peak is measured in the same run, as the best float32 matrix product of the decoder's width (bfloat16 on CUDA) over
several row counts, before and after the work. The decoder's share of it is the median over many pieces of work, each
compared with matrix products right before and after it, so that other load on the machine falls on both. The epoch is a
second one: its images come from the cache. Wanted: decoder at 0.8 of the peak or more, data below 0.05 of the epoch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, matmul_peak, matmul_rate, synchronise, write_json
from lightning_fabric import Fabric

import tomodrgn as td
from tomodrgn.model.loss import weighted_squared_error
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.preprocess import DecodePoints, Preprocessor, estimate_scale
from tomodrgn.training.cached_images import cache_images
from tomodrgn.training.start import MAX_COMPONENTS
from tomodrgn.training.step import chunk_size, draw_noise, training_step


def decoder_flops(model: TiltSeriesVae) -> int:
    """Floating-point operations of the decoder's matrix products for one point, forward and backward.

    Forward is one product a layer; backward two, but one for the first layer, whose input needs no gradient.
    """
    products = [2 * layer.weight.numel() for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    return 3 * sum(products) - products[0]


def decoder_rate(model: TiltSeriesVae, points: DecodePoints, z: torch.Tensor, chunk: int) -> tuple[float, float]:
    """Points decoded and differentiated a second (the best), and the share of the peak around it (the median)."""
    best, shares = 0.0, []
    pieces = [piece for piece in points.split(chunk) if len(piece) == min(chunk, len(points))]
    width, flops = model.config.decoder_dim, decoder_flops(model)
    before = matmul_rate(z.device, width)
    for piece in (pieces * 60)[:60]:
        synchronise(z.device)
        began = time.perf_counter()
        weighted_squared_error(model.decode(piece.coordinates, piece.owner, z), piece).backward()
        synchronise(z.device)
        rate = len(piece) / (time.perf_counter() - began)
        after = matmul_rate(z.device, width)
        shares.append(2 * rate * flops / (before + after))
        best, before = max(best, rate), after
    return best, float(np.median(shares))


def prepared(particles, options, fabric):
    """Model, optimiser and images of a training."""
    preprocess = td.PreprocessConfig()
    network = TiltSeriesVae(td.VaeConfig(decoder_dim=options.decoder_dim), options.box)
    maps = torch.zeros(1 + min(network.config.z_dim, MAX_COMPONENTS), *3 * (options.box,))
    network.set_consensus(maps[0])  # a run has both; what they hold does not change the time
    network.set_components(maps[1:])
    model, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters(), lr=1e-3))
    for method in ("encode", "decode"):
        model.mark_forward_method(method)
    scale = estimate_scale(particles, preprocess)
    return network, model, optimizer, Preprocessor(particles, preprocess, scale=scale, device=fabric.device)


def timed_epoch(model, optimizer, images, training, fabric) -> dict[str, float]:
    """Seconds of the parts of one epoch, and how many points it decodes."""
    found = {"data": 0.0, "networks": 0.0, "points": 0.0}
    noise = torch.Generator(fabric.device).manual_seed(0)
    choices = sample_batches(images.particles, training.batch_size, generator=np.random.default_rng(0))
    began = mark = time.perf_counter()
    for (_, rows), batch in zip(choices, images.batches(choices), strict=True):
        synchronise(fabric.device)
        found["data"] += time.perf_counter() - mark
        mark = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        drawn = draw_noise([len(r) for r in rows], 8, noise)
        training_step(fabric, model, batch, training, beta=0.01, noise=drawn)
        optimizer.step()
        synchronise(fabric.device)
        found["points"] += int((batch.loss_weights > 0).sum()) / 2  # half of the tilts are decoded
        found["networks"] += time.perf_counter() - mark
        mark = time.perf_counter()
    return {**found, "epoch": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("box", 32), ("particles", 100), ("tilts", 21), ("batch-size", 8), ("decoder-dim", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("train_epoch.json"))
    options = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if on_gpu else "32-true")
    training = td.TrainConfig(batch_size=options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        particles = td.simulate_particles(
            Path(folder) / "data", n_particles=options.particles, n_tilts=options.tilts, box_px=options.box
        )
        network, model, optimizer, images = prepared(particles, options, fabric)
        began = time.perf_counter()
        images = images.with_cache(cache_images(images, Path(folder), training, fabric))
        first_read = time.perf_counter() - began

        peak = matmul_peak(fabric.device, options.decoder_dim)
        batch = next(iter(images.batches(sample_batches(particles, 8))))
        z = torch.zeros(batch.n_particles, network.config.z_dim, device=fabric.device, requires_grad=True)
        rate, share = decoder_rate(model, batch.points(), z, chunk_size(training, fabric.device))
        peak = max(peak, matmul_peak(fabric.device, options.decoder_dim))
        timed = timed_epoch(model, optimizer, images, training, fabric)

    flops = decoder_flops(network)
    result = {
        "box_px": options.box,
        "images": particles.n_images,
        "matmul_peak_gflops": peak / 1e9,
        "decoder_points_per_second": rate,
        "decoder_fraction_of_peak": share,
        "first_reading_seconds": first_read,
        "epoch_seconds": timed["epoch"],
        "epoch_points_per_second": timed["points"] / timed["epoch"],
        "epoch_fraction_of_peak": timed["points"] * flops / timed["epoch"] / peak,
        "data_fraction_of_epoch": timed["data"] / timed["epoch"],
    }
    print(machine())
    width = max(map(len, result))
    for name, value in result.items():
        print(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    write_json(options.out, **result)


if __name__ == "__main__":
    main()
