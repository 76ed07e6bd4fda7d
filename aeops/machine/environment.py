"""The environment of a command: state under AE_HOME, telemetry off, quiet logs, room on the disk. Set before libraries load."""

import os
import shutil

from ae_models.atomic_files import make_folder
from aeops.errors import InfrastructureError
from aeops.machine.access import require_writable_state
from aeops.machine.library_settings import configure_libraries
from aeops.machine.sqlite import sqlite_uri
from aeops.project import Project

DISK_SPACE_NEEDED = 512 * 2**20  # bytes: a dataset, its copies in DVC's cache and remote, models and databases


def require_disk_space(project: Project) -> None:
    """Make the state folder and refuse to start a run that its disk cannot hold.

    Raises:
        InfrastructureError: the folder cannot be written, or too little space is left on its disk.
    """
    require_writable_state(project)
    make_folder(project.home)
    free_bytes = shutil.disk_usage(project.home).free
    if free_bytes < DISK_SPACE_NEEDED:
        raise InfrastructureError(
            f"expected at least {DISK_SPACE_NEEDED / 2**20:.0f} MiB free on the disk of the state folder {project.home}, got "
            f"{free_bytes / 2**20:.0f} MiB: free some, or set AE_HOME to a folder on a larger disk; nothing was started"
        )


def prepare_environment(project: Project) -> None:
    """Set the variables that libraries read when they are imported; those that the user has set already stay."""
    configure_libraries()
    defaults = {
        "AE_HOME": str(project.home),
        "PREFECT_HOME": str(project.prefect),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # of a flow started by hand; 20 s fail on a busy machine
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal gets our messages; the run's page keeps the log
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "?" in str(project.prefect) and os.environ["PREFECT_HOME"] == str(project.prefect):
        # Prefect puts the path into an address as it is, where `?` begins options.
        database = sqlite_uri(project.prefect / "prefect.db", "aiosqlite")
        os.environ.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", database)
