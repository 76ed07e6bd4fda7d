"""`ae ui`: print the address of the stack's page over all recipes; if it does not run, serve one until Ctrl-C."""

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae ui` to the commands of the parser."""
    command = commands.add_parser(
        "ui", help="open the page over all recipes: health, champions, alarms, and a form to try a sample"
    )
    command.add_argument("--port", type=int, default=8080, help="port to listen at, 0 for any that is free (default: 8080)")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine only)")
    command.add_argument(
        "--password-file", type=Path, help="its first line is the password of the user `ae`; needed for another host"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the address of the stack's page, or serve a page; return 0."""
    from aeops.machine.service_records import read_service_record
    from aeops.page.serve import serve_page
    from aeops.page.stack_status import check_service
    from aeops.project import find_project

    project = find_project()
    if record := read_service_record(project, "page"):
        status = check_service(record, None)
        if status.state == "up":
            print(f"the stack serves the page at {status.address}; `ae down` stops it")
            return 0
    serve_page(project, arguments.host, arguments.port, arguments.password_file)
    return 0
