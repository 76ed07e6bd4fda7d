"""What the service says beside answers: JSON documents, and errors as {"error": "one line"}."""

import logging
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from aeops.errors import DataError, InfrastructureError
from aeops.serving.request_bodies import JSON

log = logging.getLogger("aeops.serving")


def as_json(content: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(orjson.dumps(content), status, headers, JSON)


def error_response(error: Exception) -> Response:
    """What a client is told of an error: an HTTPException's own status, 422 for samples that cannot be, 503 where the disk or the
    like is in the way, 500 for anything that nobody foresaw (see `is_foreseen`)."""
    if isinstance(error, HTTPException):
        return as_json({"error": str(error.detail)}, error.status_code, error.headers)
    told = " ".join(str(error).split())
    if isinstance(error, DataError):
        return as_json({"error": told}, 422)
    if isinstance(error, InfrastructureError):
        log.error("%s", told)
        return as_json({"error": told}, 503, {"retry-after": "5"})
    return as_json({"error": "a fault of the service's own, which its log tells"}, 500)


def is_foreseen(error: Exception) -> bool:
    """Whether an error has its cause in a request or in the machine; any other is the server's to log."""
    return isinstance(error, HTTPException | DataError | InfrastructureError)
