"""Bodies of requests as samples: JSON, .npy, Arrow. Everything a client can get wrong here is told in one line.

400 for what is no request, 413 for too much of it, 422 (DataError) for samples that cannot be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from starlette.exceptions import HTTPException

from ae_models.spec import join_names, suggest_match
from aeops.bundle.detector import Detector
from aeops.kinds.npy_bytes import MEDIA_TYPE, read_npy
from aeops.serving import arrow
from aeops.serving.limits import Limits

JSON = "application/json"
# What `curl -d` and a client that names nothing send: JSON, too.
AS_JSON = (JSON, "application/x-www-form-urlencoded", "")
MEDIA_TYPES = (JSON, MEDIA_TYPE, arrow.MEDIA_TYPE)
KEYS = ("inputs", "params")
PARAMS = ("reconstruction", "code")


@dataclass(frozen=True)
class Samples:
    """The samples of a request.

    Attributes:
        given: (n, *shape) as a dataset would hold them, or strings, object (n,): what a prediction's hash is of.
        checked: as the model takes them.
        params: what is asked for beside scores.
    """

    given: np.ndarray
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
    require_within(values, detector, limits)
    checked = detector.check(values)
    given = detector.data_kind.stored_form(values, detector.spec, is_json=media_type in AS_JSON)
    return Samples(given, checked, asked)


def require_within(samples: np.ndarray, detector: Detector, limits: Limits) -> None:
    """Raise HTTPException 413 where samples are too many or too long to be looked at."""
    count = detector.data_kind.count(samples, detector.spec)
    if count > limits.samples:
        raise HTTPException(413, f"{count} samples given; up to {limits.samples} a request are allowed: send smaller batches")
    row, characters = detector.data_kind.longest(samples)
    if characters > limits.text_bytes:
        raise HTTPException(413, f"text {row} has {characters} characters; up to {limits.text_bytes} are allowed")


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
            raise HTTPException(400, f"no {what} {name!r}; {join_names(allowed)} allowed{suggest_match(name, allowed)}")


def usage() -> str:
    return '{"inputs": [one sample or several], "params": {"reconstruction": false, "code": false}}'


def of_json(request: dict[str, Any], body: bytes, detector: Detector) -> np.ndarray:
    """The samples of a JSON request."""
    # Where the body has no more quotes and words than keys and params account for, the inputs hold none, and nobody has to look.
    params = request.get("params") or {}
    expected = (2 * (len(request) + len(params)), sum(params.values()), len(params) - sum(params.values()))
    only_numbers = (body.count(b'"'), body.count(b"true"), body.count(b"false")) == expected
    return detector.data_kind.read_json(request["inputs"], detector.spec, only_numbers)


# ---------------------------------------------------------------- binary


def of_binary(body: bytes, media_type: str, detector: Detector) -> np.ndarray:
    """The samples of a .npy or an Arrow stream."""
    kind, is_npy = detector.data_kind, media_type == MEDIA_TYPE
    size = kind.values_per_sample(detector.spec)
    try:
        values = read_npy(body) if is_npy else arrow.read_arrow(body, size)
    except ValueError as error:
        what = ".npy" if is_npy else "Arrow stream"
        raise HTTPException(400, f"the body is no {what} that is allowed: {' '.join(str(error).split())}") from error
    samples = kind.read_array(values, detector.spec)
    return samples if is_npy else kind.stored_form(samples, detector.spec, is_json=False)
