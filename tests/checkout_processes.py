"""The processes that work in a checkout, found by their current folder or their state folder, whoever their parent is."""

import psutil
from checkout import Checkout, wait_for

from aeops.machine.servers import TEMPORARY_SERVER


def processes_of(checkout: Checkout) -> list[psutil.Process]:
    """Every living process of a checkout."""
    found = []
    for process in psutil.process_iter():
        try:
            is_here = process.cwd().startswith(str(checkout.root)) or process.environ().get("AE_HOME") == str(checkout.home)
            if is_here and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def is_server(process: psutil.Process) -> bool:
    """Return True for the Prefect server that a run starts for itself."""
    try:
        return TEMPORARY_SERVER.items() <= process.environ().items()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def assert_no_process_left(checkout: Checkout, seconds: float = 10) -> None:
    """Fail where one still lives after some seconds, and end it."""
    try:
        wait_for(lambda: not processes_of(checkout), seconds)
    except AssertionError:
        left = {process.pid: " ".join(process.cmdline()) for process in processes_of(checkout)}
        for process in processes_of(checkout):
            process.kill()
        raise AssertionError(f"processes are left: {left}") from None
