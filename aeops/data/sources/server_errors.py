"""One error for what the clients of stores, web servers and databases raise: without an address, a password or a key."""

from collections.abc import Iterator
from contextlib import contextmanager

from aeops.errors import DataError, TransientError, UsageError

EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}


@contextmanager
def server_errors(scheme: str) -> Iterator[None]:
    """Turn what a client raises in the block into one error without an address, a password or a key.

    Args:
        scheme: of the address, for messages.

    Raises:
        DataError: nothing lies there.
        UsageError: a library is missing.
        TransientError: the server cannot be reached, or refuses.
    """
    try:
        yield
    except (DataError, UsageError, TransientError):
        raise
    except FileNotFoundError as error:
        if _is_lost_connection(error):
            raise _unreachable(scheme, error) from None
        raise DataError(f"nothing lies at this {scheme}:// address: correct data.source.path") from error
    except ImportError as error:
        package = EXTRAS.get(scheme, getattr(error, "name", None) or "the driver")
        raise UsageError(f"{scheme}:// needs the package {package}: type pip install {_requirement(package)}") from error
    except Exception as error:  # noqa: BLE001 - each client raises classes of its own
        raise _unreachable(scheme, error) from None


def _requirement(package: str) -> str:
    """Return what to install: a file system of fsspec's fits the release of the same number alone, and would replace it."""
    from importlib.metadata import version

    return f"{package}=={version('fsspec')}" if package in EXTRAS.values() else package


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether a store calls a file missing because its server cannot be reached, as the web's does."""
    cause: BaseException | None = error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _unreachable(scheme: str, error: Exception) -> TransientError:
    return TransientError(
        f"the {scheme}:// address could not be read ({type(error).__name__}): is the server up, and are the credentials in the "
        "environment right?"
    )
