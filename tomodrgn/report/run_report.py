"""One self-contained HTML page of an analyzed run, for a colleague without the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tomodrgn import plots
from tomodrgn.analysis.latent_space import adjusted_rand_index
from tomodrgn.analysis.run_analysis import RunAnalysis
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.report.data_report import particle_facts
from tomodrgn.report.page import Picture, bullets, facts_table, figure, frame_table, html_page
from tomodrgn.training.run_facts import describe_run

__all__ = ["write_run_report"]

SHOWN_ROWS = 15
SECTIONS = ("Dataset", "Training", "Latents", "Clusters", "Associations", "Epochs", "Tomograms", "Images bear it out?")


def write_run_report(analysis: RunAnalysis, path: Path | str, *, overwrite: bool = False) -> Path:
    """Write the page: dataset, training, latents, clusters with their maps, associations, epochs, tomograms.

    It is one HTML file, with its figures inside; it needs nothing from elsewhere.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    name = analysis.run.folder.name
    parts = [
        f"<h1>{escape(name)}, epoch {analysis.epoch}</h1>",
        *_summary(analysis),
        _contents(),
        *_dataset(analysis),
        *_training(analysis),
        *_latents(analysis),
        *_clusters(analysis),
        *_associations(analysis),
        *_epochs(analysis),
        *_tomograms(analysis),
        *_validation(analysis),
        *bullets("Not made", analysis.notes),
    ]
    page = html_page(f"{name}: analysis of epoch {analysis.epoch}", parts, origin=analysis.run.folder)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _summary(analysis: RunAnalysis) -> list[str]:
    """What matters, first."""
    halves = analysis.tilt_halves
    lines = [f"Training: {analysis.epochs.verdict}.", f"Clusters: {_cluster_words(analysis)}."]
    if halves is not None:
        worst = ", ".join(str(axis) for axis in halves.index[halves["reliability"] < 0.5])
        lines.append(
            f"Latents of two halves of the tilts: reliability {halves['reliability'].max():.2f} at best"
            + (f"; below 0.5, mostly noise: {worst}." if worst else ".")
        )
    if analysis.validation is not None:
        lines.append(f"Largest cluster: {analysis.validation.verdict}.")
    lines += [f"Take care, {warning}." for warning in analysis.warnings]
    unstable = len(analysis.epochs.table) > 1 and analysis.epochs.stable_from is None
    doubted = analysis.validation is not None and not analysis.validation.verdict.startswith("borne out")
    kind = "bad" if unstable or doubted else "" if analysis.warnings else "good"
    return [f'<p class="verdict {kind}">' + "<br>".join(escape(line) for line in lines) + "</p>"]


def _cluster_words(analysis: RunAnalysis) -> str:
    numbers, shown = analysis.cluster_numbers, len(analysis.centres)
    best = numbers.index.to_numpy()[numbers["best"].to_numpy().argmax()]
    known = dict(zip(numbers.index, numbers["stability"], strict=True))
    stability = f", stability {known[shown]:.2f}" if shown in known else ""
    return f"{shown} shown{stability}; Gaussian mixtures prefer {best} (lowest BIC)"


def _contents() -> str:
    links = (f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in SECTIONS)
    return "<nav>" + " · ".join(links) + "</nav>"


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")


def _heading(title: str) -> str:
    return f'<h2 id="{_anchor(title)}">{escape(title)}</h2>'


def _picture(title: str, drawn: Any, caption: str, alt: str) -> str:
    """One of the figures of `plots`."""
    return figure(Picture(title=title, png=plots.figure_png(drawn), caption=caption, alt=alt), level=3)


def _dataset(analysis: RunAnalysis) -> Iterator[str]:
    yield _heading("Dataset")
    yield facts_table(
        {"file": analysis.run.settings["source"]["path"], **particle_facts(analysis.run.particles_without_images)}
    )


def _training(analysis: RunAnalysis) -> Iterator[str]:
    facts = describe_run(analysis.run)
    yield _heading("Training")
    options = ", ".join(f"{name} {value}" for name, value in facts["options"].items()) or "all at their defaults"
    yield facts_table(
        {
            "model": {"vae": "variational autoencoder", "linear": "linear subspace"}[facts["kind"]],
            "state": facts["state"],
            "epochs": f"{facts['epochs']} of {facts['epochs_wanted']}",
            "latent dimensions": facts["z_dim"],
            "seconds": f"{facts['seconds']:.0f}",
            "options": options,
            "made": f"{facts['created']} with tomodrgn {facts['tomodrgn']}",
        }
    )


