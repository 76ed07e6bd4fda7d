"""Read the samples in the body of a request: JSON, .npy, Arrow or an image. Every mistake of a client is reported in one line.

400 for a malformed body, 413 for too many or too long samples, 422 (DataError) for invalid samples.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
from starlette.exceptions import HTTPException

from ae_models.spec import join_names, suggest_match
from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.kinds import KIND_INFOS
from aeops.kinds.decoding import DecodeError
from aeops.kinds.flags import FLAG_DTYPE
from aeops.kinds.npy_bytes import MEDIA_TYPE, read_npy
from aeops.kinds.samples import CheckedSamples
from aeops.kinds.series_feed import ended_windows
from aeops.kinds.series_readings import columns_of_readings, read_columns, require_numbers
from aeops.serving import arrow
from aeops.serving.limits import RequestLimits
from aeops.serving.machine_feeds import FEED_EXAMPLE, MACHINE_KEY, FeedBatch, MachineFeeds, is_feed_body

JSON = "application/json"
# No type of an HTML form is among them, nor none at all: a browser sends those for a page of any origin without asking first.
MEDIA_TYPES = (JSON, MEDIA_TYPE, arrow.MEDIA_TYPE)
CSV_TYPE, PARQUET_TYPE = "text/csv", "application/vnd.apache.parquet"
NAMED_TYPES = (CSV_TYPE, PARQUET_TYPE)  # of samples with named columns, beside the others
FILE_TYPES = tuple(chain.from_iterable(info.file_types for info in KIND_INFOS.values()))  # of a file of samples as people have it
KEYS = ("inputs", "params")
MACHINE_MARK, INPUTS_MARK = f'"{MACHINE_KEY}"'.encode(), b'"inputs"'
PARAM_NAMES = ("reconstruction", "code")
JsonObject = dict[str, Any]

HARMLESS_JSON_BYTES = 256 * 2**10  # of a body: whatever it holds takes some 20 MB
KEY_MARKS = 64  # quotes, braces, brackets or commas that keys and params may need
JSON_STRING = re.compile(rb'"[^"]*(?:"|\Z)')  # without escapes; the last one may lack its end

BODY_EXAMPLE = '{"inputs": [one sample or several], "params": {"reconstruction": false, "code": false}}'


@dataclass(frozen=True)
class RequestSamples:
    """The samples of a request.

    Attributes:
        stored_samples: (n, *shape) as a dataset stores them, or strings, object (n,); a prediction's hash is of them.
        checked: result of `Detector.check`.
        params: columns to return in addition to the scores, by name.
        feed: of a request with readings of a machine; None for others.
        ends: machine and time of the last step of each window that was cut of readings; None for other samples.
    """

    stored_samples: np.ndarray
    checked: CheckedSamples
    params: dict[str, bool]
    feed: FeedBatch | None = None
    ends: list[tuple[str, float]] | None = None

    def __len__(self) -> int:
        return len(self.checked.flags)


def read_request_samples(
    body: bytes,
    media_type: str,
    params: Mapping[str, bool],
    detector: Detector,
    limits: RequestLimits,
    feeds: MachineFeeds | None = None,
) -> RequestSamples:
    """Read the samples in a body.

    Args:
        media_type: one of `MEDIA_TYPES`.
        params: from the query; those in a JSON body are added and take precedence.
        feeds: keep the last windows of machines, where the path takes their readings.

    Raises:
        HTTPException: 400 or 413.
        DataError: the samples are not valid inputs of the model, or all of them are refused.
    """
    merged_params = dict(params)
    is_json = media_type == JSON
    if is_json and feeds is not None and detector.spec.channels and MACHINE_MARK in body and INPUTS_MARK not in body:
        return read_feed(body, params, detector, limits, feeds)
    request: JsonObject | None = None
    if is_json:
        require_json_bounds(body, detector, limits)
        request = parse_json(body)
        merged_params |= parse_params(request.get("params"))
    ends = None
    columns = read_readings(request, body, media_type, detector, limits) if detector.spec.channels else None
    if columns is not None:
        ends, samples = cut_readings(columns, media_type == CSV_TYPE, detector, limits)
    elif request is not None:
        samples = parse_json_samples(request, body, detector)
    else:
        samples = parse_binary_samples(body, media_type, detector, limits)
    require_within_limits(samples, detector, limits)
    checked = detector.check(samples)
    detector.require_scored(checked.flags)
    stored_samples = detector.data_kind.stored_form(samples, detector.spec, is_json=is_json and ends is None)
    return RequestSamples(stored_samples, checked, merged_params, ends=ends)


def read_readings(
    request: JsonObject | None, body: bytes, media_type: str, detector: Detector, limits: RequestLimits
) -> dict[str, Any] | None:
    """Return the columns of readings of a series by name; None where a body holds windows as arrays.

    Readings are objects in JSON, where windows are lists; CSV and Parquet; and an Arrow stream with the column of time stamps.

    Args:
        request: the parsed body, where it is JSON.
    """
    steps = detector.spec.steps
    assert steps is not None, "a series with channels has steps"
    if request is not None:
        inputs = request["inputs"]
        if not isinstance(inputs, list) or not inputs or not all(isinstance(entry, dict) for entry in inputs):
            return None
        return columns_of_readings(inputs, list(dict.fromkeys(chain.from_iterable(inputs))))
    try:
        if media_type in NAMED_TYPES or (media_type == arrow.MEDIA_TYPE and steps.time in arrow.stream_names(body)):
            return parse_named_columns(body, media_type, limits)
    except DecodeError as error:
        raise invalid_body("a valid Arrow stream", error) from error
    return None


def cut_readings(
    columns: Mapping[str, Any], from_text: bool, detector: Detector, limits: RequestLimits
) -> tuple[list[tuple[str, float]], np.ndarray]:
    """Return the windows that end with the steps of readings, with the machine and the time of these steps.

    Raises:
        HTTPException: 413, the windows of so many readings would hold more numbers than a body of windows may.
        DataError: the columns hold no such readings, a cell is no number, or no machine has a window's steps in a row.
    """
    steps = detector.spec.steps
    assert steps is not None, "a series with channels has steps"
    readings = read_columns(columns, detector.spec.channels, steps, from_text)
    require_numbers(readings)
    window_bytes = 4 * steps.length * len(detector.spec.channels)
    max_windows = min(limits.samples, max(1, limits.body_bytes // window_bytes))
    max_readings = max_windows + (steps.length - 1) * len(np.unique(readings.machines))
    if len(readings.times) > max_readings:
        message = f"expected at most {max_readings} readings in one request, got {len(readings.times)}"
        raise HTTPException(413, f"{message}: send them in several requests that overlap by {steps.length - 1} steps")
    return ended_windows(readings, steps, limits.samples)


def read_feed(
    body: bytes, params: Mapping[str, bool], detector: Detector, limits: RequestLimits, feeds: MachineFeeds
) -> RequestSamples:
    """Read the readings of a machine, and return the windows that they complete; there may be none.

    Raises:
        HTTPException: 400, 409 or 413.
        DataError: readings that cannot be placed, or no numbers.
    """
    if len(body) > HARMLESS_JSON_BYTES:
        message = f"expected at most {HARMLESS_JSON_BYTES} bytes of readings in one request, got {len(body)}"
        raise HTTPException(413, f"{message}: send them in several requests, one after the other")
    if any(params.values()):
        raise HTTPException(
            400, f"expected no param with readings of a machine, got {join_names(params)}: ask for it with inputs"
        )
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"expected {FEED_EXAMPLE}, got no valid JSON ({error})") from error
    if not is_feed_body(request):
        raise HTTPException(400, f"expected {BODY_EXAMPLE}, or {FEED_EXAMPLE}, got neither")
    feed = feeds.take(request, detector, limits)
    windows = feed.brought.windows
    try:
        checked = detector.check(windows) if len(windows) else CheckedSamples(windows, np.zeros(0, FLAG_DTYPE))
        stored = detector.data_kind.stored_form(windows, detector.spec, is_json=False)
    except BaseException:
        feed.release()
        raise
    return RequestSamples(stored, checked, dict(params), feed)


def require_within_limits(samples: np.ndarray, detector: Detector, limits: RequestLimits) -> None:
    """Raise HTTPException 413 if there are too many samples, or texts are too long, before any are checked."""
    require_sample_count(detector.data_kind.count(samples, detector.spec), limits)
    row, characters = detector.data_kind.longest_sample(samples)
    if characters > limits.text_bytes:
        raise HTTPException(413, f"expected texts of at most {limits.text_bytes} characters, got {characters} in text {row}")
    if detector.data_kind.text_bytes(samples, limits.all_text_bytes) > limits.all_text_bytes:
        message = f"expected at most {limits.all_text_bytes} bytes of texts in one request (UTF-8 after NFKC), got more"
        raise HTTPException(413, f"{message}: send smaller batches, one after the other on one connection")


def require_sample_count(count: int, limits: RequestLimits) -> None:
    """Raise HTTPException 413 if there are too many samples."""
    if count > limits.samples:
        raise HTTPException(413, f"expected at most {limits.samples} samples in one request, got {count}: send smaller batches")


# ---------------------------------------------------------------- JSON


def require_json_bounds(body: bytes, detector: Detector, limits: RequestLimits) -> None:
    """Check, before a body is parsed, that it cannot hold far more lists, numbers or texts than samples of the model do.

    Python makes an object of each: 28 MB of `[[],[],` take 1.2 GB, and stop the whole service for 20 s.

    Raises:
        HTTPException: 413, the body is too large, or holds too much.
        DataError: it holds many texts, and the model takes numbers.
    """
    if len(body) > limits.json_bytes:
        message = f"expected a JSON body of at most {limits.json_bytes} bytes, got {len(body)}"
        raise HTTPException(413, f"{message}: send smaller batches, or {MEDIA_TYPE}")
    if len(body) <= HARMLESS_JSON_BYTES:
        return
    steps = detector.spec.steps
    if steps is not None and f'"{steps.time}"'.encode() in body:
        message = f"expected at most {HARMLESS_JSON_BYTES} bytes of readings as JSON, got {len(body)}"
        raise HTTPException(413, f"{message}: send {CSV_TYPE}, {PARQUET_TYPE} or {arrow.MEDIA_TYPE}")
    values_per_sample = detector.data_kind.values_per_sample(detector.spec)
    if detector.data_kind.IS_BY_NAME and values_per_sample is not None:
        require_few_objects(body, values_per_sample, limits)
    elif values_per_sample is None:
        require_few_texts(body, limits)
    else:
        require_few_numbers(body, detector.spec.shape, limits)


def require_few_numbers(body: bytes, shape: tuple[int, ...], limits: RequestLimits) -> None:
    values_per_sample = math.prod(shape)
    comma_count, max_numbers = body.count(b","), max(limits.json_numbers, values_per_sample)
    if comma_count > max_numbers + KEY_MARKS:
        message = f"expected at most {max_numbers} numbers in a JSON body, got {comma_count}"
        raise HTTPException(413, f"{message}: send smaller batches, or {MEDIA_TYPE}")
    if body.count(b'"') > KEY_MARKS or body.count(b"{") > KEY_MARKS:
        raise DataError("expected whole or real numbers, got samples with texts, booleans or objects")
    # A value takes two bytes at least, itself and a comma.
    max_samples = min(limits.samples, len(body) // (2 * values_per_sample) + 1)
    lists_per_sample = sum(math.prod(shape[:axis]) for axis in range(len(shape)))
    require_json_count(body.count(b"["), max_samples * lists_per_sample + KEY_MARKS, "lists")
    require_json_count(comma_count, max_samples * values_per_sample + KEY_MARKS, "numbers")


def require_few_objects(body: bytes, values_per_sample: int, limits: RequestLimits) -> None:
    max_objects = min(limits.samples, limits.json_numbers // values_per_sample + 1)
    require_json_count(body.count(b"{"), max_objects + KEY_MARKS, "objects")
    require_json_count(body.count(b"["), KEY_MARKS, "lists")
    # Further columns are ignored, and a text may hold commas: twice as many as the columns need.
    require_json_count(body.count(b","), 2 * max_objects * values_per_sample + KEY_MARKS, "values")


def require_few_texts(body: bytes, limits: RequestLimits) -> None:
    without_escapes = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # so that every quote begins or ends a text
    require_json_count(without_escapes.count(b'"') // 2, limits.samples + KEY_MARKS, "texts")
    structure = JSON_STRING.sub(b"", without_escapes)
    require_json_count(structure.count(b"[") + structure.count(b"{"), KEY_MARKS, "lists and objects")
    require_json_count(structure.count(b","), limits.samples + KEY_MARKS, "texts")


def require_json_count(count: int, max_count: int, noun: str) -> None:
    if count > max_count:
        message = f"expected at most {max_count} {noun} in a JSON body of this size, got {count}"
        raise HTTPException(413, f"{message}: see the samples that this model takes at /model, and send smaller batches")


def parse_json(body: bytes) -> JsonObject:
    """Parse a JSON body; the result has the key `inputs` and none but `KEYS`."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"expected {BODY_EXAMPLE}, got no valid JSON ({error})") from error
    if not isinstance(request, dict) or "inputs" not in request:
        raise HTTPException(400, f"expected {BODY_EXAMPLE}, got a body without the key inputs")
    reject_unknown_names(request, KEYS, "key")
    return request


