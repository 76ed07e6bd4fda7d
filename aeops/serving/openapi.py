"""The OpenAPI document of the service as it is now, and a page made of it that needs no outside host.

The document is made of what the served model takes, and tests hold the service to it.
"""

import html
from typing import Any

from aeops.bundle.detector import Detector
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY_TYPE
from aeops.serving import arrow
from aeops.serving.limits import Limits
from aeops.serving.metrics import MEDIA_TYPE as METRICS_TYPE
from aeops.serving.request_bodies import JSON, PARAMS
from aeops.serving.response_formats import IDS
from aeops.serving.served_version import Served

Schema = dict[str, Any]

ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "one line: what was given, what is allowed"}},
    "additionalProperties": False,
}
ERRORS = {
    "400": "no request: no JSON, an unknown key, no .npy, no Arrow stream",
    "401": "no password, or a wrong one; only where the service has one",
    "408": "the body did not arrive in time",
    "413": "too many bytes, samples or characters",
    "415": "a body of another kind",
    "422": "samples that cannot be: another shape, no numbers, values outside the range",
    "500": "a fault of the service's own",
    "503": "no version answers, too many requests wait, or predictions cannot be recorded; Retry-After says when to try again",
}
BINARY: Schema = {"type": "string", "format": "binary"}
NUMBERS: Schema = {"type": "array", "description": "nested as the shape says"}
IDENTIFIERS: Schema = {"type": "array", "items": {"type": "string"}, "description": "of the predictions: what `ae why` asks for"}
POSTS = {
    "/score": "Scores, and whether samples are flagged. Each is recorded as a prediction.",
    "/invocations": "The same as MLflow's servers are asked, with the ids in a header alone.",
    "/embed": "Codes.",
    "/reconstruct": "What the model makes of samples.",
    "/explain": "Scores, and where they come from: squared residuals, or the tokens that are wrong. JSON alone.",
}
GETS: dict[str, tuple[str, str, Schema]] = {
    "/healthz": ("200 while the service answers.", JSON, {"type": "object"}),
    "/readyz": ("200 while a version answers, else 503.", JSON, {"type": "object", "required": ["status", "version"]}),
    "/model": (
        "Which version answers, its threshold, what it takes, and what becomes of its successor.",
        JSON,
        {"type": "object"},
    ),
    "/metrics": ("Counters for Prometheus.", METRICS_TYPE, {"type": "string"}),
    "/openapi.json": ("This document.", JSON, {"type": "object"}),
    "/docs": ("This document as a page.", "text/html; charset=utf-8", {"type": "string"}),
}


def document(name: str, served: Served | None, limits: Limits) -> dict[str, Any]:
    """The OpenAPI 3.1 document; without a version it says nothing of a sample's shape."""
    detector = served.detector if served else None
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{name} {served.version}" if served else name, "version": served.version if served else "none"},
        "paths": {
            **{path: {"post": post(path, about, detector, limits)} for path, about in POSTS.items()},
            **{path: {"get": get(path, *told)} for path, told in GETS.items()},
        },
    }


def post(path: str, about: str, detector: Detector | None, limits: Limits) -> dict[str, Any]:
    content = {JSON: {"schema": request_schema(detector, limits)}, NPY_TYPE: {"schema": BINARY}}
    content[arrow.MEDIA_TYPE] = {"schema": BINARY}
    answer: dict[str, Any] = {JSON: {"schema": answer_schema(path)}}
    if path != "/explain":
        answer |= {NPY_TYPE: {"schema": BINARY}, arrow.MEDIA_TYPE: {"schema": BINARY}}
    query = [{"name": param, "in": "query", "schema": {"type": "boolean"}} for param in PARAMS]
    names = {"x-request-id": "the request's: the client's own or one made here", IDS: "CALL-FIRST..LAST of the predictions"}
    headers = {name: {"description": told, "schema": {"type": "string"}} for name, told in names.items()}
    return {
        "summary": about,
        "operationId": path.strip("/"),
        "parameters": query,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "an answer a sample", "headers": headers, "content": answer},
            **errors(tuple(ERRORS)),
        },
    }


