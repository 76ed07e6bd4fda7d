"""`ae quarantine RECIPE`: the samples that the last validation set aside, by their reasons."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, open_console, open_table, print_json
from aeops.errors import DataError, UsageError

if TYPE_CHECKING:
    from aeops.project import Project

DEFAULT_ROWS = 20


@dataclass(frozen=True)
class SetAside:
    """One sample, or what could not become one.

    Attributes:
        id: that it came with, or its position's.
        label: as the source has it; None without one.
        reasons: the expectations that it breaks, with what was expected and what it has.
    """

    id: str
    label: str | None
    reasons: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The reasons without what was expected: the names of the expectations, or what was wrong with a file or a row."""
        return tuple(reason.split(": expected")[0] for reason in self.reasons)


def add_command(commands: Any) -> None:
    """Add `ae quarantine` to the commands of the parser."""
    command = commands.add_parser("quarantine", help="list the samples that the last validation set aside, by reason")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument("--reason", metavar="TEXT", help="only samples with a reason that holds this text")
    command.add_argument("--rows", type=int, default=DEFAULT_ROWS, help=f"samples to list (default: {DEFAULT_ROWS}; 0: all)")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print how many samples each reason has set aside, and the samples.

    Returns:
        0, whatever was set aside.

    Raises:
        UsageError: no such recipe, no validation yet, or fewer rows than none.
        DataError: the quarantine is damaged.
    """
    from aeops.machine.stored_json import read_json
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe

    if arguments.rows < 0:
        raise UsageError(f"--rows: expected 0 or more, got {arguments.rows}")
    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    validation_file = project.validation(recipe.data.dataset) / "validation.json"
    if not validation_file.is_file():
        raise UsageError(f"{recipe.name}: nothing was validated yet: type `ae run {recipe.name}`")
    quarantine = read_json(validation_file, "quarantine")["quarantine"]  # a path in the state folder, or None
    folder = project.home / (quarantine or "quarantine")
    rows = read_set_aside(project, folder, recipe.label_names) if quarantine else []
    if arguments.reason is not None:
        rows = [row for row in rows if any(arguments.reason in reason for reason in row.reasons)]
    shown = rows[: arguments.rows or None]
    counts = count_kinds(rows)
    if arguments.json:
        samples = [{"id": row.id, "label": row.label, "reasons": row.reasons} for row in shown]
        print_json({"dataset": recipe.data.dataset, "count": len(rows), "reasons": counts, "samples": samples})
    else:
        show(recipe.data.dataset, folder, rows, shown, counts)
    return 0


def read_set_aside(project: "Project", folder: Path, label_names: Sequence[str]) -> list[SetAside]:
    """Return what the last validation of a dataset set aside, in the order that it came in.

    Args:
        project: whose state folder it is in.
        folder: of the quarantine.
        label_names: of the labels 0, 1 and so on; empty where labels are numbers.

    Raises:
        DataError: the folder's rows.parquet cannot be read.
    """
    import pandas as pd

    from aeops.kinds.decoding import DecodeError, decode_errors

    file = folder / "rows.parquet"
    try:
        with decode_errors():
            table = pd.read_parquet(file, columns=["id", "label", "reasons"])
    except DecodeError as error:
        name = file.relative_to(project.home)
        raise DataError(
            f"{name} in the state folder is damaged ({error}): the next run with other data writes it again"
        ) from error
    rows = []
    for name, label, reasons in table.itertuples(index=False):
        label_name = None
        if not pd.isna(label):
            label_name = label_names[label] if 0 <= label < len(label_names) else str(label)
        rows.append(SetAside(str(name), label_name, tuple(map(str, reasons))))
    return rows


def count_kinds(rows: list[SetAside]) -> dict[str, int]:
    """Return how many samples each kind of reason has set aside, the most first; a sample may have several."""
    return dict(Counter(kind for row in rows for kind in dict.fromkeys(row.kinds)).most_common())


def show(dataset: str, folder: Path, rows: list[SetAside], shown: list[SetAside], counts: dict[str, int]) -> None:
    """Print the counts, a row for each sample, and where its values are."""
    console = open_console(soft_wrap=True)
    if not rows:
        console.print(f"{dataset}: nothing is set aside")
        return
    console.print(f"{dataset}: {len(rows):,} samples are set aside")
    for kind, count in counts.items():
        console.print(f"{count:>8,}  {kind}")
    table = open_table(console, "samples" if len(shown) == len(rows) else f"the first {len(shown)} samples")
    for name in ("id", "label", "why"):
        table.add_column(name)
    for row in shown:
        table.add_row(row.id, row.label or "", "; ".join(row.reasons))
    console.print(table)
    console.print(f"values     {folder}: rows.parquet, and the samples in the same order")
    console.print("mended     at the source: the next `ae run` takes in what passes")
