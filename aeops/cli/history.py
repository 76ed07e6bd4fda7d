"""`ae history RECIPE`: print every decision about a recipe's versions and the champion at any time. Reads the ledger alone."""

import argparse
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.machine.terminal import escape_line

if TYPE_CHECKING:
    from aeops.registry.ledger import LedgerEntry

INDENT = " " * 8  # of the lines below the first of an entry


def add_command(commands: Any) -> None:
    """Add `ae history` to the commands of the parser."""
    command = commands.add_parser("history", help="show what was promoted, refused, rolled back, by whom and why")
    command.add_argument("recipe", help="name of a recipe, such as digits")
    command.add_argument(
        "--as-of",
        metavar="TIME",
        help="show the state at that time: an ISO date (its start) or time; without a zone, this machine's zone",
    )
    command.add_argument("--full", action="store_true", help="with the evidence, the account and the whole reason of each entry")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the ledger's entries and the champion; return 0.

    Raises:
        UsageError: an unknown recipe, one without a ledger, or a --as-of that is no time.
    """
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.registry import ledger

    project = find_project()
    recipe = arguments.recipe
    require_recipe_name(project, recipe)
    as_of = None
    if arguments.as_of is not None:
        as_of = parse_as_of(arguments.as_of)
    entries = ledger.read_entries(project, recipe)
    if not entries:
        raise UsageError(f"{recipe} has no ledger yet: `ae run {recipe}` writes its first entry")
    visible_entries = entries
    if as_of is not None:
        visible_entries = ledger.entries_until(entries, as_of)
    if arguments.json:
        print_json(history_document(recipe, visible_entries, as_of))
        return 0
    if as_of is not None:
        print_as_of(as_of, arguments.as_of)
    if visible_entries:
        print_entries(recipe, visible_entries, is_full=arguments.full)
    else:
        print(f"champion   none: the ledger begins at {entries[0].time}")
    return 0


def parse_as_of(text: str) -> datetime:
    """Return an ISO date or time in UTC; one without a zone is in this machine's zone.

    Raises:
        UsageError: the text is neither.
    """
    from aeops.errors import UsageError

    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            "--as-of: expected an ISO date or time, such as 2026-11-24, 2026-11-24T14:30 or 2026-11-24T14:30:00+01:00, "
            f"got {text!r}"
        ) from error


def history_document(recipe: str, entries: list["LedgerEntry"], as_of: datetime | None) -> dict[str, object]:
    """Return the output of --json: recipe, as_of, champion and lines."""
    from aeops.registry import ledger

    as_of_text = None
    if as_of is not None:
        as_of_text = as_of.isoformat()
    return {
        "recipe": recipe,
        "as_of": as_of_text,
        "champion": ledger.champion_at(entries),
        "lines": [entry.to_dict() for entry in entries],
    }


def print_as_of(as_of: datetime, text: str) -> None:
    """Print the time in UTC, and the assumed zone where the text names none."""
    zone_note = ""
    if datetime.fromisoformat(text).tzinfo is None:
        zone_note = f": {text} in this machine's zone, as none is given"
    print(f"as of      {as_of:%Y-%m-%d %H:%M:%S} UTC{zone_note}")


def print_entries(recipe: str, entries: list["LedgerEntry"], *, is_full: bool) -> None:
    """Print a line an entry, cut for a terminal only, or all of each entry; then the champion."""
    from aeops.cli.outputs import open_console

    console = open_console()
    console.print(f"{recipe}: ledger, times in UTC", soft_wrap=True)
    for entry in entries:
        lines = [cut_line(entry_line(entry), console.width)]
        if is_full:
            lines = entry_lines(entry, console.width)
        for line in lines:
            console.print(line, soft_wrap=True)
    champion = escape_line(champion_line(recipe, entries))
    console.print(champion if is_full else cut_line(champion, console.width), soft_wrap=True)
    if not is_full and any(len(line) > console.width for line in (champion, *map(entry_line, entries))):
        console.print(f"whole      ae history {recipe} --full", soft_wrap=True)
    console.print(f"check it   ae ledger verify {recipe}", soft_wrap=True)


def entry_line(entry: "LedgerEntry") -> str:
    """Return an entry as one line: number, time, event, version or the champions before and after, who and why."""
    versions = f"{entry.version}"
    if entry.moves_champion:
        versions = f"{entry.from_version or 'none'} → {entry.to_version or 'none'}"
    text = f"{entry.number:>4}  {entry.timestamp:%Y-%m-%d %H:%M}  {entry.event:<15} {versions:<9} {entry.who}: {entry.why}"
    return escape_line(text)


def cut_line(line: str, width: int) -> str:
    """Return a line that fits, with an ellipsis where something is left out."""
    if len(line) <= width:
        return line
    return f"{line[: width - 1].rstrip()}…"


def entry_lines(entry: "LedgerEntry", width: int) -> list[str]:
    """Return an entry as lines: number, time, event and versions; who and why; the evidence, if there is any."""
    headline = f"{entry.number:>6}  {entry.timestamp:%Y-%m-%d %H:%M:%S}  {entry.event:<13}  version {entry.version}"
    if entry.moves_champion:
        headline += f"  champion {entry.from_version or 'none'} → {entry.to_version or 'none'}"
    who = entry.who
    if entry.account is not None and entry.account.partition("@")[0] != entry.who:
        who = f"{entry.who} ({entry.account})"
    reason = escape_line(f"by {who}: {entry.why}")
    lines = [escape_line(headline)]
    lines += textwrap.wrap(reason, width=max(width, 40), initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False)
    evidence = f"{entry.evidence.get('verdict', '')} {entry.evidence.get('sha256', '')[:12]}".strip()
    if evidence:
        lines.append(f"{INDENT}evidence {escape_line(evidence)}")
    return lines


def champion_line(recipe: str, entries: list["LedgerEntry"]) -> str:
    """Return the champion after these entries, and the entry that made it the champion."""
    from aeops.registry import ledger

    last_move = ledger.last_move(entries)
    if last_move is None:
        return "champion   none"
    champion = "none"
    if last_move.to_version is not None:
        champion = f"{recipe} {last_move.to_version}"
    return f"champion   {champion}, by {last_move.event} no. {last_move.number} of {last_move.who}: {last_move.why}"
