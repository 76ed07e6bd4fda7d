"""`ae serve RECIPE`: the scoring service over a registered version, or over whatever the alias is on."""

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

    from aeops.bundle.detector import Detector
    from aeops.recipe.reader import Recipe
    from aeops.serving.rollover import VersionSource
    from aeops.serving.served_version import ServedVersion
    from aeops.serving.service import ScoringService

STOP_WITHIN = 10  # seconds for answers that are on their way when the service is stopped


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
    """Serves until it is told to stop (SIGINT, SIGTERM).

    Raises:
        AeError: there is no such version, or it does not answer.
    """
    from aeops.recipe.reader import load_recipe

    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    password = server_password(arguments.host, arguments.password_file)
    with listen(arguments.host, arguments.port) as listener:
        serve(project, recipe, arguments.version, listener, password)
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Return the listening socket, taken before anything slow is done; raises as `open_listener` does."""
    from aeops.serving.limits import RequestLimits
    from aeops.serving.timeouts import set_socket_options

    listener = open_listener(host, port, backlog=512, default_port=8100)
    set_socket_options(listener, RequestLimits())
    return listener


def fetch(project: Project, recipe: str, which: str) -> tuple[str, Path]:
    """The version's number and its bundle on disk. In a process of its own: this one shall hold no MLflow."""
    from aeops.machine.child_process import run_module

    arguments = ["aeops.registry.fetch", recipe, which]
    output = run_module(arguments, root=project.root, home=project.home, log=project.logs / f"fetch-{recipe}.log")
    found = json.loads(output.splitlines()[-1])
    return found["version"], Path(found["bundle"])


def rehearse(project: Project, recipe: str, bundle: Path) -> None:
    """Lets a bundle answer its example in a process of its own.

    Raises:
        DataError: it does not; also where it takes the process with it.
    """
    from aeops.machine.child_process import run_module

    log = project.logs / f"rehearse-{recipe}.log"
    try:
        run_module(["aeops.serving.smoke_test", str(bundle)], root=project.root, home=project.home, log=log)
    except InfrastructureError as error:
        raise DataError(f"the model in {bundle} does not answer its own example: {error}") from error


def sources(project: Project, recipe: str, which: str) -> "VersionSource":
    """Where versions come from; a version given by its number stays."""
    from aeops.bundle.detector import Detector
    from aeops.registry.alias_watch import AliasWatch
    from aeops.serving.rollover import VersionSource
    from aeops.serving.served_version import ServedVersion

    return VersionSource(
        fetch=lambda version: fetch(project, recipe, version),
        rehearse=lambda bundle: rehearse(project, recipe, bundle),
        load=lambda version, bundle: ServedVersion(recipe, version, Detector(bundle)),
        watch=None if which.isdecimal() else AliasWatch(project, recipe, which),
    )


def serve(project: Project, recipe: "Recipe", which: str, listener: socket.socket, password: str | None) -> None:
    import logging

    from aeops.predictions.journal import Journal
    from aeops.serving.service import ScoringService

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("aeops.serving").setLevel(logging.INFO)
    versions, journal = sources(project, recipe.name, which), Journal(project, recipe.name)
    service = ScoringService(recipe.name, journal=journal, sources=versions, rules=recipe.serving, password=password)
    server = uvicorn_server(service)

    def stop() -> None:
        server.should_exit = True

    service.begin(which, lambda served: print(greeting(served, listener, password), flush=True), stop)
    server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure


def uvicorn_server(service: "ScoringService") -> "uvicorn.Server":
    import uvicorn

    from aeops.serving.app import SCORING_PATHS, service_app
    from aeops.serving.timeouts import TimeoutProtocol

    door = service_app(service)
    config = uvicorn.Config(
        door,
        loop="uvloop",
        http=partial(TimeoutProtocol, service, {path.encode(): path for path in SCORING_PATHS}, door),  # type: ignore[arg-type]  # makes one
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks where a request came from
        server_header=False,
        timeout_keep_alive=service.limits.idle_seconds,
        timeout_graceful_shutdown=STOP_WITHIN,
        limit_concurrency=service.limits.connections,
    )
    return uvicorn.Server(config)


def greeting(served: "ServedVersion", listener: socket.socket, password: str | None) -> str:
    """The address, and a command that can be pasted."""
    host, port = listener.getsockname()[:2]
    address = http_address(host, port)
    curl = "curl -s" if password is None else "curl -s -u ae"
    body = f"json.dumps(dict(inputs={sample(served.detector)}))"
    return (
        f"{served.name} {served.version} (bundle {served.detector.sha256[:12]}) answers at {address}; stop it with Ctrl-C\n"
        f'try: python3 -c "import json; print({body})" | {curl} {address}/score -d @-\n'
        f"see: {curl} {address}/model, and {address}/docs"
    )


def sample(detector: "Detector") -> str:
    """A sample in Python's words."""
    return detector.data_kind.python_example(detector.spec)
