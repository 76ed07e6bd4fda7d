"""`ae up`: starts the local stack and waits until it is well; `ae down` stops it, `ae status` says how it is."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from aeops.errors import UsageError
from aeops.project import find_project

if TYPE_CHECKING:
    from aeops.machine.stack_settings import Settings
    from aeops.project import Project

PORTS = {"mlflow_port": 5000, "prefect_port": 4200, "page_port": 8080, "score_port": 8100}


def add_command(commands: Any) -> None:
    """Add `ae up` to the commands of the parser."""
    command = commands.add_parser("up", help="start servers, worker, schedules, scoring services and page, and keep them running")
    for name, port in PORTS.items():
        what = "port of the first scoring service; each further one has the next" if name == "score_port" else "its port"
        verb.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="PORT", help=f"{what} (default: {port})")
    command.add_argument("--host", metavar="ADDRESS", help="listen there too, not on this machine alone; needs --password-file")
    command.add_argument("--password-file", metavar="FILE", help="its first line is the password, its reader nobody but you")
    command.add_argument("--notify", metavar="URL", help="tell failures there, as a POST of JSON (default: AE_NOTIFY_URL)")
    command.add_argument("--foreground", action="store_true", help="stay until SIGTERM or Ctrl-C, then stop everything")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 once everything answers."""
    from aeops.machine.environment import prepare_environment, require_disk_space
    from aeops.stack.startup import bring_up, show_addresses, stay_in_foreground, wait_for_stack

    project = find_project()
    settings = requested_settings(project, arguments)
    require_disk_space(project)
    prepare_environment(project)
    bring_up(project, settings)
    wait_for_stack(project, settings)
    show_addresses(project, settings)
    if arguments.foreground:
        stay_in_foreground(project)
    return 0


def requested_settings(project: "Project", arguments: argparse.Namespace) -> "Settings":
    """Return the options given, else those of the stack that runs, else the defaults.

    Raises:
        UsageError: an address without a password, or other options than those of the stack that runs.
    """
    from dataclasses import asdict, replace
    from pathlib import Path
    from uuid import uuid4

    from aeops.machine.passwords import read_password, server_password
    from aeops.machine.stack_settings import Settings, read_settings

    options: dict[str, Any] = {}
    for name in (*PORTS, "host", "password_file"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    if "password_file" in options:
        options["password_file"] = str(Path(options["password_file"]).expanduser().resolve())
    if notify_url := arguments.notify or os.environ.get("AE_NOTIFY_URL"):
        options["notify_url"] = notify_url
    running = read_settings(project)
    if running:
        current = asdict(running)
        differences = []
        for name, value in options.items():
            if name != "notify_url" and current[name] != value:
                differences.append(f"{name.replace('_', '-')} {current[name]}, not {value}")
        if differences:
            raise UsageError(
                f"the stack runs already, with {', '.join(differences)}: type `ae down`, then the same command again"
            )
    settings = replace(running or Settings(), **options, request_id=uuid4().hex)
    if settings.password_file is None:
        server_password(settings.host, None)
    else:
        read_password(Path(settings.password_file))
    check_ports(settings)
    return settings


def check_ports(settings: "Settings") -> None:
    """Raises UsageError where one cannot be a port, or two are the same."""
    ports = {f"--{name.replace('_', '-')}": getattr(settings, name) for name in PORTS}
    wrong = [f"{option} {port}: 1 to 65535 is allowed" for option, port in ports.items() if not 0 < port < 65536]
    if len(set(ports.values())) < len(ports):
        wrong.append("one port for two: " + ", ".join(f"{option} {port}" for option, port in ports.items()))
    if wrong:
        raise UsageError("\n".join(wrong))
