"""Options of the analysis that are words or whole numbers: what is neither is told, not guessed at."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

__all__ = ["is_whole", "require_word"]


def require_word(value: object, words: Sequence[str], option: str) -> None:
    """Refuse a word that an option does not know.

    Parameters
    ----------
    words
        Those that it knows.
    option
        Its name.

    Raises
    ------
    ValueError
        If it is none of them.

    Examples
    --------
    >>> require_word("even", ("even", "percentiles"), "spacing")
    """
    if value not in words:
        known = ", ".join(repr(word) for word in words)
        raise ValueError(f"Got {option} {value!r}, expected one of {known}. Choose one of these.")


def is_whole(number: object) -> bool:
    """Whether it is a whole number, of Python or NumPy, by its type.

    Examples
    --------
    >>> [is_whole(number) for number in (2, 2.5, 2.0, True)]
    [True, False, False, False]
    """
    return isinstance(number, Integral) and not isinstance(number, bool)
