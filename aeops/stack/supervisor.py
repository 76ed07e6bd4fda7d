"""`python -m aeops.stack.supervisor`: starts the services of the stack and starts again what dies.

The same program runs twice. One holds `.ae/locks/stack.lock` and leads; the other waits for that lock, which the kernel frees
when the leader dies, and leads from then on; a leader without one who waits starts one. Services outlive a leader: the next
one finds them by their notes. So any one process may be killed at any moment. Both end when `.ae/stack/settings.json` is gone.

Light on purpose (no Prefect, no MLflow): what needs those is done by short-lived processes of their own.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from typing import IO

from aeops.files import write_json
from aeops.machine.stack_settings import Settings, deployed_for, read_settings
from aeops.project import Project, find_project
from aeops.stack.jobs import Job
from aeops.stack.logs import turn_if_large
from aeops.stack.plan import PREFECT, SCORE, checkout_first, crowned, elsewhere, prefect_access, services
from aeops.stack.service_manager import Keeper, start_process
from aeops.stack.service_records import SUPERVISOR
from aeops.stack.state import state_file

TICK = 0.5  # seconds between two looks
TEND_EVERY = 20.0  # seconds between two rounds of aeops/stack/maintenance.py
STANDBY_WITHIN = 5.0  # seconds a new standby may take to take its lock


def main() -> None:
    project = find_project()
    with lock_file(project, "standby") as waiting:
        if not take(waiting, wait=False):
            return  # somebody waits already
        leading = lock_file(project, "stack")
        take(leading, wait=True)
    say("leads")
    Leader(project).lead()
    say("ends: the stack is not asked for any more")


def lock_file(project: Project, name: str) -> IO[str]:
    project.locks.mkdir(parents=True, exist_ok=True)
    return (project.locks / f"{name}.lock").open("a+", encoding="utf-8")


def take(lock: IO[str], wait: bool) -> bool:
    """Takes a lock and writes into it who has it; False where somebody else has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    lock.seek(0)
    lock.truncate()
    json.dump({"pid": os.getpid(), "since": time.time()}, lock)
    lock.flush()
    return True


def is_held(project: Project, name: str) -> bool:
    with lock_file(project, name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start_supervisor(project: Project) -> subprocess.Popen[bytes]:
    """Another of this program; it leads if nobody does, else it waits, and ends at once if somebody waits already."""
    log = project.logs / "supervisor.log"
    turn_if_large(log)
    with log.open("ab") as file:
        return start_process(project, SUPERVISOR, [sys.executable, "-m", "aeops.stack.supervisor"], {}, output=file)


def say(what: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()} {what}", flush=True)


class Leader:
    """The one who leads: keeps the services, has the deployments made, has the runs looked after.

    Attributes:
        keepers: one for each service, by name.
        setup: makes pool, deployments and automations, once for each `ae up`.
        tend: the rounds of aeops/stack/maintenance.py.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.keepers: dict[str, Keeper] = {}
        self.setup = Job("setup", "flows.deploying", project, done_for=deployed_for(project))
        self.tend = Job("tend", "aeops.stack.maintenance", project, every=TEND_EVERY)
        self.standby: subprocess.Popen[bytes] | None = None
        self.standby_asked = 0.0
        self.told = ""
        self.ledgers: tuple[tuple[str, int], ...] = ()
        self.recipes: list[str] = []

    def lead(self) -> None:
        """Until the stack is not asked for any more."""
        while settings := read_settings(self.project):
            self.keep_standby()
            self.keep_services(settings)
            self.do_jobs(settings)
            self.tell()
            time.sleep(TICK)

    def keep_standby(self) -> None:
        if self.standby is not None:
            self.standby.poll()  # counted, else a dead one stays a zombie
        if time.monotonic() - self.standby_asked > STANDBY_WITHIN and not is_held(self.project, "standby"):
            self.standby = start_supervisor(self.project)
            self.standby_asked = time.monotonic()
            say(f"starts another one to wait, {self.standby.pid}")

    def keep_services(self, settings: Settings) -> None:
        made = self.setup.done_for == settings.asked
        for service in services(self.project, settings, self.scored(), avoid_taken=True):
            keeper = self.keepers.setdefault(service.name, Keeper(self.project, say))
            if service.waits and not made and keeper.process is None:
                keeper.state = "waits for the deployments"  # (one that lives goes on; it is adopted afterwards)
                continue
            keeper.keep(service)

    def scored(self) -> list[str]:
        """Recipes with a champion, and those whose champion was retired while their service ran: it says 503."""
        found = tuple((str(file), file.stat().st_mtime_ns) for file in sorted((self.project.home / "ledger").glob("*.jsonl")))
        if found != self.ledgers:
            self.ledgers, self.recipes = found, crowned(self.project)
        running = [name.removeprefix(SCORE) for name, keeper in self.keepers.items() if name.startswith(SCORE) and keeper.process]
        return sorted({*self.recipes, *running})

    def do_jobs(self, settings: Settings) -> None:
        """The setup as soon as Prefect's server is a process: it imports Prefect while that starts, and waits for it."""
        prefect = self.keepers.get(PREFECT)
        if not (elsewhere() or (prefect and prefect.process)):
            return
        environment = prefect_access(settings) | checkout_first(self.project)
        self.setup.do_once(settings.asked, environment)
        if self.setup.done_for == settings.asked:
            self.tend.do_each_time(environment)

    def tell(self) -> None:
        """Writes `.ae/stack/state.json` where anything has changed."""
        facts = {
            "supervisor": os.getpid(),
            "services": {name: keeper.facts() for name, keeper in self.keepers.items()},
            "jobs": {job.name: job.facts() for job in (self.setup, self.tend)},
        }
        if (now := json.dumps(facts)) != self.told:
            write_json(state_file(self.project), facts)
            self.told = now


if __name__ == "__main__":
    main()
