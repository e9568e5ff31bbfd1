"""Selections: what is chosen, undone, queried, kept under a name, and how it came about."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import tomodrgn as td
from tomodrgn.widgets import LatentExplorer, Selection
from tomodrgn.widgets.selection_bar import SelectionBar


@pytest.fixture(scope="module")
def run(small_particles, tmp_path_factory) -> td.Run:
    return td.fit_linear(small_particles, tmp_path_factory.mktemp("run") / "run", model=td.LinearConfig(n_components=1))


def test_choices_are_joined_and_taken_away():
    selection = Selection("abcde")
    selection.set(["a", "b"], made_by="lasso")
    selection.add("d", made_by="query: z1 > 0")
    assert (selection.particle_ids, selection.made_by) == (("a", "b", "d"), "(lasso) and query: z1 > 0")
    selection.remove("a")
    assert selection.particle_ids == ("b", "d")
    selection.intersect(["d", "e"], made_by="cluster 1")
    assert selection.particle_ids == ("d",)
    assert selection.made_by == "(((lasso) and query: z1 > 0) without code) also in cluster 1"
    selection.invert()
    assert selection.particle_ids == ("a", "b", "c", "e")
    with pytest.raises(KeyError, match="Got 1 of 2 particle ids"):
        selection.remove(["a", "nobody"])
    assert selection.particle_ids == ("a", "b", "c", "e")


def test_undo_and_redo():
    selection, seen = Selection("abc", "a"), []
    assert not selection.can_undo
    selection.observe(lambda change: seen.append(change["new"]), names="particle_ids")
    selection.set("b", made_by="lasso")
    selection.particle_ids = ("c",)  # as a view sets it
    selection.undo()
    assert (selection.particle_ids, selection.made_by) == (("b",), "lasso")
    selection.undo()
    assert selection.particle_ids == ("a",)
    assert not selection.can_undo
    selection.undo()  # nothing is left to undo
    selection.redo()
    selection.redo()
    assert selection.particle_ids == ("c",)
    assert not selection.can_redo
    selection.undo()
    selection.set("a")
    assert not selection.can_redo
    assert seen == [("b",), ("c",), ("b",), ("a",), ("b",), ("c",), ("b",), ("a",)]


def test_only_so_many_steps_are_kept():
    selection = Selection([str(i) for i in range(300)])
    for i in range(300):
        selection.set([str(i)])
    for _ in range(300):
        selection.undo()
    assert selection.particle_ids == ("199",)


def test_a_query_chooses(run):
    selection = Selection(run.latents().particle_id)
    table = run.table()
    selection.query(table, "z1 > 0 and rlnDefocusU > 0")
    assert selection.particle_ids == tuple(table.index[table["z1"] > 0])
    assert selection.made_by == "query: z1 > 0 and rlnDefocusU > 0"
    before = selection.particle_ids
    with pytest.raises(ValueError, match="Got query"):
        selection.query(table, "z1 >")
    assert selection.particle_ids == before


def test_saved_selections_come_back_with_their_story(run, tmp_path):
    ids = run.latents().particle_id
    selection = Selection(ids)
    selection.set(ids[:3], made_by="lasso")
    path = selection.save(run, "open")
    assert path == run.folder / "selections" / "open.csv"
    other = Selection(ids)
    story = other.load(run, "open")
    assert other.particle_ids == tuple(ids[:3])
    assert story["made_by"] == "lasso"
    assert story["epoch"] == 1
    assert (story["n_particles"], story["n_known"]) == (3, len(ids))
    assert len(run.particles.subset(pd.read_csv(path, dtype=str)["particle_id"])) == 3
    with pytest.raises(FileExistsError):
        selection.save(run, "open")
    selection.save(run, "open", overwrite=True)
    with pytest.raises(FileNotFoundError, match="expected one that is there: open"):
        other.load(run, "shut")
    with pytest.raises(KeyError, match="Got 2 of 3 particle ids"):
        Selection(ids[:1]).load(run, "open")
    path.write_text("name\na\n")
    with pytest.raises(ValueError, match="expected particle_id"):
        other.load(run, "open")
    path.with_suffix(".json").write_text(json.dumps({}))


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "a b", "x" * 101, "a\n"])
def test_names_stay_in_the_folder(run, name):
    selection = Selection(run.latents().particle_id)
    with pytest.raises(ValueError, match="Got the name"):
        selection.save(run, name)
    with pytest.raises(ValueError, match="Got the name"):
        selection.load(run, name)


def test_particles_of_another_set_are_not_saved(run):
    with pytest.raises(KeyError, match="Got 1 of 1 particle ids that are not among"):
        Selection(["stranger"], ["stranger"]).save(run, "strange")
    assert not (run.folder / "selections" / "strange.csv").exists()


def test_half_a_million_particles():
    ids = np.array([f"TS_{i % 100:03d}_{i:07d}" for i in range(500_000)])
    selection = Selection(ids)
    selection.set(ids[::2])
    assert len(selection) == 250_000
    selection.undo()
    assert len(selection) == 0


# --- the bar ----------------------------------------------------------------------------------------------------------


def test_the_bar_asks_undoes_and_keeps(run):
    selection = Selection(run.latents().particle_id)
    bar = SelectionBar(selection, run.table(), run)
    assert bar.message == f"0 of {len(selection.known_ids)} particles chosen"
    bar.query = "z1 > 0"
    wanted = tuple(run.table().index[run.table()["z1"] > 0])
    assert selection.particle_ids == wanted
    assert bar.message.endswith("chosen (query: z1 > 0)")
    undo, redo, invert, clear, save = (_find(bar, name) for name in ("undo", "redo", "invert", "clear", "save"))
    invert.click()
    assert len(selection) == len(selection.known_ids) - len(wanted)
    undo.click()
    assert selection.particle_ids == wanted
    assert not redo.disabled
    bar.query = "z1 >"
    assert bar.message.startswith("Got query 'z1 >'")
    assert selection.particle_ids == wanted
    save.click()
    assert bar.message.startswith("Got the name ''")
    bar.save("bar")
    assert "kept in" in bar.message
    bar.save("bar")
    assert "exists" in bar.message
    clear.click()
    assert len(selection) == 0
    with pytest.raises(ValueError, match="Got no run"):
        SelectionBar(selection, run.table()).save("x")


def test_explorers_have_the_bar(run):
    explorer = LatentExplorer(run)
    explorer.bar.query = "z1 <= 0"
    assert set(explorer.selection.particle_ids) == set(run.table().index[run.table()["z1"] <= 0])
    assert len(explorer.scatter.widget.selection) == len(explorer.selection)
    explorer.bar.query = "PC1 > -1e9"  # the explorer's own columns too
    assert len(explorer.selection) == len(run.latents().particle_id)


def _find(widget, name: str):
    """The control with a class of the package's."""
    if f"tomodrgn-{name}" in getattr(widget, "_dom_classes", ()):
        return widget
    found = [_find(child, name) for child in getattr(widget, "children", ())]
    return next((one for one in found if one is not None), None)
