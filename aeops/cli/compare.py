"""`ae compare RECIPE@VERSION RECIPE@VERSION`: what differs, metrics on the same samples, and where the two disagree."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from aeops.comparing.comparison import VersionComparison

MAX_ROWS = 10  # of the samples that are listed; the page has more, --json all


def add_command(commands: Any) -> None:
    """Add `ae compare` to the commands of the parser."""
    command = commands.add_parser("compare", help="show two versions side by side: what differs, on the same samples")
    command.add_argument("first", metavar="RECIPE@VERSION", help="such as digits@1 or digits@champion")
    command.add_argument("second", metavar="OTHER", help="such as digits@2, or 2 or challenger of the same recipe")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the page and print the result.

    Returns:
        0, whichever is better.

    Raises:
        UsageError: no such version, or versions of two recipes.
        DataError: a bundle is not the one that was registered.
    """
    from datetime import UTC, datetime

    from aeops.cli.rebuild import require_registered
    from aeops.comparing.comparison import compare_versions, comparison_folder, parse_pair
    from aeops.comparing.comparison_page import render_page
    from aeops.files import atomic_write, make_folder
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store

    name, first, second = parse_pair(arguments.first, arguments.second)
    project = find_project()
    store = open_store(project)
    require_registered(project, store, name)
    comparison = compare_versions(project, store, load_recipe(project, name), first, second)
    folder = comparison_folder(project, name)
    page = folder / f"{comparison.first.version}-{comparison.second.version}.html"
    make_folder(folder)
    atomic_write(page, render_page(comparison, datetime.now(UTC)))
    if arguments.json:
        print_json(comparison.to_dict() | {"page": str(page)})
    else:
        print_comparison(comparison, page)
    return 0


def print_comparison(comparison: "VersionComparison", page: "Path") -> None:
    """Print what differs, the metrics and the first samples they disagree on."""
    from aeops.cli.outputs import open_console, styled_text
    from aeops.comparing.comparison_page import TOPICS, disagreement_lines, summary_sentence

    console = open_console()
    first, second = comparison.first.name, comparison.second.name
    console.print(styled_text((f"{first} and {second}", "bold"), f"  {summary_sentence(comparison)}"), soft_wrap=True)
    for topic in TOPICS:
        rows = []
        for difference in comparison.differences:
            if difference.topic == topic:
                rows.append((difference.name, difference.first, difference.second))
        if rows:
            _print_rows(console, f"what differs: {topic}", ("", first, second), rows)
        else:
            console.print(f"what differs: {topic}: nothing")
    if comparison.samples.measures:
        _print_measures(console, comparison)
        console.print("; ".join(disagreement_lines(comparison)) or "they decide alike about every test sample", soft_wrap=True)
        _print_samples(console, comparison)
    for note in comparison.notes:
        console.print(f"note       {note}", soft_wrap=True)
    console.print(f"page       {page}", soft_wrap=True)


def _print_measures(console: "Console", comparison: "VersionComparison") -> None:
    from aeops.comparing.comparison_page import measure_texts

    first, second = comparison.first.name, comparison.second.name
    better = {"first": first, "second": second, "": "cannot tell"}
    rows = [(pair.name, *measure_texts(pair), better[pair.better]) for pair in comparison.samples.measures]
    head = ("", first, second, "difference", "95 % interval", "better")
    _print_rows(console, f"on the same {comparison.samples.rows:,} test samples", head, rows)


def _print_samples(console: "Console", comparison: "VersionComparison") -> None:
    disagreements = comparison.samples.disagreements
    if not disagreements:
        return
    names = {"first": comparison.first.name, "second": comparison.second.name}
    rows = []
    for one in disagreements[:MAX_ROWS]:
        kind = "novelty" if one.is_novelty else "normal"
        rows.append((one.id, kind, one.label, names[one.flagged_by], *(f"{p_value:.4f}" for p_value in one.p_values)))
    title = f"the first {len(rows)} of {len(disagreements)} samples they disagree on"
    head = ("sample", "is", "label", "flagged by", f"p of {names['first']}", f"p of {names['second']}")
    _print_rows(console, title, head, rows)


def _print_rows(console: "Console", title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from aeops.cli.outputs import open_table

    table = open_table(console, title)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
