"""Bodies of requests as samples: JSON, .npy, Arrow. Everything a client can get wrong here is told in one line.

400 for what is no request, 413 for too much of it, 422 (DataError) for samples that cannot be.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
from starlette.exceptions import HTTPException

from ae_models.spec import TEXT, listed, near
from aeops.bundle.detector import TEXTS, Detector, strings
from aeops.errors import DataError
from aeops.serving import arrow, npy
from aeops.serving.limits import Limits

JSON = "application/json"
# What `curl -d` and a client that names nothing send: JSON, too.
AS_JSON = (JSON, "application/x-www-form-urlencoded", "")
MEDIA_TYPES = (JSON, npy.MEDIA_TYPE, arrow.MEDIA_TYPE)
KEYS = ("inputs", "params")
PARAMS = ("reconstruction", "code")


@dataclass(frozen=True)
class Samples:
    """The samples of a request.

    Attributes:
        given: (n, *shape) as a dataset would hold them, or texts: what a prediction's hash is of.
        checked: as the model takes them.
        params: what is asked for beside scores.
    """

    given: np.ndarray | list[str]
    checked: np.ndarray
    params: dict[str, bool]

    def __len__(self) -> int:
        return len(self.checked)


def read_samples(body: bytes, media_type: str, params: Mapping[str, bool], detector: Detector, limits: Limits) -> Samples:
    """Reads a body.

    Args:
        media_type: one of `MEDIA_TYPES` or `AS_JSON`.
        params: from the query; those of a JSON body are added.

    Raises:
        HTTPException: 400 or 413.
        DataError: the samples are not what the model takes.
    """
    asked = dict(params)
    if media_type in AS_JSON:
        request = read_request(body)
        asked |= read_params({} if request.get("params") is None else request["params"])
        values = of_json(request, body, detector)
    else:
        values = of_binary(body, media_type, detector)
    if detector.kind == TEXT:
        texts = checked_texts(values, limits)
        ids = [detector.check(texts[first : first + TEXTS]) for first in range(0, len(texts), TEXTS)]
        return Samples(texts, np.concatenate(ids), asked)
    require_count(values.size // math.prod(detector.shape), limits)
    checked = detector.check(values)
    return Samples(as_stored(values, media_type in AS_JSON, detector).reshape(checked.shape), checked, asked)


def require_count(count: int, limits: Limits) -> None:
    if count > limits.samples:
        raise HTTPException(413, f"{count} samples given; up to {limits.samples} a request are allowed: send smaller batches")


def as_stored(values: np.ndarray, is_json: bool, detector: Detector) -> np.ndarray:
    """Values in the dtype in which a dataset holds them, so that a sample's hash is the same. JSON's numbers have none: whole
    ones of a range up to 255 are taken for bytes, all others for float32."""
    if not is_json:
        return values
    return values.astype(np.uint8 if values.dtype.kind in "ui" and (detector.low, detector.high) == (0, 255) else np.float32)


# ---------------------------------------------------------------- JSON


def read_request(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is no JSON ({error}); {usage()} is allowed") from error
    if not isinstance(request, dict) or "inputs" not in request:
        raise HTTPException(400, f"the body has no key inputs; {usage()} is allowed")
    refuse_others(request, KEYS, "key")
    return request


def read_params(params: Any) -> dict[str, bool]:
    if not isinstance(params, dict):
        raise HTTPException(400, f"params is no object; {usage()} is allowed")
    refuse_others(params, PARAMS, "param")
    for name, value in params.items():
        if not isinstance(value, bool):
            raise HTTPException(400, f"the param {name} is {value!r}; true or false is allowed")
    return params


def refuse_others(given: Mapping[str, Any], allowed: tuple[str, ...], what: str) -> None:
    for name in given:
        if name not in allowed:
            raise HTTPException(400, f"no {what} {name!r}; {listed(allowed)} allowed{near(name, allowed)}")


def usage() -> str:
    return '{"inputs": [one sample or several], "params": {"reconstruction": false, "code": false}}'


def of_json(request: dict[str, Any], body: bytes, detector: Detector) -> Any:
    """The inputs as an array, or as they are where the model takes texts."""
    inputs = request["inputs"]
    if detector.kind == TEXT:
        return inputs
    # numpy would make room for the longest text in every place, so that a small body could ask for any memory; and it takes
    # true for 1. Where the body has no more quotes and words than keys and params account for, there is nothing to look for.
    params = request.get("params") or {}
    expected = (2 * (len(request) + len(params)), sum(params.values()), len(params) - sum(params.values()))
    if (body.count(b'"'), body.count(b"true"), body.count(b"false")) != expected and holds_others(inputs):
        raise DataError("samples with texts, truths or objects in them given; whole or real numbers are allowed")
    try:
        return np.asarray(inputs) if (small := small_numbers(inputs)) is None else small
    except ValueError as error:
        raise DataError(f"samples of unequal shapes given; {detector.allowed()} allowed") from error


def small_numbers(inputs: Any) -> np.ndarray | None:
    """Nested lists of whole numbers from 0 to 255, such as pictures are, as uint8; None for all else, which numpy looks at.

    numpy takes five times as long for them: it asks each number for its type.
    """
    shape: list[int] = []
    level = [inputs]
    try:
        while isinstance(level[0], list):
            [length] = set(map(len, level))
            shape.append(length)
            level = list(chain.from_iterable(level))
        return np.frombuffer(bytes(level), np.uint8).reshape(shape)
    except (TypeError, ValueError, IndexError):  # other numbers, no numbers, or lists of unequal lengths
        return None


def holds_others(inputs: Any) -> bool:
    """Whether something else than numbers, lists and null is in it."""
    found = [inputs]
    while found:
        value = found.pop()
        if isinstance(value, str | dict | bool):
            return True
        if isinstance(value, list):
            found.extend(value)
    return False


# ---------------------------------------------------------------- binary


def of_binary(body: bytes, media_type: str, detector: Detector) -> Any:
    """The array or the texts of a .npy or an Arrow stream."""
    is_npy = media_type == npy.MEDIA_TYPE
    try:
        if is_npy:
            values: Any = npy.read_npy(body)
            return values.tolist() if values.dtype.kind == "U" else values
        size = None if detector.kind == TEXT else math.prod(detector.shape)
        values = arrow.read_arrow(body, size)
        return values if size is None else values.reshape(len(values), *detector.shape)
    except ValueError as error:
        what = ".npy" if is_npy else "Arrow stream"
        raise HTTPException(400, f"the body is no {what} that is allowed: {' '.join(str(error).split())}") from error


# ---------------------------------------------------------------- texts


def checked_texts(given: Any, limits: Limits) -> list[str]:
    """Texts, few and short enough to be looked at.

    Raises:
        HTTPException: 413.
        DataError: they are no texts.
    """
    texts = texts_of_bytes(given) if isinstance(given, np.ndarray) else strings([given] if isinstance(given, str) else given)
    if not texts:
        raise DataError("no samples given; at least one is needed")
    require_count(len(texts), limits)
    for place, text in enumerate(texts):
        if len(text) > limits.text_bytes:
            raise HTTPException(413, f"text {place} has {len(text)} characters; up to {limits.text_bytes} are allowed")
    return texts


def texts_of_bytes(given: np.ndarray) -> list[str]:
    if given.dtype != np.uint8 or given.ndim not in (1, 2):
        raise DataError(
            f"{given.dtype} of shape {given.shape} given; texts are allowed, or their UTF-8 filled with zeros, uint8 (n, length)"
        )
    found = []
    for place, row in enumerate(np.atleast_2d(given)):
        try:
            found.append(row.tobytes().rstrip(b"\0").decode())
        except UnicodeDecodeError as error:
            raise DataError(f"text {place} is no UTF-8 ({error}): convert it, as with iconv -t UTF-8") from error
    return found
