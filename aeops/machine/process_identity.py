"""Identities of processes: a pid alone may be given to another process, a pid with its start never is."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
SEPARATOR = "/"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, unique for all time.

    Attributes:
        host: the machine's name.
        pid: its number there.
        start_id: its start in the kernel's own clock with the boot's id, which no change of the wall clock moves.
    """

    host: str
    pid: int
    start_id: str

    @property
    def text(self) -> str:
        """Identity as a tag or a label stores it; `parse_identity` reads it."""
        return SEPARATOR.join((self.host, str(self.pid), self.start_id))

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    def is_dead(self) -> bool:
        """Return True where the process has ended for sure; a process of another machine cannot be checked from here."""
        return self.is_here and find_process(self.pid, self.start_id) is None


def parse_identity(text: str) -> ProcessIdentity | None:
    """Read `ProcessIdentity.text`; return None for anything else."""
    parts = text.split(SEPARATOR)
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return ProcessIdentity(parts[0], int(parts[1]), parts[2])


def this_process() -> ProcessIdentity:
    return ProcessIdentity(socket.gethostname(), os.getpid(), start_id_of(os.getpid()))


def start_id_of(pid: int) -> str:
    """Return the start id of a living process.

    Raises:
        psutil.NoSuchProcess: no process has this pid.
    """
    if not Path("/proc/self").exists():  # a system without /proc
        return f"{psutil.Process(pid).create_time():.2f}"
    try:
        content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    ticks = content.rpartition(")")[2].split()[19]  # field 22, starttime: proc(5); the name in brackets may hold anything
    return f"{_BOOT_ID_FILE.read_text(encoding='utf-8')[:8]}.{ticks}"


def find_process(pid: int, start_id: str) -> psutil.Process | None:
    """Return the living process of that pid and start; None where it has ended.

    A zombie has ended: it only waits for its parent to read its exit code.
    """
    try:
        process = psutil.Process(pid)
        if start_id_of(pid) != start_id or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process
