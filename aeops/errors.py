"""The errors people meet, by the kind that decides the exit code.

AeError
├── UsageError           2   a wrong command, or a recipe that cannot be
├── DataError            3   the data is not what the recipe says
├── GateError            4   the model was refused
└── InfrastructureError  5   disk, lock, network, server, a process that died
"""

import errno
import sys
from typing import ClassVar

from ae_models.errors import AeModelsError, BundleError, SpecError


class AeError(Exception):
    """Root: a flow catches this, a caller the leaf. The message is for a person."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(AeError):
    """What was typed or written cannot be done."""

    kind = "usage"
    exit_code = 2


class DataError(AeError):
    """The data does not keep the recipe's promises; nothing of it was accepted."""

    kind = "data"
    exit_code = 3


class GateError(AeError):
    """The model was refused; the reasons are in verdict.json."""

    kind = "gate"
    exit_code = 4


class InfrastructureError(AeError):
    """The machine, a service or another process is in the way; the same command may work later."""

    kind = "infrastructure"
    exit_code = 5


KINDS: dict[str, type[AeError]] = {
    error.kind: error for error in (AeError, UsageError, DataError, GateError, InfrastructureError)
}


def as_ae_error(error: BaseException) -> AeError | None:
    """The AeError that tells a person what `error` means, or None where it is a fault of ours."""
    if isinstance(error, AeError):
        return error
    if isinstance(error, SpecError):
        return UsageError(str(error))
    if isinstance(error, BundleError):
        return DataError(str(error))
    if isinstance(error, AeModelsError):
        return InfrastructureError(str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or "the state folder"
        return InfrastructureError(
            f"no space left on the disk that holds {place}: free some, "
            "or set AE_HOME to a folder on a larger disk, then run the same command again"
        )
    return None


def tell(error: AeError) -> int:
    """Prints the message of a command's error; returns the exit code."""
    print(f"ae: {error.kind} error: {error}", file=sys.stderr)
    return error.exit_code
