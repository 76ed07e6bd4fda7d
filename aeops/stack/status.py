"""The state of the stack for `ae status`: from the files in `.ae/`, the processes, and Prefect's API where it responds."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypedDict

import psutil

from ae_models.names import index_by_name
from aeops.errors import InfrastructureError
from aeops.machine.prefect_access import external_prefect_api, login_hint
from aeops.machine.servers import is_healthy
from aeops.machine.service_records import ServiceRecord, read_service_records
from aeops.machine.stack_settings import Settings, read_settings
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.acknowledgement import ACKNOWLEDGEMENT
from aeops.registry.ledger import LedgerEntry
from aeops.stack.alarms import read_alarms
from aeops.stack.leader_state import FAILING_STATE, SETUP_NAME, LeaderState, read_state
from aeops.stack.prefect_api import PrefectApi, PrefectObject, names_by_id, stack_prefect_api
from aeops.stack.service_definitions import WORK_POOL, WORKER_SERVICE, worker_name
from aeops.stack.service_processes import SUPERVISOR_NAME, stack_processes

_MAX_NEXT_RUNS = 5
_STARTED_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING", "PENDING", "PAUSED", "CANCELLING")
_HEALTHY = "well"


class ServiceRow(TypedDict):
    """A service; `state` is `well` or names what is wrong, `memory_mb` is that of all its processes together."""

    name: str
    state: str
    address: str | None
    pid: int | None
    since: str | None
    memory_mb: int | None
    log: str | None
    starts: int | None


class RunRow(TypedDict):
    """The last run of a flow for a recipe."""

    recipe: str
    flow: str
    state: str
    at: str
    says: str | None
    id: str


class NextRun(TypedDict):
    """The next run of a schedule."""

    deployment: str
    at: str


class ChampionRow(TypedDict):
    """A recipe's champion."""

    recipe: str
    version: str
    since: str


class ApprovalRow(TypedDict):
    """A version that waits for a person; `type_this` is the command that approves it."""

    recipe: str
    version: str
    since: str
    type_this: str


class StackStatus(TypedDict):
    """The output of `ae status --json`: times are ISO, UTC; lists of runs are None where Prefect does not respond.

    `started` is whether `ae up` was typed and `ae down` was not since. `prefect_login` says how a person logs in to the page of
    the stack's own Prefect server.
    """

    well: bool
    started: bool
    says: str
    prefect_login: str | None
    services: list[ServiceRow]
    runs: list[RunRow] | None
    champions: list[ChampionRow]
    alarms: list[dict[str, str | None]]
    waiting_for_approval: list[ApprovalRow]
    next_runs: list[NextRun] | None


def read_stack_status(project: Project) -> StackStatus:
    """Return the state of services, runs, champions, alarms and pending approvals."""
    settings, state = read_settings(project), read_state(project)
    services = _service_rows(project, settings, state)
    runs, next_runs = None, None
    if settings is not None:
        api = stack_prefect_api(project, settings)
        if is_healthy(f"{api.url}/health"):
            runs, next_runs = _last_runs(api), _next_runs(api)
    unhealthy_names = []
    for row in services:
        if row["state"] != _HEALTHY:
            unhealthy_names.append(row["name"])
    return {
        "well": not unhealthy_names,
        "started": settings is not None,
        "says": _summary_message(settings, services, unhealthy_names, state),
        "prefect_login": _prefect_login(project, settings),
        "services": services,
        "runs": runs,
        "champions": _champion_rows(project),
        "alarms": [alarm.to_dict() for alarm in read_alarms(project)],
        "waiting_for_approval": _pending_approvals(project),
        "next_runs": next_runs,
    }


def _prefect_login(project: Project, settings: Settings | None) -> str | None:
    if settings is None or external_prefect_api():
        return None
    return login_hint(project, settings)


def _summary_message(
    settings: Settings | None, services: Sequence[ServiceRow], unhealthy_names: list[str], state: LeaderState
) -> str:
    if settings is None:
        message = "the stack does not run; `ae up` starts it"
        if services:
            message += f" (left: {len(services)}; `ae down` stops what is left)"
        return message
    if not services:
        return "the stack should run and none of it does: `ae up`"
    message = "all services are healthy"
    if unhealthy_names:
        message = f"not healthy: {', '.join(unhealthy_names)}; see .ae/logs"
    if state.is_failing(SETUP_NAME):
        message += f"; {SETUP_NAME} cannot be made: see .ae/logs/setup.log"
    return message


# ---------------------------------------------------------------- services


def _service_rows(project: Project, settings: Settings | None, state: LeaderState) -> list[ServiceRow]:
    processes = stack_processes(project)
    rows = []
    if settings or processes.get(SUPERVISOR_NAME):
        rows.append(_supervisor_row(processes.get(SUPERVISOR_NAME, [])))
    records = index_by_name(read_service_records(project))
    for name in sorted(records.keys() | state.services.keys()):
        service_state = _service_state(project, name, records.get(name), state, settings)
        rows.append(_service_row(name, records.get(name), processes.get(name, []), service_state, state.start_count(name)))
    return rows


