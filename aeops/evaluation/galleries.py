"""Galleries of test samples for the report: input, output and the error laid over the sample."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from aeops.bundle.explanations import caption_scores
from aeops.drawing import mosaics
from aeops.evaluation.sample_blocks import read_pairs
from aeops.evaluation.study import EvaluationContext
from aeops.kinds.arrays import mse_per_image
from aeops.kinds.image_names import IMAGE_SUFFIXES

NAME_LETTERS = 10  # of a sample's id that fit above its picture


def draw_galleries(folder: Path, context: EvaluationContext) -> None:
    """Write the galleries: normal samples sorted by error, then flagged novelty, false alarms and missed novelty.

    Of each of these three outcomes those samples come first that lie farthest from the threshold, then those nearest to it.
    """
    errors = []
    for target, output in read_pairs(context.target, context.predictions["reconstruction"], np.arange(len(context.target))):
        errors.append(mse_per_image(target, context.data.scale(output)))
    mse, score = np.concatenate(errors), context.predictions["score"]
    novelty, is_anomaly = context.data.novelty, context.predictions["is_anomaly"]
    normals = np.flatnonzero(~novelty)[np.argsort(mse[~novelty], kind="stable")]
    count = min(mosaics.COLUMNS, len(normals))
    first_median = (len(normals) - count) // 2
    gallery_indices = {
        "best": normals[:count],
        "median": normals[first_median : first_median + count],
        "worst": normals[::-1][:count],
    }
    for name, indices in gallery_indices.items():
        draw_gallery(folder / f"gallery_{name}.svg", context, indices, list(map("{:#.3g}".format, mse[indices])))
    outcomes = {
        "flagged_novelty": novelty & is_anomaly,
        "false_alarms": ~novelty & is_anomaly,
        "missed_novelty": novelty & ~is_anomaly,
    }
    beyond_threshold = np.where(is_anomaly, score, -score)  # up to a constant
    for name, has_outcome in outcomes.items():
        indices = np.flatnonzero(has_outcome)
        if len(indices):
            shown = indices[pick_extremes(beyond_threshold[indices], mosaics.COLUMNS)]
            draw_causes(folder / f"errors_{name}.svg", context, shown)


def pick_extremes(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the largest values, the largest first, then of the smallest, the smallest first.

    Args:
        values: (n,).
        count: of places in all; of n values or fewer all are returned, the largest first.
    """
    order = np.argsort(-values, kind="stable")
    if len(order) <= count:
        return order
    largest = count // 2
    return np.concatenate([order[:largest], order[::-1][: count - largest]])


def draw_gallery(
    file: Path,
    context: EvaluationContext,
    indices: np.ndarray,
    captions: Sequence[str],
    nearest: np.ndarray | None = None,
    distances: np.ndarray | None = None,
) -> None:
    """Write inputs above outputs, and targets where they differ from the inputs; see `mosaics.draw_error_strip`.

    Above each caption stands the id of its sample.
    """
    source = context.recipe.fit.input
    targets = None
    if source.target_channels or source.given == "corrupted":
        targets = context.target[indices]
    inputs = context.data.scale(context.inputs[indices])
    outputs = context.data.scale(context.predictions["reconstruction"][indices])
    ids = map(shorten_name, context.data.table["id"].iloc[indices])
    named_captions = list(map("\n".join, zip(ids, captions, strict=True)))
    mosaics.draw_error_strip(file, inputs, outputs, targets, named_captions, nearest, distances)


def draw_causes(file: Path, context: EvaluationContext, indices: np.ndarray) -> None:
    """Write a gallery with what causes the scores: the highest part, distances of patches, nearest normal samples."""
    detector = context.detector
    causes = detector.score(context.inputs[indices], explanation=True)
    captions = caption_scores(context.predictions["score"][indices], detector.part_names, causes.get("part_scores"))
    nearest = None
    if detector.has_bank:
        nearest = context.data.scale(detector.bank_samples[causes["nearest"]])
    draw_gallery(file, context, indices, captions, nearest, causes.get("pixel_map"))


def shorten_name(name: object) -> str:
    """Return an id as it fits above a picture: of a long one its end, which tells it from its neighbours."""
    text = str(name)
    if PurePath(text).suffix.lower() in IMAGE_SUFFIXES:  # it tells no two samples apart
        text = text[: -len(PurePath(text).suffix)]
    if len(text) <= NAME_LETTERS:
        return text
    return f"…{text[1 - NAME_LETTERS :]}"
