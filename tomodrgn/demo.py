"""The main job on simulated tilt series, with a known answer to compare with."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomodrgn import plots
from tomodrgn.analysis.latent_space import adjusted_rand_index, cluster_centres, cluster_latents, reduce_latents
from tomodrgn.config import PreprocessConfig, TrainConfig, VaeConfig
from tomodrgn.imaging.resolution import fourier_shell_correlation
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.simulate import read_truth, simulate_particles, truth_volumes
from tomodrgn.training.linear_run import fit_linear
from tomodrgn.training.run import Run
from tomodrgn.training.train import TrainProgress, train
from tomodrgn.volumes.backproject import Reconstruction, backproject
from tomodrgn.volumes.generate import generate_volumes

__all__ = ["DemoResult", "example_run", "run_demo"]

STATES = 3


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found, beside the truth.

    Parameters
    ----------
    folder
        Where everything lies.
    linear_rand_index
        Agreement of the k-means clusters of the linear model with the true states: 1 is perfect, 0 is chance.
    adjusted_rand_index
        The same of the autoencoder that started from it.
    fsc
        FSC of each true state's class mean (decoded at the mean latent of the matching cluster) against the truth,
        index state, columns Fourier shells; and a row "consensus" of the backprojection.
    seconds
        Wall time of each step.
    """

    folder: Path
    linear_rand_index: float
    adjusted_rand_index: float
    fsc: pd.DataFrame
    seconds: dict[str, float]

    def rows(self) -> dict[str, object]:
        """The result as lines of a table."""
        shells = list(range(2, self.fsc.shape[1], 2))
        linear = f"linear model {self.linear_rand_index:.2f}, after {self.seconds['linear']:.0f} s"
        rows: dict[str, object] = {"adjusted Rand index": f"{linear}; autoencoder {self.adjusted_rand_index:.2f}"}
        rows["FSC, shells"] = " ".join(f"{shell:4d}" for shell in shells)
        for name, values in self.fsc[shells].iterrows():
            rows[f"  {name}"] = " ".join(f"{value:4.2f}" for value in values)
        rows["seconds"] = ", ".join(f"{name} {value:.0f}" for name, value in self.seconds.items())
        rows["run folders"] = f"{self.folder / 'linear'} and {self.folder / 'run'}"
        rows["maps"] = f"{self.folder / 'run/volumes/kmeans3'} and {self.folder / 'backproject'}"
        rows["figures"] = self.folder / "figures"
        rows["notebook"] = 'python -m pip install ".[notebook]" && jupyter lab notebooks/00_quickstart.ipynb'
        return rows


