"""Helpers for the output of commands: checks of the path to write, and counts in words."""

import os
from collections.abc import Iterable
from pathlib import Path

from aeops.errors import UsageError


def require_new(path: Path) -> None:
    """Require a path that does not exist yet, in a folder that can be written to.

    Raises:
        UsageError: the path exists, its folder does not, or the folder is not writable.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: remove it, or pass another path with -o")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent} for {path.name}: type `mkdir -p {path.parent}`, or pass another path with -o")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the folder {path.parent} is not writable: pass another path with -o")


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 sample` or `2 samples`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"


def yes_or_no(flag: bool) -> str:
    """Return a flag in words."""
    if flag:
        return "yes"
    return "no"


def durations_text(named_seconds: Iterable[tuple[str, float]]) -> str:
    """Return names with their seconds, such as `train 12.3 s, gate 0.4 s`."""
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in named_seconds)
