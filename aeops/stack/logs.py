"""Log files of processes in `.ae/logs`, one old file of each kept as `<name>.log.1`; lost connections in one line of a log."""

import logging
import os
import shutil
from pathlib import Path

from aeops.files import atomic_path, make_folder

_OLD_SUFFIX = ".1"
MAX_BYTES = 8 * 2**20


def rotate_log(log: Path) -> None:
    """Make room for a new log; the last one is kept, older ones are not."""
    make_folder(log.parent)
    if log.exists():
        log.replace(log.with_name(log.name + _OLD_SUFFIX))


def rotate_if_large(log: Path) -> bool:
    """Rotate a log of more than 8 MiB that processes hold open and append to; return if it was.

    Its content is copied and the file emptied, so that they go on writing to it. A line written between the two is lost.
    """
    make_folder(log.parent)
    if not log.exists() or log.stat().st_size <= MAX_BYTES:
        return False
    with atomic_path(log.with_name(log.name + _OLD_SUFFIX)) as tmp_path:
        shutil.copyfile(log, tmp_path)
    os.truncate(log, 0)
    return True


class ConnectionLossFilter(logging.Filter):
    """Makes one line of what is logged about a lost connection: whoever logs it tries again, and a traceback says no more."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (reason := connection_loss(record.exc_info[1])):
            record.msg, record.args = f"{record.getMessage()} ({reason})", ()
            record.exc_info = record.exc_text = None
        return True


def connection_loss(error: BaseException | None) -> str | None:
    """Return the reason of an error that a lost connection has caused; None of any other error."""
    while error is not None:
        if isinstance(error, (ConnectionError, TimeoutError, EOFError)):
            return str(error) or type(error).__name__
        error = error.__cause__ or error.__context__
    return None


def shorten_connection_losses() -> None:
    """Add the filter to every handler that prints what this process logs."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(ConnectionLossFilter())
