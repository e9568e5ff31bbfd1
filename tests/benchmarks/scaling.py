"""Seconds of an epoch against the number of particles, of tilts, and the box; the exponents of the power laws.

    python tests/benchmarks/scaling.py [--out scaling.json]

The second of two epochs is taken: the first also makes the starting maps. Wanted: at most 1 for particles and for
tilts, and at most 2 for the box, whose square is the number of pixels of an image.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import machine, print_rows, write_json

import tomodrgn as td

SIZES = {
    "particles": [{"n_particles": n, "n_tilts": 11, "box_px": 32} for n in (50, 100, 200, 400)],
    "tilts": [{"n_particles": 100, "n_tilts": n, "box_px": 32} for n in (6, 11, 21, 41)],
    "box": [{"n_particles": 40, "n_tilts": 11, "box_px": n} for n in (24, 32, 48, 64)],
}
ARGUMENTS = {"particles": "n_particles", "tilts": "n_tilts", "box": "box_px"}


def epoch_seconds(place: Path, size: dict[str, int]) -> float:
    """Seconds of the second epoch of a training on simulated particles."""
    name = "-".join(map(str, size.values()))
    particles = td.simulate_particles(place / name, **size, missing_tilts=0)
    run = td.train(particles, place / f"{name}-run", training=td.TrainConfig(epochs=2))
    return float(run.history.query("epoch == 2 and split == 'train'")["seconds"].iloc[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    options = parser.parse_args()
    print(machine())
    rows, exponents = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for what, sizes in SIZES.items():
            values = [size[ARGUMENTS[what]] for size in sizes]
            times = [epoch_seconds(Path(folder) / what, size) for size in sizes]
            exponents[what] = float(np.polyfit(np.log(values), np.log(times), 1)[0])
            rows += [{"varied": what, **size, "epoch_seconds": t} for size, t in zip(sizes, times, strict=True)]
    print_rows(rows)
    for what, exponent in exponents.items():
        print(f"an epoch takes as long as {what} to the power of {exponent:.2f}")
    write_json(options.out, exponents=exponents, runs=rows)


if __name__ == "__main__":
    main()
