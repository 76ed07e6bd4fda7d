"""How everything is, for `ae status`: from the files in `.ae/`, the processes, and Prefect's API where it answers."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psutil

from aeops.errors import InfrastructureError
from aeops.machine.servers import answers
from aeops.machine.stack_settings import Settings, read_settings
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.ledger import LedgerEntry
from aeops.stack.alarms import read_alarms
from aeops.stack.plan import POOL, WORKER, api_of, worker_name
from aeops.stack.prefect_api import PrefectApi
from aeops.stack.service_records import SUPERVISOR, Note, processes, read_notes
from aeops.stack.state import FAILING, SETUP, State, read_state

NEXT = 5  # scheduled runs that are told
DONE = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING", "PENDING", "PAUSED", "CANCELLING")  # begun, or done with
WELL = "well"


def gather(project: Project) -> dict[str, Any]:
    """Everything; a list that only Prefect could fill is None where that does not answer.

    Times are ISO, UTC.
    """
    settings, state = read_settings(project), read_state(project)
    services = list_services(project, settings, state)
    api = PrefectApi(api_of(settings), settings.auth) if settings else None
    runs, next_runs = ask_prefect(api)
    sick = [row["name"] for row in services if row["state"] != WELL]
    return {
        "well": not sick,
        "says": says(settings, services, sick, state),
        "services": services,
        "runs": runs,
        "champions": champions(project),
        "alarms": read_alarms(project),
        "waiting_for_approval": waiting(project),
        "next_runs": next_runs,
    }


def says(settings: Settings | None, services: list[dict[str, Any]], sick: list[str], state: State) -> str:
    if settings is None:
        return "the stack does not run; `ae up` starts it" + (
            f" ({len(services)} processes are left: `ae down`)" if services else ""
        )
    if not services:
        return "the stack was asked for and nothing of it runs: `ae up`"
    missing = f"; {SETUP} cannot be made: see .ae/logs/setup.log" if state.is_failing(SETUP) else ""
    return ("all is well" if not sick else f"not well: {', '.join(sick)}; see .ae/logs") + missing


# ---------------------------------------------------------------- services


def list_services(project: Project, settings: Settings | None, state: State) -> list[dict[str, Any]]:
    """One row a service; memory is that of all its processes together."""
    living = processes(project)
    notes = {note.name: note for note in read_notes(project)}
    names = [SUPERVISOR] * bool(settings or living.get(SUPERVISOR)) + sorted(notes.keys() | state.services.keys())
    return [row_of(name, notes.get(name), living.get(name, []), state, settings) for name in names]


def row_of(name: str, note: Note | None, living: list[psutil.Process], state: State, settings: Settings | None) -> dict[str, Any]:
    process = note.process if note else None
    if name == SUPERVISOR:
        process = min(living, key=lambda one: one.create_time(), default=None)
    return {
        "name": name,
        "state": how_it_is(name, note, process, living, state, settings),
        "address": note.address if note else None,
        "pid": process.pid if process else None,
        "since": moment(note.started if note and process else process.create_time() if process else None),
        "memory_mb": round(memory(living) / 2**20) if living else None,
        "log": note.log if note else None,
        "starts": state.services.get(name, {}).get("starts"),
    }


def how_it_is(
    name: str,
    note: Note | None,
    process: psutil.Process | None,
    living: list[psutil.Process],
    state: State,
    settings: Settings | None,
) -> str:
    """`well`, or a word for what is wrong, asked of the service itself now."""
    if name == SUPERVISOR:
        return {0: "dead: `ae up` starts it", 1: "alone for a moment"}.get(len(living), WELL)
    if process is None:
        return state.of(name) if state.of(name) != "running" else "dead"
    if state.of(name) == FAILING:
        return FAILING
    if note and note.health:
        return WELL if answers(note.health) else "does not answer"
    if name == WORKER and settings:
        with suppress(InfrastructureError):
            worker = PrefectApi(api_of(settings), settings.auth).worker(POOL, worker_name())
            return WELL if worker and worker["status"] == "ONLINE" else "not heard of by Prefect"
        return "cannot reach Prefect"
    return WELL


def memory(living: list[psutil.Process]) -> int:
    total = 0
    for process in living:
        with suppress(psutil.NoSuchProcess):
            total += int(process.memory_info().rss)
    return total


def moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


# ---------------------------------------------------------------- Prefect


def ask_prefect(api: PrefectApi | None) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]] | None]:
    """The last run of each recipe and flow, and the next scheduled ones; None where Prefect does not answer."""
    if api is None or not answers(f"{api.url}/health"):
        return None, None
    return last_runs(api), next_runs(api)


def last_runs(api: PrefectApi) -> list[dict[str, Any]]:
    flows = api.flow_names()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in api.flow_runs({"state": {"type": {"any_": list(DONE)}}}, sort="EXPECTED_START_TIME_DESC"):
        recipe = run["parameters"].get("recipe")
        if recipe is not None:
            found.setdefault((recipe, flows.get(run["flow_id"], "")), run)
    return [
        {
            "recipe": recipe,
            "flow": flow,
            "state": run["state"]["name"],
            "at": run["end_time"] or run["start_time"] or run["expected_start_time"],
            "says": run["state"]["message"],
            "id": run["id"],
        }
        for (recipe, flow), run in sorted(found.items())
    ]


def next_runs(api: PrefectApi) -> list[dict[str, Any]]:
    """The next run of each schedule that is on, the soonest first."""
    names = {deployment["id"]: deployment["name"] for deployment in api.deployments()}
    after = {"after_": datetime.now(UTC).isoformat()}
    runs = api.flow_runs(
        {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": after}, sort="EXPECTED_START_TIME_ASC"
    )
    found: dict[str, str] = {}
    for run in runs:
        found.setdefault(names.get(run["deployment_id"], run["name"]), run["expected_start_time"])
    return [{"deployment": name, "at": at} for name, at in list(found.items())[:NEXT]]


# ---------------------------------------------------------------- files


def champions(project: Project) -> list[dict[str, Any]]:
    """By the ledgers: MLflow is not asked."""
    found = []
    for recipe in ledger.recipes_with_ledger(project):
        move = ledger.last_move(ledger.read_content(project, recipe).entries)
        if move and move.to_version is not None:
            found.append({"recipe": recipe, "version": move.to_version, "since": move.time})
    return found


def waiting(project: Project) -> list[dict[str, Any]]:
    """Versions about which a person was asked and nothing has been decided since."""
    found = []
    for recipe in ledger.recipes_with_ledger(project):
        last: dict[str, LedgerEntry] = {line.version: line for line in ledger.read_content(project, recipe).entries}
        for version, line in last.items():
            if line.event == "request":
                command = f"ae approve {recipe} {version} --by NAME --why TEXT"
                found.append({"recipe": recipe, "version": version, "since": line.time, "type_this": command})
    return found
