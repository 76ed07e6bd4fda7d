"""Files and folders that a verb writes where it is told to: never over something, never half of one."""

import os
from pathlib import Path

from aeops.errors import UsageError


def require_new(place: Path) -> None:
    """Raises UsageError where something is in the way, or nothing can be written."""
    if place.exists():
        raise UsageError(f"{place} is there already: remove it, or give -o another name")
    if not place.parent.is_dir():
        raise UsageError(f"no folder {place.parent} to write {place.name} to: make it, or give -o another name")
    if not os.access(place.parent, os.W_OK):
        raise UsageError(f"the folder {place.parent} is not yours to write: give -o another one")
