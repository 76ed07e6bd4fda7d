"""The log of a recipe's runs, `.ae/logs/run-RECIPE.log`: a line when a step begins, ends or fails, with its time in UTC.

`ae logs RECIPE` prints it. What the steps' processes print is in the other files of that folder.
"""

from datetime import UTC, datetime
from pathlib import Path

from aeops.files import make_folder
from aeops.machine.terminal import escape_line
from aeops.project import Project


def run_log_file(project: Project, recipe: str) -> Path:
    """Return the log of a recipe's runs; `aeops.stack.retention` rotates it."""
    return project.logs / f"run-{recipe}.log"


def append_run_line(project: Project, recipe: str, text: str) -> None:
    """Append a line; the log is for people, so it is not synced to the disk."""
    file = run_log_file(project, recipe)
    make_folder(file.parent)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {escape_line(text)}\n")
