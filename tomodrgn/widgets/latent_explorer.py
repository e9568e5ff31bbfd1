"""Scatter of the latents, coloured by any column; a lasso writes the Selection."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ipywidgets
import jscatter
import numpy as np
import pandas as pd
import traitlets

from tomodrgn.analysis.latent_space import reduce_latents
from tomodrgn.analysis.umap_job import UmapJob
from tomodrgn.training.run import Run
from tomodrgn.widgets.colours import colour_column
from tomodrgn.widgets.selection import Selection
from tomodrgn.widgets.selection_bar import SelectionBar

__all__ = ["LatentExplorer"]

MAX_COMPONENTS = 8
HOVER = "(particle)"  # in brackets, as no column of a STAR file is


class LatentExplorer(ipywidgets.VBox):
    """All particles of a run as points; a lasso chooses some, and the mouse over one tells how sure its place is.

    Parameters
    ----------
    run
        A run, or its folder.
    epoch
        Epoch whose latents are shown; None is the last.
    clusters
        A class for each particle, as of `cluster_latents`: the column `cluster`.
    columns
        Further columns to colour by, indexed by particle_id.
    selection
        A Selection of another view, to be shared.
    height
        Of the picture, in pixels of the screen.

    Attributes
    ----------
    x, y
        The columns on the axes; at first the first two principal components.
    colour
        The column that colours the points.
    selection
        The chosen particles; `ParticleSet.subset` takes it.
    bar
        The controls below; ``explorer.bar.query = "z1 > 0"`` chooses by a condition on the table.
    table
        One row a particle: principal components PC1 ..., clusters, every STAR column, latents z1 ... and their standard
        deviations z1_std ...

    Raises
    ------
    ValueError
        If the run has no latents (z_dim 0).
    KeyError
        If `clusters` or `columns` lack a particle, or `selection` is of other particles.
    """

    x = traitlets.Unicode()
    y = traitlets.Unicode()
    colour = traitlets.Unicode()
    selection = traitlets.Instance(Selection)
    umap_job: UmapJob | None = None

    def __init__(
        self,
        run: Run | Path | str,
        epoch: int | None = None,
        *,
        clusters: pd.Series | None = None,
        columns: pd.DataFrame | None = None,
        selection: Selection | None = None,
        height: int = 420,
    ) -> None:
        opened = run if isinstance(run, Run) else Run.open(run)
        self.table = _table(opened, epoch, clusters, columns)
        names = self.table.index.astype(str)
        shared = selection if selection is not None else Selection(names)
        if set(shared.known_ids) != set(names):
            raise KeyError(
                f"Got a Selection of other particles than those of run {opened.folder}. Use one of this run."
            )
        varied = [str(c) for c in self.table if self.table[c].nunique() > 1]  # noqa: PD101 (missing values count too)
        self._colourings = {c: colour_column(self.table[c]) for c in varied}
        complete = [c for c in self._colourings if self.table[c].notna().all()]
        numeric = [c for c in complete if not self._colourings[c].is_categorical]
        self._names, self._quiet = pd.Index(names), False
        super().__init__(
            x=numeric[0], y=numeric[min(1, len(numeric) - 1)], colour=_first_colour(self._colourings), selection=shared
        )
        self.scatter = self._plot(height)
        controls: list[ipywidgets.Widget] = []
        for name, options in (("x", numeric), ("y", numeric), ("colour", list(self._colourings))):
            layout = ipywidgets.Layout(width="240px")
            choice = ipywidgets.Dropdown(
                options=options, description=name, layout=layout, style={"description_width": "50px"}
            )
            choice.add_class(f"tomodrgn-{name}")
            ipywidgets.link((self, name), (choice, "value"))
            controls.append(choice)
        self._axes = controls[:3]
        self._latents = opened.latents(epoch)
        self._umap_button = ipywidgets.Button(
            description="UMAP",
            tooltip="Make UMAP1 and UMAP2, beside other work",
            layout=ipywidgets.Layout(width="170px"),
        )
        self._umap_button.add_class("tomodrgn-umap")
        self._umap_button.disabled = "UMAP1" in self._colourings or self._latents.z_dim < 3
        self._umap_button.on_click(lambda _: self.make_umap())
        controls.append(self._umap_button)
        self.bar = SelectionBar(shared, self.table.set_axis(self._names), opened, epoch=epoch)
        self.children = [ipywidgets.HBox(controls), self.scatter.show(), self.bar]
        self.scatter.widget.observe(self._lassoed, names="selection")
        self.selection.observe(self._show_selection, names="particle_ids")
        self._show_selection()

    def select(self, particle_ids: Iterable[str]) -> None:
        """Choose these particles and no others.

        Raises
        ------
        KeyError
            If a name is unknown.
        """
        self.selection.set(particle_ids)

    def make_umap(self, *, seed: int = 0) -> UmapJob:
        """Make the columns UMAP1 and UMAP2 in another process, and put them on the axes when they are there.

        The button tells the progress; pressed again it ends the work. ``explorer.umap_job.result()`` waits for it.
        """
        if self.umap_job is not None and self.umap_job.running:
            self.umap_job.cancel()
            return self.umap_job
        self._umap_button.description = "UMAP: neighbours ..."
        self.umap_job = UmapJob(self._latents, seed=seed, on_progress=self._tell_umap, on_end=self._take_umap)
        return self.umap_job

    def _tell_umap(self, done: int, of: int) -> None:
        self._umap_button.description = f"UMAP: {done} of {of} (stop)" if of else "UMAP: neighbours ..."

    def _take_umap(self, job: UmapJob) -> None:
        try:
            found = job.result()
        except RuntimeError as error:
            self._umap_button.description, self._umap_button.tooltip = "UMAP", str(error)
            return
        for name in map(str, found):
            self.table.insert(0, name, found[name].loc[self.table.index])
            self._colourings[name] = colour_column(self.table[name])
        self.bar.table = self.table.set_axis(self._names)
        self.scatter.data(self._frame())
        for choice in self._axes:
            choice.options = [*choice.options, *map(str, found)]
        self.x, self.y = "UMAP1", "UMAP2"
        self._umap_button.description, self._umap_button.disabled = "UMAP", True

    def _frame(self) -> pd.DataFrame:
        """What the scatter draws."""
        frame = pd.DataFrame({name: found.drawn for name, found in self._colourings.items()}).reset_index(drop=True)
        frame[HOVER] = _hover_texts(self.table)
        return frame

    def _plot(self, height: int) -> Any:
        frame = self._frame()
        scatter = jscatter.Scatter(
            data=frame,
            x=self.x,
            y=self.y,
            x_scale=self._span(self.x),
            y_scale=self._span(self.y),
            height=height,
            mouse_mode="lasso",
            size=6 if len(frame) < 3000 else 3,
            opacity=0.8,
            axes_labels=True,
            legend=True,
            transition_points=False,
        )
        scatter.tooltip(
            True,
            properties=["x", "y", "color"],
            preview=HOVER,
            preview_type="text",
            preview_text_lines=1 + MAX_COMPONENTS,
        )
        self._paint(scatter)
        scatter.widget.add_class("tomodrgn-scatter")
        return scatter

    def _span(self, name: str) -> tuple[float, float]:
        """Ends of an axis, a little beyond the outermost points."""
        low, high = self._colourings[name].norm
        return low - 0.04 * (high - low), high + 0.04 * (high - low)

    def _paint(self, scatter: Any) -> None:
        found = self._colourings[self.colour]
        # Colours as a list and the norm every time: jupyter-scatter keeps the norm of the column before.
        scatter.color(by=self.colour, map=found.colours, norm=found.norm)

    @traitlets.validate("x", "y", "colour")
    def _known(self, proposal: dict) -> str:
        name = str(proposal["value"])
        allowed = list(self._colourings)
        if proposal["trait"].name != "colour":
            allowed = [c for c in allowed if not self._colourings[c].is_categorical and self.table[c].notna().all()]
        if name not in allowed:
            raise ValueError(f"Got column {name!r} for {proposal['trait'].name}, expected one of {allowed}.")
        return name

    @traitlets.observe("x", "y")
    def _move(self, change: dict) -> None:
        scatter = getattr(self, "scatter", None)
        if scatter is not None:
            setter = scatter.x if change["name"] == "x" else scatter.y
            setter(change["new"], scale=self._span(change["new"]))

    @traitlets.observe("colour")
    def _recolour(self, change: dict) -> None:
        scatter = getattr(self, "scatter", None)
        if scatter is not None:
            self._paint(scatter)

    def _lassoed(self, change: dict) -> None:
        rows = np.asarray(change["new"], dtype=np.int64)
        if not self._quiet:
            self.selection.set(self._names[rows], made_by="lasso")

    def _show_selection(self, change: dict | None = None) -> None:
        rows = self._names.get_indexer(pd.Index(self.selection.particle_ids))
        drawn = np.sort(np.asarray(self.scatter.widget.selection, dtype=np.int64))
        if not np.array_equal(drawn, np.sort(rows)):
            self._quiet = True
            try:
                self.scatter.selection(rows)
            finally:
                self._quiet = False


def _table(run: Run, epoch: int | None, clusters: pd.Series | None, columns: pd.DataFrame | None) -> pd.DataFrame:
    """Components and clusters first, then further columns, then those of the run."""
    latents = run.latents(epoch)
    if not latents.z_dim:
        raise ValueError(f"Got run {run.folder} with z_dim 0, expected one with latents. Train with a larger z_dim.")
    table = reduce_latents(latents, MAX_COMPONENTS)
    for part in (clusters, columns):
        if part is None:
            continue
        missing = table.index.difference(part.index)
        if len(missing):
            raise KeyError(f"Got columns without particle {missing[0]!r} ({len(missing)} such), expected all of them.")
        table = table.join(part.rename("cluster").astype(str) if isinstance(part, pd.Series) else part)
    own = run.table(epoch)
    return table.join(own.drop(columns=[c for c in own if c in table]))


def _hover_texts(table: pd.DataFrame) -> list[str]:
    """Of each particle its name and its latents with their standard deviations."""
    names = [f"z{i + 1}" for i in range(MAX_COMPONENTS) if f"z{i + 1}_std" in table]
    texts = table.index.astype(str).tolist()
    for name in names:
        pairs = zip(texts, table[name], table[f"{name}_std"], strict=True)
        texts = [f"{text}  {name} {mean:.2f} \N{PLUS-MINUS SIGN} {std:.2f}" for text, mean, std in pairs]
    return texts


def _first_colour(names: Iterable[str]) -> str:
    return "cluster" if "cluster" in names else next(iter(names))
