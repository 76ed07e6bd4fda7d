"""How near reconstructed texts come to the texts given, and a few of both to read."""

from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from ae_models import tokens
from aeops.evaluation.study import Finding

SHOWN = 8  # texts in the table
LONGEST = 160  # characters of a text in the table


def text_metrics(wanted: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """Shares in [0, 1] over texts as token ids (n, tokens), 0 where there is no token.

    Returns:
        `token_accuracy`: of the wanted tokens, those made in their very place; `token_similarity`: mean of one minus the
        edit distance (Levenshtein 1966) over the longer of both; `exact`: of the texts, those made without a fault.
    """
    used = wanted != 0
    pairs = [(one[one != 0].tolist(), other[other != 0].tolist()) for one, other in zip(wanted, made, strict=True)]
    return {
        "token_accuracy": float((wanted == made)[used].mean()),
        "token_similarity": float(np.mean([Levenshtein.normalized_similarity(*pair) for pair in pairs])),
        "exact": float(np.mean([one == other for one, other in pairs])),
    }


def tokens_right(wanted: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Of each text's tokens the share made in their place, (n,)."""
    used = wanted != 0
    return np.asarray(((wanted == made) & used).sum(axis=1) / np.maximum(used.sum(axis=1), 1))


def examples(given: np.ndarray, made: np.ndarray, right: np.ndarray) -> Finding:
    """Some texts with their reconstructions, from the best to the worst of them, for the report.

    Args:
        given: stored texts (n, length).
        made: their reconstructions as strings (n,).
        right: share of tokens that are right, (n,).
    """
    order = np.argsort(-right, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), SHOWN)).round().astype(int))]
    given_texts = zip(chosen, tokens.strings(given[chosen]), strict=True)
    rows = [[cut(text), cut(str(made[i])), f"{right[i]:.0%}"] for i, text in given_texts]
    return Finding(
        title="Texts and what became of them",
        lead="Normal test texts as given and as made from their codes, evenly chosen from the best rebuilt to the worst.",
        head=["given", "made", "tokens right"],
        rows=rows,
        figures=[],
        metrics={},
    )


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
