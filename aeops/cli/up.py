"""`ae up`: start the local stack and wait until it is healthy; `ae down` stops it, `ae status` shows its state."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from aeops.errors import UsageError
from aeops.project import find_project

if TYPE_CHECKING:
    from aeops.machine.stack_settings import Settings
    from aeops.project import Project

DEFAULT_PORTS = {"mlflow_port": 5000, "prefect_port": 4200, "page_port": 8080, "score_port": 8100}
PORT_HELP = {
    "mlflow_port": "its port",
    "prefect_port": "its port",
    "page_port": "its port",
    "score_port": "port of the first scoring service; each further one has the next",
}


def add_command(commands: Any) -> None:
    """Add `ae up` to the commands of the parser."""
    command = commands.add_parser("up", help="start servers, worker, schedules, scoring services and page, and keep them running")
    for name, port in DEFAULT_PORTS.items():
        command.add_argument(option_name(name), type=int, metavar="PORT", help=f"{PORT_HELP[name]} (default: {port})")
    command.add_argument("--host", metavar="ADDRESS", help="listen there too, not on this machine alone; needs --password-file")
    command.add_argument("--password-file", metavar="FILE", help="its first line is the password, readable by you alone")
    command.add_argument("--foreground", action="store_true", help="stay until SIGTERM or Ctrl-C, then stop everything")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Start the stack and return 0 once every service answers."""
    from aeops.alerts.receivers import report_problems
    from aeops.machine.access import require_writable_checkout
    from aeops.machine.environment import prepare_environment, require_disk_space
    from aeops.stack.startup import bring_up, show_addresses, stay_in_foreground, wait_for_stack

    project = find_project()
    settings = requested_settings(project, arguments)
    report_problems(project)  # services and runs of the stack inherit this environment
    require_disk_space(project)
    require_writable_checkout(project)
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
    from dataclasses import replace
    from pathlib import Path
    from uuid import uuid4

    from aeops.machine.passwords import read_password, server_password
    from aeops.machine.stack_settings import Settings, read_settings

    options: dict[str, Any] = {}
    for name in (*DEFAULT_PORTS, "host", "password_file"):
        value = getattr(arguments, name)
        if value is not None:
            options[name] = value
    if "password_file" in options:
        options["password_file"] = str(Path(options["password_file"]).expanduser().resolve())
    if os.environ.get("AE_NOTIFY_URL"):
        raise UsageError("AE_NOTIFY_URL is no longer read: name the receiver in ae.yaml (`ae docs notifications`), then unset it")
    running_settings = read_settings(project)
    if running_settings is None:
        settings = replace(Settings(), **options, request_id=uuid4().hex)
    else:
        _require_same_options(running_settings, options)
        settings = replace(running_settings, **options, request_id=uuid4().hex)
    if settings.password_file is None:
        server_password(settings.host, None)
    elif not read_password(Path(settings.password_file)).isascii():
        raise UsageError(f"--password-file {settings.password_file}: Prefect takes ASCII alone, expected another password")
    check_ports(settings)
    return settings


def _require_same_options(running_settings: "Settings", options: dict[str, Any]) -> None:
    conflicting_options = []
    for name, value in options.items():
        current_value = getattr(running_settings, name)
        if current_value != value:
            conflicting_options.append(f"{name.replace('_', '-')} {current_value}, not {value}")
    if conflicting_options:
        raise UsageError(
            f"the stack runs already, with {', '.join(conflicting_options)}: type `ae down`, then the same command again"
        )


def check_ports(settings: "Settings") -> None:
    """Require ports from 1 to 65535, each used once.

    Raises:
        UsageError: a port is out of range, or two options share one.
    """
    ports = {}
    for name in DEFAULT_PORTS:
        ports[option_name(name)] = getattr(settings, name)
    problems = []
    for option, port in ports.items():
        if not 0 < port < 65536:
            problems.append(f"{option}: expected a port from 1 to 65535, got {port}")
    if len(set(ports.values())) < len(ports):
        problems.append("expected four different ports, got " + ", ".join(f"{option} {port}" for option, port in ports.items()))
    if problems:
        raise UsageError("\n".join(problems))


def option_name(name: str) -> str:
    """Return the command line's option of a setting, such as `--page-port`."""
    return f"--{name.replace('_', '-')}"
