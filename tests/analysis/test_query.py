"""Conditions against the same conditions in numpy; nothing is evaluated; what is wrong is told where it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodrgn.analysis.query import query_particles

TABLE = pd.DataFrame(
    {
        "rlnDefocusU": [1e4, 2.5e4, 3e4, np.nan],
        "cluster": [0, 1, 3, 1],
        "tomogram": ["TS_01", "TS_02", "TS_01", None],
        "code": ["001", "1", "2", "10"],
        "outlier": [True, False, False, True],
        "ice thickness": [1.0, 2.0, 3.0, 4.0],
        "and": [1, 1, 2, 2],
        "z1": [-1.0, 0.0, 0.5, 2.0],
    },
    index=pd.Index(list("abcd"), name="particle_id"),
)
FOUND = {
    "rlnDefocusU > 2e4": "bc",
    "rlnDefocusU > 2e4 and cluster in [1, 3]": "bc",
    "rlnDefocusU>2e4 and cluster in[3]": "c",
    "20000 < rlnDefocusU <= 2.5e4": "b",
    "2e4 < rlnDefocusU": "bc",
    "rlnDefocusU != 1e4": "bc",
    "not rlnDefocusU > 2e4": "ad",
    "rlnDefocusU is missing": "d",
    "rlnDefocusU is not missing": "abc",
    "cluster not in [1]": "ac",
    "cluster in []": "",
    "tomogram == 'TS_01'": "ac",
    'tomogram != "TS_01"': "b",
    "tomogram not in ['TS_01']": "b",
    "tomogram contains '01'": "ac",
    "tomogram startswith 'TS_02' or z1 < 0": "ab",
    "tomogram is missing": "d",
    "code == '1'": "b",
    "code == 1": "b",
    "code in ['001', 10]": "ad",
    "code < '1'": "a",
    "outlier": "ad",
    "not outlier": "bc",
    "outlier == false": "bc",
    "outlier and z1 > 0": "d",
    "`ice thickness` >= 3": "cd",
    "`and` == 2": "cd",
    "particle_id in ['a', 'd']": "ad",
    "z1 < -0.5 or z1 > 1 and cluster == 1": "ad",
    "(z1 < -0.5 or z1 > 1) and cluster == 1": "d",
    "z1 < cluster": "abc",
    "-1 <= z1 < +.5": "ab",
    "not not outlier": "ad",
}


@pytest.mark.parametrize(("query", "wanted"), FOUND.items())
def test_conditions(query, wanted):
    assert "".join(query_particles(TABLE, query)) == wanted


MISTAKES = {
    "": "ends at character 1, expected a column",
    "z1": "ends at character 3, expected a comparison",
    "z1 >": "ends at character 5, expected a column",
    "z1 > 1 z2": "has 'z2' at character 8, expected and, or",
    "z1 = 1": "'= 1' at character 4",
    "(z1 > 1": "ends at character 8, expected a closing parenthesis",
    "z1 in 1": "expected a list such as",
    "z1 in [1 2]": "has '2' at character 10, expected a comma",
    "z1 in [tomogram]": "expected a number, a quoted text",
    "rlnDefocusV > 1": "Columns named like it: rlnDefocusU",
    "tomogram == TS_01": "the column 'TS_01', which is not there.*Text needs quotes",
    "z1 == 'a'": "with 'a' for column 'z1' at character 7, expected a number",
    "tomogram > 3": "expected a quoted text",
    "outlier == 1": "expected true or false",
    "1 < 2": "Name a column",
    "tomogram contains 3": "expected a quoted text",
    "z1 is 3": "expected missing",
    "__class__": "'__class__', which is not there",
    "z1.__class__ == 1": "'z1.__class__', which is not there",
    ";import os": "';import os' at character 1",
    "__import__('os') == 1": "'__import__', which is not there",
    "__import__('os').system('x')": "system.* at character 17",
    "z1 > 1 and and": "has 'and' at character 12",
    "@z1 > 1": "'@z1 > 1' at character 1",
    "z1 > 1; z1 < 2": "'; z1 < 2' at character 7",
    "z1 > 1e999999x": "at character 6",
}


@pytest.mark.parametrize(("query", "words"), MISTAKES.items())
def test_mistakes_are_told(query, words):
    with pytest.raises(ValueError, match=f"^Got (?s:.*){words}"):
        query_particles(TABLE, query)


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">="])
def test_order_of_texts_leaves_out_what_is_missing(sign):
    table = pd.DataFrame({"one": ["b", None, "a"], "other": ["a", "a", None]}, index=["p", "q", "r"])
    assert (
        query_particles(table, f"one {sign} 'a'").tolist() == {"<": [], "<=": ["r"], ">": ["p"], ">=": ["p", "r"]}[sign]
    )
    assert query_particles(table, f"one {sign} other").tolist() == (["p"] if ">" in sign else [])


def test_huge_queries_are_refused():
    with pytest.raises(ValueError, match="10000 at most"):
        query_particles(TABLE, "z1 > 1 or " * 2000 + "z1 > 1")
    for deep in ("(" * 2000 + "z1 > 1" + ")" * 2000, "not " * 2000 + "outlier"):
        with pytest.raises(ValueError, match="nested more than 50 deep"):
            query_particles(TABLE, deep)


def assert_chosen_or_told(query: str) -> None:
    said, found = "", np.array([])
    try:
        found = query_particles(TABLE, query)
    except ValueError as error:
        said = str(error)
    assert said.startswith("Got ") or set(found) <= set("abcd")


@given(st.text(max_size=60))
def test_any_text_is_a_choice_or_a_told_mistake(text):
    assert_chosen_or_told(text)


WORDS = (
    "z1", "cluster", "tomogram", "outlier", "<", ">=", "==", "in", "[", "]", ",", "(", ")", "and", "or", "not", "1",
    "'TS_01'", "is", "missing", "contains",
)  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_any_order_of_words_is_a_choice_or_a_told_mistake(words):
    assert_chosen_or_told(" ".join(words))
