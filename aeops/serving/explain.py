"""Why a score is what it is: where a reconstruction differs from the sample, or which tokens of a text it has wrong."""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from aeops.bundle.detector import Detector
from aeops.errors import DataError

PARTS = 4  # an axis is cut into so many areas
WORST = 10  # values that are told one by one
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. ITU-R BT.601-7: how scores compare a colouring with the grey given


def explained(detector: Detector, checked: np.ndarray, made: np.ndarray) -> list[dict[str, Any]]:
    """What to say of each sample beside its score; see docs/serving.md.

    Args:
        checked: the samples as the model took them.
        made: what it made of them, as it makes them: numbers (n, *made_shape) in raw units, or token ids (n, tokens).

    Raises:
        DataError: the model makes something that cannot be compared with what it is given, such as edges of a photograph.
    """
    if detector.kind == "text":
        return [explained_text(detector, *pair) for pair in zip(checked, made, strict=True)]
    require_comparable(detector)
    span = detector.high - detector.low
    return [explained_map(values) for values in np.square((checked - comparable(detector, made)) / span)]


def require_comparable(detector: Detector) -> None:
    """Raises DataError where a model makes something that is not compared with what it is given, value by value."""
    if detector.kind != "text" and detector.made_shape != detector.shape and not colours(detector):
        raise DataError(
            f"this model makes {detector.made_shape} of {detector.shape}, which are not compared value by value: ask /reconstruct"
        )


def colours(detector: Detector) -> bool:
    """Whether it makes a colour image of a grey one."""
    return (detector.shape[0], detector.made_shape[0]) == (1, 3) and detector.shape[1:] == detector.made_shape[1:]


def comparable(detector: Detector, made: np.ndarray) -> np.ndarray:
    """The reconstructions in the shape of the samples."""
    if not colours(detector):
        return made
    luma: np.ndarray = np.tensordot(made, LUMA, axes=([1], [0]))[:, None]
    return luma


def explained_map(residual: np.ndarray) -> dict[str, Any]:
    """The squared residual (channels, *place) of values scaled to [0, 1], and where it lies."""
    total = float(residual.sum(dtype=np.float64))
    whole = total or 1.0  # a perfect reconstruction: every share is 0
    order = np.argsort(residual, axis=None, kind="stable")[::-1][:WORST]
    return {
        "residual": residual,
        "total": total,
        "areas": [
            {"from": first, "to": last, "share": float(part.sum(dtype=np.float64)) / whole}
            for first, last, part in areas(residual)
        ],
        "worst": [
            {"at": [int(axis) for axis in place], "residual": float(residual[place]), "share": float(residual[place]) / whole}
            for place in zip(*np.unravel_index(order, residual.shape), strict=True)
        ],
    }


def areas(residual: np.ndarray) -> list[tuple[list[int], list[int], np.ndarray]]:
    """Areas that cover all places, of all channels: (first place, place after the last, values)."""
    cuts = [np.linspace(0, size, min(PARTS, size) + 1).astype(int).tolist() for size in residual.shape[1:]]
    spans = [list(pairwise(cut)) for cut in cuts]
    found = []
    for number in range(math.prod(map(len, spans))):
        place = np.unravel_index(number, [len(span) for span in spans])
        chosen = [span[at] for span, at in zip(spans, place, strict=True)]
        part = residual[(slice(None), *(slice(*span) for span in chosen))]
        found.append(([first for first, _ in chosen], [last for _, last in chosen], part))
    return found


def explained_text(detector: Detector, given: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """The tokens of a text that the model has wrong, place by place."""
    from ae_models.tokens import END, PADDING  # here, so that a service of images does without

    own = np.flatnonzero((given != PADDING) & (given != END))
    wrong = own[given[own] != made[own]]
    told = zip(wrong.tolist(), detector.words(given[wrong]), detector.words(made[wrong]), strict=True)
    return {
        "tokens": len(own),
        "wrong": [{"place": place, "given": given_word, "made": made_word} for place, given_word, made_word in told],
        "share": len(wrong) / max(1, len(own)),
    }
