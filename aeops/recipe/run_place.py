"""Where stages run, as `run.on` of ae.yaml and the option `--on` name it: here, on a Ray cluster of this machine, on another."""

import re
from dataclasses import dataclass

from aeops.errors import UsageError

HERE, LOCAL_CLUSTER = "here", "ray:local"
EXPECTED_PLACE = "here, ray:local or ray://HOST:PORT"
_CLUSTER = re.compile(r"ray://(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+):(?P<port>\d{1,5})")
_MAX_PORT = 65_535


@dataclass(frozen=True)
class RunPlace:
    """A place for stages.

    Attributes:
        text: as it is typed.
        host, port: of the head of a cluster that exists already; None for other places.
    """

    text: str
    host: str | None = None
    port: int | None = None

    @property
    def is_here(self) -> bool:
        """Whether stages are processes of this machine, started by the command itself."""
        return self.text == HERE


def parse_place(text: str, setting: str) -> RunPlace:
    """Return the place that a setting names.

    >>> parse_place("ray://10.0.0.5:6379", "--on").port
    6379

    Args:
        text: the value.
        setting: names it in the message, such as `--on`.

    Raises:
        UsageError: it is none.
    """
    if text in (HERE, LOCAL_CLUSTER):
        return RunPlace(text)
    match = _CLUSTER.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= _MAX_PORT:
        raise UsageError(f"{setting}: expected {EXPECTED_PLACE}, got {text!r}")
    return RunPlace(text, match["host"].strip("[]"), int(match["port"]))
