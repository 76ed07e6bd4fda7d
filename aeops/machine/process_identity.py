"""Which process is meant: a pid alone may be handed to another process, a pid with its start never is."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

BOOT = Path("/proc/sys/kernel/random/boot_id")
SEPARATOR = "/"


@dataclass(frozen=True)
class Identity:
    """One process, for ever.

    Attributes:
        host: the machine's name.
        pid: its number there.
        mark: its start in the kernel's own clock with the boot's id, which no change of the wall clock moves.
    """

    host: str
    pid: int
    mark: str

    @property
    def text(self) -> str:
        """One word, as a tag or a label keeps it; `parse` reads it."""
        return SEPARATOR.join((self.host, str(self.pid), self.mark))

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    def is_dead(self) -> bool:
        """Whether it has ended for sure; of another machine's process nobody here can tell, so it has not."""
        return self.is_here and living(self.pid, self.mark) is None


def parse(text: str) -> Identity | None:
    """What `Identity.text` wrote; None for anything else."""
    parts = text.split(SEPARATOR)
    return Identity(parts[0], int(parts[1]), parts[2]) if len(parts) == 3 and parts[1].isdigit() else None


def this_process() -> Identity:
    return Identity(socket.gethostname(), os.getpid(), mark_of(os.getpid()))


def mark_of(pid: int) -> str:
    """The mark of a process that lives.

    Raises:
        psutil.NoSuchProcess: none has this pid.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():  # a system without /proc
        return f"{psutil.Process(pid).create_time():.2f}"
    try:
        told = stat.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    ticks = told.rpartition(")")[2].split()[19]  # field 22, starttime: proc(5); the name in brackets may hold anything
    return f"{BOOT.read_text(encoding='utf-8')[:8]}.{ticks}"


def living(pid: int, mark: str) -> psutil.Process | None:
    """The process of that pid and mark; None where it has ended. A zombie has ended: it is only waiting to be counted."""
    try:
        process = psutil.Process(pid)
        if mark_of(pid) != mark or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process
