"""Particles chosen by a typed condition on their columns. It is parsed by this module, and never evaluated as code.

    rlnDefocusU > 2e4 and cluster in [1, 3]
    0 < z1 <= 2 or not (tomogram startswith "TS_0" and outlier)
    `ice thickness` is missing

Conditions are comparisons (``== != < <= > >=``, which may be chained), ``in [...]`` and ``not in [...]``, ``contains``
and ``startswith`` for text, ``is missing`` and ``is not missing``, and columns of true and false alone; they are joined
by ``and``, ``or``, ``not`` and parentheses. Columns are written as they are named, between back quotes if they are no
plain words; text is quoted. Columns of numbers are compared as numbers, all others as text: ``"001"`` is not ``"1"``. A
value that is missing fulfils no comparison.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

__all__ = ["query_particles"]

MOST_CHARACTERS, MOST_NESTED = 10_000, 50
TOKENS = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>"[^"]*"|'[^']*')
    |`(?P<quoted>[^`]+)`
    |(?P<word>[^\W\d][\w.]*)
    |(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,))""",
    re.VERBOSE,
)
COMPARISONS: dict[str, Callable] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip
TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
KEYWORDS = {"and", "or", "not", "in", "contains", "startswith", "is", "missing", "true", "false"}


def query_particles(table: pd.DataFrame, query: str) -> np.ndarray:
    """Names of the particles that fulfil a condition, in the order of the table.

    Parameters
    ----------
    table
        One row a particle, indexed by particle_id, such as `Run.table`; ``particle_id`` counts as a column.
    query
        See the text of this module.

    Raises
    ------
    ValueError
        If the query is no condition of this kind, names no column of the table, or compares text with numbers.

    Examples
    --------
    >>> table = pd.DataFrame({"z1": [0.5, 2.0, -1.0], "tomogram": ["TS_1", "TS_2", "TS_1"]}, index=["a", "b", "c"])
    >>> query_particles(table, 'z1 > 0 and tomogram == "TS_1"').tolist()
    ['a']
    """
    if len(query) > MOST_CHARACTERS:
        raise ValueError(f"Got a query of {len(query)} characters, expected {MOST_CHARACTERS} at most. Shorten it.")
    return table.index.to_numpy()[_Parser(table, query).parse()]


@dataclass(frozen=True)
class _Token:
    kind: str  # number, text, column (in back quotes), word, sign or end
    value: str
    place: int


def _tokens(query: str) -> Iterator[_Token]:
    place = 0
    while place < len(query.rstrip()):
        found = TOKENS.match(query, place)
        if found is None or found.lastgroup is None:
            rest = query[place:].lstrip()
            raise ValueError(
                f"Got query {query!r} with {rest[:12]!r} at character {len(query) - len(rest) + 1}, expected "
                "columns, numbers, quoted text, comparisons, and, or, not. Correct it there."
            )
        kind, value = found.lastgroup, found[found.lastgroup]
        start = found.start(found.lastgroup)
        yield _Token("column" if kind == "quoted" else kind, value[1:-1] if kind == "text" else value, start)
        place = found.end()
    yield _Token("end", "", len(query))


