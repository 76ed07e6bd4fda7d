"""Flags of a sample: what is unlike the samples that the model was trained with, whatever its score.

A sample's flags are the bits of one number; `flag_names` returns them as words.
"""

from functools import cache

import numpy as np

FLAG_TEXTS = {
    "out_of_range": "values outside the range",
    "missing": "missing values",
    "unreadable": "no UTF-8",
    "refused": "not scored",
    "blank": "nothing to see: blank",
    "mean": "a mean that no training sample has",
    "std": "a standard deviation that no training sample has",
    "characters": "a length that no training sample has",
    "letters": "a share of letters that no training sample has",
    "unknown_category": "a category that is not known",
    "infinite": "an infinite number",
}
_BITS = {name: 1 << position for position, name in enumerate(FLAG_TEXTS)}
OUT_OF_RANGE, MISSING, UNREADABLE = _BITS["out_of_range"], _BITS["missing"], _BITS["unreadable"]
REFUSED = _BITS["refused"]
UNKNOWN_CATEGORY, INFINITE = _BITS["unknown_category"], _BITS["infinite"]
# Each of these makes a sample an anomaly, whatever its score.
UNEXPECTED = sum(_BITS.values()) - OUT_OF_RANGE - MISSING - UNREADABLE - REFUSED - UNKNOWN_CATEGORY - INFINITE
FLAG_DTYPE = np.uint16


def flag_bit(name: str) -> int:
    """Return the bit of a flag; raise ValueError where there is no such flag."""
    if name not in _BITS:
        raise ValueError(f"expected one of {', '.join(_BITS)}, got {name!r}")
    return _BITS[name]


@cache  # there are few combinations, and many samples
def flag_names(flags: int) -> tuple[str, ...]:
    """Return the names of a sample's flags, in the order of `FLAG_TEXTS`."""
    return tuple(name for name, bit in _BITS.items() if flags & bit)


def list_flag_names(flags: np.ndarray) -> list[tuple[str, ...]]:
    """Return the names of the flags of each sample of (n,)."""
    return list(map(flag_names, flags.tolist()))


def describe_flags(flags: int) -> str:
    """Return a sample's flags in words, to be read by a person; empty where there are none."""
    return ", ".join(flag_texts(flags))


def flag_texts(flags: int) -> list[str]:
    """Return each of a sample's flags in words."""
    return [FLAG_TEXTS[name] for name in flag_names(flags)]
