"""How near reconstructed texts come to the texts given."""

from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from aeops.kinds.text import token_accuracy


def text_metrics(wanted: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """Shares in [0, 1] over texts as token ids (n, tokens), 0 where there is no token.

    Returns:
        `token_accuracy`: of the wanted tokens, those made in their very place; `token_similarity`: mean of one minus the
        edit distance (Levenshtein 1966) over the longer of both; `exact`: of the texts, those made without a fault.
    """
    pairs = [(one[one != 0].tolist(), other[other != 0].tolist()) for one, other in zip(wanted, made, strict=True)]
    return {
        "token_accuracy": token_accuracy(wanted, made),
        "token_similarity": float(np.mean([Levenshtein.normalized_similarity(*pair) for pair in pairs])),
        "exact": float(np.mean([one == other for one, other in pairs])),
    }
