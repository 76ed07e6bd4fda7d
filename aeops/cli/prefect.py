"""`ae prefect ARG...`: run Prefect's own command line with the address and the secret of this project's server."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.machine.prefect_access import PrefectAccess
    from aeops.project import Project


def add_command(commands: Any) -> None:
    """Add `ae prefect` to the commands of the parser; every argument after it is Prefect's, also those with dashes."""
    command = commands.add_parser(
        "prefect",
        help="run Prefect's command line, logged in to this project's server: ae prefect deployment ls",
        add_help=False,
        prefix_chars="\0",
    )
    command.add_argument("arguments", nargs="*")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run Prefect's command line and return its exit code.

    Raises:
        InfrastructureError: no server of this project responds.
    """
    import subprocess
    import sys

    from aeops.machine.environment import prepare_environment
    from aeops.machine.prefect_access import use_prefect
    from aeops.project import find_project

    project = find_project()
    prepare_environment(project)
    use_prefect(find_access(project))
    return subprocess.run([sys.executable, "-m", "prefect", *arguments.arguments], check=False).returncode


def find_access(project: "Project") -> "PrefectAccess":
    """Return the access to the server that PREFECT_API_URL names, else to that of `ae up`.

    Raises:
        InfrastructureError: no server is named and none runs.
    """
    from aeops.errors import InfrastructureError
    from aeops.machine.prefect_access import external_prefect
    from aeops.machine.servers import find_running_prefect

    access = external_prefect() or find_running_prefect(project)
    if access is None:
        raise InfrastructureError("no Prefect server of this project responds: type `ae up`, or set PREFECT_API_URL")
    return access
