"""Nested mappings as MLflow keeps them: flat, under dotted paths."""

import math
from collections.abc import Iterator, Mapping
from typing import Any


def flat(given: Mapping[str, Any], lists: bool = False, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, leaf); with `lists`, a list's items are leaves under their places, else a list is a leaf."""
    for key, value in given.items():
        here = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, lists, f"{here}.")
        elif lists and isinstance(value, list | tuple):
            yield from flat({str(place): item for place, item in enumerate(value)}, lists, f"{here}.")
        else:
            yield here, value


def flat_text(given: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf as text, for parameters."""
    return {path: str(value) for path, value in flat(given)}


def flat_numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """Every finite number, for metrics; words, flags and gaps are left out."""
    leaves = flat(given, lists=True)
    numbers = ((path, value) for path, value in leaves if isinstance(value, int | float) and not isinstance(value, bool))
    return {path: float(value) for path, value in numbers if math.isfinite(value)}
