"""Untrusted bytes and their decoders: whatever a decoder raises becomes one error with a reason. Standard library only."""

import errno
import re
import traceback
from contextlib import AbstractContextManager
from pathlib import Path

from aeops.errors import AeError, DataError

OBJECT_ADDRESS = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")
MAX_REASON_LENGTH = 200  # characters of a decoder's message; some hold the file's own bytes
# The system's answers to a decoder that seeks where a damaged file leads it, such as before its beginning.
_ERRORS_OF_BYTES = (errno.EINVAL, errno.EOVERFLOW)
# Where this package itself raises them. A decoder in C raises in our frame, too: constriction an AssertionError.
_MISTAKES = (AttributeError, NameError)


class DecodeError(ValueError):
    """Bytes that cannot be decoded; the message is a reason in one line, without a name of the file."""


class UnreadableFileError(DataError):
    """A file that the system does not let us read now: nothing is known of its content."""


def decode_errors() -> AbstractContextManager[None]:
    """Turn every error that a decoder raises in the block into DecodeError; errors of this package pass as they are.

    A decoder may raise any class on damaged bytes, such as OverflowError, TokenError, SyntaxError, RecursionError, MemoryError,
    struct.error or zipfile.BadZipFile, and a library's next version another one. So no list of classes is complete. An OSError
    with a number of the system's is no word about the bytes, but about the disk, the permissions or the limits of the process;
    and a mistake in this package's own code, such as an AttributeError, is none either: both pass as they are.

    Raises:
        DecodeError: the block raised.
        OSError: a file could not be read.
    """
    return _DECODE_ERRORS


class _DecodeErrors:
    """What `decode_errors` returns: no generator, as a block is entered for each of many thousands of small files."""

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise DecodeError in place of what a decoder raised."""
        if error is not None and isinstance(error, Exception) and not _passes(error):
            raise DecodeError(decode_reason(error)) from error


_DECODE_ERRORS = _DecodeErrors()  # it holds nothing of a block


def _passes(error: Exception) -> bool:
    """Return whether an error is none of a decoder about the bytes."""
    if isinstance(error, AeError | DecodeError):
        return True
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _ERRORS_OF_BYTES
    return _is_own_mistake(error)


def _is_own_mistake(error: Exception) -> bool:
    """Return whether this package's code raised the error, and not a decoder that it calls."""
    if not isinstance(error, _MISTAKES):
        return False
    [*_, (frame, _)] = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == __name__.partition(".")[0]


def decode_reason(error: Exception) -> str:
    """Return the class and the first line of a decoder's message, printable, without objects that it names by their address.

    >>> decode_reason(ValueError("cut"))
    'ValueError: cut'
    >>> decode_reason(ValueError("cannot identify image file <_io.BytesIO object at 0x7f23>"))
    'ValueError: cannot identify image file'
    """
    text = OBJECT_ADDRESS.sub("", str(error))  # it differs from run to run
    message = "".join(character if character.isprintable() else " " for character in text.strip())
    return f"{type(error).__name__}: {' '.join(message.split())}"[:MAX_REASON_LENGTH].rstrip(": ")


def is_caused_by_machine(error: BaseException) -> bool:
    """Return whether a refusal came from an unreadable file or lack of memory: the same content may be good another time."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnreadableFileError | MemoryError):
            return True
        cause = cause.__cause__
    return False


def read_file_content(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        max_bytes: a larger file is refused before it is read; None reads any.

    Raises:
        UnreadableFileError: it cannot be read.
        DataError: it is larger.
    """
    try:
        size = path.stat().st_size
        if max_bytes is None or size <= max_bytes:
            return path.read_bytes()
    except OSError as error:
        raise unreadable_error(path, error) from error
    raise DataError(f"{path} has {size:,} bytes, expected at most {max_bytes:,}: replace or remove it")


def unreadable_error(path: Path, error: OSError) -> UnreadableFileError:
    """Return the error of a file that the system does not let us read."""
    return UnreadableFileError(f"{path} cannot be read ({error.strerror or error}): make it readable, or replace or remove it")