def parse_params(params: Any) -> dict[str, bool]:
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise HTTPException(400, f"expected {BODY_EXAMPLE}, got params that are no object")
    reject_unknown_names(params, PARAM_NAMES, "param")
    for name, value in params.items():
        if not isinstance(value, bool):
            raise HTTPException(400, f"expected true or false for the param {name}, got {value!r}")
    return params


def reject_unknown_names(names: Mapping[str, Any], allowed_names: tuple[str, ...], name_kind: str) -> None:
    for name in names:
        if name not in allowed_names:
            closest_match = suggest_match(name, allowed_names)
            raise HTTPException(400, f"no {name_kind} {name!r}; {join_names(allowed_names)} allowed{closest_match}")


def parse_json_samples(request: JsonObject, body: bytes, detector: Detector) -> np.ndarray:
    """Convert the inputs of a parsed JSON body.

    If the body has no more quotes and booleans than its keys and params account for, the inputs hold none, and the values need
    not be checked one by one.
    """
    params = request.get("params") or {}
    expected = (2 * (len(request) + len(params)), sum(params.values()), len(params) - sum(params.values()))
    only_numbers = (body.count(b'"'), body.count(b"true"), body.count(b"false")) == expected
    return detector.data_kind.read_json(request["inputs"], detector.spec, only_numbers)


