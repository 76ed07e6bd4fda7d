"""Start the stack, wait until it is healthy, and stop it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ae_models.names import names_of
from aeops.errors import InfrastructureError
from aeops.machine.lock import file_lock
from aeops.machine.network import HOST, RequiredPort, require_ports_free
from aeops.machine.prefect_access import external_prefect_api, login_hint, make_login
from aeops.machine.service_records import read_service_record, service_record_file, services_folder
from aeops.machine.stack_settings import Settings, last_setup_request, remove_settings, settings_file, write_settings
from aeops.project import Project
from aeops.registry.mlflow_pages import experiments_page
from aeops.stack.leader_state import SETUP_NAME, LeaderState, read_state, state_file
from aeops.stack.prefect_api import stack_prefect_api
from aeops.stack.service_definitions import (
    MLFLOW,
    PREFECT,
    WORK_POOL,
    WORKER_SERVICE,
    ServiceDefinition,
    define_services,
    recipes_with_champion,
    worker_name,
)
from aeops.stack.service_processes import SUPERVISOR_NAME, stack_processes, stop_processes
from aeops.stack.supervisor import is_lock_held, start_supervisor

_HEALTHY_TIMEOUT = 300.0  # seconds, on a busy machine with fresh databases
_MIGRATION_TIMEOUT = 300.0
_POLL_SECONDS = 0.3
_LAST_LINES = 8  # of a log, in a message


def bring_up(project: Project, settings: Settings) -> None:
    """Start a supervisor for these settings; of a stack that runs, only what is missing.

    Raises:
        InfrastructureError: ports are taken (all are named, nothing was started), or a database cannot be migrated.
    """
    with file_lock(project, "up") as lock:  # of two commands at once, the second finds the stack running
        if settings.password_file is None:
            make_login(project)
        if not is_lock_held(project, "stack"):
            require_stack_ports(project, settings)
            migrate_databases(project, lock)
        write_settings(project, settings)
        start_supervisor(project)


def require_stack_ports(project: Project, settings: Settings) -> None:
    """Refuse ports that are taken, except by services of this stack that live on without a supervisor.

    Raises:
        InfrastructureError: names every taken port and the process that holds it.
    """
    ports = []
    for service in _current_services(project, settings):
        if service.port is not None and not _is_alive(project, service.name):
            host = settings.host
            if service.name == MLFLOW:
                host = HOST
            ports.append(RequiredPort(host, service.port, f"{service.option} PORT"))
    require_ports_free(ports)


def migrate_databases(project: Project, lock: int) -> None:
    """Bring both databases up to date, each by one process, before another process opens them.

    Args:
        lock: descriptor of a lock that the processes inherit: the next `ae up` waits for a migration that outlives a killed one.
            Prefect's does; MLflow's dies with its parent.

    Raises:
        InfrastructureError: a database cannot be brought up to date; has the reason.
    """
    migrations: dict[str, Callable[[], subprocess.CompletedProcess[str]]] = {
        "MLflow's": lambda: _run_migration(project, lock, ["aeops.registry.create_database"])
    }
    if not external_prefect_api() and not _is_alive(project, PREFECT):
        migrations["Prefect's"] = lambda: _migrate_prefect(project, lock)
    with ThreadPoolExecutor(len(migrations)) as pool:  # of different databases: at the same time
        futures = {}
        for name, migration in migrations.items():
            futures[name] = pool.submit(migration)
    errors = []
    for name, future in futures.items():
        process = future.result()
        if process.returncode:
            errors.append(f"{name}: {(process.stderr or process.stdout)[-1000:]}")
    if errors:
        raise InfrastructureError("a database cannot be brought up to date. " + "\n".join(errors))


def _migrate_prefect(project: Project, lock: int) -> subprocess.CompletedProcess[str]:
    """Create or migrate Prefect's database on one CPU, to which it binds this thread, too.

    Prefect's migrations pass statements from one thread to another and wait for each, which is quicker on one CPU than on two.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return _run_migration(project, lock, ["aeops.machine.prefect_database"])


def _run_migration(project: Project, lock: int, module: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *module],
        cwd=project.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=(lock,),
        timeout=_MIGRATION_TIMEOUT,
        check=False,
    )


def _current_services(project: Project, settings: Settings) -> list[ServiceDefinition]:
    return list(define_services(project, settings, recipes_with_champion(project), skip_used_ports=False))


def _is_alive(project: Project, name: str) -> bool:
    record = read_service_record(project, name)
    return record is not None and record.process is not None


# ---------------------------------------------------------------- waiting


