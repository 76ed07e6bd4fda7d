"""The stack around the page: which services run here, and what Prefect's server plans. Asked in the background, short waits."""

import base64
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from aeops.errors import InfrastructureError
from aeops.machine.process_identity import find_process
from aeops.project import Project

WAIT = 2.0  # seconds for an answer of a neighbour
RUNS = 200  # the most that Prefect gives at once
TRAINS = "train "  # what the name of a run that trains begins with
SCORING = "score-"  # what the name of a recipe's scoring service begins with
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING", "PAUSED")


@dataclass(frozen=True)
class Service:
    """A service that `.ae/services/<name>.json` tells of.

    Attributes:
        state: up, silent (the process is there and does not answer) or down.
        version: which one a scoring service serves, where it says so.
    """

    name: str
    address: str
    state: str
    pid: int | None
    version: str | None = None

    @property
    def page(self) -> str:
        """Of Prefect, the page and not its API."""
        return self.address.removesuffix("/").removesuffix("/api")


def notes(project: Project) -> dict[str, dict[str, Any]]:
    """The notes as they are, by the service's name; one that is no JSON object is told as one without keys."""
    found = {}
    for file in sorted((project.home / "services").glob("*.json")):
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, FileNotFoundError):  # taken away meanwhile, or no note
            given = {}
        found[file.stem] = given if isinstance(given, dict) else {}
    return found


def services(project: Project, access: str | None = None) -> dict[str, Service]:
    """Every service that has a note, asked whether it is well, all at once.

    Args:
        access: the header Authorization that the stack's own services ask for; None: they ask for none.
    """
    told = notes(project)
    with ThreadPoolExecutor(max_workers=max(1, len(told))) as pool:
        return dict(zip(told, pool.map(lambda name: service(name, told[name], access), told), strict=True))


def service(name: str, note: dict[str, Any], access: str | None) -> Service:
    address = str(note.get("address") or note.get("api_url") or "")
    pid = note.get("pid") if isinstance(note.get("pid"), int) else None
    if not is_alive(pid, note):
        return Service(name, address, "down", pid)
    if not address:  # such as a worker, which nobody can ask
        return Service(name, address, "up", pid)
    try:
        get(health_address(note, address), access)
        version = get_json(f"{address.rstrip('/')}/model", access).get("version") if name.startswith(SCORING) else None
    except InfrastructureError:
        return Service(name, address, "silent", pid)
    return Service(name, address, "up", pid, None if version is None else str(version))


def health_address(note: dict[str, Any], address: str) -> str:
    health = str(note.get("health") or "")
    if health.startswith(("http://", "https://")):
        return health
    if health:
        return f"{address.rstrip('/')}/{health.lstrip('/')}"
    return f"{note['api_url']}/health" if "api_url" in note else f"{address.rstrip('/')}/healthz"


def is_alive(pid: int | None, note: dict[str, Any]) -> bool:
    """Whether the very process is there: a number is used again, and then it has another mark."""
    import psutil

    if pid is None:
        return False
    if "mark" in note:
        return find_process(pid, str(note["mark"])) is not None
    return psutil.pid_exists(pid)


# ---------------------------------------------------------------- asking over HTTP


def get(address: str, access: str | None = None, body: Any = None, wait: float = WAIT) -> bytes:
    """The answer's body, of a POST of JSON where `body` is given.

    Raises:
        InfrastructureError: it does not answer 200 in time.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": access} if access else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=wait) as answer:
            return bytes(answer.read())
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"{address} does not answer ({getattr(error, 'reason', error)})") from error


def get_json(address: str, access: str | None = None, body: Any = None) -> Any:
    """Raises InfrastructureError as `get`, and where the answer is no JSON."""
    try:
        return json.loads(get(address, access, body))
    except ValueError as error:
        raise InfrastructureError(f"{address} does not answer with JSON") from error


def basic(pair: str) -> str:
    """The header Authorization of `user:password`."""
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


# ---------------------------------------------------------------- Prefect


@dataclass(frozen=True)
class Plans:
    """What Prefect's server knows of the recipes.

    Attributes:
        page: of the server; empty where none runs.
        deployments, past, next: recipe -> facts; newest first, and next first.
    """

    page: str = ""
    deployments: dict[str, list[dict[str, str]]] | None = None
    past: dict[str, list[dict[str, str]]] | None = None
    next: dict[str, list[dict[str, str]]] | None = None


def api_address(project: Project) -> str | None:
    """Of the server that PREFECT_API_URL names, else the one that the stack has noted."""
    given = os.environ.get("PREFECT_API_URL") or notes(project).get("prefect", {}).get("api_url")
    return str(given).rstrip("/") if given else None


def plans(project: Project, access: str | None = None) -> Plans:
    """Raises InfrastructureError where a server is noted and does not answer; `access` as in `services`."""
    api = api_address(project)
    if api is None:
        return Plans()
    if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
        access = basic(secret)
    page = api.removesuffix("/api")
    deployments = get_json(f"{api}/deployments/filter", access, {"limit": RUNS})
    past = [
        *get_json(f"{api}/flow_runs/filter", access, runs_in(ENDED, "START_TIME_DESC")),
        # By themselves, too: of many recipes that are scored every few minutes, no training would be among the last runs.
        *get_json(f"{api}/flow_runs/filter", access, runs_in(ENDED, "START_TIME_DESC", TRAINS)),
    ]
    coming = get_json(f"{api}/flow_runs/filter", access, runs_in(("SCHEDULED",), "EXPECTED_START_TIME_ASC"))
    named = {one["id"]: one["name"] for one in deployments}
    return Plans(
        page,
        by_recipe(deployments, lambda one: {"name": one["name"], "page": f"{page}/deployments/deployment/{one['id']}"}),
        by_recipe(once_each(past), lambda one: run_facts(page, one, named)),
        by_recipe(coming, lambda one: run_facts(page, one, named)),
    )


def runs_in(states: tuple[str, ...], order: str, called: str | None = None) -> dict[str, Any]:
    wanted: dict[str, Any] = {"state": {"type": {"any_": list(states)}}} | ({"name": {"like_": called}} if called else {})
    return {"sort": order, "limit": RUNS, "flow_runs": wanted}


def once_each(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each run once, the last that was started first."""
    return sorted({run["id"]: run for run in runs}.values(), key=lambda run: run.get("start_time") or "", reverse=True)


def run_facts(page: str, run: dict[str, Any], named: dict[str, str]) -> dict[str, str]:
    """A run in words; `kind` is its deployment's name, else the first word of its own (one that is planned has a drawn name)."""
    return {
        "name": run["name"],
        "kind": named.get(run.get("deployment_id") or "", run["name"].split(" ")[0]),
        "state": run.get("state_name") or run.get("state_type") or "unknown",
        "type": run.get("state_type") or "",
        "time": run.get("end_time") or run.get("start_time") or run.get("expected_start_time") or "",
        "message": ((run.get("state") or {}).get("message") or "")[:300],
        "page": f"{page}/runs/flow-run/{run['id']}",
    }


def by_recipe(entries: list[dict[str, Any]], facts: Any) -> dict[str, list[dict[str, str]]]:
    """Entries by their parameter `recipe`, in the order given; those without one are nobody's."""
    found: dict[str, list[dict[str, str]]] = {}
    for entry in entries:
        if recipe := (entry.get("parameters") or {}).get("recipe"):
            found.setdefault(str(recipe), []).append(facts(entry))
    return found
