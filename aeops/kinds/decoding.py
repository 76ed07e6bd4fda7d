"""Untrusted bytes and their decoders: whatever a decoder raises becomes one error with a reason. Standard library only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aeops.errors import AeError, DataError

MAX_REASON_LENGTH = 200  # characters of a decoder's message; some hold the file's own bytes


class DecodeError(ValueError):
    """Bytes that cannot be decoded; the message is a reason in one line, without a name of the file."""


@contextmanager
def decode_errors() -> Iterator[None]:
    """Turn every error that a decoder raises in the block into DecodeError; errors of this package pass as they are.

    A decoder may raise any class on damaged bytes, such as OverflowError, TokenError, SyntaxError, RecursionError, MemoryError,
    struct.error or zipfile.BadZipFile, and a library's next version another one. So no list of classes is complete.

    Raises:
        DecodeError: the block raised.
    """
    try:
        yield
    except (AeError, DecodeError):
        raise
    except Exception as error:
        raise DecodeError(decode_reason(error)) from error


def decode_reason(error: Exception) -> str:
    """Return the class and the first line of a decoder's message, printable.

    >>> decode_reason(ValueError("cut"))
    'ValueError: cut'
    """
    message = "".join(character if character.isprintable() else " " for character in str(error).strip())
    return f"{type(error).__name__}: {' '.join(message.split())}"[:MAX_REASON_LENGTH].rstrip(": ")


def read_content(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        max_bytes: a larger file is refused before it is read; None reads any.

    Raises:
        DataError: it cannot be read, or is larger.
    """
    try:
        size = path.stat().st_size
        if max_bytes is None or size <= max_bytes:
            return path.read_bytes()
    except OSError as error:
        raise unreadable_error(path, error) from error
    raise DataError(f"{path} has {size:,} bytes, expected at most {max_bytes:,}: replace or remove it")


def unreadable_error(path: Path, error: OSError) -> DataError:
    """Return the error of a file that the system does not let us read."""
    return DataError(f"{path} cannot be read ({error.strerror or error}): make it readable, or replace or remove it")