def wait_for_stack(project: Project, settings: Settings) -> None:
    """Wait until every service and the deployments are healthy; print a line for each as it comes.

    Raises:
        InfrastructureError: something keeps dying, or is not healthy within 300 s; has the end of its log. The rest runs on.
    """
    deadline = time.monotonic() + _HEALTHY_TIMEOUT
    reported_names: set[str] = set()
    while time.monotonic() < deadline:
        state, services = read_state(project), _current_services(project, settings)
        healthy_names = {service.name for service in services if _is_running_well(project, settings, service, state)}
        if last_setup_request(project) == settings.request_id:
            healthy_names.add(SETUP_NAME)
        for name in sorted(healthy_names - reported_names):
            print(f"{name} is healthy", file=sys.stderr, flush=True)
        reported_names |= healthy_names
        missing_names = sorted({SETUP_NAME, *names_of(services)} - healthy_names)
        if not missing_names:
            return
        failing_names = list(filter(state.is_failing, missing_names))
        if failing_names:
            raise InfrastructureError(_unhealthy_message(project, failing_names))
        time.sleep(_POLL_SECONDS)
    raise InfrastructureError(_unhealthy_message(project, missing_names))


def _is_running_well(project: Project, settings: Settings, service: ServiceDefinition, state: LeaderState) -> bool:
    if state.service_state(service.name) != "running" or not _is_alive(project, service.name):
        return False
    return service.name != WORKER_SERVICE or _is_worker_online(project, settings)


def _is_worker_online(project: Project, settings: Settings) -> bool:
    with suppress(InfrastructureError):
        worker = stack_prefect_api(project, settings).worker(WORK_POOL, worker_name())
        return worker is not None and worker["status"] == "ONLINE"
    return False


def _unhealthy_message(project: Project, names: list[str]) -> str:
    """Name the services that are not healthy, each with the end of its log."""
    lines = [f"not healthy: {', '.join(names)}; the rest runs on, and these are tried again"]
    for name in names:
        log = _log_file(project, name)
        lines.append(f"{log} ends with:")
        if log.is_file():
            log_lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            lines += [f"  {line}" for line in log_lines[-_LAST_LINES:]]
    lines.append("type `ae status` to see it, `ae down` to stop everything")
    return "\n".join(lines)


def _log_file(project: Project, name: str) -> Path:
    if name == SETUP_NAME:
        name = "setup"
    return project.logs / f"{name}.log"


def show_addresses(project: Project, settings: Settings) -> None:
    """Print the address of each service, a line each."""
    for service in _current_services(project, settings):
        if service.address:
            shown = experiments_page(service.address) if service.name == MLFLOW else service.address
            print(f"{service.name:<20} {shown}")
    if address := external_prefect_api():
        print(f"{'prefect':<20} {address} (PREFECT_API_URL)")
    else:
        print(f"{'prefect login':<20} {login_hint(project, settings)}")
    print(f"{'worker':<20} work pool {WORK_POOL}")
    for page in sorted(project.data_docs.glob("*/index.html")):
        print(f"{'data docs':<20} {page.as_uri()}")
    print("type `ae status` to see the state of the stack, `ae down` to stop it", flush=True)


def stay_in_foreground(project: Project) -> None:
    """Wait for SIGTERM, Ctrl-C or `ae down`, then stop everything."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # handled as Ctrl-C is
    with suppress(KeyboardInterrupt):
        while settings_file(project).is_file():
            if not is_lock_held(project, "stack") and not is_lock_held(project, "standby"):
                start_supervisor(project)  # both were killed at once
            time.sleep(1.0)
    take_down(project)


# ---------------------------------------------------------------- stopping


def take_down(project: Project) -> list[str]:
    """Stop everything: supervisors, worker and its runs, then the servers that those use.

    Returns:
        The names of the services that were stopped.
    """
    with file_lock(project, "up"):
        remove_settings(project)  # from here on nothing is started again
        processes = stack_processes(project)
        stop_processes(processes.get(SUPERVISOR_NAME, []))
        clients, servers = [], []
        for name, service_processes in processes.items():
            if name in (MLFLOW, PREFECT):
                servers += service_processes
            else:
                clients += service_processes
        stop_processes(clients)  # while the servers are there that they report their end to
        stop_processes(servers)
        late_processes = stack_processes(project)  # started in the meantime
        for service_processes in late_processes.values():
            stop_processes(service_processes)
        for file in services_folder(project).glob("*.json"):
            if read_service_record(project, file.stem):
                service_record_file(project, file.stem).unlink()
        state_file(project).unlink(missing_ok=True)
    return sorted(processes.keys() | late_processes.keys())
