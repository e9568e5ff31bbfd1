"""Static figures: one function, one figure; returns it, never shows it."""

from __future__ import annotations

from tomodrgn.plots.analysis import (
    plot_associations,
    plot_cluster_numbers,
    plot_embedding,
    plot_epochs,
    plot_map_differences,
    plot_validation,
)
from tomodrgn.plots.checks import plot_assumptions, plot_dose_weights, plot_poses, plot_radial_power
from tomodrgn.plots.image_grid import plot_image_grid
from tomodrgn.plots.images import plot_tilt_counts, plot_tilt_images
from tomodrgn.plots.landscapes import (
    plot_landscape,
    plot_map_correlations,
    plot_occupancy,
    plot_outliers,
    plot_path,
)
from tomodrgn.plots.neighbours import (
    plot_class_neighbours,
    plot_pair_distances,
    plot_recurrent_pairs,
    plot_tomogram_classes,
)
from tomodrgn.plots.resolutions import plot_half_map_fsc, plot_local_resolution
from tomodrgn.plots.results import (
    figure_png,
    plot_fsc,
    plot_histogram,
    plot_history,
    plot_latents,
    plot_volume_projections,
    save_figures,
)

__all__ = [
    "figure_png",
    "plot_associations",
    "plot_assumptions",
    "plot_class_neighbours",
    "plot_cluster_numbers",
    "plot_dose_weights",
    "plot_embedding",
    "plot_epochs",
    "plot_fsc",
    "plot_half_map_fsc",
    "plot_histogram",
    "plot_history",
    "plot_image_grid",
    "plot_landscape",
    "plot_latents",
    "plot_local_resolution",
    "plot_map_correlations",
    "plot_map_differences",
    "plot_occupancy",
    "plot_outliers",
    "plot_pair_distances",
    "plot_path",
    "plot_poses",
    "plot_radial_power",
    "plot_recurrent_pairs",
    "plot_tilt_counts",
    "plot_tilt_images",
    "plot_tomogram_classes",
    "plot_validation",
    "plot_volume_projections",
    "save_figures",
]
