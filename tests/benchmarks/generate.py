"""Speed of decoding maps: 100 at each box, by the VAE and by the linear model, together and one at a time.

    python tests/benchmarks/generate.py [--box 32 64 128] [--maps 100] [--singles 3] [--out generate.json]

`together` decodes all maps in one pass over the Fourier grid for each 16; `apart` decodes a few one after another, as a
click on a scatter does, and `ratio` is how much longer a map then takes. `of_peak` is the share of the matrix-product
peak of the same run that the decoder's layers reach while they decode together, transforms and all included.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, matmul_peak, print_rows, write_json

import tomodrgn as td
from tomodrgn.imaging.grid import HalfGrid
from tomodrgn.model.linear import LinearSubspace
from tomodrgn.model.vae import TiltSeriesVae
from tomodrgn.training.devices import default_device
from tomodrgn.volumes.decoder import decode_volumes


def seconds(work) -> float:
    """Time of some work, after the device is done with it."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def of_vae(box: int, n_maps: int, singles: int) -> dict[str, float]:
    """Seconds of the VAE; the network is not trained, which its speed does not depend on."""
    device = default_device()
    model = TiltSeriesVae(td.VaeConfig(), box).eval().to(device)
    maps = torch.zeros(9, box, box, box, device=device)
    model.set_consensus(maps[0])
    model.set_components(maps[1:])
    points = np.random.default_rng(0).normal(size=(n_maps, 8)).astype(np.float32)
    decode_volumes(model, points[:1], box_px=box)
    peak = matmul_peak(device, 256)
    together = seconds(lambda: decode_volumes(model, points, box_px=box))
    apart = seconds(lambda: [decode_volumes(model, points[i : i + 1], box_px=box) for i in range(singles)]) / singles
    peak = max(peak, matmul_peak(device, 256))
    layers = [layer.weight.numel() for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    kept = int((HalfGrid.of_volume(box).frequencies.norm(dim=-1) < 0.5).sum())
    # The first layer is computed once for 16 maps.
    flops = 2 * kept * (sum(layers[1:]) * n_maps + layers[0] * -(-n_maps // 16))
    return {
        "together_seconds": together,
        "apart_seconds_each": apart,
        "ratio": apart / (together / n_maps),
        "of_peak": flops / together / peak,
    }


def of_linear(box: int, n_maps: int, singles: int) -> dict[str, float]:
    """Seconds of the linear model with 8 components."""
    maps = torch.randn(9, box, box, box)
    subspace = LinearSubspace(
        consensus=maps[0], components=maps[1:], prior_std=torch.ones(8), noise=torch.ones(box // 2), max_radius=0.5
    )
    points = torch.randn(n_maps, 8)
    subspace.decode(points[:1])
    together = seconds(lambda: [subspace.decode(part) for part in points.split(16)])
    apart = seconds(lambda: [subspace.decode(points[i : i + 1]) for i in range(singles)]) / singles
    return {
        "together_seconds": together,
        "apart_seconds_each": apart,
        "ratio": apart / (together / n_maps),
        "of_peak": float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--maps", type=int, default=100)
    parser.add_argument("--singles", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("generate.json"))
    options = parser.parse_args()
    print(machine())
    rows = []
    for box in options.box:
        for name, measure in (("vae", of_vae), ("linear", of_linear)):
            rows.append(
                {"model": name, "box": box, "maps": options.maps, **measure(box, options.maps, options.singles)}
            )
    print_rows(rows)
    write_json(options.out, runs=rows)


if __name__ == "__main__":
    main()
