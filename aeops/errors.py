"""Errors with a message for a person, by the kind that decides the exit code.

AeError
├── UsageError           2   a wrong command, or a recipe that cannot be
├── DataError            3   the data is not what the recipe says
├── GateError            4   the model was refused
├── InfrastructureError  5   disk, lock, network, server, a process that died
│   └── TransientError   5   of these, what may pass by itself: a step is tried again
└── InternalError        1   a fault of this package
"""

import errno
import grp
import os
import pwd
import stat
import sys
from pathlib import Path
from typing import ClassVar

from ae_models.errors import AeModelsError, BundleError, DivergenceError, SampleError, SpecError, WorkerError


class AeError(Exception):
    """Base of all errors of this package: a flow catches this, a caller one of its kinds."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(AeError):
    """A command or a recipe that cannot be carried out."""

    kind = "usage"
    exit_code = 2


class DataError(AeError):
    """Data that is not as its recipe says; none of it was accepted."""

    kind = "data"
    exit_code = 3


class GateError(AeError):
    """A model that the gate has refused; the reasons are in verdict.json."""

    kind = "gate"
    exit_code = 4


class InfrastructureError(AeError):
    """A failure of the machine, a service or another process; the same command may work once that is mended."""

    kind = "infrastructure"
    exit_code = 5


class TransientError(InfrastructureError):
    """A failure that may pass by itself: a killed process, a server or a network that does not answer."""


class InternalError(AeError):
    """A process of this package that ended with an error which it does not explain."""

    kind = "internal"
    exit_code = 1


ERRORS_BY_KIND: dict[str, type[AeError]] = {
    error.kind: error for error in (AeError, UsageError, DataError, GateError, InfrastructureError, InternalError)
}


def as_ae_error(error: BaseException) -> AeError | None:
    """Return the AeError that explains `error` to a person; None where it is a bug in this package.

    Args:
        error: any exception: an AeError itself, an error of ae_models, or an OSError of a full disk or of another user's file.
    """
    if isinstance(error, AeError):
        return error
    if isinstance(error, SpecError | DivergenceError):
        return UsageError(str(error))
    if isinstance(error, BundleError | SampleError):
        return DataError(str(error))
    if isinstance(error, WorkerError):
        return TransientError(str(error))
    if isinstance(error, AeModelsError):
        return InfrastructureError(str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        path = error.filename or "the state folder"
        return InfrastructureError(
            f"no space left on the disk that holds {path}: free some, "
            "or set AE_HOME to a folder on a larger disk, then run the same command again"
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        if not isinstance(error.filename, str):
            return None
        path = Path(error.filename).absolute()
        return InfrastructureError(
            f"you may not use {path} ({error.strerror}; {describe_owner(path)}): ask its owner for access, or set AE_HOME to a "
            "state folder of your own, then type the same command again"
        )
    return None


def describe_owner(path: Path) -> str:
    """Describe the owner, group and mode of a path, or of the nearest folder above that can be seen."""
    while not os.path.lexists(path):  # Path.exists raises in a folder that may not be entered
        path = path.parent
    status = path.lstat()
    try:
        owner, group = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name
    except KeyError:  # in a container, a user or a group may have no name
        owner, group = str(status.st_uid), str(status.st_gid)
    return f"{path} belongs to {owner}:{group}, {stat.filemode(status.st_mode)}"


def print_error(error: AeError) -> int:
    """Print the message of a command's error to stderr and return the exit code."""
    print(f"ae: {error.kind} error: {error}", file=sys.stderr)
    return error.exit_code
