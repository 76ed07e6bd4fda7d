"""Errors of reconstructed texts."""

from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from aeops.kinds.text import token_accuracy


def text_metrics(target: np.ndarray, output: np.ndarray) -> dict[str, Any]:
    """Compare texts as token ids (n, tokens), 0 where there is no token; all shares are in [0, 1].

    Returns:
        `token_accuracy`: of the target's tokens, those that the output has in the same place; `token_similarity`: mean of one
        minus the edit distance (Levenshtein 1966) over the longer of both; `exact`: of the texts, those without an error.
    """
    similarities, matches = [], []
    for target_row, output_row in zip(target, output, strict=True):
        target_tokens, output_tokens = target_row[target_row != 0].tolist(), output_row[output_row != 0].tolist()
        similarities.append(Levenshtein.normalized_similarity(target_tokens, output_tokens))
        matches.append(target_tokens == output_tokens)
    return {
        "token_accuracy": token_accuracy(target, output),
        "token_similarity": float(np.mean(similarities)),
        "exact": float(np.mean(matches)),
    }
