"""The record of a forgetting that is under way: what is left to do where it was killed. Standard library only."""

from pathlib import Path
from typing import Any

from aeops.errors import DataError
from aeops.files import write_json
from aeops.machine.stored_json import read_json
from aeops.project import Project

KEYS = ("dataset", "ids", "contents", "who", "why", "folders", "versions")


def pending_file(project: Project, dataset: str) -> Path:
    """Return the file of a forgetting under way, which is not there where none is."""
    return project.home / "forgetting" / f"{dataset}.json"


def read_pending(project: Project, dataset: str) -> dict[str, Any] | None:
    """Return the forgetting that is under way; None where none is.

    Raises:
        DataError: its record is damaged.
    """
    file = pending_file(project, dataset)
    return dict(read_json(file, *KEYS)) if file.is_file() else None


def write_pending(project: Project, document: dict[str, Any]) -> None:
    """Record a forgetting before anything of it is done."""
    write_json(pending_file(project, document["dataset"]), document, mode=0o600)


def require_none_pending(project: Project, dataset: str, recipe: str) -> None:
    """Require that no forgetting is half done.

    Raises:
        DataError: one is.
    """
    pending = read_pending(project, dataset)
    if pending is not None:
        raise DataError(
            f"{dataset}: a forgetting of {len(pending['ids']):,} samples was interrupted: type `ae forget {recipe}` to complete "
            "it, then the same command again"
        )
