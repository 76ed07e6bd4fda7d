"""`ae history RECIPE`: every decision about a recipe's versions, and who was champion at any moment. Reads the ledger alone."""

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.registry.ledger import LedgerEntry

COLUMNS = ("no.", "time (UTC)", "event", "version", "champion", "who", "why", "evidence")


def add_command(commands: Any) -> None:
    """Add `ae history` to the commands of the parser."""
    command = commands.add_parser("history", help="show what was promoted, refused, rolled back, by whom and why")
    command.add_argument("recipe", help="name of a recipe, such as digits")
    command.add_argument(
        "--as-of",
        metavar="TIME",
        help="show things as they stood then: an ISO date (its first moment) or time; without a zone, this machine's is meant",
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the lines, and the champion."""
    from aeops.cli.recipe_names import require_known
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.registry import ledger

    project = find_project()
    recipe = arguments.recipe
    require_known(project, recipe)
    at = None if arguments.as_of is None else moment(arguments.as_of)
    lines = ledger.read_entries(project, recipe)
    if not lines:
        raise UsageError(f"{recipe} has no ledger yet: it begins with the first version that `ae run {recipe}` judges")
    shown = [line for line in lines if at is None or line.moment <= at]
    if arguments.json:
        print(json.dumps(answer(recipe, shown, at), ensure_ascii=False, indent=2))
    else:
        print_lines(recipe, shown, lines[0], at, arguments.as_of)
    return 0


def moment(given: str) -> datetime:
    """The moment that a person means, in UTC; a time without a zone is of this machine's."""
    from aeops.errors import UsageError

    try:
        return datetime.fromisoformat(given).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--as-of {given!r} given; an ISO date or time is allowed, such as 2026-11-24, 2026-11-24T14:30 or "
            "2026-11-24T14:30:00+01:00"
        ) from error


def answer(recipe: str, lines: list["LedgerEntry"], at: datetime | None) -> dict[str, Any]:
    from aeops.registry import ledger

    return {
        "recipe": recipe,
        "as_of": None if at is None else at.isoformat(),
        "champion": ledger.champion_at(lines),
        "lines": [line.to_dict() for line in lines],
    }


def print_lines(recipe: str, lines: list["LedgerEntry"], first: "LedgerEntry", at: datetime | None, given: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    if at is not None:
        assumed = "" if datetime.fromisoformat(str(given)).tzinfo else f": {given} in this machine's zone, as none is given"
        console.print(f"as of      {at:%Y-%m-%d %H:%M:%S} UTC{assumed}", soft_wrap=True)
    if not lines:
        console.print(f"champion   none: the ledger begins at {first.time}", soft_wrap=True)
        return
    table = Table(title=f"{recipe}: ledger", title_justify="left")
    for name in COLUMNS:
        table.add_column(name)
    for line in lines:
        table.add_row(*(Text(visible(cell)) for cell in row(line)))
    console.print(table)
    for closing in closing_lines(recipe, lines):
        console.print(visible(closing), soft_wrap=True)


def row(line: "LedgerEntry") -> list[str]:
    move = f"{line.from_version or 'none'} → {line.to_version or 'none'}" if line.moves_champion else ""
    evidence = [line.evidence.get("verdict", ""), line.evidence.get("sha256", "")[:12]]
    time = f"{line.moment:%Y-%m-%d %H:%M:%S}"
    return [str(line.number), time, line.event, line.version, move, line.who, line.why, " ".join(filter(None, evidence))]


def closing_lines(recipe: str, lines: list["LedgerEntry"]) -> list[str]:
    from aeops.registry import ledger

    last = ledger.last_move(lines)
    champion = "none" if last is None or last.to_version is None else f"{recipe} {last.to_version}"
    why = "" if last is None else f", by {last.event} no. {last.number} of {last.who}: {last.why}"
    return [f"champion   {champion}{why}", f"check it   ae ledger verify {recipe}"]


def visible(text: str) -> str:
    """Without what would command the terminal: who and why are whatever was typed."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
