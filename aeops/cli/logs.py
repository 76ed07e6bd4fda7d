"""`ae logs RECIPE [--follow]`: what the steps of a recipe's runs did, as they did it."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aeops.cli.outputs import add_json_option, print_json

DEFAULT_LINES = 60
POLL_SECONDS = 0.5


def add_command(commands: Any) -> None:
    """Add `ae logs` to the commands of the parser."""
    command = commands.add_parser("logs", help="print what the steps of a recipe's runs did, and where their output is")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument("-n", type=int, default=DEFAULT_LINES, metavar="LINES", help=f"the last ones (default: {DEFAULT_LINES})")
    command.add_argument("--follow", action="store_true", help="go on with new lines until Ctrl-C")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the last lines, then the new ones where they are followed; return 0.

    Raises:
        UsageError: an unknown recipe, one that was never run here, or --json with --follow.
    """
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.errors import UsageError
    from aeops.machine.run_log import run_log_file
    from aeops.project import find_project

    project, recipe = find_project(), arguments.recipe
    require_recipe_name(project, recipe)
    if arguments.n < 1:
        raise UsageError(f"-n: expected 1 or more, got {arguments.n}")
    if arguments.json and arguments.follow:
        raise UsageError("expected --json or --follow, got both: JSON is printed once")
    file = run_log_file(project, recipe)
    if not file.is_file() and not arguments.follow:
        raise UsageError(f"{recipe} has no log here: `ae run {recipe}` writes it")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    lines = text.splitlines()[-arguments.n :]
    if arguments.json:
        print_json({"recipe": recipe, "file": str(file), "lines": list(map(line_document, lines))})
        return 0
    for line in lines:
        print(line)
    if arguments.follow:
        for line in new_lines(file, len(text.encode()), wait_a_moment):
            print(line, flush=True)
    print(f"the output of the steps' processes: {project.logs}")
    return 0


def line_document(line: str) -> dict[str, str]:
    """Return a line as --json has it: time, ISO in UTC, and text."""
    time, _, text = line.partition("  ")
    return {"time": f"{time.replace(' ', 'T')}+00:00", "text": text}


def wait_a_moment() -> bool:
    """Wait until it is worth to look again; return True."""
    import time

    time.sleep(POLL_SECONDS)
    return True


def new_lines(file: Path, position: int, wait: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines that are appended to a file, also after it was rotated, until `wait` returns False.

    Args:
        file: it may not exist yet.
        position: bytes that are known.
        wait: called before each look.
    """
    while wait():
        if not file.is_file():
            continue
        size = file.stat().st_size
        if size < position:  # it was emptied
            position = 0
        with file.open("rb") as stream:
            stream.seek(position)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]  # a line that is still being written waits
        position += len(whole)
        yield from whole.decode("utf-8", errors="replace").splitlines()
