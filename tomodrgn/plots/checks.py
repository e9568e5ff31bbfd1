"""Figures for checking what was read, before training: CTF, exposure, poses, and the verdict on the flags."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import dose, resolution
from tomodrgn.particles.dataset import RawBatch, TiltDataset
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.volumes.assumptions import MIN_SIGMA, AssumptionCheck

__all__ = ["plot_assumptions", "plot_dose_weights", "plot_poses", "plot_radial_power"]

POWER_IMAGES = 300
# From so many particles on, directions are counted in bins.
MANY_DIRECTIONS = 1000
VERDICT_COLOURS = {"agrees": "tab:green", "disagrees": "tab:red", "cannot tell": "0.6"}
VERDICT_ROWS = {"ctf_premultiplied": "CTF", "dose_weighted": "dose", "invert": "contrast"}
CURVE_NAMES = {
    "fsc": "as read, or contrast flipped",
    "fsc_ctf_flipped": "CTF flag flipped",
    "fsc_dose_flipped": "dose flag flipped",
}


def plot_radial_power(particles: ParticleSet) -> Figure:
    """Power of images by frequency, with the square of their CTF.

    Up to 300 images are used, those whose defocus is nearest to the median one, so that the rings of their CTFs fall
    together. The power of premultiplied images falls towards zero wherever the CTF does.
    """
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    rows = _rows_of_median_defocus(particles)
    config = PreprocessConfig(exposure_weighting=False, tilt_weighting=False)
    preprocess = Preprocessor(particles, config, scale=estimate_scale(particles, config))
    owner = torch.from_numpy(particles.image_particle[rows])
    images = torch.from_numpy(TiltDataset(particles).read_images(rows))
    batch = preprocess(RawBatch(particles=owner, image_rows=torch.from_numpy(rows), owner=owner, images=images))
    frequency = 1 / resolution.shell_resolution_angst(particles.box_px, particles.pixel_size_angst)[1:-1]
    power, transfer = (_shell_mean(v, batch.frequencies, particles.box_px) for v in (batch.values.abs(), batch.ctf))
    axes.plot(frequency, power / power.max(), label="power of the images")
    if particles.ctf is not None:
        axes.plot(frequency, transfer, linestyle="--", label="CTF, squared")
        defocus = (particles.ctf.defocus_u_angst[rows] + particles.ctf.defocus_v_angst[rows]).mean() / 2
        axes.set_title(f"{len(rows)} images, mean defocus {defocus / 1e4:.2f} µm", fontsize=10)
    axes.set(xlabel="resolution (Å)", ylabel="relative to the highest", ylim=(0, 1.2))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    _resolution_ticks(axes, 0.5 / particles.pixel_size_angst)
    return figure


def plot_dose_weights(particles: ParticleSet, *, n_curves: int = 6) -> Figure:
    """Exposure filter by frequency at exposures of the set; lines end where a frequency is left out of training.

    Parameters
    ----------
    n_curves
        Number of exposures, from the lowest to the highest of the set.
    """
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    exposures = np.unique(particles.dose_e_per_angst2)
    shown = exposures[np.unique(np.linspace(0, len(exposures) - 1, n_curves).astype(int))]
    voltage = 300.0 if particles.ctf is None else float(np.median(particles.ctf.voltage_kv))
    frequency = np.linspace(0, 0.5 / particles.pixel_size_angst, 201)[1:]
    radius, each = torch.from_numpy(frequency).float(), torch.from_numpy(shown)
    at = torch.full((len(shown),), voltage)
    weights, kept = dose.exposure_weights(radius, each, at), dose.exposure_mask(radius, each, at)
    for i, exposure in enumerate(shown):
        curve = np.where(kept[i].numpy(), weights[i].numpy(), np.nan)
        colour = f"{0.75 * i / max(len(shown) - 1, 1):.2f}"
        axes.plot(frequency, curve, color=colour, label=f"{exposure:.0f}")
    axes.set(xlabel="resolution (Å)", ylabel="exposure filter", ylim=(0, 1.05))
    axes.legend(title="exposure (e/Å²)", frameon=False, fontsize=8, title_fontsize=8, loc="lower left")
    _resolution_ticks(axes, 0.5 / particles.pixel_size_angst)
    return figure


def plot_poses(particles: ParticleSet) -> Figure:
    """Directions from which particles are seen at their lowest tilt, on an equal-area map; and the tilt angles.

    Longitude is rot, latitude 90° - tilt of the beam in the particle's frame (RELION angles). Even cover is good; a
    band or a spot is a preferred orientation.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    cells = figure.add_gridspec(1, 2, width_ratios=(3, 2), wspace=0.1)
    sphere: Any = figure.add_subplot(cells[0], projection="mollweide")
    beams = particles.rotations[_lowest_tilts(particles), 2]  # third row: the beam, in the particle's frame
    longitude, latitude = np.arctan2(beams[:, 1], beams[:, 0]), np.arcsin(np.clip(beams[:, 2], -1, 1))
    if len(beams) < MANY_DIRECTIONS:
        sphere.scatter(longitude, latitude, s=9, alpha=0.6, color="C0", linewidths=0)
    else:
        edges = np.linspace(-np.pi, np.pi, 37), np.arcsin(np.linspace(-1, 1, 19))
        counts = np.histogram2d(longitude, latitude, bins=edges)[0]
        drawn = sphere.pcolormesh(*edges, counts.T, cmap="viridis")
        figure.colorbar(drawn, ax=sphere, label="particles", shrink=0.7)
    sphere.grid(visible=True, color="0.8", linewidth=0.5)
    sphere.set_xticklabels([])
    sphere.set_latitude_grid(30)
    sphere.tick_params(labelsize=8)
    sphere.set_title("view of each particle (rot, 90° − tilt)", fontsize=10)
    tilts = figure.add_subplot(cells[1])
    known = particles.tilt_deg[np.isfinite(particles.tilt_deg)]
    if len(known):
        tilts.hist(known, bins=max(1, round(np.ptp(known) / 5)), range=_span(known), color="C0")
    else:
        tilts.text(0.5, 0.5, "tilt angles unknown", ha="center", va="center", transform=tilts.transAxes)
    tilts.set(xlabel="tilt angle of the stage (°)", ylabel="images")
    return figure


