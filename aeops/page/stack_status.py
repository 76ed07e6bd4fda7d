"""The stack around the page: its services, and the runs of Prefect's server. Asked in the background, with short timeouts."""

import base64
import json
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ae_models.names import index_by_name
from aeops.errors import InfrastructureError
from aeops.machine.network import open_url
from aeops.machine.prefect_access import external_prefect
from aeops.machine.servers import recorded_prefect
from aeops.machine.service_records import ServiceRecord, read_service_records
from aeops.project import Project
from aeops.stack.prefect_api import PrefectObject

T = TypeVar("T")
REQUEST_TIMEOUT = 2.0  # seconds
RUN_LIMIT = 200  # the most that Prefect returns at once
TRAINING_PREFIX = "train "  # of the name of a training run
SCORING_PREFIX = "score-"  # of the name of a recipe's scoring service
STARTED_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING", "PAUSED")
MESSAGE_LENGTH = 300  # characters of a run's message


@dataclass(frozen=True)
class ServiceStatus:
    """The state of a service that has a record.

    Attributes:
        state: up, silent (its process lives and does not answer) or down.
        version: of the model that a scoring service serves, where it says so.
    """

    name: str
    address: str
    state: str
    pid: int | None
    version: str | None = None

    @property
    def page(self) -> str:
        """Address of the page for people; Prefect's own address is that of its API."""
        return self.address.removesuffix("/").removesuffix("/api")


def check_services(project: Project, auth_header: str | None = None) -> dict[str, ServiceStatus]:
    """Check every service that has a record, all at once.

    Args:
        auth_header: the header Authorization for the stack's own services; None where they ask for none.
    """
    records = read_service_records(project)
    with ThreadPoolExecutor(max_workers=max(1, len(records))) as pool:
        service_statuses = pool.map(lambda record: check_service(record, auth_header), records)
        return index_by_name(service_statuses)


def check_service(record: ServiceRecord, auth_header: str | None) -> ServiceStatus:
    """Return the state of a service by its process and its answer; `auth_header` as in `check_services`."""
    address = record.address or record.api_url or ""
    if record.process is None:
        return ServiceStatus(record.name, address, "down", record.pid)
    if record.health is None:  # such as a worker, which nobody can ask
        return ServiceStatus(record.name, address, "up", record.pid)
    version = None
    try:
        fetch_bytes(record.health, auth_header)
        if record.name.startswith(SCORING_PREFIX):
            version = fetch_json(f"{address.rstrip('/')}/model", auth_header).get("version")
    except InfrastructureError:
        return ServiceStatus(record.name, address, "silent", record.pid)
    if version is not None:
        version = str(version)
    return ServiceStatus(record.name, address, "up", record.pid, version)


# ---------------------------------------------------------------- HTTP


def fetch_bytes(
    address: str, auth_header: str | None = None, body: Any = None, request_timeout: float = REQUEST_TIMEOUT
) -> bytes:
    """Return the body of the response to GET, or to a POST of JSON where `body` is not None.

    Raises:
        InfrastructureError: no response with status 200 in time.
    """
    request = json_request(address, auth_header, body)
    try:
        with open_url(request, request_timeout) as response:
            return bytes(response.read())
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"{address} does not answer ({getattr(error, 'reason', error)})") from error


def json_request(address: str, auth_header: str | None, body: Any) -> urllib.request.Request:
    """Return a GET, or a POST of JSON where `body` is not None."""
    request = urllib.request.Request(address, headers={"Content-Type": "application/json"})
    if auth_header:
        request.add_header("Authorization", auth_header)
    if body is not None:
        request.data = json.dumps(body).encode()
    return request


def fetch_json(address: str, auth_header: str | None = None, body: Any = None) -> Any:
    """Return the response's JSON.

    Raises:
        InfrastructureError: as `fetch_bytes`, or the response is no JSON.
    """
    try:
        return json.loads(fetch_bytes(address, auth_header, body))
    except ValueError as error:
        raise InfrastructureError(f"{address} does not answer with JSON") from error


def basic_auth_header(credentials: str) -> str:
    """Return the header Authorization for `user:password`."""
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


# ---------------------------------------------------------------- Prefect


@dataclass(frozen=True)
class PrefectDeployment:
    """A deployment and the address of its page."""

    name: str
    page: str


