"""`ae up`: starts the local stack and waits until it is well; `ae down` stops it, `ae status` says how it is."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from aeops.errors import UsageError
from aeops.project import find_project

if TYPE_CHECKING:
    from aeops.machine.stack_settings import Settings
    from aeops.project import Project

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORTS = {"mlflow_port": 5000, "prefect_port": 4200, "page_port": 8080, "score_port": 8100}


def add(verbs: Any) -> None:
    verb = verbs.add_parser("up", help="start servers, worker, schedules, scoring services and page, and keep them running")
    for name, port in PORTS.items():
        what = "port of the first scoring service; each further one has the next" if name == "score_port" else "its port"
        verb.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="PORT", help=f"{what} (default: {port})")
    verb.add_argument("--host", metavar="ADDRESS", help="listen there too, not on this machine alone; needs --password-file")
    verb.add_argument("--password-file", metavar="FILE", help="its first line is the password, its reader nobody but you")
    verb.add_argument("--notify", metavar="URL", help="tell failures there, as a POST of JSON (default: AE_NOTIFY_URL)")
    verb.add_argument("--foreground", action="store_true", help="stay until SIGTERM or Ctrl-C, then stop everything")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 once everything answers."""
    from aeops.machine.environment import prepare_environment, require_room
    from aeops.stack.startup import bring_up, show_addresses, stay, wait_until_well

    project = find_project()
    settings = asked(project, arguments)
    require_room(project)
    prepare_environment(project)
    bring_up(project, settings)
    wait_until_well(project, settings)
    show_addresses(project, settings)
    if arguments.foreground:
        stay(project)
    return 0


def asked(project: "Project", arguments: argparse.Namespace) -> "Settings":
    """What is asked for: the options given, else those of the stack that runs, else the defaults.

    Raises:
        UsageError: an address without a password, or other options than those of the stack that runs.
    """
    from dataclasses import asdict, replace
    from pathlib import Path
    from uuid import uuid4

    from aeops.machine.stack_settings import Settings, read_password, read_settings

    given = {name: getattr(arguments, name) for name in (*PORTS, "host", "password_file", "notify")}
    given["notify"] = given["notify"] or os.environ.get("AE_NOTIFY_URL") or None
    given = {name: value for name, value in given.items() if value is not None}
    if "password_file" in given:
        given["password_file"] = str(Path(given["password_file"]).expanduser().resolve())
        read_password(Path(given["password_file"]))
    running = read_settings(project)
    if running:
        fixed = {name: value for name, value in given.items() if name != "notify" and asdict(running)[name] != value}
        if fixed:
            told = ", ".join(f"{name.replace('_', '-')} {asdict(running)[name]}, not {value}" for name, value in fixed.items())
            raise UsageError(f"the stack runs already, with {told}: type `ae down`, then the same command again")
    settings = replace(running or Settings(), **given, asked=uuid4().hex)
    if settings.host not in LOOPBACK and settings.password_file is None:
        raise UsageError(f"--host {settings.host} is open to others: give --password-file FILE with it (127.0.0.1 needs none)")
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
