"""`ae serve RECIPE`: the scoring service over a registered version, or over whatever the alias is on."""

import argparse
import errno
import ipaddress
import json
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.machine.ports import holder
from aeops.project import Project, find_project

if TYPE_CHECKING:
    import uvicorn

    from aeops.bundle.detector import Detector
    from aeops.recipe.reader import Recipe
    from aeops.serving.rollover import Sources
    from aeops.serving.served_version import Served
    from aeops.serving.service import Service

STOP_WITHIN = 10  # seconds for answers that are on their way when the service is stopped


def add(verbs: Any) -> None:
    verb = verbs.add_parser("serve", help="serve a registered version over HTTP")
    verb.add_argument("recipe", help="name of a file in recipes/, such as digits")
    verb.add_argument(
        "--version", default="champion", help="a version, or an alias that is followed as it moves (default: champion)"
    )
    verb.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine only)")
    verb.add_argument("--port", type=int, default=8100, help="port to listen at, 0 for any that is free (default: 8100)")
    verb.add_argument(
        "--password-file", type=Path, help="ask for the password in this file (user ae); needed where others can reach --host"
    )
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop (SIGINT, SIGTERM).

    Raises:
        AeError: there is no such version, or it does not answer.
    """
    from aeops.recipe.reader import load_recipe

    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    password = read_password(arguments.host, arguments.password_file)
    with listen(arguments.host, arguments.port, arguments.recipe) as listener:
        serve(project, recipe, arguments.version, listener, password)
    return 0


def read_password(host: str, file: Path | None) -> str | None:
    """The password that is asked for; None where nobody is asked, which is allowed on this machine alone.

    Raises:
        UsageError: others can reach the address and there is no password, or it cannot be read.
    """
    if file is None:
        if is_loopback(host):
            return None
        raise UsageError(
            f"--host {host} lets others reach the service: give --password-file FILE, whose first line is the password of the "
            "user ae, or leave --host out"
        )
    try:
        password = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--password-file {file} cannot be read ({error}): give a text file") from error
    if not password:
        raise UsageError(f"--password-file {file}: its first line is empty; a password is needed there")
    return password


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, recipe: str) -> socket.socket:
    """The listening socket, taken before anything slow is done.

    Raises:
        UsageError: no such address on this machine, or no such port.
        InfrastructureError: the port is taken; says by whom, where that can be seen.
    """
    from aeops.serving.limits import Limits
    from aeops.serving.timeouts import keep_only_living

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
        keep_only_living(listener, Limits())
        return listener
    except OverflowError as error:
        raise UsageError(f"port {port} given; 0 to 65535 is allowed") from error
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise UsageError(f"cannot listen at {host} ({error.strerror}); an address of this machine is allowed") from error
        reason = f"is taken by {holder(port)}" if error.errno == errno.EADDRINUSE else "may not be used by you"
        raise InfrastructureError(
            f"port {port} {reason}: stop that, or type `ae serve {recipe} --port {port + 1 if port >= 1024 else 8100}`"
        ) from error


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


def sources(project: Project, recipe: str, which: str) -> "Sources":
    """Where versions come from; a version given by its number stays."""
    from aeops.bundle.detector import Detector
    from aeops.registry.watch import Watch
    from aeops.serving.rollover import Sources
    from aeops.serving.served_version import Served

    return Sources(
        fetch=lambda version: fetch(project, recipe, version),
        rehearse=lambda bundle: rehearse(project, recipe, bundle),
        load=lambda version, bundle: Served(recipe, version, Detector(bundle)),
        watch=None if which.isdecimal() else Watch(project, recipe, which),
    )


def serve(project: Project, recipe: "Recipe", which: str, listener: socket.socket, password: str | None) -> None:
    import logging

    from aeops.predictions.journal import Journal
    from aeops.serving.service import Service

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("aeops.serving").setLevel(logging.INFO)
    versions, journal = sources(project, recipe.name, which), Journal(project, recipe.name)
    service = Service(recipe.name, journal=journal, sources=versions, rules=recipe.serving, password=password)
    server = uvicorn_server(service)

    def stop() -> None:
        server.should_exit = True

    service.begin(which, lambda served: print(greeting(served, listener, password), flush=True), stop)
    server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure


def uvicorn_server(service: "Service") -> "uvicorn.Server":
    import uvicorn

    from aeops.serving.app import ASKED, service_app
    from aeops.serving.timeouts import Careful

    door = service_app(service)
    config = uvicorn.Config(
        door,
        loop="uvloop",
        http=partial(Careful, service, {path.encode(): path for path in ASKED}, door),  # type: ignore[arg-type]  # makes one
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


def greeting(served: "Served", listener: socket.socket, password: str | None) -> str:
    """The address, and a command that can be pasted."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
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