@dataclass(frozen=True)
class PrefectRun:
    """A run of a flow.

    Attributes:
        kind: its deployment's name, else the first word of its own, because a scheduled run has a random name.
        state: in words.
        state_type: one of Prefect's, such as COMPLETED; empty where unknown.
        time: ISO; of its end, else of its start, else when it is expected to start; empty where none is known.
    """

    name: str
    kind: str
    state: str
    state_type: str
    time: str
    message: str
    page: str

    @property
    def is_training(self) -> bool:
        return self.name.startswith(TRAINING_PREFIX)

    @property
    def has_failed(self) -> bool:
        return self.state_type in ("FAILED", "CRASHED")


@dataclass(frozen=True)
class PrefectPlans:
    """Deployments and runs on Prefect's server, by recipe.

    Attributes:
        page: of the server; empty where none runs.
        past_runs: newest first.
        next_runs: soonest first.
    """

    page: str = ""
    deployments: dict[str, list[PrefectDeployment]] = field(default_factory=dict)
    past_runs: dict[str, list[PrefectRun]] = field(default_factory=dict)
    next_runs: dict[str, list[PrefectRun]] = field(default_factory=dict)


def read_plans(project: Project) -> PrefectPlans:
    """Ask Prefect's server for deployments and runs.

    Raises:
        AeError: a server is configured and does not answer, or its secret cannot be read.
    """
    access = external_prefect() or recorded_prefect(project)
    if access is None:
        return PrefectPlans()
    api_url, auth_header = access.api_url.rstrip("/"), None
    if access.credentials:
        auth_header = basic_auth_header(access.credentials)
    page = api_url.removesuffix("/api")

    def fetch_runs(run_filter: PrefectObject) -> list[PrefectObject]:
        runs: list[PrefectObject] = fetch_json(f"{api_url}/flow_runs/filter", auth_header, run_filter)
        return runs

    deployments = fetch_json(f"{api_url}/deployments/filter", auth_header, {"limit": RUN_LIMIT})
    past_runs = fetch_runs(run_query(STARTED_STATES, "START_TIME_DESC"))
    # A second query for training runs: where many recipes are scored every few minutes, none would be among the last runs.
    past_runs += fetch_runs(run_query(STARTED_STATES, "START_TIME_DESC", TRAINING_PREFIX))
    next_runs = fetch_runs(run_query(("SCHEDULED",), "EXPECTED_START_TIME_ASC"))
    deployment_names = {deployment["id"]: deployment["name"] for deployment in deployments}
    return PrefectPlans(
        page,
        group_by_recipe(deployments, lambda entry: parse_deployment(page, entry)),
        group_by_recipe(newest_first(past_runs), lambda entry: parse_run(page, entry, deployment_names)),
        group_by_recipe(next_runs, lambda entry: parse_run(page, entry, deployment_names)),
    )


def run_query(states: tuple[str, ...], order: str, name_prefix: str | None = None) -> PrefectObject:
    """Return the body of a request for runs in these states."""
    flow_run_filter: PrefectObject = {"state": {"type": {"any_": list(states)}}}
    if name_prefix is not None:
        flow_run_filter["name"] = {"like_": name_prefix}
    return {"sort": order, "limit": RUN_LIMIT, "flow_runs": flow_run_filter}


def newest_first(runs: Iterable[PrefectObject]) -> list[PrefectObject]:
    """Return each run once, the last one started first."""
    unique_runs = {run["id"]: run for run in runs}
    return sorted(unique_runs.values(), key=lambda run: run.get("start_time") or "", reverse=True)


def parse_deployment(page: str, entry: PrefectObject) -> PrefectDeployment:
    return PrefectDeployment(entry["name"], f"{page}/deployments/deployment/{entry['id']}")


def parse_run(page: str, entry: PrefectObject, deployment_names: dict[str, str]) -> PrefectRun:
    state_type = entry.get("state_type") or ""
    message = (entry.get("state") or {}).get("message") or ""
    return PrefectRun(
        name=entry["name"],
        kind=deployment_names.get(entry.get("deployment_id") or "", entry["name"].split(" ")[0]),
        state=entry.get("state_name") or state_type or "unknown",
        state_type=state_type,
        time=entry.get("end_time") or entry.get("start_time") or entry.get("expected_start_time") or "",
        message=message[:MESSAGE_LENGTH],
        page=f"{page}/runs/flow-run/{entry['id']}",
    )


def group_by_recipe(entries: Iterable[PrefectObject], parse: Callable[[PrefectObject], T]) -> dict[str, list[T]]:
    """Parse the entries and group them by their parameter `recipe`, in order; those without it are left out."""
    groups: dict[str, list[T]] = {}
    for entry in entries:
        recipe = (entry.get("parameters") or {}).get("recipe")
        if recipe:
            groups.setdefault(str(recipe), []).append(parse(entry))
    return groups
