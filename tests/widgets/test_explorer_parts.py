"""Parts of the explorer without a browser: values, ranges, the table, three columns, paths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import traitlets

import tomodrgn as td
from tomodrgn.widgets import LatentExplorer, Selection
from tomodrgn.widgets.chosen_table import MOST_ROWS, ChosenTable
from tomodrgn.widgets.latent_scatter import LatentScatter
from tomodrgn.widgets.latent_scatter_3d import MOST_POINTS, LatentScatter3d
from tomodrgn.widgets.value_chooser import ValueChooser, _outwards


@pytest.fixture
def table():
    values = {
        "z1": [0.1234567, 2.5, -1.0, np.nan],
        "square": ["A", "B", "A", None],
        "cluster": pd.Series([1, 0, 1, 2], dtype="int64").to_numpy(),
        "flag": [True, False, True, True],
    }
    return pd.DataFrame(values, index=pd.Index(list("abcd"), name="particle_id"))


def test_all_of_a_value_are_chosen_added_and_taken_away(table):
    selection = Selection(table.index)
    chooser = ValueChooser(table, selection, "square")
    assert [name for _, name in chooser._value.options] == ["(none)", "A", "B"]
    chooser._value.value = "A"
    chooser.choose()
    assert (selection.particle_ids, selection.made_by) == (("a", "c"), "square A")
    chooser.value = "(none)"
    chooser.add()
    assert selection.particle_ids == ("a", "c", "d")
    chooser.column = "flag"
    chooser.value = "True"
    chooser.remove()
    assert selection.particle_ids == ()
    with pytest.raises((ValueError, traitlets.TraitError), match="expected one of"):
        chooser.column = "nothing"


def test_a_range_is_typed_or_drawn(table):
    selection = Selection(table.index)
    chooser = ValueChooser(table, selection, "z1")
    chooser.choose()
    assert selection.particle_ids == ("a", "b", "c")  # the ends are rounded outwards
    chooser._range.value = (0.0, 1.0)
    chooser.choose()
    assert (selection.particle_ids, selection.made_by) == (("a",), "z1 from 0 to 1")
    chooser._high.value = 100.0  # beyond the slider's end
    assert chooser.high == 100.0
    chooser.choose()
    assert selection.particle_ids == ("a", "b")
    selection.set("c")
    chooser.keep()
    assert selection.particle_ids == ()


@pytest.mark.parametrize("number", [0.1234567, -0.1234567, 123456.7, -1e-12, 0.0, 3.0])
def test_ends_of_ranges_hold_what_is_there(number):
    assert _outwards(number, -1) <= number <= _outwards(number, 1)
    assert _outwards(number, 1) - _outwards(number, -1) <= 2e-4 * abs(number)


def test_the_table_shows_the_chosen_first_columns_first(table):
    selection = Selection(table.index)
    view = ChosenTable(table, selection)
    view.active = True
    assert view._html.value == "No particle is chosen."
    selection.set(["d", "a"])
    assert view._html.value.index("particle_id") < view._html.value.index("z1")
    view.columns = ("square", "z1")
    assert view.columns == ("z1", "square")
    assert view.shown.index.tolist() == ["a", "d"]
    table.loc["a", "square"] = "<script>"
    view.table = table
    assert "<script>" not in view._html.value
    assert "&lt;script&gt;" in view._html.value
    many = pd.DataFrame({"z1": np.arange(500.0)}, index=[str(i) for i in range(500)])
    long = ChosenTable(many, Selection(many.index, many.index))
    long.active = True
    assert (len(long.shown), "and 300 more" in long._html.value) == (MOST_ROWS, True)


def test_three_columns_are_drawn_when_asked_for(table):
    shown = table[["z1"]].fillna(0.0).assign(z2=1.0, z3=range(4), square=table["square"])
    selection = Selection(shown.index, ["b"])
    view = LatentScatter3d(shown, ["z1", "z2", "z3"], selection, x="z1", y="z2", colour="square")
    assert view.figure is None
    view.z = "z3"
    everyone, chosen = view.figure.data
    assert (list(everyone.z), list(chosen.x)) == ([0, 1, 2, 3], [2.5])
    assert len(set(everyone.marker.color)) == 3
    selection.set(["c", "d"])
    assert list(view.figure.data[1].text) == ["c", "d"]
    assert view.figure._config["showSendToCloud"] is False
    view.z = ""
    assert view._place.layout.display == "none"
    names = [str(i) for i in range(MOST_POINTS + 5)]
    many = pd.DataFrame({"z1": 1.0, "z2": 2.0, "z3": 3.0}, index=names)
    large = LatentScatter3d(many, ["z1", "z2", "z3"], Selection(names), x="z1", y="z2", colour="z1")
    large.z = "z3"
    assert len(large.figure.data[0].x) == MOST_POINTS
    assert large._note.value == f"{MOST_POINTS} of {len(names)} particles are drawn"


def test_the_parts_follow_the_explorer(small_particles, tmp_path):
    run = td.fit_linear(small_particles, tmp_path / "run", td.LinearConfig(n_components=2))
    explorer = LatentExplorer(run, maps=False)
    explorer.colour = "userGridSquare"
    assert explorer.chooser.column == "userGridSquare"
    explorer.chooser.choose()
    square = explorer.table["userGridSquare"]
    assert set(explorer.selection.particle_ids) == set(square.index[square == explorer.chooser.value])
    explorer.histogram.column = "z1"
    assert explorer.histogram.chooser.column == "z1"
    explorer.add_columns(pd.DataFrame({"label": "x"}, index=explorer.table.index))
    assert "label" in explorer.chosen_table.table
    explorer.chosen_table.columns = ("label",)
    assert (explorer.chosen_table.shown == "x").all(axis=None)
    ends = tuple(run.latents().particle_id[:2])
    explorer.path = ends
    assert explorer._paths.wait(120.0)
    assert (explorer.message, len(explorer._path_points)) == ("", 12)
    explorer.space.z = "z2"
    explorer.x = "z1"
    assert explorer.space.x == "z1"


def test_columns_come_after_names_were_colours(table):
    scatter = LatentScatter(table.assign(z1=range(4), PC2=range(4)), x="z1", y="PC2", height=300)
    scatter.paint("square")
    scatter.paint("cluster")
    scatter.renew(table.assign(z1=range(4), PC2=range(4), UMAP1=[4.0, 3.0, 2.0, 1.0]))
    scatter.move(x="UMAP1")
    assert scatter._frame["UMAP1"].tolist() == [4.0, 3.0, 2.0, 1.0]
