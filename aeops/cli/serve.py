"""`ae serve RECIPE`: serve a registered version over HTTP, or follow an alias."""

import argparse
import json
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import DataError, InfrastructureError
from aeops.machine.network import http_address, open_listener
from aeops.machine.passwords import server_password
from aeops.project import Project, find_project
from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    import uvicorn

    from aeops.recipe.reader import Recipe
    from aeops.serving.rollover import FetchedBundle, VersionSource
    from aeops.serving.served_version import ServedVersion
    from aeops.serving.service import ScoringService

SHUTDOWN_SECONDS = 10  # to finish the open requests when the service is stopped


def add_command(commands: Any) -> None:
    """Add `ae serve` to the commands of the parser."""
    command = commands.add_parser("serve", help="serve a registered version over HTTP")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument(
        "--version", default=CHAMPION, help="a version, or an alias that is followed as it moves (default: champion)"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine only)")
    command.add_argument("--port", type=int, default=8100, help="port to listen at, 0 for any that is free (default: 8100)")
    command.add_argument(
        "--password-file", type=Path, help="ask for the password in this file (user ae); needed where others can reach --host"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return 0.

    Raises:
        AeError: there is no such version, or it fails its smoke test.
    """
    from aeops.recipe.reader import load_recipe

    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    password = server_password(arguments.host, arguments.password_file)
    with open_service_listener(arguments.host, arguments.port) as listener:
        serve_recipe(project, recipe, arguments.version, listener, password)
    return 0


def open_service_listener(host: str, port: int) -> socket.socket:
    """Return the listening socket, opened before anything slow; raises as `open_listener` does."""
    from aeops.machine.http_limits import set_socket_options
    from aeops.serving.limits import RequestLimits

    listener = open_listener(host, port, backlog=512, default_port=8100)
    set_socket_options(listener, RequestLimits())
    return listener


def fetch_version(project: Project, recipe: str, version_or_alias: str) -> "FetchedBundle":
    """Return a version's verified bundle.

    It runs in a process of its own, so that the service does not load MLflow.
    """
    from aeops.machine.child_process import run_module
    from aeops.serving.rollover import FetchedBundle

    arguments = ["aeops.registry.fetch", recipe, version_or_alias]
    output = run_module(arguments, root=project.root, home=project.home, log=project.logs / f"fetch-{recipe}.log")
    document = json.loads(output.splitlines()[-1])
    return FetchedBundle(document["version"], Path(document["bundle"]), document["sha256"])


def run_smoke_test(project: Project, recipe: str, bundle: Path) -> None:
    """Let a bundle answer its example in a process of its own.

    Raises:
        DataError: the answer is wrong, or the process ends without one.
    """
    from aeops.machine.child_process import run_module

    log = project.logs / f"rehearse-{recipe}.log"
    try:
        run_module(["aeops.serving.smoke_test", str(bundle)], root=project.root, home=project.home, log=log)
    except InfrastructureError as error:
        raise DataError(f"the model in {bundle} does not answer its own example: {error}") from error


def version_source(project: Project, recipe: "Recipe", version_or_alias: str) -> "VersionSource":
    """Return the source of versions: the ledger's champion, the version of another alias, or the one with that number."""
    from aeops.bundle.detector import Detector
    from aeops.registry.alias_watch import AliasWatch
    from aeops.registry.champion_anchor import LedgerChampion
    from aeops.serving.rollover import VersionSource
    from aeops.serving.served_version import ServedVersion

    name, alias_watch, champion = recipe.name, None, None
    if not version_or_alias.isdecimal():
        alias_watch = AliasWatch(project, name, version_or_alias)
    if version_or_alias == CHAMPION:
        champion = LedgerChampion(project, recipe)
    return VersionSource(
        fetch=lambda version: fetch_version(project, name, version),
        smoke_test=lambda bundle: run_smoke_test(project, name, bundle),
        load=lambda bundle: ServedVersion(name, bundle.version, Detector(bundle.folder, bundle.sha256)),
        alias_watcher=alias_watch,
        champion=champion,
    )


def serve_recipe(
    project: Project, recipe: "Recipe", version_or_alias: str, listener: socket.socket, password: str | None
) -> None:
    """Serve a version on the listener until the service is stopped.

    Raises:
        AeError: the version cannot be served.
    """
    import logging

    from aeops.predictions.journal import Journal
    from aeops.serving.service import ScoringService

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("aeops.serving").setLevel(logging.INFO)
    source, journal = version_source(project, recipe, version_or_alias), Journal(project, recipe.name)
    service = ScoringService(
        recipe.name, journal=journal, source=source, rules=recipe.serving, password=password, own_names_only=password is None
    )
    service.address = http_address(*listener.getsockname()[:2])
    server = uvicorn_server(service)

    def print_address(version: "ServedVersion") -> None:
        print(address_text(version, listener, password), flush=True)

    def stop_server() -> None:
        server.should_exit = True

    service.start(version_or_alias, print_address, stop_server)
    server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure


def uvicorn_server(service: "ScoringService") -> "uvicorn.Server":
    """Return the HTTP server of a service, with its limits and timeouts."""
    import uvicorn

    from aeops.serving.app import SCORING_PATHS, service_app
    from aeops.serving.timeouts import TimeoutProtocol

    app = service_app(service)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(TimeoutProtocol, service, {path.encode(): path for path in SCORING_PATHS}, app),  # type: ignore[arg-type]  # makes one
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the address of a client is not used
        server_header=False,
        timeout_keep_alive=service.limits.idle_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        limit_concurrency=service.limits.connections,
    )
    return uvicorn.Server(config)


def address_text(version: "ServedVersion", listener: socket.socket, password: str | None) -> str:
    """Return the address, and commands that can be pasted."""
    from aeops.serving.openapi import curl_example

    host, port = listener.getsockname()[:2]
    address = http_address(host, port)
    curl = "curl -s -u ae" if password is not None else "curl -s"
    return (
        f"{version.name} {version.version} (bundle {version.detector.sha256[:12]}) answers at {address}; stop it with Ctrl-C\n"
        f"try: {curl_example(version.detector, address, password is not None)}\n"
        f"see: {curl} {address}/model, and {address}/docs"
    )
