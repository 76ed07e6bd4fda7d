"""Log files of processes in `.ae/logs`; one old file of each is kept, as `<name>.log.1`."""

from pathlib import Path

_OLD_SUFFIX = ".1"
_MAX_BYTES = 8 * 2**20


def rotate_log(log: Path) -> None:
    """Make room for a new log; the last one is kept, older ones are not."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + _OLD_SUFFIX))


def rotate_if_large(log: Path) -> None:
    """Rotate a log of more than 8 MiB that several processes append to."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _MAX_BYTES:
        rotate_log(log)
