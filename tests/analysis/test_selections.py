"""Sets of names, in the order of the data set."""

from __future__ import annotations

import pytest

from tomodrgn.analysis.selections import intersect_selections, invert_selection, unite_selections
from tomodrgn.widgets.selection import Selection

KNOWN = ["d", "b", "a", "c"]


def test_union_intersection_and_inversion_keep_the_order_of_the_data_set():
    one, other = ["a", "d", "a"], ["c", "a"]
    assert unite_selections(KNOWN, one, other).tolist() == ["d", "a", "c"]
    assert intersect_selections(KNOWN, one, other).tolist() == ["a"]
    assert invert_selection(KNOWN, one).tolist() == ["b", "c"]


def test_none_and_all():
    assert unite_selections(KNOWN).tolist() == []
    assert intersect_selections(KNOWN).tolist() == KNOWN
    assert unite_selections(KNOWN, []).tolist() == []
    assert intersect_selections(KNOWN, KNOWN, []).tolist() == []
    assert invert_selection(KNOWN, KNOWN).tolist() == []


def test_a_selection_of_the_widgets_serves():
    selection = Selection(KNOWN, ["c", "b"])
    assert unite_selections(KNOWN, selection, ["a"]).tolist() == ["b", "a", "c"]
    assert invert_selection(KNOWN, selection).tolist() == ["d", "a"]


@pytest.mark.parametrize("put", [unite_selections, intersect_selections, invert_selection])
def test_unknown_and_repeated_names_are_refused(put):
    with pytest.raises(KeyError, match=r"Got 1 of 2 particle ids .* 4 of the data set, first \['x'\]"):
        put(KNOWN, ["a", "x"])
    with pytest.raises(ValueError, match="'a' twice"):
        put(["a", "b", "a"], ["a"])
