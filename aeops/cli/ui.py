"""`ae ui`: the page over all recipes. Where the stack serves it already, says where; else serves it itself until Ctrl-C."""

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae ui` to the commands of the parser."""
    command = commands.add_parser("ui", help="open the page over all recipes: health, champions, alarms, a box to try a sample")
    command.add_argument("--port", type=int, default=8080, help="port to listen at, 0 for any that is free (default: 8080)")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine only)")
    command.add_argument(
        "--password-file", type=Path, help="its first line is the password of the user `ae`; needed for another host"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints where the stack's page is, or serves one."""
    from aeops.page.serve import serve_page
    from aeops.page.stack_status import check_service, read_service_notes
    from aeops.project import find_project

    project = find_project()
    if note := read_service_notes(project).get("page"):
        found = check_service("page", note, None)
        if found.state == "up":
            print(f"the stack serves the page at {found.address}; `ae down` stops it")
            return 0
    serve_page(project, arguments.host, arguments.port, arguments.password_file)
    return 0