class _Parser:
    """Recursive descent; each method reads one rule and returns a flag for each particle."""

    def __init__(self, table: pd.DataFrame, query: str) -> None:
        self._table, self._query = table, query
        self._tokens, self._at, self._depth = list(_tokens(query)), 0, 0

    def parse(self) -> Bool[np.ndarray, " k"]:
        found = self._any_of()
        if self._token.kind != "end":
            raise self._error("and, or, or the end")
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._token
        self._at += token.kind != "end"
        return token

    def _next_is(self, *words: str) -> bool:
        """Whether the next token is one of these words or signs; it is taken then."""
        token = self._token
        if token.kind in ("word", "sign") and token.value in words:
            self._at += 1
            return True
        return False

    def _error(self, wanted: str) -> ValueError:
        token = self._token
        what = "ends" if token.kind == "end" else f"has {token.value!r}"
        return ValueError(
            f"Got query {self._query!r}, which {what} at character {token.place + 1}, expected {wanted}. Correct it."
        )

    def _any_of(self) -> np.ndarray:
        found = self._all_of()
        while self._next_is("or"):
            found = found | self._all_of()
        return found

    def _all_of(self) -> np.ndarray:
        found = self._one()
        while self._next_is("and"):
            found = found & self._one()
        return found

    def _one(self) -> np.ndarray:
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise ValueError(f"Got a query nested more than {MOST_NESTED} deep, expected a simpler one. Shorten it.")
        try:
            if self._next_is("not"):
                return ~self._one()
            if self._next_is("("):
                found = self._any_of()
                if not self._next_is(")"):
                    raise self._error("a closing parenthesis")
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> np.ndarray:
        left = self._operand()
        column = self._column(left) if left.kind in ("word", "column") else None
        if column is not None and self._next_is("is"):
            wanted = not self._next_is("not")
            if not self._next_is("missing"):
                raise self._error("missing")
            return (column.isna() == wanted).to_numpy()
        if column is not None and (self._token.value in ("in", "not") and self._token.kind == "word"):
            wanted = not self._next_is("not")
            if not self._next_is("in"):
                raise self._error("in")
            return (column.notna() & (self._among(column) == wanted)).to_numpy()
        for word in ("contains", "startswith"):
            if column is not None and self._next_is(word):
                if self._token.kind != "text":
                    raise self._error("a quoted text")
                values = column.astype("str").str
                part = self._take().value
                found = values.contains(part, regex=False) if word == "contains" else values.startswith(part)
                return (found & column.notna()).to_numpy(dtype=bool)
        if column is not None and pd.api.types.is_bool_dtype(column) and self._token.value not in COMPARISONS:
            return column.to_numpy(dtype=bool)
        return self._chain(left)

    def _chain(self, left: _Token) -> np.ndarray:
        """``a < b <= c``: all of them."""
        found = None
        while self._token.kind == "sign" and self._token.value in COMPARISONS:
            sign = self._take().value
            right = self._operand()
            one = self._compare(left, sign, right)
            found = one if found is None else found & one
            left = right
        if found is None:
            raise self._error("a comparison such as == or <, in, contains, startswith or is missing")
        return found

    def _operand(self) -> _Token:
        token = self._token
        if token.kind in ("number", "text", "column") or (
            token.kind == "word" and token.value not in KEYWORDS - {"true", "false"}
        ):
            return self._take()
        raise self._error("a column, a number or a quoted text")

    def _column(self, token: _Token) -> pd.Series | None:
        if token.kind == "word" and token.value in ("true", "false"):
            return None
        if token.value in self._table:
            return self._table[token.value]
        if token.value == "particle_id":
            return self._table.index.to_series()
        names = [str(name) for name in self._table]
        near = difflib.get_close_matches(token.value, names, n=3, cutoff=0.5) or names[:5]
        raise ValueError(
            f"Got query {self._query!r} with the column {token.value!r}, which is not there. Columns named like it: "
            f"{', '.join(near) or 'none'}. Text needs quotes."
        )

    def _among(self, column: pd.Series) -> pd.Series:
        if not self._next_is("["):
            raise self._error("a list such as [1, 3]")
        found = pd.Series(data=False, index=column.index)
        while not self._next_is("]"):
            if self._token.kind not in ("number", "text"):
                raise self._error("a number, a quoted text or a closing bracket")
            found |= pd.Series(self._against(column, "==", self._take()), index=column.index)
            if not self._next_is(",") and self._token.value != "]":
                raise self._error("a comma or a closing bracket")
        return found

    def _compare(self, left: _Token, sign: str, right: _Token) -> np.ndarray:
        one, other = (self._column(t) if t.kind in ("word", "column") else None for t in (left, right))
        if one is None and other is None:
            raise ValueError(
                f"Got query {self._query!r} that compares {left.value!r} with {right.value!r}. Name a column."
            )
        if one is None or other is None:
            column, literal, sign = (one, right, sign) if one is not None else (other, left, TURNED[sign])
            return self._against(column, sign, literal)  # type: ignore[arg-type]
        known = (one.notna() & other.notna()).to_numpy()
        if _is_number(one) and _is_number(other):
            return COMPARISONS[sign](one.to_numpy(), other.to_numpy()) & known
        texts = [_as_text(column) for column in (one, other)]
        return np.asarray(COMPARISONS[sign](*texts), dtype=bool) & known

    def _against(self, column: pd.Series, sign: str, literal: _Token) -> np.ndarray:
        """A column against a number, a text, true or false."""
        known = column.notna().to_numpy()
        if pd.api.types.is_bool_dtype(column):
            if literal.value not in ("true", "false"):
                raise self._unlike(column, literal, "true or false")
            return np.asarray(COMPARISONS[sign](column.to_numpy(dtype=bool), literal.value == "true"))
        if _is_number(column):
            if literal.kind != "number":
                raise self._unlike(column, literal, "a number")
            return np.asarray(COMPARISONS[sign](column.to_numpy(dtype=np.float64), float(literal.value))) & known
        if literal.kind == "number" and sign not in ("==", "!="):
            raise self._unlike(column, literal, "a quoted text")
        # A number against text, as in cluster in [1, 3] where clusters are names, is taken as it was typed.
        return np.asarray(COMPARISONS[sign](_as_text(column), literal.value), dtype=bool) & known

    def _unlike(self, column: pd.Series, literal: _Token, wanted: str) -> ValueError:
        return ValueError(
            f"Got query {self._query!r} with {literal.value!r} for column {column.name!r} at character "
            f"{literal.place + 1}, expected {wanted}. Correct it there."
        )


def _as_text(column: pd.Series) -> np.ndarray:
    """Missing values too become text, for only text has an order with text."""
    return column.astype("str").fillna("").to_numpy(dtype=object)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
