"""OpenAPI document of the running service, and an HTML page of it that loads nothing from another host.

The schemas are those of the served model; tests compare the document with the responses of the service.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.kinds.flags import FLAG_TEXTS
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY_TYPE
from aeops.serving import arrow
from aeops.serving.batch_scoring import SCORE_PATH
from aeops.serving.limits import RequestLimits
from aeops.serving.metrics import MEDIA_TYPE as METRICS_TYPE
from aeops.serving.request_bodies import JSON, NAMED_TYPES, PARAM_NAMES, JsonObject
from aeops.serving.response_formats import IDS_HEADER
from aeops.serving.served_version import ServedVersion

Schema = JsonObject
MAX_EXAMPLE_VALUES = 20_000
ANSWER_NAMES = ("score", "p_value", "is_anomaly", "flags")
EXAMPLE_ID = "7f3a9c2e-0"
EXAMPLE_ADDRESS = "http://127.0.0.1:8100"
CODE_SAMPLES = "x-codeSamples"  # of an operation: commands, as viewers of OpenAPI documents show them

ERROR_SCHEMA: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "one line: what was expected, and what was received"}},
    "additionalProperties": False,
}
ERROR_DESCRIPTIONS = {
    "400": "malformed request: no valid JSON, .npy or Arrow stream, or an unknown key",
    "401": "missing or wrong password; only if the service has one",
    "403": "a page of another origin, or another name than 127.0.0.1 and localhost where the service has no password",
    "408": "the body did not arrive in time",
    "413": "too many bytes, samples or characters",
    "415": "unsupported media type of the body, or a compressed one",
    "422": "invalid samples: another shape, no numbers, or none that can be scored",
    "500": "internal error",
    "503": "no version is served, too many requests wait, or predictions cannot be recorded; Retry-After says when to try again",
}
BINARY_SCHEMA: Schema = {"type": "string", "format": "binary"}
BOOLEAN_SCHEMA: Schema = {"type": "boolean"}
NUMBER_SCHEMA: Schema = {"type": "number"}
NUMBERS_SCHEMA: Schema = {"type": "array", "description": "nested as the shape says"}
IDS_SCHEMA: Schema = {"type": "array", "items": {"type": "string"}, "description": "of the predictions; arguments of `ae why`"}
POST_SUMMARIES = {
    "/score": "Scores, and whether samples are flagged. Each is recorded as a prediction.",
    "/invocations": "The same in the protocol of MLflow's servers, with the ids in a header alone.",
    "/embed": "Codes.",
    "/reconstruct": "The model's reconstructions of samples.",
    "/explain": "Scores and their causes: residuals or wrong tokens, parts of the score, nearest normal sample. JSON alone.",
}
GET_RESPONSES: dict[str, tuple[str, str, Schema]] = {
    "/": ("This document as a page, as /docs.", "text/html; charset=utf-8", {"type": "string"}),
    "/healthz": ("200 while the service answers.", JSON, {"type": "object"}),
    "/readyz": ("200 while a version is served, else 503.", JSON, {"type": "object", "required": ["status", "version"]}),
    "/model": ("The served version, its threshold and inputs, and the state of the rollover.", JSON, {"type": "object"}),
    "/metrics": ("Counters for Prometheus.", METRICS_TYPE, {"type": "string"}),
    "/openapi.json": ("This document.", JSON, {"type": "object"}),
    "/docs": ("This document as a page.", "text/html; charset=utf-8", {"type": "string"}),
}
HEADER_DESCRIPTIONS = {
    "x-request-id": "ID of the request: the client's own or a new one",
    IDS_HEADER: "CALL-FIRST..LAST of the predictions",
}


def openapi_document(
    name: str,
    served_version: ServedVersion | None,
    limits: RequestLimits,
    address: str = EXAMPLE_ADDRESS,
    has_password: bool = False,
) -> Schema:
    """Return the OpenAPI 3.1 document. What each error means stands in it once; the paths refer to it.

    Args:
        name: of the registered model.
        served_version: None if no version is served; the schema of `inputs` is then empty.
        address: of the service, for the commands that send an example.
        has_password: whether the service asks for one.
    """
    detector, title, version = None, name, "none"
    if served_version is not None:
        detector, version = served_version.detector, served_version.version
        title = f"{name} {version}"
    paths: dict[str, Schema] = {}
    for path, summary in POST_SUMMARIES.items():
        operation = post_operation(path, summary, detector, limits)
        if detector is not None:
            command = curl_example(detector, address, has_password, path)
            operation[CODE_SAMPLES] = [{"lang": "Shell", "label": "curl", "source": command}]
        paths[path] = {"post": operation}
    for path, (summary, media_type, schema) in GET_RESPONSES.items():
        paths[path] = {"get": get_operation(path, summary, media_type, schema)}
    components = {"responses": error_components(), "schemas": {"Error": ERROR_SCHEMA}}
    return {"openapi": "3.1.0", "info": {"title": title, "version": version}, "paths": paths, "components": components}


def _binary_content(media_types: Iterable[str]) -> dict[str, Schema]:
    return {media_type: {"schema": BINARY_SCHEMA} for media_type in media_types}


def post_operation(path: str, summary: str, detector: Detector | None, limits: RequestLimits) -> Schema:
    binary_content = _binary_content((NPY_TYPE, arrow.MEDIA_TYPE))
    body_content = binary_content
    if detector is not None and detector.data_kind.IS_BY_NAME:
        body_content = _binary_content((arrow.MEDIA_TYPE, *NAMED_TYPES))
    if detector is not None and detector.spec.channels:
        body_content = body_content | _binary_content(NAMED_TYPES)
    if detector is not None:
        body_content = body_content | _binary_content(detector.data_kind.FILE_TYPES)
    reply_content: Schema = {JSON: {"schema": reply_schema(path)}}
    json_content: Schema = {"schema": request_schema(detector, limits)}
    if detector is not None and (example := build_example(detector)) is not None:
        json_content["example"] = {"inputs": example.inputs}
        if path == "/score":
            reply_content[JSON]["example"] = {"predictions": example.predictions, "ids": [EXAMPLE_ID]}
    if path != "/explain":
        reply_content |= binary_content
    headers: dict[str, Schema] = {}
    for name, description in HEADER_DESCRIPTIONS.items():
        headers[name] = {"description": description, "schema": {"type": "string"}}
    return {
        "summary": summary,
        "operationId": path.strip("/"),
        "parameters": [{"name": name, "in": "query", "schema": BOOLEAN_SCHEMA} for name in PARAM_NAMES],
        "requestBody": {
            "required": True,
            "content": {JSON: json_content, **body_content},
        },
        "responses": {
            "200": {"description": "one result for each sample", "headers": headers, "content": reply_content},
            **error_responses(ERROR_DESCRIPTIONS),
        },
    }


@dataclass(frozen=True)
class ServedExample:
    """One sample that the model takes, as JSON has it, and what the service says of it."""

    inputs: list[Any]
    predictions: list[Any]


def build_example(detector: Detector) -> ServedExample | None:
    """Return an example of the served model; None where a sample is large, or JSON cannot hold it."""
    samples = detector.example()[:1]
    inputs = samples.tolist() if isinstance(samples, np.ndarray) else list(samples)
    if isinstance(samples, np.ndarray) and (samples.size > MAX_EXAMPLE_VALUES or not _is_finite(samples)):
        return None
    predictions = to_answers({name: values for name, values in detector.score(samples).items() if name in ANSWER_NAMES})
    return ServedExample(inputs, predictions)


def _is_finite(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf" and bool(np.isfinite(values).all())


def curl_example(detector: Detector, address: str, has_password: bool, path: str = SCORE_PATH) -> str:
    """Return a command line that sends a sample of the served model to a path of the service."""
    curl = "curl -s -u ae" if has_password else "curl -s"
    body = f"json.dumps(dict(inputs={detector.data_kind.python_example(detector.spec)}))"
    return f'python3 -c "import json; print({body})" | {curl} -H content-type:application/json {address}{path} -d @-'


def get_operation(path: str, summary: str, media_type: str, schema: Schema) -> Schema:
    error_codes = ["400", "401", "403", "415", "500"]
    if path == "/readyz":
        error_codes.append("503")
    success_response = {"description": summary, "content": {media_type: {"schema": schema}}}
    return {
        "summary": summary,
        "operationId": path.strip("/").replace(".", "_") or "home",
        "responses": {"200": success_response, **error_responses(error_codes)},
    }


def error_responses(status_codes: Iterable[str]) -> Schema:
    """Return the error responses of an operation, each a reference to what the document says of it once."""
    return {status: {"$ref": f"#/components/responses/{status}"} for status in status_codes}


def error_components() -> Schema:
    """Return each error response by its status."""
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in ERROR_DESCRIPTIONS.items()}


# ---------------------------------------------------------------- schemas


def object_schema(properties: Schema, required_keys: list[str]) -> Schema:
    return {"type": "object", "required": required_keys, "properties": properties, "additionalProperties": False}


def array_of_objects(keys: list[str]) -> Schema:
    return {"type": "array", "items": {"type": "object", "required": keys}}


def request_schema(detector: Detector | None, limits: RequestLimits) -> Schema:
    input_schema: Schema = {}
    if detector is not None:
        input_schema = inputs_schema(detector, limits)
    param_schemas = dict.fromkeys(PARAM_NAMES, BOOLEAN_SCHEMA)
    params_schema = {"type": ["object", "null"], "properties": param_schemas, "additionalProperties": False}
    return object_schema({"inputs": input_schema, "params": params_schema}, ["inputs"])


def inputs_schema(detector: Detector, limits: RequestLimits) -> Schema:
    """Return the schema of one sample or a batch."""
    sample_schemas = detector.data_kind.json_schema(detector.spec, limits.text_bytes)
    batch_schemas = [{"type": "array", "items": schema, "minItems": 1} for schema in sample_schemas]
    return {"anyOf": [*sample_schemas, *batch_schemas], "description": f"one sample or up to {limits.samples}"}


def reply_schema(path: str) -> Schema:
    if path == "/embed":
        return object_schema({"codes": NUMBERS_SCHEMA}, ["codes"])
    if path == "/reconstruct":
        return object_schema({"reconstructions": NUMBERS_SCHEMA}, ["reconstructions"])
    properties = {"predictions": {"type": "array", "items": prediction_schema(path)}}
    if path != "/invocations":
        properties["ids"] = IDS_SCHEMA
    return object_schema(properties, ["predictions"])


def prediction_schema(path: str) -> Schema:
    properties: Schema = {
        "score": {"type": ["number", "null"], "description": "higher is more anomalous; null for a refused sample"},
        "p_value": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
        "is_anomaly": {"type": ["boolean", "null"], "description": "true if the score is above the threshold, or by its flags"},
        "flags": {
            "type": "array",
            "items": {"enum": list(FLAG_TEXTS)},
            "description": "what is unlike the samples of the training",
        },
    }
    required_keys = list(properties)
    if path == "/explain":
        properties |= {
            "residual": NUMBERS_SCHEMA,
            "total": NUMBER_SCHEMA,
            "areas": array_of_objects(["from", "to", "share"]),
            "worst": array_of_objects(["at", "residual", "share"]),
            "channels": array_of_objects(["channel", "share"]),
            "columns": array_of_objects(["column", "value", "made", "usual", "share"]),
            "unusual": {
                "type": "array",
                "items": {"type": "string"},
                "description": "columns whose values are out of bounds",
            },
            "steps": array_of_objects(["step", "share"]),
            "tokens": {"type": "integer"},
            "wrong": array_of_objects(["place", "given", "made"]),
            "share": NUMBER_SCHEMA,
            "surprise": array_of_objects(["place", "given", "surprise"]),
            "outside": {"type": "integer", "description": "values outside the range"},
            "excess": {"type": "number", "description": "how far they lie outside, summed, in lengths of the range"},
            "missing": {"type": "integer", "description": "values that are missing"},
            "parts": array_of_objects(["score", "value"]),
            "nearest": {"type": "object", "description": "row and sample: the nearest normal sample of the bank"},
            "pixel_map": NUMBERS_SCHEMA,
        }
    properties |= {
        "reconstruction": {"type": ["array", "string", "null"]},
        "code": {"type": ["array", "null"], "description": "nested as the shape says"},
    }
    return object_schema(properties, required_keys)


# ---------------------------------------------------------------- the page

VIEWPORT = '<meta name="viewport" content="width=device-width,initial-scale=1">'
PAGE_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;
color:#222;background:#fff}
h2{margin:2rem 0 0;font-size:1.1rem}code,pre{font:.9em ui-monospace,monospace;background:#f3f3f3}code{padding:.1em .3em}
pre{padding:.7rem;white-space:pre-wrap;overflow-wrap:anywhere}.errors{color:#555}
table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"""


