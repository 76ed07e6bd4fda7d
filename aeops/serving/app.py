"""The scoring service over one bundle: onnxruntime behind FastAPI, with the JSON that `mlflow models serve` speaks too.

POST /score or /invocations   {"inputs": [...], "params": {"reconstruction": true, "code": true}}
                              -> {"predictions": [{"score": ..., "p_value": ..., "is_anomaly": ...}, ...]}
GET /model                    which version this is, its threshold and what it takes
GET /healthz                  200 while it answers

Errors are {"error": "one line"}: 400 for what is no request, 413 for too large a one, 422 for samples that cannot be.
"""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from ae_models.spec import listed, near
from aeops.errors import DataError
from aeops.serving.answers import answers
from aeops.serving.detector import Detector

LARGEST_BODY = 64 * 2**20  # bytes: some 15,000 digits as JSON
KEYS = ("inputs", "params")
PARAMS = ("reconstruction", "code")


def build_app(detector: Detector, name: str, version: str) -> FastAPI:
    """The service.

    Args:
        detector: loaded and verified.
        name: the registered model's, as a recipe is called.
        version: the registered version that the detector was loaded from.
    """
    app = FastAPI(title=f"{name} {version}", docs_url=None, redoc_url=None)  # their pages load scripts from outside

    async def score(request: Request) -> Response:
        body = await limited_body(request)
        return await run_in_threadpool(lambda: as_json(predictions(detector, body)))  # /healthz answers meanwhile

    async def healthz() -> Response:
        return as_json({"status": "ok"})

    async def model() -> Response:
        return as_json(description(detector, name, version))

    for path in ("/score", "/invocations"):
        app.add_api_route(path, score, methods=["POST"])
    app.add_api_route("/healthz", healthz)
    app.add_api_route("/model", model)
    app.add_exception_handler(HTTPException, tell_http_error)
    app.add_exception_handler(DataError, tell_data_error)
    return app


async def limited_body(request: Request) -> bytes:
    """The body, read no further than is allowed."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            raise HTTPException(413, f"a body of more than {LARGEST_BODY} bytes given; send smaller batches")
        parts.append(part)
    return b"".join(parts)


def predictions(detector: Detector, body: bytes) -> dict[str, Any]:
    """Answers a request's body.

    Raises:
        HTTPException: 400, the body is not the JSON that is allowed.
        DataError: its samples are not what the model takes.
    """
    request = read_request(body)
    params = read_params(request.get("params") or {})
    return {"predictions": answers(detector.score(request["inputs"], **params))}


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


def refuse_others(given: dict[str, Any], allowed: tuple[str, ...], what: str) -> None:
    for name in given:
        if name not in allowed:
            raise HTTPException(400, f"no {what} {name!r}; {listed(allowed)} allowed{near(name, allowed)}")


def usage() -> str:
    return '{"inputs": [one sample or several], "params": {"reconstruction": false, "code": false}}'


def description(detector: Detector, name: str, version: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "bundle_sha256": detector.sha256,
        "input": {"kind": detector.kind, "shape": detector.shape, "low": detector.low, "high": detector.high},
        "threshold": detector.bundle["threshold"],
        "code": detector.bundle["code"],
    }


def as_json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def tell_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return as_json({"error": str(error.detail)}, error.status_code)


async def tell_data_error(_request: Request, error: Exception) -> Response:
    return as_json({"error": str(error)}, 422)
