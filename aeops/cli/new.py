"""`ae new NAME --from PATH-OR-URI`: look at own data, say what was understood, and write a recipe for it."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.intake.proposal import Choices, Proposal, Understanding

MAX_COLUMNS = 30  # lines about columns: a wide table has hundreds


def add_command(commands: Any) -> None:
    """Add `ae new` to the commands of the parser."""
    command = commands.add_parser(
        "new", help="look at your own data and write a recipe for it: ae new shoes --from ~/pictures/shoes"
    )
    command.add_argument("name", help="of the recipe, such as shoes")
    command.add_argument("--from", dest="origin", required=True, metavar="PATH-OR-URI", help="a folder, a file or an address")
    command.add_argument("--yes", action="store_true", help="ask nothing: take what is proposed")
    command.add_argument("--dry-run", action="store_true", help="print the recipe and write nothing")
    command.add_argument("--force", action="store_true", help="replace a recipe of this name")
    command.add_argument("--about", metavar="TEXT", help="what the data is, for people")
    command.add_argument("--labels", metavar="WHERE", help="column, `folders`, a CSV file below the folder, or `none`")
    command.add_argument(
        "--anomalies", metavar="LABELS", help="labels that have to be flagged, with commas between; `none`: no label is"
    )
    command.add_argument("--id", dest="identity", metavar="COLUMN", help="column with the id of each row")
    command.add_argument("--group", metavar="COLUMN", help="column whose equal values share a split")
    command.add_argument("--text", metavar="COLUMN", help="column with the texts")
    command.add_argument("--ignore", metavar="COLUMNS", help="columns to leave out, with commas between")
    command.add_argument("--table", metavar="NAME", help="sheet of a workbook, or table of a database")
    command.add_argument("--query", metavar="SQL", help="query whose result is the table")
    readings_help = "whether rows in the order of time are readings of a series (default: as their times show)"
    command.add_argument("--readings", choices=("yes", "no"), help=readings_help)
    command.add_argument("--size", metavar="WIDTHxHEIGHT", help="of an image, in pixels, such as 128x128")
    command.add_argument("--channels", type=int, choices=(1, 3, 4), help="of an image: grey, colours, colours with alpha")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, print, ask, write. Nothing is written where something is not clear and nobody can be asked."""
    from aeops.intake.look import propose
    from aeops.intake.write_recipe import dataset_name, recipe_text, require_new_name, write_recipe
    from aeops.project import find_project

    project = find_project()
    require_new_name(project, arguments.name, arguments.force or arguments.dry_run)
    choices = read_choices(arguments)
    proposal = propose(arguments.origin, project, dataset_name(arguments.name), choices)
    show_understanding(proposal.understood)
    if proposal.understood.questions and not arguments.yes:
        answered = ask_questions(proposal.understood, choices)
        if answered != choices:
            proposal = propose(arguments.origin, project, dataset_name(arguments.name), answered)
    text = recipe_text(arguments.name, proposal, arguments.about)
    if arguments.dry_run:
        print(text, end="")
        return 0
    file = write_recipe(project, arguments.name, text)
    show_next(arguments.name, proposal, str(file.relative_to(project.root)))
    return 0


def read_choices(arguments: argparse.Namespace) -> "Choices":
    """Return what the options say.

    Raises:
        UsageError: a size that is none.
    """
    from aeops.intake.proposal import Choices

    return Choices(
        labels=arguments.labels,
        anomalies=split_names(arguments.anomalies),
        size=parse_size(arguments.size),
        channels=arguments.channels,
        identity=arguments.identity,
        group=arguments.group,
        text=arguments.text,
        table=arguments.table,
        query=arguments.query,
        ignore=split_names(arguments.ignore) or (),
        readings=None if arguments.readings is None else arguments.readings == "yes",
    )


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Return names with commas between; none for the word none.

    >>> split_names("scratch, hole"), split_names("none"), split_names(None)
    (('scratch', 'hole'), (), None)
    """
    if text is None:
        return None
    if text.strip().lower() == "none":
        return ()
    return tuple(filter(None, map(str.strip, text.split(","))))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of a text such as 128x96, width first as people say it."""
    from aeops.errors import UsageError

    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UsageError(f"--size: expected WIDTHxHEIGHT in pixels, such as 128x128, got {text!r}")
    if int(width) % 4 or int(height) % 4 or min(int(width), int(height)) < 8 or max(int(width), int(height)) > 4096:
        raise UsageError(f"--size: expected multiples of 4 from 8 to 4096, as the network halves both sides twice, got {text}")
    return int(height), int(width)


def show_understanding(understood: "Understanding") -> None:
    """Print what was understood, line by line; of many columns the first ones."""
    from aeops.intake.proposal import COLUMN_TITLE
    from aeops.machine.terminal import escape_line

    column_count = 0
    for title, text in understood.facts:
        column_count += title == COLUMN_TITLE
        if title != COLUMN_TITLE or column_count <= MAX_COLUMNS:
            print(f"{title:<10} {escape_line(text)}")
    if column_count > MAX_COLUMNS:
        print(f"{'columns':<10} {column_count - MAX_COLUMNS} more, each with its values in the recipe")
    for oddity in understood.oddities:
        print(f"{'note':<10} {escape_line(oddity)}")
    sys.stdout.flush()


def ask_questions(understood: "Understanding", choices: "Choices") -> "Choices":
    """Ask what the data does not show; return the choices with the answers.

    Raises:
        UsageError: nobody can be asked: what to type instead.
    """
    from dataclasses import replace

    from aeops.errors import UsageError

    if not sys.stdin.isatty():
        lines = []
        for question in understood.questions:
            lines.append(f"{question.text} Say {question.option}, or --yes for {question.default}")
        raise UsageError("\n".join(lines))
    for question in understood.questions:
        answer = input(f"{question.text} [{question.default}] ").strip()
        if answer and question.option == "--anomalies":
            choices = replace(choices, anomalies=split_names(answer))
        elif answer and question.option == "--text":
            choices = replace(choices, text=answer)
    return choices


def show_next(name: str, proposal: "Proposal", file: str) -> None:
    """Print what was decided without asking, the file, and the command to type next."""
    for question in proposal.understood.questions:
        print(f"{'taken':<10} {question.text} {question.default}; {question.option} says otherwise")
    print(f"{'recipe':<10} {file}: a comment on every choice")
    print(f"{'next':<10} ae run {name}")
