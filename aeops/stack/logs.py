"""What processes print: files in `.ae/logs`, of which one old one each is kept, as `<name>.log.1`."""

from pathlib import Path

KEPT = ".1"
LARGE = 8 * 2**20  # bytes


def turn(log: Path) -> None:
    """Makes room for a new log; the one before is kept, older ones are not."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + KEPT))


def turn_if_large(log: Path) -> None:
    """The same for a log that several processes go on with."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LARGE:
        turn(log)
