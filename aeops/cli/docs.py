"""`ae docs [PAGE]`: print a page of the documentation, such as docs/gates.md, which recipes and messages name."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".md"


def add_command(commands: Any) -> None:
    """Add `ae docs` to the commands of the parser."""
    command = commands.add_parser("docs", help="list the pages of the documentation, or print one")
    command.add_argument("page", nargs="?", metavar="PAGE", help="such as gates or docs/gates.md (default: list all)")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list of pages or the text of one; return 0. It works outside of a project, too.

    Raises:
        UsageError: no such page.
        DataError: ae-pipeline was installed without its documentation.
    """
    from aeops.errors import DataError
    from aeops.project_files.templates import shipped_docs

    pages = shipped_docs()
    if not pages:
        raise DataError("ae-pipeline was installed without its documentation: install it from its wheel")
    if arguments.page is not None:
        name = find_page(arguments.page, pages)
        text = pages[name].read_text(encoding="utf-8")
        if arguments.json:
            print_json({"page": name, "text": text})
        else:
            print(text, end="")
        return 0
    titles = {name: read_title(file) for name, file in pages.items()}
    if arguments.json:
        print_json({"pages": titles})
        return 0
    for name, title in titles.items():
        print(f"{name:<20} {title}")
    print("\nprint one: ae docs PAGE, such as ae docs quick-start")
    return 0


def find_page(name: str, pages: "dict[str, Path]") -> str:
    """Return the name of the page that a person means by `gates`, `gates.md` or `docs/gates.md`.

    Raises:
        UsageError: no such page.
    """
    from ae_models.spec.messages import suggest_match
    from aeops.errors import UsageError

    page = name.removeprefix("docs/").removesuffix(SUFFIX)
    if page not in pages:
        raise UsageError(f"no page {name!r}{suggest_match(page, list(pages))}; `ae docs` lists all")
    return page


def read_title(file: "Path") -> str:
    """Return the title of a page: its first heading."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            return line[2:]
    return ""
