"""Text of the data in figures: as it is written, never read as mathematics."""

from __future__ import annotations

__all__ = ["as_written"]


def as_written(text: object) -> str:
    """Text for a label of a figure; dollar signs, by which matplotlib marks formulas, stay dollar signs.

    Examples
    --------
    >>> len(as_written("ice $x^$")) - len("ice $x^$")
    2
    """
    return str(text).replace("$", r"\$")
