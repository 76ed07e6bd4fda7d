"""`ae prune`: free the disk of what is made again when it is needed, and of data that nothing names any more."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.errors import UsageError

if TYPE_CHECKING:
    from aeops.provenance.pruning import Removal
    from aeops.provenance.state_size import FolderSize

DEFAULT_DAYS = 30
MAX_PATHS = 20  # of a kind that are listed in JSON


def add_command(commands: Any) -> None:
    """Add `ae prune` to the commands of the parser."""
    command = commands.add_parser("prune", help="delete old caches, checkpoints and data that no version needs")
    command.add_argument("--dry-run", action="store_true", help="only print what would be deleted")
    days_help = f"what was written in the last so many days stays (default: {DEFAULT_DAYS})"
    command.add_argument("--days", type=int, default=DEFAULT_DAYS, help=days_help)
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Delete what nothing needs, or print what that is.

    Returns:
        0.

    Raises:
        UsageError: fewer days than one.
        DataError: a version does not say which data it needs; nothing is deleted.
        InfrastructureError: the registry cannot be read, or a run is in progress.
    """
    from contextlib import nullcontext
    from datetime import UTC, datetime

    from aeops.machine.lock import run_lock
    from aeops.project import find_project
    from aeops.provenance.pruning import MIN_AGE_DAYS, plan_removals, remove
    from aeops.provenance.state_size import measure_state
    from aeops.registry.store import open_store

    if arguments.days < MIN_AGE_DAYS:
        raise UsageError(
            f"--days: expected {MIN_AGE_DAYS} or more, so that a run that has failed can go on, got {arguments.days}"
        )
    project = find_project()
    with nullcontext() if arguments.dry_run else run_lock(project, "ae prune"):
        removals = plan_removals(project, open_store(project), datetime.now(UTC), arguments.days)
        if not arguments.dry_run:
            remove(removals)
    sizes = measure_state(project)
    if arguments.json:
        print_json(as_document(removals, sizes, is_done=not arguments.dry_run))
    else:
        show_removals(removals, sizes, is_done=not arguments.dry_run)
    return 0


def as_document(removals: Sequence["Removal"], sizes: Sequence["FolderSize"], *, is_done: bool) -> dict[str, Any]:
    """Return what `--json` prints: of each kind the first MAX_PATHS paths."""
    rows = []
    for removal in removals:
        paths = list(map(str, removal.paths[:MAX_PATHS]))
        row = {"what": removal.what, "place": removal.place, "bytes": removal.size_bytes, "count": len(removal.paths)}
        rows.append(row | {"paths": paths, "reason": removal.reason})
    return {"deleted": is_done, "removals": rows, "state": [size.to_dict() for size in sizes]}


def show_removals(removals: Sequence["Removal"], sizes: Sequence["FolderSize"], *, is_done: bool) -> None:
    """Print a row for each kind, and how large the state is."""
    from aeops.cli.outputs import open_console, open_table
    from aeops.provenance.state_size import format_bytes

    console = open_console(soft_wrap=True)
    if removals:
        table = open_table(console, "deleted" if is_done else "would be deleted")
        for name in ("what", "where", "size", "number", "why"):
            table.add_column(name, justify="right" if name in ("size", "number") else "left")
        for removal in removals:
            size, count = format_bytes(removal.size_bytes), f"{len(removal.paths):,}"
            table.add_row(removal.what, removal.place, size, count, removal.reason)
        console.print(table)
    total = format_bytes(sum(removal.size_bytes for removal in removals))
    if not removals:
        console.print("nothing to delete")
    elif is_done:
        console.print(f"freed      {total}")
    else:
        console.print(f"would free {total}: `ae prune` deletes it")
    console.print(f"state      {describe_state(sizes)}")


def describe_state(sizes: Sequence["FolderSize"], most: int = 4) -> str:
    """Return the size of the state and of its largest folders, in one line."""
    from aeops.provenance.state_size import format_bytes

    total = format_bytes(sum(size.size_bytes for size in sizes))
    largest = ", ".join(f"{size.name} {format_bytes(size.size_bytes)}" for size in sizes[:most] if size.size_bytes)
    return f"{total}: {largest}" if largest else total
