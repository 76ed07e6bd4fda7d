"""Answers of a scoring service, in the same form for every server of this project."""

from typing import Any

import numpy as np


def to_answers(outputs: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Convert arrays (n, ...) to n JSON-ready dicts with the same keys in the same order."""
    columns = [values.tolist() for values in outputs.values()]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]
