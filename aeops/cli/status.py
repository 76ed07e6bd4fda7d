"""`ae status`: what runs, the last runs, champions, alarms, what waits for a person, and what comes next."""

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

from aeops.project import find_project

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


def add_command(commands: Any) -> None:
    """Add `ae status` to the commands of the parser."""
    command = commands.add_parser("status", help="what runs, the last runs, champions, alarms, approvals, the next scheduled run")
    command.add_argument("--json", action="store_true", help="the same as JSON, for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 where all that was asked for is well, or nothing was; else the infrastructure exit code."""
    from aeops.errors import InfrastructureError
    from aeops.stack.status import read_stack_status

    facts = read_stack_status(find_project())
    print(json.dumps(facts, indent=1)) if arguments.json else show(facts)
    return 0 if facts["well"] else InfrastructureError.exit_code


def show(facts: Mapping[str, Any]) -> None:
    """Each list as a table of plain text, as wide as it is."""
    print(facts["says"])
    for name, columns in TABLES.items():
        title, rows = name.replace("_", " "), facts[name]
        if not rows:
            print(f"\n{title}: {'unknown, Prefect does not respond' if rows is None else 'none'}")
            continue
        words = [[column.replace("_", " ") for column in columns]]
        words += [[worded(row[column]) for column in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip(*words, strict=True)]
        print(f"\n{title}")
        for line in words:
            print("  " + "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())


# What is shown of each list, and in which order; --json has it all.
TABLES = {
    "services": ("name", "state", "address", "pid", "since", "memory_mb"),
    "runs": ("recipe", "flow", "state", "at", "says"),
    "champions": ("recipe", "version", "since"),
    "alarms": ("recipe", "signal", "says", "as_of"),
    "waiting_for_approval": ("recipe", "version", "since", "type_this"),
    "next_runs": ("deployment", "at"),
}


def worded(value: Any) -> str:
    """One cell; a moment to the minute."""
    text = "" if value is None else " ".join(str(value).split())
    return f"{text[:10]} {text[11:16]}" if MOMENT.match(text) else text
