"""What a process sets before it imports Ray: telemetry off, a token, its folder. Ray reads its variables while it is imported.

    <home>/ray/token              of a cluster that exists already (run.on: ray://HOST:PORT), put there by a person, mode 0600
    <home>/ray/sessions/<id>/     of a cluster of this machine: token, sockets, logs, objects; it ends with the cluster

Nothing is read or written in the user's home folder, where Ray itself would put a token that everybody may read.
"""

import importlib.util
import os
import secrets
import stat
from pathlib import Path

from ae_models.atomic_files import make_folder
from aeops.errors import InfrastructureError, UsageError
from aeops.files import atomic_write
from aeops.project import Project
from aeops.recipe.run_place import RunPlace

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # Ray's own, which a person may set
OBJECT_STORE_BYTES = 128 * 2**20  # commands are handed over, and never samples; Ray's least is 75 MiB
INSTALL_COMMAND = "pip install 'ae-pipeline[ray]'"

_FIXED_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a command without a GPU of its own sees what its machine has
}
_ONE_MACHINE_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: every socket on the loopback device, where others are on all
    "RAY_worker_niceness": "0",  # or commands would wait for everything else that the machine does
    "RAY_memory_monitor_refresh_ms": "0",  # or it would kill commands for the memory that others use
}


def require_ray() -> None:
    """Raise UsageError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"run.on or --on names a Ray cluster, and Ray is not installed here: type {INSTALL_COMMAND}")


def make_token(file: Path) -> None:
    """Write a new token, which only this user may read."""
    make_folder(file.parent)
    atomic_write(file, secrets.token_hex(32), 0o600)


def cluster_token(project: Project, place: RunPlace) -> Path | None:
    """Return the file with the token of a cluster that exists already; None where Ray's own variables name it.

    Raises:
        UsageError: there is no token.
        InfrastructureError: others may read the file.
    """
    if any(os.environ.get(name) for name in TOKEN_VARIABLES):
        return None
    file = project.home / "ray" / "token"
    if not file.is_file() or not file.read_text(encoding="utf-8").strip():
        raise UsageError(
            f"{place.text}: expected the cluster's token in {file}, got none: put it there with mode 0600, or set "
            "RAY_AUTH_TOKEN_PATH; without a token whoever reaches the cluster could run code on it"
        )
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise InfrastructureError(f"{file} holds the cluster's token: expected mode 0600, got {mode:04o}: type chmod 600 {file}")
    return file


def ray_environment(token: Path | None, one_machine: bool) -> dict[str, str]:
    """Return the variables of a process that imports Ray.

    Args:
        token: the file with the cluster's token; None where the variables of this process name it already.
        one_machine: whether the cluster is of this machine alone.
    """
    settings = dict(_FIXED_SETTINGS)
    if one_machine:
        settings |= _ONE_MACHINE_SETTINGS
    if token is not None:
        settings["RAY_AUTH_TOKEN_PATH"] = str(token)
    return settings
