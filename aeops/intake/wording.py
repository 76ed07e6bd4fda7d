"""Counts and reasons as the lines of `ae new` name them."""

from collections.abc import Iterable, Mapping
from itertools import islice


def utf8_length(text: str) -> int:
    """Return the bytes of a text in UTF-8, one for what UTF-8 cannot hold."""
    return len(text.encode(errors="replace"))


def format_counts(counts: Iterable[tuple[str, int]]) -> str:
    """Return names, each with its count.

    >>> format_counts({"good": 1200, "bad": 3}.items())
    'good (1,200), bad (3)'
    """
    return ", ".join(f"{name} ({count:,})" for name, count in counts)


def is_or_are(count: int) -> str:
    """Return the verb that goes with a count."""
    return "is" if count == 1 else "are"


def format_reasons(reasons: Mapping[str, str], most: int) -> str:
    """Return the first `most` names, each with its reason.

    >>> format_reasons({"a.csv": "empty", "b.csv": "torn", "c.csv": "empty"}, 2)
    'a.csv: empty; b.csv: torn'
    """
    return "; ".join(f"{name}: {reason}" for name, reason in islice(reasons.items(), most))
