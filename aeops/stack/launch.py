"""`python -m aeops.stack.launch` becomes a service: its lock, its log, its note, then its command in its place.

The process that runs the command is this one, so pid and start in the note are the service's own, and the note is written by
whom it is about: whoever started it may be killed at any moment. The lock stays with the process across the exec, and the
kernel frees it when that ends: two supervisors that both start a service get one.

The service comes as JSON on standard input: name, command, address, health, api_url.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

from aeops.machine.process_identity import this_process
from aeops.project import Project, find_project
from aeops.stack.logs import turn
from aeops.stack.service_records import Note, write_note


def main() -> None:
    project, asked = find_project(), json.load(sys.stdin)
    name, command = asked["name"], asked["command"]
    if not hold(project, name):
        print(f"{name} runs already", file=sys.stderr)
        sys.exit(0)
    log = project.logs / f"{name}.log"
    turn(log)
    write_note(
        project,
        Note(
            name=name,
            pid=os.getpid(),
            started=time.time(),
            mark=this_process().mark,
            address=asked["address"],
            health=asked["health"],
            log=str(log),
            command=command,
            api_url=asked["api_url"],
        ),
    )
    send_output_to(log)
    os.execv(command[0], command)


def hold(project: Project, name: str) -> bool:
    """Takes the service's lock for this process and what it becomes; False where a living one has it."""
    project.locks.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(project.locks / f"service-{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.set_inheritable(descriptor, True)
    return True


def send_output_to(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)


if __name__ == "__main__":
    main()