def _latents(analysis: RunAnalysis) -> Iterator[str]:
    yield _heading("Latents")
    points = analysis.particles.filter(regex=r"^(PC[12]|UMAP[12])$")
    umap = ", and UMAP (distances between far groups mean nothing there)" if "UMAP1" in points else ""
    yield _picture(
        "Where the particles lie",
        plots.plot_embedding(points, analysis.particles["cluster"]),
        f"Principal components of the latent means{umap}, by cluster.",
        "Scatter of the particles, coloured by cluster.",
    )
    yield _picture(
        "Outliers",
        plots.plot_outliers(analysis.particles),
        "How far |z| and the width of the posterior lie above those of most particles, in robust standard deviations "
        "(outliers.csv).",
        "Scatter of the particles by both scores.",
    )
    if analysis.path is not None:
        yield _picture(
            "From the largest cluster to the next",
            plots.plot_path(points.filter(regex="^PC"), analysis.path),
            "A path through particles (path.csv), and how many lie near each of its points. Where it is empty between "
            "its ends the two are apart; where it is not, particles go over from one to the other.",
            "The path among all particles, beside the number of particles along it.",
        )
    if analysis.tilt_halves is not None:
        yield "<p>Halves of the tilts, embedded apart: what is noise does not agree.</p>"
        yield frame_table(analysis.tilt_halves.reset_index())


def _clusters(analysis: RunAnalysis) -> Iterator[str]:
    yield _heading("Clusters")
    yield _picture(
        "How many",
        plots.plot_cluster_numbers(analysis.cluster_numbers),
        "If the particles form groups, their number has a low BIC, and gives the same clusters in random halves of the "
        "particles. In continuous motion no number is right.",
        "BIC and stability against the number of clusters.",
    )
    yield (
        "<p>Other methods beside k-means: their agreement with its clusters (adjusted Rand index: 1 is the same, 0 is "
        "chance), without the particles that they leave out as noise. Groups that all find are in the data. Where a "
        "method, or k-means, has fewer than two clusters, there is nothing to compare.</p>"
    )
    methods = analysis.cluster_methods.astype({"agreement": object}).round({"noise": 2})
    yield frame_table(methods.fillna({"agreement": "nothing to compare"}).reset_index())
    for name, stack in analysis.maps.items():
        if name == "map_components":
            continue
        title, caption = {
            "clusters": ("Maps of the clusters", "Decoded at the particle nearest to the mean of each cluster"),
            "path": ("Along the path between clusters", "Decoded at the particles of the path"),
            "pc1": ("Along the first component", "From the 5th to the 95th percentile"),
            "pc2": ("Along the second component", "From the 5th to the 95th percentile"),
        }[name]
        yield _picture(
            title,
            plots.plot_map_differences(stack.maps, _map_names(analysis, name)),
            f"{caption}. Left: sums of the map. Right: what it has more (red) or less (blue) than the mean of these "
            f"maps. MRC files: volumes/{name}.",
            f"Projections of maps: {title.lower()}.",
        )
    space, shares = analysis.map_space, analysis.occupancy_shares
    if space is not None:
        numbers = space.coordinates.filter(regex=r"^PC\d+$")
        own, among_maps = (space.coordinates[name] for name in ("cluster", "map_cluster"))
        yield _picture(
            "The space of the maps",
            plots.plot_landscape(dataclasses.replace(space, coordinates=numbers), own),
            f"Principal components of {len(numbers)} decoded maps, each by the cluster of its particle; on the right "
            "where they change, and the share of the variance. Clusters of the maps themselves agree with those of the "
            f"particles by an adjusted Rand index of {adjusted_rand_index(own, among_maps):.2f} (map_space.csv). MRC "
            "files: volumes/map_components.",
            "Scatter of maps, beside projections of their components.",
        )
    if shares is not None:
        occupancy = analysis.particles.filter(regex="^occupancy_")
        occupancy.columns = occupancy.columns.str.removeprefix("occupancy_")
        yield _picture(
            "Occupancy of the masks",
            plots.plot_occupancy(occupancy, shares),
            "Density in each mask in the map of every particle, as a share of that in the average map.",
            "Histograms of occupancy.",
        )


def _map_names(analysis: RunAnalysis, name: str) -> list[str]:
    if name != "clusters":
        return analysis.maps[name].names
    centres = analysis.centres
    return [f"{c} ({n:,})" for c, n in zip(centres["cluster"], centres["n_particles"], strict=True)]


def _associations(analysis: RunAnalysis) -> Iterator[str]:
    yield _heading("Associations")
    if analysis.associations.empty:
        yield "<p>No column has values to compare.</p>"
        return
    yield _picture(
        "Columns that go with the latents",
        plots.plot_associations(analysis.associations),
        "Mutual information above chance, as a share of the largest possible. Rings: beyond chance, all pairs together "
        "(p_family below 0.05). Defocus, tilt count, tomogram and pose should not go with structure.",
        "Heat map of columns against latent axes.",
    )
    columns = ["column", "axis", "strength", "p_value", "p_family", "nuisance"]
    yield frame_table(analysis.associations[columns].head(SHOWN_ROWS))


