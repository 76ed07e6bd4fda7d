"""`ae audit DATA`: labels that look wrong, samples that are there twice, and leaks between the splits of a dataset."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, counts_text, print_json
from aeops.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from aeops.audit.findings import AuditReport

MAX_ROWS = 20  # of a table in the terminal
MAX_EXPLAINED = 5  # rows and pairs of a table whose columns are printed
MAX_CELLS = 3  # of each of them
MIN_SAMPLES = 20


def add_command(commands: Any) -> None:
    """Add `ae audit` to the commands of the parser."""
    command = commands.add_parser(
        "audit", help="find wrong labels, copies and leaks between splits in a dataset of samples or rows"
    )
    command.add_argument("data", help="a recipe, whose accepted dataset is audited, or a dataset in data/")
    source_help = "read the recipe's source as it is now (default: only where its dataset is not accepted yet)"
    command.add_argument("--source", action="store_true", help=source_help)
    near_help = (
        "similarity from which two samples are near copies (default: 0.98 of images, 0.999 of series and rows, 0.8 of texts)"
    )
    command.add_argument("--near", type=float, metavar="SIMILARITY", help=near_help)
    command.add_argument("--samples", type=int, default=100_000, help="that are looked at, of a larger set (default: 100,000)")
    command.add_argument("--rows", type=int, default=60, help="suspects and pairs that are listed (default: 60)")
    page_help = "the page to write (default: .ae/audit/DATA.html)"
    command.add_argument("--page", type=Path, metavar="X.html", help=page_help)
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit, write the page and print what was found; nothing of the data is changed.

    Returns:
        0, whatever was found.

    Raises:
        UsageError: no such recipe or dataset, or an option out of its range.
        DataError: a dataset that was altered, or a source that is not what its recipe says.
    """
    start_time = time.monotonic()
    require_options(arguments)
    from datetime import UTC, datetime

    from aeops.audit.audit_page import render_page
    from aeops.audit.run_audit import AuditOptions, audit
    from aeops.audit.subject import open_subject
    from aeops.files import atomic_write, make_folder
    from aeops.project import find_project

    project = find_project()
    page = arguments.page or project.home / "audit" / f"{arguments.data}.html"
    with open_subject(project, arguments.data, from_source=arguments.source, max_samples=arguments.samples) as subject:
        report = audit(subject, AuditOptions(arguments.near, arguments.rows))
        html = render_page(subject, report, datetime.now(UTC))
    make_folder(page.parent)
    atomic_write(page, html)
    if arguments.json:
        print_json(report.to_dict() | {"page": str(page)})
    else:
        show_report(report, page, time.monotonic() - start_time)
    return 0


def require_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError with every option that is out of its range."""
    problems = []
    if arguments.near is not None and not 0 < arguments.near <= 1:
        problems.append(f"--near: expected a number above 0 and at most 1, got {arguments.near:g}")
    if arguments.samples < MIN_SAMPLES:
        problems.append(f"--samples: expected {MIN_SAMPLES} or more, got {arguments.samples}")
    if arguments.rows < 1:
        problems.append(f"--rows: expected 1 or more, got {arguments.rows}")
    if arguments.page is not None and arguments.page.suffix != ".html":
        problems.append(f"--page: expected a path that ends in .html, such as {arguments.page.with_suffix('.html')}")
    if problems:
        raise UsageError("\n".join(problems))


def show_report(report: "AuditReport", page: Path, seconds: float) -> None:
    """Print tables of the findings, at most MAX_ROWS rows each, and where the rest is."""
    from aeops.cli.outputs import open_console

    console = open_console(soft_wrap=True)
    splits = counts_text(report.splits)
    console.print(f"{report.name}: {report.audited:,} samples of the {report.origin} ({report.content_sha256[:12]}): {splits}")
    for note in report.notes:
        console.print(f"note       {note}")
    _show_labels(console, report)
    _show_copies(console, report)
    _show_leaks(console, report)
    console.print(f"took       {seconds:.1f} s")
    console.print(f"page       {page}")


def _show_labels(console: "Console", report: "AuditReport") -> None:
    from rich.table import Table

    labels = report.labels
    if labels.skipped:
        console.print(f"labels     not checked: {labels.skipped}")
        return
    table = Table(title=f"labels that look wrong: the first {min(MAX_ROWS, len(labels.suspects))}", title_justify="left")
    for name in ("sample", "split", "label", "looks like"):
        table.add_column(name)
    table.add_column("p(label)", justify="right")
    table.add_column("p(other)", justify="right")
    for one in labels.suspects[:MAX_ROWS]:
        probabilities = f"{one.label_probability:.3f}", f"{one.suggested_probability:.3f}"
        table.add_row(one.id, one.split, one.label, one.suggested, *probabilities)
    console.print(table)
    _show_suspect_cells(console, report)
    console.print(
        f"labels     {labels.wrong:,} look wrong; the likeliest label is the given one for {labels.accuracy:.1%} "
        f"({labels.classifier}, {labels.folds} folds)"
    )


def _show_suspect_cells(console: "Console", report: "AuditReport") -> None:
    """Print why the first rows of a table look wrong: the columns that are most unlike their label."""
    from rich.table import Table

    if not report.columns:
        return
    table = Table("sample", "column", "value", "usual of its label", title="most unlike their label", title_justify="left")
    for one in report.labels.suspects[:MAX_EXPLAINED]:
        for cell in one.cells[:MAX_CELLS]:
            table.add_row(one.id, cell.column, cell.value, cell.usual)
        table.add_section()
    console.print(table)


def _show_pairs(console: "Console", report: "AuditReport") -> None:
    """Print the first pairs of rows of a table, with the columns that differ most."""
    for pair in report.copies.examples[:MAX_EXPLAINED]:
        if not pair.cells:
            return
        console.print(f"{pair.relation:<10} {pair.first} ({pair.first_split}), {pair.second} ({pair.second_split})")
        for cell in pair.cells[:MAX_CELLS]:
            if cell.differs:
                console.print(f"           {cell.column} {cell.first}, {cell.second}; usual: {cell.usual}")


def _show_copies(console: "Console", report: "AuditReport") -> None:
    copies = report.copies
    counts = []
    for relation, count in copies.samples.items():
        if count:
            pair_count = copies.pairs[relation]
            by_chance = f"; {copies.by_chance[relation]:,} by chance" if relation in copies.by_chance else ""
            counts.append(f"{count:,} {relation} ({pair_count:,} pair{'s' * (pair_count != 1)}{by_chance})")
    line = ", ".join(counts) or "none"
    if copies.label_conflicts:
        line += f"; in {copies.label_conflicts:,} pair{'s' * (copies.label_conflicts != 1)} the labels differ"
    console.print(f"copies     {line}; near ones by the {copies.method}, from {copies.limit:g}")
    _show_pairs(console, report)


def _show_leaks(console: "Console", report: "AuditReport") -> None:
    if not report.leaks:
        console.print("leaks      none between the splits")
    for leak in report.leaks:
        relations = counts_text(leak.by_relation)
        console.print(
            f"leaks      {leak.leaked:,} of {leak.samples:,} samples of {leak.split} ({leak.share:.1%}) have a copy in "
            f"{leak.known_from}: {relations}"
        )
