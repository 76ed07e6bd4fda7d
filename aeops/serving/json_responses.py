"""JSON responses, and errors as {"error": "one line"}."""

import logging
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from aeops.errors import DataError, InfrastructureError
from aeops.serving.request_bodies import JSON, JsonObject

log = logging.getLogger("aeops.serving")


def json_response(content: JsonObject, status: int = 200, headers: Any = None) -> Response:
    return Response(orjson.dumps(content), status, headers, JSON)


def build_error_response(error: Exception) -> Response:
    """Build the response to an error.

    Returns:
        The status of an HTTPException, 422 for a DataError, 503 for an InfrastructureError, such as a full disk, and 500 without
        details for anything else (see `is_expected_error`).
    """
    if isinstance(error, HTTPException):
        return json_response({"error": str(error.detail)}, error.status_code, error.headers)
    message = " ".join(str(error).split())
    if isinstance(error, DataError):
        return json_response({"error": message}, 422)
    if isinstance(error, InfrastructureError):
        log.error("%s", message)
        return json_response({"error": message}, 503, {"retry-after": "5"})
    return json_response({"error": "internal error; see the log of the service"}, 500)


def is_expected_error(error: Exception) -> bool:
    """Return True if the cause is the request or the machine; any other error is a bug, and the server logs it."""
    return isinstance(error, HTTPException | DataError | InfrastructureError)
