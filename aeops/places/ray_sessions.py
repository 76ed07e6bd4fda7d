"""The folders of clusters of this machine, and the processes that a killed one has left.

A session is named by the process that started it, so that another command can tell one at work from one that was killed. Ray's
agents write over their environment, and two of them outlive a cluster that is killed: they are recognised by the files that they
hold open below the session's folder.
"""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from ae_models.atomic_files import make_folder
from aeops.machine.process_identity import find_process, start_id_of
from aeops.project import Project

LINK_FILE = "link"  # in a session's folder: the short path by which Ray knows it
_MAX_TEMPORARY_PATH = 24  # characters: a socket's path may have 107, of which Ray's own names take some 65
_END_SECONDS = 10.0  # that killed processes may take to be gone


def make_session(project: Project) -> Path:
    """Make the folder of a new session of this process; remove what killed ones have left, their processes among it."""
    sessions = project.home / "ray" / "sessions"
    make_folder(sessions)
    for folder in sessions.iterdir():
        pid, _, start_id = folder.name.partition("-")
        if find_process(int(pid), start_id) is None:
            remove_session(folder)
    session = sessions / f"{os.getpid()}-{start_id_of(os.getpid())}"
    remove_session(session)
    session.mkdir(mode=0o700)
    return session


def short_path(session: Path) -> Path:
    """Return a path of a session's folder that is short enough for sockets below it: a link in a folder of this user alone."""
    parent = tempfile.gettempdir()
    if len(parent) > _MAX_TEMPORARY_PATH:
        parent = "/tmp"
    link = Path(tempfile.mkdtemp(prefix="ae-", dir=parent)) / "s"
    (session / LINK_FILE).write_text(str(link), encoding="utf-8")
    link.symlink_to(session)
    return link


def remove_session(session: Path) -> None:
    """End the processes of a session, and remove its folder and its link."""
    owner, _, _ = session.name.partition("-")  # it holds logs open, and its end is its own matter
    with suppress(FileNotFoundError):
        link = Path((session / LINK_FILE).read_text(encoding="utf-8"))
        end_processes([session, link], spared={os.getpid(), int(owner)})
        with suppress(OSError):
            link.unlink()
            link.parent.rmdir()
    shutil.rmtree(session, ignore_errors=True)


def end_processes(folders: list[Path], spared: set[int]) -> None:
    """Kill every process, but those spared, that has a file below a folder open, or names a folder on its command line."""
    deadline = time.monotonic() + _END_SECONDS
    while (left := _processes_of(folders, spared)) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)


def _processes_of(folders: list[Path], spared: set[int]) -> list[psutil.Process]:
    prefixes = tuple(f"{folder}/" for folder in folders)
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and _belongs(process, prefixes):
                found.append(process)
    return found


def _belongs(process: psutil.Process, prefixes: tuple[str, ...]) -> bool:
    if any(prefix in f"{word}/" for word in process.cmdline() for prefix in prefixes):
        return True
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(descriptor).startswith(prefixes):
                return True
    return False