def _epochs(analysis: RunAnalysis) -> Iterator[str]:
    yield _heading("Epochs")
    yield f"<p>{escape(analysis.epochs.verdict.capitalize())}.</p>"
    if len(analysis.epochs.table) > 1:
        yield _picture(
            "Convergence",
            plots.plot_epochs(analysis.epochs.table),
            f"Maps are those of {len(analysis.epochs.particle_ids)} fixed particles. Latents are compared after the "
            "best rotation; neighbours are the 15 nearest.",
            "Losses and agreement with the last epoch.",
        )


def _tomograms(analysis: RunAnalysis) -> Iterator[str]:
    yield _heading("Tomograms")
    table = analysis.tomograms
    yield _picture(
        "Classes in tomograms",
        plots.plot_tomogram_classes(table),
        "Tomograms that differ most from chance first.",
        "Bars: share of each class in each tomogram.",
    )
    sure = table[table["p_family"] < 0.05]
    yield f"<p>{len(sure)} of {len(table)} pairs of tomogram and class differ from chance (p_family below 0.05).</p>"
    if len(sure):
        yield frame_table(sure.sort_values("p_value").head(SHOWN_ROWS))
    near = analysis.neighbours
    if near is None:
        return
    if analysis.placed is not None:
        yield "<p>The maps of the clusters, placed at their particles: open a script of analysis/mapback in ChimeraX; "
        yield "STAR files of each cluster and each tomogram are beside it.</p>"
    yield _picture(
        "Distances of neighbours",
        plots.plot_pair_distances(near.distances),
        "Pairs at each distance, divided by those of particles moved at random by a little.",
        "Pairs of particles by distance.",
    )
    yield _picture(
        "Geometry that comes back",
        plots.plot_recurrent_pairs(near.pairs),
        "Neighbours whose place and turn, seen from the particle, come back in other pairs more often than when "
        "orientations are given to other particles (recurrent_pairs.csv).",
        "Scatter of neighbours by distance and angle.",
    )
    yield _picture(
        "Classes around each other",
        plots.plot_class_neighbours(near.classes),
        "Neighbours of each class around each class, divided by those when labels are given to other particles of the "
        "same tomogram. Rings: beyond chance, all together (p_family below 0.05).",
        "Matrix of classes and classes of their neighbours.",
    )


def _validation(analysis: RunAnalysis) -> Iterator[str]:
    found = analysis.validation
    yield _heading(SECTIONS[-1])
    if found is None:
        yield "<p>Not tested; see below.</p>"
        return
    yield f"<p>Largest cluster against all other particles: {escape(found.verdict)}.</p>"
    facts = {
        "reconstructed : decoded difference": f"{found.difference_scale:.3f} ± {found.difference_error:.3f}",
        "halves of the tilts, standard errors": f"{found.independent_z:.1f}",
    }
    yield facts_table(facts)
    maps = np.stack([*found.decoded.maps, found.selected.filtered, found.others.filtered])
    yield _picture(
        "Decoded and reconstructed",
        plots.plot_map_differences(
            maps,
            ["cluster, decoded", "others, decoded", "cluster, from images", "others, from images"],
            groups=[0, 0, 1, 1],
        ),
        "Maps decoded by the model, and those made from images and poses alone, of the cluster and of all others; on "
        "the right against the mean of the two of their kind. What is real is in both kinds.",
        "Projections of decoded and reconstructed maps.",
    )
    yield _picture(
        "Their agreement",
        plots.plot_validation(found.curves),
        "A decoded map should agree with its own reconstruction better than with the other one.",
        "FSC curves.",
    )
    if analysis.resolution is None:
        return
    resolution = analysis.resolution.curve.attrs["resolution_angst"]
    yield _picture(
        "Resolution of the cluster's reconstruction",
        plots.plot_half_map_fsc(analysis.resolution.curve),
        f"{resolution:.1f} Å where the FSC of the half maps, corrected for what their mask alone contributes, falls "
        "below 0.143 (half_map_fsc.csv).",
        "FSC curves of the half maps.",
    )
    yield _picture(
        "Resolution from place to place",
        plots.plot_local_resolution(analysis.resolution.local_angst),
        "Where the correlation of the half maps about each voxel falls below 0.5. MRC file: "
        "analysis/validation/local_resolution.mrc.",
        "Slices of the local resolution, and a histogram.",
    )
