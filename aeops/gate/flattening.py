"""Flatten nested mappings, such as metrics.json, to dotted paths. Standard library only."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ae_models.mappings import map_values


def iter_leaves(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of each leaf; a list is one leaf.

    >>> list(iter_leaves({"detection": {"auroc": 0.97, "interval": [0.96, 0.98]}}))
    [('detection.auroc', 0.97), ('detection.interval', [0.96, 0.98])]
    """
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from iter_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves by their dotted paths; a list (an interval) stays whole."""
    return dict(iter_leaves(nested))


def flatten_text(nested: Mapping[str, Any]) -> dict[str, str]:
    """Return every leaf as text, as MLflow's parameters need it."""
    return map_values(str, dict(iter_leaves(nested)))


def flatten_numbers(nested: Mapping[str, Any]) -> dict[str, float]:
    """Return every finite number, as MLflow's metrics need it; items of a list are found under their index.

    >>> flatten_numbers({"auroc": 0.97, "interval": [0.96, None], "kind": "image", "final": True})
    {'auroc': 0.97, 'interval.0': 0.96}
    """
    numbers: dict[str, float] = {}
    for path, value in iter_leaves(nested):
        if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                numbers |= flatten_numbers({f"{path}.{index}": item})
        elif is_finite_number(value):
            numbers[path] = float(value)
    return numbers


def is_finite_number(value: Any) -> bool:
    """Return whether `value` is an int or a float, finite and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
