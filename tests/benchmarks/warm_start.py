"""What a start from a linear run is worth to the autoencoder: epochs and seconds to a given separation and map quality.

    python tests/benchmarks/warm_start.py [--seeds 0 1 2] [--epochs 12] [--particles 150] [--tilts 8] [--snr 0.05]
                                          [--ari 0.8] [--fsc 0.96] [--out warm_start.json]

The same training with and without `--start-from`, on simulated data of two states, box 32. After each epoch: adjusted
Rand index of k-means with two clusters; and of each true state the map decoded at its mean latent, whose FSC with the
truth is averaged over the shells up to half Nyquist and both states. Printed for each: the first epoch, and the seconds
(those of the linear fit included), at which the index is at least `--ari` and the mean FSC at least `--fsc`; and both
after the last epoch. A dash is never.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import tomodrgn as td
from tomodrgn.analysis.latent_space import adjusted_rand_index
from tomodrgn.imaging.grid import soft_spherical_mask
from tomodrgn.particles.simulate import read_truth, truth_volumes

BOX = 32


def quality(run: td.Run, epoch: int, label: pd.Series, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Separation, and how good the maps of the states are, after an epoch."""
    latents = run.latents(epoch)
    index = adjusted_rand_index(label, td.cluster_latents(latents, 2, seed=0))
    means = np.stack([latents.mu[(label == state).to_numpy()].mean(axis=0) for state in (0, 1)])
    maps, mask = td.generate_volumes(run, means, epoch=epoch).maps, soft_spherical_mask(BOX, 0.7).numpy()
    curves = [td.fourier_shell_correlation(maps[state], truth[f"state_{state}"], mask) for state in (0, 1)]
    return {"ari": float(index), "fsc": float(np.mean([curve[1 : BOX // 4 + 1] for curve in curves]))}


def course(particles: td.ParticleSet, folder: Path, training: td.TrainConfig, before: float) -> list[dict[str, float]]:
    """Quality after each epoch, with the seconds since the start; looking does not count."""
    label = read_truth(particles.source.path.parent).loc[particles.particle_id, "label"]
    truth = truth_volumes(particles.source.path.parent)
    points: list[dict[str, float]] = []
    began, looking = time.perf_counter() - before, 0.0

    def progress(state) -> None:
        nonlocal looking
        if len(state.history) and state.history["epoch"].iloc[-1] == state.epoch and len(points) < state.epoch:
            now = time.perf_counter()
            found = quality(td.Run.open(folder), state.epoch, label, truth)
            points.append({"epoch": state.epoch, "seconds": now - began - looking, **found})
            looking += time.perf_counter() - now

    td.train(particles, folder, training=training, progress=progress)
    return points


def first(points: list[dict[str, float]], name: str, least: float) -> str:
    """Epoch and seconds of the first point with at least that quality."""
    found = next((p for p in points if p[name] >= least), None)
    return "-" if found is None else f"{found['epoch']} ({found['seconds']:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    for name, default in (("epochs", 12), ("particles", 150), ("tilts", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("snr", 0.05), ("ari", 0.8), ("fsc", 0.96)):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--out", type=Path, default=Path("warm_start.json"))
    options = parser.parse_args()
    print(
        f"{'seed':<6}{'start':<8}{f'ARI {options.ari}':>12}{f'FSC {options.fsc}':>12}{'ARI, first':>12}"
        f"{'last':>7}{'FSC, first':>12}{'last':>7}"
    )
    results = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            particles = td.simulate_particles(
                folder / "data",
                n_particles=options.particles,
                n_tilts=options.tilts,
                snr=options.snr,
                n_states=2,
                missing_tilts=0,
                seed=seed,
            )
            began = time.perf_counter()
            linear = td.fit_linear(particles, folder / "fit", training=td.TrainConfig(seed=seed))
            fitting = time.perf_counter() - began
            for start, before in ((None, 0.0), (str(linear.folder), fitting)):
                training = td.TrainConfig(epochs=options.epochs, seed=seed, start_from=start)
                name = "cold" if start is None else "linear"
                points = course(particles, folder / name, training, before)
                print(
                    f"{seed:<6}{name:<8}{first(points, 'ari', options.ari):>12}{first(points, 'fsc', options.fsc):>12}"
                    f"{points[0]['ari']:>12.3f}{points[-1]['ari']:>7.3f}{points[0]['fsc']:>12.3f}"
                    f"{points[-1]['fsc']:>7.3f}",
                    flush=True,
                )
                results.append({"seed": seed, "start": name, "fit_seconds": before, "course": points})
        options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
