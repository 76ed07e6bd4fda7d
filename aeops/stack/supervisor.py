"""`python -m aeops.stack.supervisor` starts the services of the stack, and starts those again that die.

The same program runs twice. One holds `.ae/locks/stack.lock` and leads; the other waits for that lock, which the kernel frees
when the leader dies, and leads from then on; a leader without such a standby starts one. Services outlive a leader: the next
one finds them by their records. So any one process may be killed at any moment. Both end when `.ae/stack/settings.json` is gone.

It imports neither Prefect nor MLflow: work that needs those is done by short-lived processes of their own.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from typing import IO

from aeops.errors import AeError
from aeops.files import make_folder
from aeops.machine.lock import try_flock
from aeops.machine.prefect_access import external_prefect_api, prefect_access
from aeops.machine.stack_settings import Settings, last_setup_request, read_settings, settings_file
from aeops.project import Project, find_project
from aeops.stack.jobs import BackgroundJob
from aeops.stack.leader_state import LeaderState, write_state
from aeops.stack.logs import rotate_if_large
from aeops.stack.service_definitions import (
    PREFECT,
    SCORE,
    ServiceDefinition,
    define_services,
    python_path,
    recipes_with_champion,
)
from aeops.stack.service_manager import ServiceManager, start_process
from aeops.stack.service_processes import SUPERVISOR_NAME

_UPDATE_INTERVAL = 0.5  # seconds between two updates of the services
_MAINTENANCE_INTERVAL = 20.0  # seconds
_RETENTION_INTERVAL = 3600.0  # seconds
_STANDBY_TIMEOUT = 5.0  # seconds a new standby may take to take its lock


def main() -> None:
    project = find_project()
    with _open_lock(project, "standby") as standby_lock:
        if not try_flock(standby_lock):
            return  # another standby waits already
        _write_holder(standby_lock)
        leader_lock = _open_lock(project, "stack")
        fcntl.flock(leader_lock, fcntl.LOCK_EX)
        _write_holder(leader_lock)
    _print_line("leads")
    StackLeader(project).run()
    _print_line("ends: the stack is stopped")


def is_lock_held(project: Project, name: str) -> bool:
    """Return True where a leader (`stack`) or a standby (`standby`) lives."""
    with _open_lock(project, name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start_supervisor(project: Project) -> "subprocess.Popen[bytes]":
    """Start another supervisor: it leads if none does, else it waits, and ends at once if another one waits already."""
    log = project.logs / "supervisor.log"
    rotate_if_large(log)
    with log.open("ab") as output:
        command = [sys.executable, "-m", "aeops.stack.supervisor"]
        return start_process(project, SUPERVISOR_NAME, command, {}, output=output)


def _open_lock(project: Project, name: str) -> IO[str]:
    make_folder(project.locks_folder)
    return (project.locks_folder / f"{name}.lock").open("a+", encoding="utf-8")


def _write_holder(lock: IO[str]) -> None:
    lock.seek(0)
    lock.truncate()
    json.dump({"pid": os.getpid(), "since": time.time()}, lock)
    lock.flush()


def _print_line(message: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()} {message}", flush=True)


class StackLeader:
    """The leading supervisor: it keeps services and a standby running and runs the jobs.

    Attributes:
        managers: one for each service, by name.
        setup: makes pool, deployments and automations, once for each `ae up`.
        maintenance: see aeops/stack/maintenance.py.
        retention: see aeops/stack/retention.py.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.managers: dict[str, ServiceManager] = {}
        self.setup = BackgroundJob("setup", "flows.deployment", project, finished_request=last_setup_request(project))
        self.maintenance = BackgroundJob("tend", "aeops.stack.maintenance", project, interval=_MAINTENANCE_INTERVAL)
        self.retention = BackgroundJob("retention", "aeops.stack.retention", project, interval=_RETENTION_INTERVAL)
        self._standby: subprocess.Popen[bytes] | None = None
        self._standby_start = 0.0
        self._written_state = LeaderState()
        self._definitions: list[ServiceDefinition] = []
        self._problem = ""
        self._is_set_up = False
        self._ledger_versions: list[tuple[str, int]] = []
        self._champion_recipes: list[str] = []

    def run(self) -> None:
        """Work until the stack is stopped."""
        while settings_file(self.project).is_file():
            self._update_standby()
            self.update()
            time.sleep(_UPDATE_INTERVAL)

    def update(self) -> None:
        """Look at services and jobs once, and do what they need.

        Where the settings or the secret cannot be read, the services go on as they were defined last; the log says why, once.
        """
        problem = ""
        try:
            settings = read_settings(self.project)
            if settings is None:
                return  # the stack was stopped just now
            self._is_set_up = self.setup.finished_request == settings.request_id
            services = define_services(self.project, settings, self._served_recipes(), skip_used_ports=True)
            self._definitions = list(services)
            self._update_jobs(settings)
        except (AeError, OSError) as error:
            problem = f"{error}; the services go on as they are"
        if problem and problem != self._problem:
            _print_line(problem)
        self._problem = problem
        self._update_services()
        self._write_state()

    def _update_standby(self) -> None:
        if self._standby is not None:
            self._standby.poll()  # reads its exit code, else a dead one stays a zombie
        if time.monotonic() - self._standby_start > _STANDBY_TIMEOUT and not is_lock_held(self.project, "standby"):
            self._standby = start_supervisor(self.project)
            self._standby_start = time.monotonic()
            _print_line(f"starts a standby, process {self._standby.pid}")

    def _update_services(self) -> None:
        for service in self._definitions:
            if service.name not in self.managers:
                self.managers[service.name] = ServiceManager(self.project, _print_line)
            manager = self.managers[service.name]
            if service.needs_deployments and not self._is_set_up and manager.process is None:
                manager.state = "waits for the deployments"  # (one that lives goes on; it is adopted afterwards)
            else:
                manager.update(service)

    def _served_recipes(self) -> list[str]:
        """Return the recipes with a champion, and those whose champion was retired while their service ran: it responds 503."""
        ledger_versions = []
        for file in sorted((self.project.home / "ledger").glob("*.jsonl")):
            ledger_versions.append((str(file), file.stat().st_mtime_ns))
        if ledger_versions != self._ledger_versions:
            self._ledger_versions, self._champion_recipes = ledger_versions, recipes_with_champion(self.project)
        recipes = set(self._champion_recipes)
        for name, manager in self.managers.items():
            if name.startswith(SCORE) and manager.process:
                recipes.add(name.removeprefix(SCORE))
        return sorted(recipes)

    def _update_jobs(self, settings: Settings) -> None:
        """Start the setup as soon as Prefect's server is a process: it imports Prefect while that starts, and waits for it."""
        prefect = self.managers.get(PREFECT)
        if not (external_prefect_api() or (prefect and prefect.process)):
            return
        environment = prefect_access(self.project, settings).environment() | python_path(self.project)
        self.setup.run_once(settings.request_id, environment)
        if self.setup.finished_request == settings.request_id:
            self.maintenance.run_regularly(environment)
            self.retention.run_regularly(environment)

    def _write_state(self) -> None:
        services = {name: manager.facts() for name, manager in self.managers.items()}
        jobs = {job.name: job.state() for job in (self.setup, self.maintenance, self.retention)}
        state = LeaderState(services, jobs)
        if state != self._written_state:
            write_state(self.project, state)
            self._written_state = state


if __name__ == "__main__":
    main()
