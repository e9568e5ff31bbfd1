"""Speed of training: points decoded a second, share of the matrix-product peak, seconds of an epoch.

    python tests/benchmarks/train_epoch.py [--box 32] [--particles 100] [--tilts 21] [--out train_epoch.json]

The peak is measured in the same run, as the best float32 matrix product of the decoder's width (bfloat16 on CUDA) over
several row counts, before and after the work, so that other load on the machine falls on both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

import tomodrgn as td
from tomodrgn.model.loss import weighted_squared_error
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.particles.dataset import TiltDataset, sample_batches
from tomodrgn.particles.preprocess import DecodePoints, Preprocessor, estimate_scale
from tomodrgn.training.start import MAX_COMPONENTS
from tomodrgn.training.step import chunk_size, training_step


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, width: int, seconds: float = 1.0) -> float:
    """Best floating-point operations a second of (rows, width) @ (width, width) over several row counts."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    best = 0.0
    for rows in (1024, 2048, 4096, 8192, 65_536):
        a, b = (
            torch.randn(rows, width, device=device, dtype=dtype),
            torch.randn(width, width, device=device, dtype=dtype),
        )
        for _ in range(5):
            a @ b
        synchronise(device)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds / 5:
            for _ in range(10):
                a @ b
            synchronise(device)
            count += 10
        best = max(best, 2 * rows * width * width * count / (time.perf_counter() - began))
    return best


def decoder_flops(model: TiltSeriesVae) -> int:
    """Floating-point operations of the decoder's matrix products for one point, forward and backward.

    Forward is one product a layer; backward two, but one for the first layer, whose input needs no gradient.
    """
    products = [2 * layer.weight.numel() for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    return 3 * sum(products) - products[0]


def decoder_rate(model: TiltSeriesVae, points: DecodePoints, z: torch.Tensor, chunk: int) -> float:
    """Points decoded and differentiated a second."""
    device = z.device
    best = 0.0
    for _ in range(5):
        synchronise(device)
        began = time.perf_counter()
        for piece in points.split(chunk):
            weighted_squared_error(model.decode(piece.coordinates, piece.owner, z), piece).backward()
        synchronise(device)
        best = max(best, len(points) / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("box", 32), ("particles", 100), ("tilts", 21), ("batch-size", 8), ("decoder-dim", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("train_epoch.json"))
    options = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if on_gpu else "32-true")
    with tempfile.TemporaryDirectory() as folder:
        particles = td.simulate_particles(
            Path(folder) / "data", n_particles=options.particles, n_tilts=options.tilts, box_px=options.box
        )
        preprocess, training = td.PreprocessConfig(), td.TrainConfig(batch_size=options.batch_size)
        network = TiltSeriesVae(td.VaeConfig(decoder_dim=options.decoder_dim), options.box)
        maps = torch.zeros(1 + min(network.config.z_dim, MAX_COMPONENTS), *3 * (options.box,))
        network.set_consensus(maps[0])  # a run has both; what they hold does not change the time
        network.set_components(maps[1:])
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        model, optimizer = fabric.setup(network, optimizer)
        for method in ("encode", "decode"):
            model.mark_forward_method(method)
        preprocessor = Preprocessor(
            particles, preprocess, scale=estimate_scale(particles, preprocess), device=fabric.device
        )
        dataset, chunk = TiltDataset(particles), chunk_size(training, fabric.device)

        peak = matmul_peak(fabric.device, options.decoder_dim)
        batch = preprocessor(next(iter(dataset.batches(sample_batches(particles, 8)))))
        z = torch.zeros(8, network.config.z_dim, device=fabric.device, requires_grad=True)
        rate = decoder_rate(model, batch.points(), z, chunk)
        peak = max(peak, matmul_peak(fabric.device, options.decoder_dim))

        seconds = {"read and preprocess": 0.0, "networks and optimiser": 0.0}
        n_points, noise = 0, torch.Generator(fabric.device).manual_seed(0)
        began = mark = time.perf_counter()
        for raw in dataset.batches(sample_batches(particles, options.batch_size)):
            batch = preprocessor(raw)
            synchronise(fabric.device)
            seconds["read and preprocess"] += time.perf_counter() - mark
            mark = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            training_step(fabric, model, batch, training, beta=0.01, noise=noise)
            optimizer.step()
            synchronise(fabric.device)
            n_points += int((batch.loss_weights > 0).sum()) // 2  # half of the tilts are decoded
            seconds["networks and optimiser"] += time.perf_counter() - mark
            mark = time.perf_counter()
        epoch = time.perf_counter() - began

    flops = decoder_flops(network)
    result = {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "box_px": options.box,
        "images": particles.n_images,
        "matmul_peak_gflops": peak / 1e9,
        "decoder_points_per_second": rate,
        "decoder_fraction_of_peak": rate * flops / peak,
        "epoch_seconds": epoch,
        "epoch_points_per_second": n_points / epoch,
        "epoch_fraction_of_peak": n_points * flops / epoch / peak,
        "data_fraction_of_epoch": seconds["read and preprocess"] / epoch,
    }
    width = max(map(len, result))
    for name, value in result.items():
        print(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
