"""Format replies as JSON, .npy or Arrow, as the client accepts. docs/serving.md describes the formats."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import orjson

from aeops.bundle.answers import to_answers
from aeops.kinds.flags import list_flag_names
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY_TYPE
from aeops.kinds.series_times import describe_time
from aeops.serving import arrow, npy
from aeops.serving.machine_feeds import FeedBatch
from aeops.serving.request_bodies import JSON, JsonObject

IDS_HEADER = "x-prediction-ids"  # `<call>-<first row>..<last row>`


class FirstPrediction(NamedTuple):
    """The first prediction of a request in the journal; the others follow in the same call, row by row."""

    call: str
    row: int


@dataclass(frozen=True)
class ScoringReply:
    body: bytes
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def scores_reply(
    scores: dict[str, np.ndarray],
    first_prediction: FirstPrediction | None,
    accepted_type: str,
    *,
    with_ids: bool,
    ends: Sequence[tuple[str, float]] | None = None,
) -> ScoringReply:
    """Format scores and the columns that were requested with them.

    Args:
        scores: (n, ...) each, by name.
        first_prediction: None if nothing was recorded.
        with_ids: write the prediction IDs into a JSON body, too, and not into the header alone.
        ends: machine and time of the last step of each window of readings, which JSON names; None for other samples.
    """
    count = len(scores["score"])
    headers = ids_header(first_prediction, count)
    if accepted_type == NPY_TYPE:
        return ScoringReply(npy.write_npy(npy.structured_array(with_flag_texts(scores))), accepted_type, headers)
    if accepted_type == arrow.MEDIA_TYPE:
        columns: JsonObject = {}
        if first_prediction is not None:
            columns["id"] = prediction_ids(first_prediction, count)
        return ScoringReply(arrow.write_arrow(columns | with_flag_texts(scores)), accepted_type, headers)
    content: JsonObject = {"predictions": name_steps(to_answers(scores), ends)}
    if with_ids and first_prediction is not None:
        content["ids"] = prediction_ids(first_prediction, count)
    return ScoringReply(orjson.dumps(content), JSON, headers)


def name_steps(predictions: list[JsonObject], ends: Sequence[tuple[str, float]] | None) -> list[JsonObject]:
    """Add to the answer to each window of readings the machine, where it has a name, and the time of its last step."""
    for prediction, (machine, time) in zip(predictions, ends or (), strict=ends is not None):
        if machine:
            prediction["machine"] = machine
        prediction["time"] = describe_time(time)
    return predictions


def feed_reply(feed: FeedBatch, scores: dict[str, np.ndarray], first_prediction: FirstPrediction | None) -> ScoringReply:
    """Format the scores of a machine's new steps as JSON, and remember its window."""
    content = feed.answer(scores)
    count = len(content["predictions"])
    if first_prediction is not None:
        content["ids"] = prediction_ids(first_prediction, count)
    return ScoringReply(orjson.dumps(content), JSON, ids_header(first_prediction, count))


def explanations_reply(predictions: list[JsonObject], first_prediction: FirstPrediction | None) -> ScoringReply:
    """Format scores with their explanations as JSON."""
    content: JsonObject = {"predictions": predictions}
    if first_prediction is not None:
        content["ids"] = prediction_ids(first_prediction, len(predictions))
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return ScoringReply(body, JSON, ids_header(first_prediction, len(predictions)))


def values_reply(name: str, values: np.ndarray, accepted_type: str) -> ScoringReply:
    """Format codes or reconstructions (n, ...): as an array, a column, or a list under `name`."""
    is_text = values.dtype == object
    if accepted_type == arrow.MEDIA_TYPE:
        return ScoringReply(arrow.write_arrow({name.removesuffix("s"): values}), accepted_type)
    if accepted_type == NPY_TYPE:
        if is_text:
            values = values.astype(str)
        return ScoringReply(npy.write_npy(values), accepted_type)
    if is_text:
        return ScoringReply(orjson.dumps({name: values.tolist()}))
    return ScoringReply(orjson.dumps({name: np.ascontiguousarray(values)}, option=orjson.OPT_SERIALIZE_NUMPY))


def with_flag_texts(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the scores with the flags of each sample as their names, with commas between them."""
    return scores | {"flags": np.array(list(map(",".join, list_flag_names(scores["flags"]))), dtype=object)}


def prediction_ids(first_prediction: FirstPrediction, count: int) -> list[str]:
    call, row = first_prediction
    return [f"{call}-{index}" for index in range(row, row + count)]


def ids_header(first_prediction: FirstPrediction | None, count: int) -> dict[str, str]:
    if first_prediction is None:
        return {}
    call, row = first_prediction
    return {IDS_HEADER: f"{call}-{row}..{row + count - 1}"}