def openapi_page(document: Schema) -> str:
    """Return the document as HTML without scripts and without requests to other hosts; each error is explained once, below."""
    title, sections = html.escape(document["info"]["title"]), ""
    for path, path_item in document["paths"].items():
        for method, operation in path_item.items():
            sections += operation_html(method, path, operation)
    rows = ""
    for status, response in document["components"]["responses"].items():
        rows += f"<tr><td><code>{status}</code><td>{html.escape(response['description'])}"
    sections += f"<h2>Errors</h2><p>Each is <code>{{&quot;error&quot;: &quot;one line&quot;}}</code>.</p><table>{rows}</table>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{VIEWPORT}<title>{title}</title><style>{PAGE_STYLE}</style>'
        f'<h1>{title}</h1><p>Scoring service; the same for programs: <a href="openapi.json">openapi.json</a></p>{sections}'
    )


def operation_html(method: str, path: str, operation: Schema) -> str:
    section = f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}</p>"
    if "requestBody" in operation:
        section += f"<p>Body: {code_list(operation['requestBody']['content'])}</p>"
    if "parameters" in operation:
        param_names = [parameter["name"] for parameter in operation["parameters"]]
        section += f"<p>In the query, true or false: {code_list(param_names)}</p>"
    for sample in operation.get(CODE_SAMPLES, ()):
        section += f"<pre>{html.escape(sample['source'])}</pre>"
    error_codes = [status for status in operation["responses"] if status != "200"]
    return f"{section}<p class='errors'>Errors: {code_list(error_codes)}</p>"


def code_list(names: Iterable[str]) -> str:
    return ", ".join(f"<code>{html.escape(name)}</code>" for name in names)
