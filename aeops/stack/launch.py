"""`python -m aeops.stack.launch` becomes a service: it takes the lock, opens the log, writes the record, then runs the command.

The process that runs the command is this one, so pid and start in the record are the service's own, and the process that
started it may be killed at any moment. The lock stays with the process across the exec, and the kernel frees it when that
ends: two supervisors that both start a service get one.

A `LaunchRequest` comes as JSON on standard input.
"""

import json
import os
import sys
import time
from pathlib import Path

from aeops.files import make_folder
from aeops.machine.lock import try_flock
from aeops.machine.process_identity import this_process
from aeops.machine.service_records import ServiceRecord, write_service_record
from aeops.project import Project, find_project
from aeops.stack.logs import rotate_log
from aeops.stack.service_manager import LaunchRequest


def main() -> None:
    project = find_project()
    request: LaunchRequest = json.load(sys.stdin)
    name, command = request["name"], request["command"]
    if not _take_service_lock(project, name):
        print(f"{name} runs already", file=sys.stderr)
        sys.exit(0)
    log = project.logs / f"{name}.log"
    rotate_log(log)
    write_service_record(
        project,
        ServiceRecord(
            name=name,
            pid=os.getpid(),
            started_at=time.time(),
            start_id=this_process().start_id,
            address=request["address"],
            health=request["health"],
            log=str(log),
            command=command,
            api_url=request["api_url"],
        ),
    )
    _redirect_output(log)
    os.execv(command[0], command)


def _take_service_lock(project: Project, name: str) -> bool:
    """Take the service's lock for this process and its successor; return False where a living process holds it."""
    make_folder(project.locks_folder)
    lock_descriptor = os.open(project.locks_folder / f"service-{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    if not try_flock(lock_descriptor):
        return False
    os.set_inheritable(lock_descriptor, True)
    return True


def _redirect_output(log: Path) -> None:
    log_descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log_descriptor, stream)
    null_descriptor = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_descriptor, 0)


if __name__ == "__main__":
    main()