def _supervisor_row(processes: list[psutil.Process]) -> ServiceRow:
    row = _empty_row(SUPERVISOR_NAME)
    if processes:
        oldest = min(processes, key=lambda process: process.create_time())
        row["pid"], row["since"], row["memory_mb"] = oldest.pid, _iso_time(oldest.create_time()), _memory_mb(processes)
    row["state"] = {0: "dead: `ae up` starts it", 1: "alone for a moment"}.get(len(processes), _HEALTHY)
    return row


def _service_row(
    name: str,
    record: ServiceRecord | None,
    processes: list[psutil.Process],
    service_state: str,
    starts: int | None,
) -> ServiceRow:
    row = _empty_row(name)
    row["state"], row["starts"] = service_state, starts
    if processes:
        row["memory_mb"] = _memory_mb(processes)
    if record is not None:
        row["address"], row["log"] = record.address, record.log
        if record.process is not None:
            row["pid"], row["since"] = record.pid, _iso_time(record.started_at)
    return row


def _empty_row(name: str) -> ServiceRow:
    return {
        "name": name,
        "state": "unknown",
        "address": None,
        "pid": None,
        "since": None,
        "memory_mb": None,
        "log": None,
        "starts": None,
    }


def _service_state(
    project: Project, name: str, record: ServiceRecord | None, state: LeaderState, settings: Settings | None
) -> str:
    """Return `well`, or a word for what is wrong, from the service's own response now."""
    leader_state = state.service_state(name)
    if record is None or record.process is None:
        return leader_state.replace("running", "dead")
    if leader_state == FAILING_STATE:
        return FAILING_STATE
    if record.health:
        if is_healthy(record.health):
            return _HEALTHY
        return "does not respond"
    if name == WORKER_SERVICE and settings:
        return _worker_state(project, settings)
    return _HEALTHY


def _worker_state(project: Project, settings: Settings) -> str:
    with suppress(InfrastructureError):
        worker = stack_prefect_api(project, settings).worker(WORK_POOL, worker_name())
        if worker and worker["status"] == "ONLINE":
            return _HEALTHY
        return "unknown to Prefect"
    return "cannot reach Prefect"


def _memory_mb(processes: list[psutil.Process]) -> int:
    total_bytes = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total_bytes += int(process.memory_info().rss)
    return round(total_bytes / 2**20)


def _iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------- Prefect


def _last_runs(api: PrefectApi) -> list[RunRow]:
    """Return the last run of each recipe and flow."""
    flows = api.flow_names()
    runs: dict[tuple[str, str], PrefectObject] = {}
    for run in api.flow_runs({"state": {"type": {"any_": list(_STARTED_STATES)}}}, order="EXPECTED_START_TIME_DESC"):
        recipe = run["parameters"].get("recipe")
        if recipe is not None:
            runs.setdefault((recipe, flows.get(run["flow_id"], "")), run)
    rows: list[RunRow] = []
    for (recipe, flow), run in sorted(runs.items()):
        run_time = run["end_time"] or run["start_time"] or run["expected_start_time"]
        run_state = run["state"]
        rows.append(
            {
                "recipe": recipe,
                "flow": flow,
                "state": run_state["name"],
                "at": run_time,
                "says": run_state["message"],
                "id": run["id"],
            }
        )
    return rows


def _next_runs(api: PrefectApi) -> list[NextRun]:
    """Return the next run of each active schedule, the soonest first."""
    names = names_by_id(api.deployments())
    time_filter = {"after_": datetime.now(UTC).isoformat()}
    runs = api.flow_runs(
        {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": time_filter}, order="EXPECTED_START_TIME_ASC"
    )
    start_times: dict[str, str] = {}
    for run in runs:
        name = names.get(run["deployment_id"], str(run["name"]))
        start_times.setdefault(name, run["expected_start_time"])
    return [{"deployment": name, "at": time} for name, time in list(start_times.items())[:_MAX_NEXT_RUNS]]


# ---------------------------------------------------------------- files


def _champion_rows(project: Project) -> list[ChampionRow]:
    """Return the champions by the ledgers; MLflow is not read."""
    rows: list[ChampionRow] = []
    for recipe in ledger.recipes_with_ledger(project):
        move = ledger.last_move(ledger.read_content(project, recipe).entries)
        if move and move.to_version is not None:
            rows.append({"recipe": recipe, "version": move.to_version, "since": move.time})
    return rows


def _pending_approvals(project: Project) -> list[ApprovalRow]:
    """Return the versions with a request for approval and no decision since."""
    rows: list[ApprovalRow] = []
    for recipe in ledger.recipes_with_ledger(project):
        last_entries: dict[str, LedgerEntry] = {}
        for entry in ledger.read_content(project, recipe).entries:
            if entry.event != ACKNOWLEDGEMENT:
                last_entries[entry.version] = entry
        for version, line in last_entries.items():
            if line.event == "request":
                command = f"ae approve {recipe} {version} --by NAME --why TEXT"
                rows.append({"recipe": recipe, "version": version, "since": line.time, "type_this": command})
    return rows
