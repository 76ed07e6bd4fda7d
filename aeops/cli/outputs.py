"""Helpers for the output of commands: the console, checks of the path to write, refused files, and counts in words."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import DataError, UsageError
from aeops.machine.terminal import escape_controls, escape_line, raw_stream

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 10_000  # columns where stdout is no terminal: a program that reads a line reads all of it


def open_console(soft_wrap: bool = False) -> "Console":
    """Return a console on stdout, which cuts and wraps lines for a terminal only, or where COLUMNS is set.

    Texts are shown as they are: square brackets are no markup, and control characters are escaped. A style is an argument of
    `print`, or of a `rich.text.Text` made by `styled_text`.
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        """A console that shows strings as they are, also in the cells of a table."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escape_controls(text), **options | {"markup": False, "emoji": False})

    width = None
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        width = PIPE_WIDTH
    return PlainConsole(file=raw_stream(sys.stdout), highlight=False, soft_wrap=soft_wrap, markup=False, emoji=False, width=width)


NARROW = 110  # columns, below which a table has no borders and leaves out what can be asked for with --json


def open_table(console: "Console", title: str) -> "Table":
    """Return an empty table for a console; without borders where the console is narrow."""
    from rich import box
    from rich.table import Table

    if console.width < NARROW:
        return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    return Table(title=title, title_justify="left")


def add_place(command: argparse.ArgumentParser, work: str) -> None:
    """Add `--on` to a command whose work may run on a cluster."""
    place_help = f"where {work} run: here, ray:local or ray://HOST:PORT (default: run.on of ae.yaml)"
    command.add_argument("--on", metavar="PLACE", help=place_help)


def add_json_option(command: argparse.ArgumentParser) -> None:
    """Add `--json` to a command that prints facts."""
    command.add_argument("--json", action="store_true", help="print JSON, nothing else")


def print_json(document: Any) -> None:
    """Print a document of facts as JSON, for a program: nothing is cut, and a number that is none is an error."""
    print(json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False))


def styled_text(*parts: str | tuple[str, str]) -> "Text":
    """Return a text of parts, of which a pair is a text and its style, such as ("no", "bold red")."""
    from rich.text import Text

    escaped_parts: list[str | tuple[str, str]] = []
    for part in parts:
        if isinstance(part, str):
            escaped_parts.append(escape_controls(part))
        else:
            text, style = part
            escaped_parts.append((escape_controls(text), style))
    return Text.assemble(*escaped_parts)


def report_refused(refused: Mapping[str, str]) -> int:
    """Print each file of a folder that was set aside, with the reason, to stderr.

    Returns:
        0 if there is none, else the exit code of data errors.
    """
    for name, reason in refused.items():
        print(f"refused    {escape_line(name)}: {reason}", file=sys.stderr)
    if refused:
        return DataError.exit_code
    return 0


def require_new(path: Path) -> None:
    """Require a path that does not exist yet, in a folder that can be written to.

    Raises:
        UsageError: the path exists, its folder does not, or the folder is not writable.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: remove it, or pass another path with -o")
    if not path.parent.is_dir():
        raise UsageError(
            f"no folder {path.parent} for {path.name}: type `mkdir -p {shlex.quote(str(path.parent))}`, "
            "or pass another path with -o"
        )
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the folder {path.parent} is not writable: pass another path with -o")


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 sample` or `2 samples`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"


def yes_or_no(flag: bool) -> str:
    """Return a flag in words."""
    if flag:
        return "yes"
    return "no"


def counts_text(counts: Mapping[str, int]) -> str:
    """Return names with their counts, such as `train 1,200, test 300`."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def durations_text(named_seconds: Iterable[tuple[str, float]]) -> str:
    """Return names with their seconds, such as `train 12.3 s, gate 0.4 s`."""
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in named_seconds)
