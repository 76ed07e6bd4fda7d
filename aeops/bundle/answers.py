"""What a scoring service says: one form for every server of this project."""

from typing import Any

import numpy as np


def answers(scored: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Turns arrays with one row a sample into one JSON-ready dict a sample, keys in the same order."""
    columns = [values.tolist() for values in scored.values()]
    return [dict(zip(scored, row, strict=True)) for row in zip(*columns, strict=True)]
