"""Speed of the analysis of latents, beside plain calls of scikit-learn and umap-learn in the same run.

    python tests/benchmarks/analysis.py [--particles 20000 100000] [--z-dim 8] [--repeats 2] [--out analysis.json]

`ours` and `plain` are seconds, turn about, the best of the repeats each (UMAP is run once); `overhead` is how much
longer ours takes, as a share. Both begin with the float32 means of the latents, and ours ends with a table by name. The
index of names and the means in double precision are made once for a set of latents, whatever is then asked: `names` is
that; the plain call converts the means each time. Associations have no plain
call: 20 columns, 200 permutations. Wanted: overheads below 0.1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import umap
from common import machine, print_rows, write_json
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

import tomodrgn as td

CLUSTERS, COLUMNS = 20, 20


def planted(n: int, z_dim: int, seed: int = 0) -> td.Latents:
    """Six overlapping groups."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, z_dim)) * 3
    mu = (centres[rng.integers(6, size=n)] + rng.normal(size=(n, z_dim))).astype(np.float32)
    ids = np.array([f"TS_{i % 100:03d}_{i:07d}" for i in range(n)])
    return td.Latents(particle_id=ids, mu=mu, logvar=np.zeros_like(mu))


def columns_of(latents: td.Latents, seed: int = 1) -> pd.DataFrame:
    """Half numbers, half names, as a STAR file has them."""
    rng, n = np.random.default_rng(seed), len(latents.particle_id)
    numbers = {f"number{i}": rng.normal(size=n) for i in range(COLUMNS // 2)}
    names = {f"name{i}": rng.choice(np.array(list("abcdefgh")), size=n) for i in range(COLUMNS // 2)}
    return pd.DataFrame({**numbers, **names}, index=latents.particle_id)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(ours: Callable[[], object], plain: Callable[[], object] | None, repeats: int) -> dict[str, float]:
    """The best time of each, turn about."""
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(repeats):
        times["ours"].append(seconds(ours))
        if plain is not None:
            times["plain"].append(seconds(plain))
    best = {name: min(found) if found else float("nan") for name, found in times.items()}
    return {**best, "overhead": best["ours"] / best["plain"] - 1}


def measure(n: int, z_dim: int, repeats: int) -> dict[str, dict[str, float]]:
    """Times of each kind of work on n particles."""
    latents = planted(n, z_dim)
    columns = columns_of(latents)
    kmeans = KMeans(CLUSTERS, n_init=10, random_state=0)
    plain_umap = umap.UMAP(random_state=0, n_jobs=1)

    def points() -> np.ndarray:
        return latents.mu.astype(np.float64)

    return {
        "names": compare(lambda: (latents.index, latents.points), None, 1),
        "PCA": compare(lambda: td.reduce_latents(latents, 2), lambda: PCA(2).fit_transform(points()), 30 * repeats),
        "k-means": compare(
            lambda: td.cluster_latents(latents, CLUSTERS), lambda: kmeans.fit_predict(points()), repeats
        ),
        "associations": compare(lambda: td.associate_columns(latents, columns), None, 1),
        "UMAP": compare(lambda: td.umap_latents(latents), lambda: plain_umap.fit_transform(points()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--z-dim", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("analysis.json"))
    options = parser.parse_args()
    print(machine())
    td.umap_latents(planted(5000, options.z_dim))  # its search of neighbours is compiled at the first call
    rows = []
    for n in options.particles:
        for name, times in measure(n, options.z_dim, options.repeats).items():
            rows.append({"particles": n, "what": name, **times})
    print_rows(rows)
    write_json(options.out, z_dim=options.z_dim, rows=rows)


if __name__ == "__main__":
    main()