def run_demo(
    folder: Path | str,
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[TrainProgress], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Simulate, backproject, fit the linear model, train from there, cluster and decode.

    Parameters
    ----------
    folder
        Folder to be made.
    seed
        Seed of the simulation, the training and the clusters.
    progress
        Called after every training batch.
    tell
        Called with a line at the start of every step.

    Raises
    ------
    FileExistsError
        If the folder exists and `overwrite` is False, or it is not that of an earlier demo.
    """
    folder = Path(folder)
    _make_room(folder, overwrite=overwrite)
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str, line: str) -> Iterator[None]:
        tell(line)
        began = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - began

    with step("simulate", "1/5 simulating 400 particles of three states, up to 21 tilts each ..."):
        particles = simulate_particles(
            folder / "data", n_particles=400, n_tilts=21, n_states=STATES, mass_difference=0.2, seed=seed
        )
    with step("backproject", "2/5 reconstructing their average ..."):
        average = backproject(particles, seed=seed)
        average.save(folder / "backproject")
    preprocess = PreprocessConfig(max_radius=0.3)
    with step("linear", "3/5 fitting the linear model ..."):
        options = TrainConfig(seed=seed)
        linear = fit_linear(particles, folder / "linear", preprocess=preprocess, training=options)
    truth = read_truth(folder / "data")
    linear_index = adjusted_rand_index(truth["label"], cluster_latents(linear.latents(), STATES, seed=seed))
    tell(
        f"    {seconds['linear']:.0f} s: held-out tilts suggest {linear.fit['suggested_components']} components; "
        f"adjusted Rand index of its clusters {linear_index:.2f}"
    )
    with step("train", "4/5 training the autoencoder from there ..."):
        run = train(
            particles,
            folder / "run",
            model=VaeConfig(z_dim=4, decoder_dim=128),
            preprocess=preprocess,
            training=TrainConfig(epochs=10, seed=seed, start_from=str(linear.folder)),
            progress=progress,
        )
    with step("analyse", "5/5 clustering latents and decoding maps ..."):
        latents = run.latents()
        clusters = cluster_latents(latents, STATES, seed=seed)
        centres = cluster_centres(latents, clusters)
        maps = generate_volumes(run, centres)
        maps.save(run.folder / "volumes" / f"kmeans{STATES}")
        index = adjusted_rand_index(truth["label"], clusters)
        fsc = _compare_with_truth(folder, latents, clusters, average)
        plots.save_figures(
            folder / "figures",
            half_map_fsc=plots.plot_fsc(average.curve()),
            latents=plots.plot_latents(reduce_latents(latents), clusters.astype(str)),
            maps=plots.plot_volume_projections(maps.maps, maps.names),
        )
    fsc.to_csv(folder / "fsc.csv")
    return DemoResult(
        folder=folder, linear_rand_index=linear_index, adjusted_rand_index=index, fsc=fsc, seconds=seconds
    )


def example_run(
    folder: Path | str = "example", *, seed: int = 0, tell: Callable[[str], None] = lambda line: None
) -> Run:
    """A small finished run to open a notebook with: simulated and trained at the first call, opened by later ones.

    200 particles of three states in four tomograms, up to 15 tilts each (an optimisation set of WarpTools), an
    autoencoder of 8 epochs that started from the linear model, a tenth of the tilts held out.

    Parameters
    ----------
    folder
        Holds ``data``, ``linear`` (a run, too) and ``run``.
    seed
        Seed of the simulation and the trainings.
    tell
        Called with a line at the start of every step.

    Raises
    ------
    FileExistsError
        If one of the three is there and is something else.
    """
    folder = Path(folder)
    if (folder / "run/run.json").is_file() and (run := Run.open(folder / "run")).status.get("state") == "finished":
        return run
    tell(f"making a small example in {folder} (a minute or two) ...")
    particles = simulate_particles(
        folder / "data", n_particles=200, n_tilts=15, snr=0.1, mass_difference=0.2, dialect="warptools",
        premultiplied=False, tomograms=True, seed=seed, overwrite=True,
    )  # fmt: skip
    preprocess = PreprocessConfig(max_radius=0.25)
    linear = fit_linear(
        particles, folder / "linear", preprocess=preprocess, training=TrainConfig(seed=seed), overwrite=True
    )
    tell("training ...")
    return train(
        particles,
        folder / "run",
        model=VaeConfig(z_dim=4, decoder_dim=128),
        preprocess=preprocess,
        training=TrainConfig(epochs=8, held_out_fraction=0.1, start_from=str(linear.folder), seed=seed),
        overwrite=True,
    )


def _compare_with_truth(folder: Path, latents: Latents, clusters: pd.Series, average: Reconstruction) -> pd.DataFrame:
    """FSC of class means and consensus against the truth; one row a map."""
    label = read_truth(folder / "data").loc[clusters.index, "label"]
    truth = truth_volumes(folder / "data")
    means = {}
    for state in sorted(label.unique()):
        # The cluster that holds most particles of the state stands for it.
        cluster = clusters[label == state].mode().iloc[0]
        means[state] = latents.mu[(clusters == cluster).to_numpy()].mean(axis=0)
    decoded = generate_volumes(folder / "run", np.stack(list(means.values())))
    curves = {
        f"state {state}": fourier_shell_correlation(volume, truth[f"state_{state}"], average.mask)
        for state, volume in zip(means, decoded.maps, strict=True)
    }
    curves["consensus"] = fourier_shell_correlation(average.full, truth["consensus"], average.mask)
    return pd.DataFrame(curves).T.rename_axis("map")


def _make_room(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    known = {"data", "backproject", "linear", "run", "figures", "fsc.csv"}
    if not overwrite or not {p.name for p in folder.iterdir()} <= known:
        raise FileExistsError(
            f"Got demo folder {folder}, which exists already. Choose another, or pass overwrite=True (--overwrite) "
            "if it holds nothing but an earlier demo."
        )
    shutil.rmtree(folder)
