"""Time to an answer: the linear model beside the autoencoder, cold-started on the same data in the same run.

    python tests/benchmarks/time_to_answer.py [--cases few many] [--seeds 0 1 2 3 4] [--epochs 30] [--out FILE.json]

Two states that differ by 10 to 15 % of the mass, box 32. Few: 150 particles of 8 tilts, signal-to-noise ratio 0.05 an
image. Many: 1,000 of 31, 0.02. Printed for each seed: seconds of the whole `fit_linear`, reading and writing included;
adjusted Rand index (ARI) of k-means with two clusters; area under the curve (AUC) of a cross-validated linear probe;
then, of the autoencoder with its default options, the highest ARI of any epoch, the seconds from its start to the first
epoch with that one, and how many times longer that is. The fit that is timed is the second one; the first one, whose
seconds are printed too, also waits for libraries to be loaded.

Wanted: ARI at least 0.75 (few) and 0.95 (many), AUC at least 0.97, and a fit 20 times shorter than the training. The
number of threads is torch's (OMP_NUM_THREADS) and the same for both. `--minutes` ends each training early; its best is
then that of the epochs done, and the ratio is a lower limit if the index still rose.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

import tomodrgn as td
from tomodrgn.analysis.latent_space import adjusted_rand_index
from tomodrgn.particles.simulate import read_truth

CASES = {
    "few": {"n_particles": 150, "n_tilts": 8, "snr": 0.05},
    "many": {"n_particles": 1000, "n_tilts": 31, "snr": 0.02},
}
WANTED = {"few": {"ari": 0.75, "auc": 0.97}, "many": {"ari": 0.95, "auc": 0.97}}
WANTED_RATIO = 20.0


def scores(latents: td.Latents, label: pd.Series) -> dict[str, float]:
    """Adjusted Rand index of k-means, and AUC of a linear probe on particles that it was not fitted to."""
    probe = cross_val_predict(LogisticRegression(), latents.mu, label, cv=5, method="predict_proba")[:, 1]
    index = adjusted_rand_index(label, td.cluster_latents(latents, 2, seed=0))
    return {"ari": float(index), "auc": float(roc_auc_score(label, probe))}


def linear_answer(particles: td.ParticleSet, folder: Path, label: pd.Series, seed: int) -> dict[str, float]:
    """Scores of the linear model, and the seconds of two fits."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        run = td.fit_linear(particles, folder, training=td.TrainConfig(seed=seed), overwrite=True)
        seconds.append(time.perf_counter() - began)
    suggested = run.fit["suggested_components"]
    return {**scores(run.latents(), label), "seconds": seconds[1], "first_seconds": seconds[0], "components": suggested}


def trained_answer(
    particles: td.ParticleSet, folder: Path, label: pd.Series, training: td.TrainConfig, minutes: float
) -> dict[str, object]:
    """Scores of every epoch of the autoencoder, with the seconds since its start; scoring does not count."""
    course: list[dict[str, float]] = []
    began, scoring = time.perf_counter(), 0.0

    def progress(state) -> None:
        nonlocal scoring
        if len(state.history) and state.history["epoch"].iloc[-1] == state.epoch and len(course) < state.epoch:
            now = time.perf_counter()
            found = scores(td.Run.open(folder).latents(state.epoch), label)
            course.append({"epoch": state.epoch, "seconds": now - began - scoring, **found})
            scoring += time.perf_counter() - now

    td.train(
        particles,
        folder,
        training=training,
        overwrite=True,
        progress=progress,
        should_stop=lambda: bool(course) and time.perf_counter() - began > 60 * minutes,
    )
    best = max(course, key=lambda point: point["ari"])
    return {"best": best, "course": course}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=td.TrainConfig().epochs)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=Path("time_to_answer.json"))
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} thread(s), {'CUDA' if torch.cuda.is_available() else 'CPU'}")
    print(
        f"{'':<6}{'seed':>5}{'ARI':>7}{'AUC':>7}{'first s':>9}{'s':>8}  |{'ARI':>7}{'epoch':>7}{'s':>9}{'ratio':>8}"
        "  (linear model | autoencoder)"
    )
    results = []
    for case in options.cases:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                particles = td.simulate_particles(
                    folder / "data", n_states=2, missing_tilts=0, seed=seed, **CASES[case]
                )
                label = read_truth(folder / "data").loc[particles.particle_id, "label"]
                linear = linear_answer(particles, folder / "linear", label, seed)
                training = td.TrainConfig(epochs=options.epochs, seed=seed)
                trained = trained_answer(particles, folder / "vae", label, training, options.minutes)
            best = trained["best"]
            ratio = best["seconds"] / linear["seconds"]
            print(
                f"{case:<6}{seed:>5}{linear['ari']:>7.3f}{linear['auc']:>7.3f}{linear['first_seconds']:>9.1f}"
                f"{linear['seconds']:>8.1f}  |{best['ari']:>7.3f}{best['epoch']:>7}{best['seconds']:>9.1f}{ratio:>8.1f}"
            )
            met = all(linear[name] >= least for name, least in WANTED[case].items()) and ratio >= WANTED_RATIO
            results.append({"case": case, "seed": seed, "linear": linear, "vae": trained, "ratio": ratio, "met": met})
            options.out.write_text(json.dumps({"wanted": WANTED, "ratio": WANTED_RATIO, "runs": results}, indent=2))
    missed = [f"{r['case']} seed {r['seed']}" for r in results if not r["met"]]
    print(f"not all that is wanted: {', '.join(missed)}" if missed else "all that is wanted")


if __name__ == "__main__":
    main()
