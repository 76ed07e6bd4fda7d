"""Prefect's REST API by the standard library: importing Prefect's own client takes two seconds and 80 MB, this a moment.

Only what the stack asks every few seconds goes this way: flow runs, their states, deployments and workers.
"""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aeops.errors import InfrastructureError

ANSWER_WITHIN = 10.0  # seconds
TRIES, BETWEEN_TRIES = 4, 1.0  # and seconds, where its database is busy
BETWEEN_LOOKS = 0.3  # seconds
PAGE = 200  # the most that Prefect hands out at once
UNFINISHED = ("RUNNING", "PENDING", "CANCELLING")


class Busy(InfrastructureError):
    """The server asks to come again: of SQLite's writers one at a time may write."""


class PrefectApi:
    """One server's API.

    Attributes:
        url: as PREFECT_API_URL takes it.
        auth: user:password, where the server asks for one.
    """

    def __init__(self, url: str, auth: str | None = None) -> None:
        self.url = url
        self.headers = {"Content-Type": "application/json"}
        if auth:
            self.headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
        elif key := os.environ.get("PREFECT_API_KEY"):  # of a server elsewhere
            self.headers["Authorization"] = f"Bearer {key}"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | list[Any] | None = None) -> Any:
        """Sends one request; returns what came back, None where it is not there (any more).

        Raises:
            InfrastructureError: no answer, or one that is an error.
        """
        for _ in range(TRIES - 1):
            with suppress(Busy):
                return self.ask_once(method, path, body)
            time.sleep(BETWEEN_TRIES)
        return self.ask_once(method, path, body)

    def wait_until_it_answers(self, within: float) -> None:
        """For a server that is starting. Raises InfrastructureError where it does not answer within so many seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with suppress(InfrastructureError):
                self.ask_once("GET", "health", None)
                return
            time.sleep(BETWEEN_LOOKS)
        self.ask_once("GET", "health", None)

    def ask_once(self, method: str, path: str, body: Mapping[str, Any] | list[Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, self.headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            told = error.read().decode(errors="replace")[:300]
            kind = Busy if error.code == 503 else InfrastructureError
            raise kind(f"Prefect at {self.url} refuses {method} {path} ({error.code}): {told}") from error
        except (OSError, TimeoutError) as error:
            raise InfrastructureError(f"Prefect at {self.url} does not answer ({error}): type `ae status`") from error

    # ---------------------------------------------------------------- flow runs

    def flow_runs(
        self, where: Mapping[str, Any], sort: str = "START_TIME_DESC", most: int = PAGE, **more: Any
    ) -> list[dict[str, Any]]:
        """Flow runs by Prefect's own filter, for instance {"state": {"type": {"any_": ["RUNNING"]}}}."""
        asked = {"flow_runs": where, "sort": sort, "limit": min(most, PAGE), **more}
        return list(self.ask("POST", "flow_runs/filter", asked) or [])

    def unfinished(self) -> list[dict[str, Any]]:
        """The flow runs that have a process, or should have one."""
        return self.flow_runs({"state": {"type": {"any_": list(UNFINISHED)}}})

    def is_unfinished(self, flow_run: str) -> bool:
        run = self.ask("GET", f"flow_runs/{flow_run}")
        return run is not None and run["state"]["type"] in UNFINISHED

    def crash(self, flow_run: str, why: str) -> None:
        """Marks a flow run Crashed, by the server's own rules: they also free what it held."""
        self.ask("POST", f"flow_runs/{flow_run}/set_state", {"state": {"type": "CRASHED", "name": "Crashed", "message": why}})

    def forget(self, flow_run: str) -> None:
        """Deletes a flow run that has never begun."""
        self.ask("DELETE", f"flow_runs/{flow_run}")

    # ---------------------------------------------------------------- deployments and workers

    def deployments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.ask("POST", "deployments/filter", {"limit": PAGE, "offset": len(found)}):
            found += page
        return found

    def flow_names(self) -> dict[str, str]:
        """Flow id -> name."""
        return {flow["id"]: flow["name"] for flow in self.ask("POST", "flows/filter", {"limit": PAGE}) or []}

    def worker(self, pool: str, name: str) -> dict[str, Any] | None:
        """A worker by its name, with `status` and `last_heartbeat_time`; None where the pool has none of that name."""
        workers = self.ask("POST", f"work_pools/{pool}/workers/filter", {}) or []
        return next((worker for worker in workers if worker["name"] == name), None)
