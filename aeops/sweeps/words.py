"""Words and numbers of a sweep as its table and its picture show them."""

from typing import Any

from aeops.sweeps.axes import BY_ERROR, BY_POWER, BY_SEPARATION

METRIC_NAMES = {
    BY_ERROR: "validation error",
    BY_POWER: "power on injected faults",
    BY_SEPARATION: "separation of injected faults",
}


def value_text(value: Any) -> str:
    """Return a value of a key.

    >>> [value_text(value) for value in (0.00001, 16, [8, 16], "top-k", None)]
    ['1e-05', '16', '[8, 16]', 'top-k', '-']
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
