"""Bringing the stack up, waiting until it is well, and taking it down again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from aeops.errors import InfrastructureError
from aeops.machine.ports import require_all_free
from aeops.machine.stack_settings import HOST, Settings, deployed_for, forget_settings, settings_file, write_settings
from aeops.project import Project
from aeops.registry.database import file_lock
from aeops.stack.plan import MLFLOW, POOL, PREFECT, WORKER, Service, api_of, crowned, elsewhere, services, worker_name
from aeops.stack.prefect_api import PrefectApi
from aeops.stack.service_records import SUPERVISOR, note_file, processes, read_note, services_folder, stop
from aeops.stack.state import SETUP, State, read_state, state_file
from aeops.stack.supervisor import is_held, start_supervisor

WELL_WITHIN = 300.0  # seconds, on a busy machine with fresh databases
MIGRATED_WITHIN = 300.0
LOOK_EVERY = 0.3
LAST_LINES = 8  # of a log, in a message


def bring_up(project: Project, settings: Settings) -> None:
    """Starts a supervisor for what is asked; of a stack that runs, only what is missing.

    Raises:
        InfrastructureError: ports are taken (all are named, nothing was started), or a database cannot be migrated.
    """
    with file_lock(project, "up"):  # of two people at once, the second finds it running
        if not is_held(project, "stack"):
            require_ports(project, settings)
            migrate(project)
        write_settings(project, settings)
        start_supervisor(project)


def wanted(project: Project, settings: Settings) -> list[Service]:
    return list(services(project, settings, crowned(project), avoid_taken=False))


def require_ports(project: Project, settings: Settings) -> None:
    """Those of services that live on without a supervisor are theirs."""
    missing = [service for service in wanted(project, settings) if not lives(project, service.name)]
    require_all_free(
        (HOST if service.name == MLFLOW else settings.host, service.port, f"{service.option} PORT")
        for service in missing
        if service.port is not None
    )


def lives(project: Project, name: str) -> bool:
    note = read_note(project, name)
    return note is not None and note.process is not None


def migrate(project: Project) -> None:
    """Both databases, each by one process, before anything else opens them."""
    upgrades: dict[str, Callable[[], subprocess.CompletedProcess[str]]] = {
        "MLflow's": lambda: upgrade(project, ["aeops.registry.create_database"])
    }
    if not elsewhere() and not lives(project, PREFECT):
        upgrades["Prefect's"] = lambda: upgrade_prefect(project)
    with ThreadPoolExecutor(len(upgrades)) as both:  # of different databases: at the same time
        running = {whose: both.submit(work) for whose, work in upgrades.items()}
    all_done = {whose: work.result() for whose, work in running.items()}
    if failed := {whose: done for whose, done in all_done.items() if done.returncode}:
        reasons = (f"{whose}: {(done.stderr or done.stdout)[-1000:]}" for whose, done in failed.items())
        raise InfrastructureError("a database cannot be brought up to date. " + "\n".join(reasons))


def upgrade_prefect(project: Project) -> subprocess.CompletedProcess[str]:
    """On one CPU, as is this thread from then on: Prefect's migrations hand tens of thousands of statements from one thread to
    another and wait for each, for 20 to 27 s where the two are on different CPUs, for 14 s on one."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return upgrade(project, ["prefect", "server", "database", "upgrade", "-y"])


def upgrade(project: Project, module: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *module],
        cwd=project.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MIGRATED_WITHIN,
        check=False,
    )


# ---------------------------------------------------------------- waiting


def wait_until_well(project: Project, settings: Settings) -> None:
    """Waits for every service and the deployments, with a line for each as it comes.

    Raises:
        InfrastructureError: something keeps dying, or is not well in time; with the end of its log. The rest runs on.
    """
    deadline, told = time.monotonic() + WELL_WITHIN, set[str]()
    while time.monotonic() < deadline:
        state, services_now = read_state(project), wanted(project, settings)
        well = {service.name for service in services_now if is_well(project, settings, service, state)}
        if deployed_for(project) == settings.asked:
            well.add(SETUP)
        for name in sorted(well - told):
            print(f"{name} is well", file=sys.stderr, flush=True)
        told |= well
        missing = {SETUP, *(service.name for service in services_now)} - well
        if not missing:
            return
        if failing := [name for name in sorted(missing) if state.is_failing(name)]:
            raise InfrastructureError(failure(project, failing))
        time.sleep(LOOK_EVERY)
    raise InfrastructureError(failure(project, sorted(missing)))


def is_well(project: Project, settings: Settings, service: Service, state: State) -> bool:
    if state.of(service.name) != "running" or not lives(project, service.name):
        return False
    return service.name != WORKER or worker_is_online(settings)


def worker_is_online(settings: Settings) -> bool:
    with suppress(InfrastructureError):
        worker = PrefectApi(api_of(settings), settings.auth).worker(POOL, worker_name())
        return worker is not None and worker["status"] == "ONLINE"
    return False


def failure(project: Project, names: list[str]) -> str:
    """Which services are not well, each with the end of its log."""
    told = [f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not well; the rest runs on, and it is tried again"]
    for name in names:
        log = project.logs / f"{'setup' if name == SETUP else name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        told += [f"{log} ends:", *(f"  {line}" for line in lines[-LAST_LINES:])]
    return "\n".join([*told, "type `ae status` to see it, `ae down` to stop everything"])


def show_addresses(project: Project, settings: Settings) -> None:
    """Where everything is, a line each."""
    for service in wanted(project, settings):
        if service.address:
            print(f"{service.name:<20} {service.address}")
    if address := elsewhere():
        print(f"{'prefect':<20} {address} (PREFECT_API_URL)")
    print(f"{'worker':<20} work pool {POOL}")
    for pages in sorted(project.data_docs.glob("*/index.html")):
        print(f"{'data docs':<20} {pages.as_uri()}")
    print("ae status says how it is, ae down stops it", flush=True)


def stay(project: Project) -> None:
    """Until SIGTERM, Ctrl-C or `ae down`; then everything is down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it go the same way
    with suppress(KeyboardInterrupt):
        while settings_file(project).is_file():
            if not is_held(project, "stack") and not is_held(project, "standby"):
                start_supervisor(project)  # both were killed at once
            time.sleep(1.0)
    take_down(project)


# ---------------------------------------------------------------- down


def take_down(project: Project) -> list[str]:
    """Stops everything: supervisors, worker and its runs, then the servers that those talk to. Returns what was stopped."""
    with file_lock(project, "up"):
        forget_settings(project)  # from here on nothing is started again
        found = processes(project)
        stop(found.get(SUPERVISOR, []))
        # The worker while the server is there that it tells; beside it those that talk to no other.
        stop(process for name, service in found.items() if name not in (MLFLOW, PREFECT) for process in service)
        stop(process for service in found.values() for process in service)
        left = processes(project)  # started meanwhile
        stop(process for service in left.values() for process in service)
        for file in services_folder(project).glob("*.json"):
            if read_note(project, file.stem):
                note_file(project, file.stem).unlink()
        state_file(project).unlink(missing_ok=True)
    return sorted(found.keys() | left.keys())
