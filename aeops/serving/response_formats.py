"""What a request is told, in the form that it accepts: JSON, .npy or Arrow. The forms are described in docs/serving.md."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from aeops.bundle.answers import answers
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY_TYPE
from aeops.serving import arrow, npy
from aeops.serving.request_bodies import JSON

IDS = "x-prediction-ids"  # header: `<call>-<first row>..<last row>`


@dataclass(frozen=True)
class Reply:
    body: bytes
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def scores_reply(scores: dict[str, np.ndarray], first: tuple[str, int] | None, accepted: str, *, with_ids: bool) -> Reply:
    """Scores, and what was asked for beside them.

    Args:
        first: call and row of the first prediction; None where nothing is recorded.
        with_ids: as JSON, too, and not in the header alone.
    """
    count = len(scores["score"])
    headers = id_header(first, count)
    if accepted == NPY_TYPE:
        return Reply(npy.write_npy(npy.records(scores)), accepted, headers)
    if accepted == arrow.MEDIA_TYPE:
        known: dict[str, Any] = {"id": ids(first, count)} if first else {}
        return Reply(arrow.write_arrow(known | scores), accepted, headers)
    told: dict[str, Any] = {"predictions": answers(scores)}
    return Reply(orjson.dumps(told | ({"ids": ids(first, count)} if with_ids and first else {})), JSON, headers)


def explanations_reply(told: list[dict[str, Any]], first: tuple[str, int] | None) -> Reply:
    document: dict[str, Any] = {"predictions": told} | ({"ids": ids(first, len(told))} if first else {})
    return Reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), JSON, id_header(first, len(told)))


def values_reply(name: str, values: np.ndarray, accepted: str) -> Reply:
    """Codes or reconstructions (n, ...): an array, a column, or a list under that name."""
    if accepted == NPY_TYPE:
        return Reply(npy.write_npy(values.astype(str) if values.dtype == object else values), accepted)
    if accepted == arrow.MEDIA_TYPE:
        return Reply(arrow.write_arrow({name.removesuffix("s"): values}), accepted)
    plain = values.tolist() if values.dtype == object else np.ascontiguousarray(values)
    return Reply(orjson.dumps({name: plain}, option=orjson.OPT_SERIALIZE_NUMPY))


def ids(first: tuple[str, int], count: int) -> list[str]:
    call, row = first
    return [f"{call}-{place}" for place in range(row, row + count)]


def id_header(first: tuple[str, int] | None, count: int) -> dict[str, str]:
    return {IDS: f"{first[0]}-{first[1]}..{first[1] + count - 1}"} if first else {}
