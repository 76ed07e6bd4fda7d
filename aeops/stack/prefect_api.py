"""A client of Prefect's REST API by the standard library: importing Prefect's own takes two seconds and 80 MB.

It covers the requests that the stack makes every few seconds: flow runs, their states, deployments and workers.
"""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from aeops.errors import InfrastructureError
from aeops.machine.network import open_url
from aeops.machine.prefect_access import prefect_access
from aeops.machine.stack_settings import Settings
from aeops.project import Project

_RESPONSE_TIMEOUT = 10.0  # seconds
_MAX_TRIES, _RETRY_DELAY = 4, 1.0  # and seconds, where its database is busy
_POLL_SECONDS = 0.3
_PAGE_SIZE = 200  # the largest that Prefect allows
_DELETE_LIMIT = 50  # the largest that Prefect allows
_UNFINISHED_STATES = ("RUNNING", "PENDING", "CANCELLING")


PrefectObject = dict[str, Any]  # the JSON of a flow run, deployment or worker, with the fields of Prefect's own schemas


class ServerBusyError(InfrastructureError):
    """The server asks for a retry: SQLite lets one process write at a time."""


def names_by_id(things: Iterable[PrefectObject]) -> dict[str, str]:
    """Return the name of each flow or deployment by its id."""
    return {thing["id"]: thing["name"] for thing in things}


class PrefectApi:
    """The API of one server.

    Attributes:
        url: as PREFECT_API_URL takes it.
        credentials: `user:password`, where the server asks for one.
    """

    def __init__(self, url: str, credentials: str | None = None) -> None:
        self.url = url
        self.headers = {"Content-Type": "application/json"}
        if credentials:
            self.headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        elif key := os.environ.get("PREFECT_API_KEY"):  # of an external server
            self.headers["Authorization"] = f"Bearer {key}"

    def request(self, method: str, path: str, body: Mapping[str, Any] | list[Any] | None = None) -> Any:
        """Send a request; a busy server gets it up to four times.

        Args:
            method: GET, POST or DELETE.
            path: below the API's address, without a slash before it.
            body: is sent as JSON.

        Returns:
            The response's JSON; None where the object does not exist (any more).

        Raises:
            InfrastructureError: the server does not respond, or responds with an error.
        """
        for _ in range(_MAX_TRIES - 1):
            with suppress(ServerBusyError):
                return self._request_once(method, path, body)
            time.sleep(_RETRY_DELAY)
        return self._request_once(method, path, body)

    def wait_until_healthy(self, timeout: float) -> None:
        """Wait for a server that is starting.

        Args:
            timeout: seconds.

        Raises:
            InfrastructureError: it has not responded by then.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with suppress(InfrastructureError):
                self._request_once("GET", "health", None)
                return
            time.sleep(_POLL_SECONDS)
        self._request_once("GET", "health", None)

    def _request_once(self, method: str, path: str, body: Mapping[str, Any] | list[Any] | None) -> Any:
        data = None
        if body is not None:
            data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, self.headers, method=method)
        try:
            with open_url(request, _RESPONSE_TIMEOUT) as response:
                return json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            reply = error.read().decode(errors="replace")[:300]
            message = f"Prefect at {self.url} refuses {method} {path} ({error.code}): {reply}"
            if error.code == 503:
                raise ServerBusyError(message) from error
            raise InfrastructureError(message) from error
        except (OSError, TimeoutError) as error:
            raise InfrastructureError(f"Prefect at {self.url} does not respond ({error}): type `ae status`") from error

    # ---------------------------------------------------------------- flow runs

    def flow_runs(
        self, run_filter: Mapping[str, Any], order: str = "START_TIME_DESC", limit: int = _PAGE_SIZE, **more: Any
    ) -> list[PrefectObject]:
        """Return flow runs by Prefect's own filter.

        Args:
            run_filter: for instance {"state": {"type": {"any_": ["RUNNING"]}}}.
            order: one of Prefect's sort orders.
            limit: the most to return, up to 200.
            more: other filters of the request, such as `deployments`.
        """
        body = {"flow_runs": run_filter, "sort": order, "limit": min(limit, _PAGE_SIZE), **more}
        return list(self.request("POST", "flow_runs/filter", body) or [])

    def unfinished_runs(self) -> list[PrefectObject]:
        """Return the flow runs that have a process, or should have one."""
        return self.flow_runs({"state": {"type": {"any_": list(_UNFINISHED_STATES)}}})

    def is_unfinished(self, flow_run: str) -> bool:
        run = self.request("GET", f"flow_runs/{flow_run}")
        return run is not None and run["state"]["type"] in _UNFINISHED_STATES

    def mark_crashed(self, flow_run: str, reason: str) -> None:
        """Mark a flow run Crashed, by the server's own rules: they also free its concurrency slots."""
        state = {"type": "CRASHED", "name": "Crashed", "message": reason}
        self.request("POST", f"flow_runs/{flow_run}/set_state", {"state": state})

    def mark_cancelled(self, flow_run: str, reason: str) -> None:
        """Mark a flow run Cancelled whose process is about to end; also one that Prefect's client has just marked Crashed."""
        state = {"type": "CANCELLED", "name": "Cancelled", "message": reason}
        self.request("POST", f"flow_runs/{flow_run}/set_state", {"state": state, "force": True})

    def delete_run(self, flow_run: str) -> None:
        """Delete a flow run that has never started."""
        self.request("DELETE", f"flow_runs/{flow_run}")

    def delete_runs(self, run_filter: Mapping[str, Any]) -> int:
        """Delete some flow runs that match a filter, with their task runs and logs; return their number, 0 when none is left."""
        return len(self.request("POST", "flow_runs/bulk_delete", {"flow_runs": run_filter, "limit": _DELETE_LIMIT})["deleted"])

    # ---------------------------------------------------------------- deployments and workers

    def deployments(self) -> list[PrefectObject]:
        deployments: list[PrefectObject] = []
        while page := self.request("POST", "deployments/filter", {"limit": _PAGE_SIZE, "offset": len(deployments)}):
            deployments += page
        return deployments

    def flow_names(self) -> dict[str, str]:
        """Return the name of each flow by its id."""
        return names_by_id(self.request("POST", "flows/filter", {"limit": _PAGE_SIZE}) or [])

    def worker(self, pool: str, name: str) -> PrefectObject | None:
        """Return a worker by its name, with `status` and `last_heartbeat_time`; None where the pool has none of that name."""
        workers: list[PrefectObject] = self.request("POST", f"work_pools/{pool}/workers/filter", {}) or []
        for worker in workers:
            if worker["name"] == name:
                return worker
        return None


def stack_prefect_api(project: Project, settings: Settings) -> PrefectApi:
    """Return a client of the server that a stack with these settings uses; raises as `prefect_access` does."""
    access = prefect_access(project, settings)
    return PrefectApi(access.api_url, access.credentials)