def plot_assumptions(check: AssumptionCheck) -> Figure:
    """Half-map FSC as read and with flags flipped; and how surely the images decide each flag, in standard errors."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5, 4), gridspec_kw={"wspace": 0.1})
    frequency = 1 / check.fsc["resolution_angst"].to_numpy()
    for (name, label), style in zip(CURVE_NAMES.items(), ("-", "--", ":"), strict=True):
        left.plot(frequency, check.fsc[name], style, label=label)
    left.axhline(0.143, color="0.6", linewidth=0.8)
    left.set(xlabel="resolution (Å)", ylabel="FSC of half maps", ylim=(-0.15, 1.05))
    _resolution_ticks(left, float(frequency.max()))
    left.legend(frameon=False, fontsize=8)
    names = list(VERDICT_ROWS)
    table = check.table.loc[names]
    sigmas = (table["margin"] / table["standard_error"].where(table["standard_error"] > 0)).fillna(0.0)
    right.barh(range(3), sigmas, color=[VERDICT_COLOURS[v] for v in table["verdict"]], height=0.6)
    right.axvline(MIN_SIGMA, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    for position, (name, verdict) in enumerate(zip(names, table["verdict"], strict=True)):
        right.text(
            0.02, position - 0.42, f"{VERDICT_ROWS[name]}: {verdict}", va="center", fontsize=10,
            transform=right.get_yaxis_transform(), bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    right.set(xlabel=f"certainty (standard errors; decided from {MIN_SIGMA:.0f})", yticks=[], ylim=(2.5, -0.7))
    right.set_xlim(0, max(10.0, 1.05 * float(sigmas.max())))
    return figure


def _rows_of_median_defocus(particles: ParticleSet) -> np.ndarray:
    """Up to `POWER_IMAGES` image rows, those nearest to the median defocus; spread over the set if that is unknown."""
    n = min(POWER_IMAGES, particles.n_images)
    if particles.ctf is None:
        return np.unique(np.linspace(0, particles.n_images - 1, n).astype(np.int64))
    defocus = particles.ctf.defocus_u_angst + particles.ctf.defocus_v_angst
    return np.sort(np.argsort(np.abs(defocus - np.median(defocus)), kind="stable")[:n])


def _shell_mean(values: Float[Tensor, "i p"], frequencies: Float[Tensor, "p 2"], box_px: int) -> np.ndarray:
    """Mean square over images and over each Fourier shell, from 1 to the last below Nyquist."""
    shell = (frequencies.norm(dim=-1) * box_px).round().long()
    square = values.square().mean(dim=0).double()
    sums = torch.zeros(box_px // 2 + 1, dtype=torch.float64).index_add_(0, shell, square)
    return (sums / torch.bincount(shell, minlength=len(sums)).clamp(min=1))[1:-1].numpy()


def _lowest_tilts(particles: ParticleSet) -> np.ndarray:
    """Image row of each particle with the lowest known tilt, else its first."""
    tilt = np.nan_to_num(np.abs(particles.tilt_deg), nan=360.0)
    order = np.lexsort((np.arange(len(tilt)), tilt, particles.image_particle))
    return order[particles.offsets[:-1]]


def _span(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value, a little apart if they are equal."""
    return float(values.min()) - 0.5, float(values.max()) + 0.5


def _resolution_ticks(axes: Axes, highest: float) -> None:
    """Five ticks named by resolution, even in frequency up to the highest (1/Å)."""
    ticks = np.linspace(0, highest, 6)[1:]
    axes.set_xticks(ticks, [f"{1 / t:.0f}" if 1 / t >= 10 else f"{1 / t:.1f}" for t in ticks])
    axes.set_xlim(0, highest)
