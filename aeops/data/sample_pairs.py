"""Pairs of samples that are the same in some way."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

EXACT, NEAR, SHARED_STEPS = "exact", "near", "shared steps"  # ways in which two samples are the same


@dataclass(frozen=True)
class Pairs:
    """Pairs of one relation.

    Attributes:
        relation: one of EXACT, NEAR and SHARED_STEPS.
        first, second: (k,) rows, `first` below `second`, each pair once.
        similarity: (k,) from the limit to 1.
    """

    relation: str
    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


def unique_pairs(relation: str, first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> Pairs:
    """Return pairs in order, each once with its highest similarity."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    table = pd.DataFrame({"first": low, "second": high, "similarity": similarity})
    best = table[low != high].groupby(["first", "second"], as_index=False)["similarity"].max()
    return Pairs(relation, best["first"].to_numpy(np.int64), best["second"].to_numpy(np.int64), best["similarity"].to_numpy())
