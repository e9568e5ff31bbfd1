"""Figures of resolution: half maps with and without their mask, and resolution from place to place."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float32
from matplotlib.figure import Figure

from tomodrgn.analysis.palette import CATEGORY_COLOURS

__all__ = ["plot_half_map_fsc", "plot_local_resolution"]

CURVES = {
    "unmasked": "without a mask", "masked": "masked", "randomised": "masked, phases randomised",
    "corrected": "corrected",
}  # fmt: skip


def plot_half_map_fsc(table: pd.DataFrame) -> Figure:
    """FSC of half maps without and with a mask, with random phases, and corrected by them; see `half_map_fsc`."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    frequency = 1 / table["resolution_angst"].to_numpy()
    for i, (name, label) in enumerate(CURVES.items()):
        axes.plot(frequency, table[name], label=label, color=CATEGORY_COLOURS[i], linewidth=2.2 if i == 3 else 1.2)
    axes.axhline(0.143, color="0.6", linewidth=0.8, linestyle="--")
    ticks = frequency[1:][:: max(1, len(frequency) // 6)]
    axes.set_xticks(ticks, [f"{1 / tick:.0f}" for tick in ticks])
    axes.set(xlabel="resolution (Å)", ylabel="Fourier shell correlation", ylim=(-0.1, 1.05))
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_local_resolution(resolution_angst: Float32[np.ndarray, "d d d"]) -> Figure:
    """Resolution in the three slices through the centre, and over all voxels; see `local_resolution`.

    Parameters
    ----------
    resolution_angst
        NaN outside of the mask.
    """
    box = resolution_angst.shape[0]
    known = resolution_angst[np.isfinite(resolution_angst)]
    low, high = (float(v) for v in np.percentile(known, [2, 98])) if known.size else (0.0, 1.0)
    figure = Figure(figsize=(9, 2.7), layout="constrained")
    panes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
    for axis, (axes, name) in enumerate(zip(panes, "zyx", strict=False)):
        drawn = axes.imshow(
            resolution_angst.take(box // 2, axis=axis), cmap="viridis_r", origin="lower", vmin=low, vmax=high
        )
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"across {name}", fontsize=8)
    figure.colorbar(drawn, ax=list(panes[:3]), label="resolution (Å)", shrink=0.8)
    panes[3].hist(known, bins=30, color=CATEGORY_COLOURS[1])
    panes[3].set(xlabel="resolution (Å)", ylabel="voxels")
    return figure