# ---------------------------------------------------------------- binary


def parse_binary_samples(body: bytes, media_type: str, detector: Detector, limits: RequestLimits) -> np.ndarray:
    """Read the samples of a .npy file, an Arrow stream or an image, or rows by their columns' names as CSV, Parquet or Arrow."""
    kind, spec = detector.data_kind, detector.spec
    if media_type in kind.FILE_TYPES:
        return kind.read_content(body, spec)
    if media_type in FILE_TYPES:
        raise HTTPException(415, f"expected a body of type {', '.join(MEDIA_TYPES)}, got {media_type}: samples are no images")
    if kind.IS_BY_NAME:
        return kind.read_array(parse_named_columns(body, media_type, limits), spec)
    if media_type in NAMED_TYPES:
        raise HTTPException(415, f"expected a body of type {', '.join(MEDIA_TYPES)}, got {media_type}: samples have no columns")
    if media_type == MEDIA_TYPE:
        try:
            values = read_npy(body)
        except DecodeError as error:
            raise invalid_body("a valid .npy file", error) from error
        if kind.values_per_sample(spec) is None and values.ndim > 0:  # each row becomes a string
            require_sample_count(len(values), limits)
        return kind.read_array(values, spec)
    try:
        columns = arrow.read_arrow(body, kind.values_per_sample(spec), limits.samples)
    except arrow.TooManyRowsError as error:
        require_sample_count(error.row_count, limits)
        raise
    except DecodeError as error:
        raise invalid_body("a valid Arrow stream", error) from error
    return kind.stored_form(kind.read_array(columns, spec), spec, is_json=False)


def parse_named_columns(body: bytes, media_type: str, limits: RequestLimits) -> dict[str, Any]:
    """Read the columns of CSV, Parquet or an Arrow stream by their names; raise HTTPException 400, 413 or 415."""
    from aeops.serving import named_columns

    if media_type == MEDIA_TYPE:
        raise HTTPException(415, f"expected rows by the names of their columns, as JSON, CSV, Parquet or Arrow, got {MEDIA_TYPE}")
    readers = {
        CSV_TYPE: named_columns.read_csv,
        PARQUET_TYPE: named_columns.read_parquet,
        arrow.MEDIA_TYPE: named_columns.read_arrow,
    }
    try:
        return readers[media_type](body, limits)
    except arrow.TooManyRowsError as error:
        require_sample_count(error.row_count, limits)
        raise
    except DecodeError as error:
        raise invalid_body(f"valid {media_type}", error) from error


def invalid_body(expected: str, error: DecodeError) -> HTTPException:
    return HTTPException(400, f"expected {expected}, got another body: {' '.join(str(error).split())}")