def get(path: str, about: str, media_type: str, schema: Schema) -> dict[str, Any]:
    known = ("401", "500", "503") if path == "/readyz" else ("401", "500")
    good = {"description": about, "content": {media_type: {"schema": schema}}}
    return {"summary": about, "operationId": path.strip("/").replace(".", "_"), "responses": {"200": good, **errors(known)}}


def errors(statuses: tuple[str, ...]) -> dict[str, Any]:
    return {status: {"description": ERRORS[status], "content": {JSON: {"schema": ERROR}}} for status in statuses}


# ---------------------------------------------------------------- schemas


def request_schema(detector: Detector | None, limits: Limits) -> Schema:
    params = {name: {"type": "boolean"} for name in PARAMS}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": inputs_schema(detector, limits) if detector else {},
            "params": {"type": ["object", "null"], "properties": params, "additionalProperties": False},
        },
        "additionalProperties": False,
    }


def inputs_schema(detector: Detector, limits: Limits) -> Schema:
    """One sample or a batch."""
    samples = detector.data_kind.json_schema(detector.spec, limits.text_bytes)
    batches = [{"type": "array", "items": sample, "minItems": 1} for sample in samples]
    return {"anyOf": [*samples, *batches], "description": f"one sample or up to {limits.samples}"}


def answer_schema(path: str) -> Schema:
    if path in ("/embed", "/reconstruct"):
        name = "codes" if path == "/embed" else "reconstructions"
        return {"type": "object", "required": [name], "properties": {name: NUMBERS}, "additionalProperties": False}
    properties = {"predictions": {"type": "array", "items": prediction_schema(path)}}
    if path != "/invocations":
        properties["ids"] = IDENTIFIERS
    return {"type": "object", "required": ["predictions"], "properties": properties, "additionalProperties": False}


def prediction_schema(path: str) -> Schema:
    properties: dict[str, Schema] = {
        "score": {"type": "number", "description": "higher is more foreign"},
        "p_value": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "is_anomaly": {"type": "boolean", "description": "whether the score is above the threshold"},
    }
    required = list(properties)
    if path == "/explain":
        areas = {"type": "array", "items": {"type": "object", "required": ["from", "to", "share"]}}
        worst = {"type": "array", "items": {"type": "object", "required": ["at", "residual", "share"]}}
        wrong = {"type": "array", "items": {"type": "object", "required": ["place", "given", "made"]}}
        number, count = {"type": "number"}, {"type": "integer"}
        properties |= {"residual": NUMBERS, "total": number, "areas": areas, "worst": worst}
        properties |= {"tokens": count, "wrong": wrong, "share": number}
    else:
        properties |= {"reconstruction": {"type": ["array", "string"]}, "code": NUMBERS}
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


# ---------------------------------------------------------------- the page

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin:2rem 0 0;font-size:1.1rem}code,pre{font:.9em ui-monospace,monospace;background:#f3f3f3}code{padding:.1em .3em}
pre{padding:.7rem;overflow:auto}table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"""


def page(told: dict[str, Any]) -> str:
    """The document as HTML without a script or an outside host."""
    title = html.escape(told["info"]["title"])
    sections = [section(method, path, entry) for path, methods in told["paths"].items() for method, entry in methods.items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>'
        f'<p>Scoring service; the same for programs: <a href="openapi.json">openapi.json</a></p>{"".join(sections)}'
    )


def section(method: str, path: str, entry: dict[str, Any]) -> str:
    takes = ", ".join(f"<code>{html.escape(kind)}</code>" for kind in entry.get("requestBody", {}).get("content", {}))
    params = ", ".join(f"<code>{html.escape(param['name'])}</code>" for param in entry.get("parameters", ()))
    rows = "".join(
        f"<tr><td><code>{status}</code><td>{html.escape(answer['description'])}" for status, answer in entry["responses"].items()
    )
    asked = (f"<p>Takes {takes}</p>" if takes else "") + (f"<p>In the query, true or false: {params}</p>" if params else "")
    title = f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
    return f"{title}<p>{html.escape(entry['summary'])}</p>{asked}<table>{rows}</table>"
