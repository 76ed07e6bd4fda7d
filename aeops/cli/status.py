"""`ae status`: print services, the last runs, champions, alarms, pending approvals and the next scheduled runs."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.project import find_project

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
# The columns of each list, in their order; --json has every field.
LIST_COLUMNS = {
    "services": ("name", "state", "address", "pid", "since", "memory_mb"),
    "runs": ("recipe", "flow", "state", "at", "says"),
    "champions": ("recipe", "version", "since"),
    "alarms": ("recipe", "signal", "says", "as_of", "seen_by"),
    "waiting_for_approval": ("recipe", "version", "since", "type_this"),
    "next_runs": ("deployment", "at"),
}


def add_command(commands: Any) -> None:
    """Add `ae status` to the commands of the parser."""
    command = commands.add_parser(
        "status", help="show services, the last runs, champions, alarms, approvals, the next scheduled runs"
    )
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the state of the stack.

    Returns:
        0 if every requested service is healthy, or none was requested, else the infrastructure exit code.
    """
    from aeops.alerts.receivers import waiting_counts
    from aeops.cli.prune import describe_state
    from aeops.errors import InfrastructureError
    from aeops.predictions.unfinished_scoring import find_unfinished_scoring
    from aeops.provenance.state_size import measure_state
    from aeops.stack.status import read_stack_status

    project = find_project()
    status, sizes = read_stack_status(project), measure_state(project)
    waiting = waiting_counts(project)
    unfinished = [one.to_dict() for one in find_unfinished_scoring(project)]
    if arguments.json:
        state_folder = [size.to_dict() for size in sizes]
        found = {"waiting_notifications": waiting, "unfinished_scoring": unfinished, "state_folder": state_folder}
        print_json({**status, **found})
    else:
        print_status(status)
        if waiting:
            print("\nnotifications that did not arrive: `ae notify --retry` sends them")
            print_rows(("receiver", "count", "since"), waiting)
        print_unfinished(unfinished)
        print(f"\nstate folder\n  {describe_state(sizes)}; `ae prune --dry-run` shows what may be deleted")
    if status["well"]:
        return 0
    return InfrastructureError.exit_code


def print_status(status: Mapping[str, Any]) -> None:
    """Print each list of the status as a table of plain text, without a limit on its width."""
    print(status["says"])
    if status["prefect_login"]:
        print(status["prefect_login"])
    for name, columns in LIST_COLUMNS.items():
        title, rows = name.replace("_", " "), status[name]
        if rows:
            print(f"\n{title}")
            print_rows(columns, rows)
        elif rows is None:
            print(f"\n{title}: {describe_missing_runs(name, is_started=status['started'])}")
        else:
            print(f"\n{title}: none")


def describe_missing_runs(name: str, *, is_started: bool) -> str:
    """Return why a list of runs is missing, and what to type.

    Args:
        name: `runs` or `next_runs`.
        is_started: whether the stack should run.
    """
    if is_started:
        return "Prefect does not respond: see .ae/logs/prefect.log; `ae up` starts what does not run"
    if name == "next_runs":
        return "none while the stack does not run: `ae up` starts it with the schedules"
    return "Prefect has them, and it does not run: `ae runs` lists those that are recorded in MLflow"


def print_unfinished(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the files that are half scored; nothing where there are none."""
    if rows:
        print("\nfiles that are half scored: the same `ae score` goes on with them")
        print_rows(("recipe", "shards", "at", "in_use"), rows)


def print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a head and a line for each row, every column as wide as its longest cell."""
    lines = [[column.replace("_", " ") for column in columns]]
    for row in rows:
        lines.append([cell_text(row[column]) for column in columns])
    widths = [0] * len(columns)
    for line in lines:
        widths = list(map(max, widths, map(len, line)))
    for line in lines:
        print("  " + "  ".join(map(str.ljust, line, widths)).rstrip())


def cell_text(value: Any) -> str:
    """Return the text of one cell; a time is cut to minutes."""
    if value is None:
        return ""
    text = " ".join(str(value).split())
    if ISO_TIME.match(text):
        return f"{text[:10]} {text[11:16]}"
    return text
