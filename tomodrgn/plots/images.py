"""Figures of what was recorded: tilt images and how many of them each particle has."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from tomodrgn.particles.dataset import TiltDataset
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.plots.labels import as_written

__all__ = ["plot_tilt_counts", "plot_tilt_images"]


def plot_tilt_images(particles: ParticleSet, *, n_particles: int = 4, n_tilts: int = 7) -> Figure:
    """Tilt images of particles spread over the set, as they are in the file; a row a particle, by rising tilt angle.

    All images of a row share one grey scale. Where tilt angles are not known, images are in the order of the set.

    Parameters
    ----------
    n_particles, n_tilts
        Number of rows, and of images of each, spread evenly over its tilts.
    """
    rows = np.unique(np.linspace(0, len(particles) - 1, min(n_particles, len(particles))).astype(int))
    columns = int(min(n_tilts, particles.tilt_counts[rows].max()))
    figure = Figure(figsize=(1.25 * columns + 0.5, 1.5 * len(rows)), layout="constrained")
    grid_of_axes = figure.subplots(len(rows), columns, squeeze=False)
    dataset = TiltDataset(particles)
    for row, particle in zip(grid_of_axes, rows, strict=True):
        shown = particles.images_of([int(particle)])
        shown = shown[np.argsort(particles.tilt_deg[shown], kind="stable")]
        shown = shown[np.unique(np.linspace(0, len(shown) - 1, min(columns, len(shown))).astype(int))]
        pictures = dataset.read_images(shown)
        low, high = np.percentile(pictures, [0.5, 99.5])
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.set_visible(False)
        for axes, picture, image in zip(row, pictures, shown, strict=False):
            axes.set_visible(True)
            axes.imshow(picture, cmap="gray", vmin=low, vmax=high)
            tilt = particles.tilt_deg[image]
            title = f"{tilt:.0f}°" if np.isfinite(tilt) else f"image {image - particles.offsets[particle] + 1}"
            axes.set_title(title, fontsize=9)
        row[0].set_ylabel(as_written(_shortened(str(particles.particle_id[particle]))), fontsize=7)
    return figure


def plot_tilt_counts(particles: ParticleSet) -> Figure:
    """Histogram of the number of tilt images of each particle."""
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    values, counts = np.unique(particles.tilt_counts, return_counts=True)
    axes.bar(values, counts, width=0.8, color="C0")
    axes.set_xlim(values.min() - 1, values.max() + 1)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="tilt images of a particle", ylabel="particles")
    return figure


def _shortened(name: str, length: int = 24) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
