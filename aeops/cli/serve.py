"""`ae serve RECIPE`: the scoring service over a registered version."""

import argparse
import errno
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import InfrastructureError, UsageError
from aeops.ports import holder
from aeops.project import Project, find_project

if TYPE_CHECKING:
    from aeops.serving.detector import Detector


def add(verbs: Any) -> None:
    verb = verbs.add_parser("serve", help="serve a registered version over HTTP")
    verb.add_argument("recipe", help="name of a file in recipes/, such as digits")
    verb.add_argument("--version", default="champion", help="a version or an alias (default: champion)")
    verb.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine only)")
    verb.add_argument("--port", type=int, default=8100, help="port to listen at, 0 for any that is free (default: 8100)")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop (SIGINT, SIGTERM)."""
    from aeops.recipe import load_recipe

    project = find_project()
    load_recipe(project, arguments.recipe, with_keys=True)
    with listen(arguments.host, arguments.port, arguments.recipe) as listener:
        version, bundle = fetch(project, arguments.recipe, arguments.version)
        serve(listener, arguments.recipe, version, bundle)
    return 0


def listen(host: str, port: int, recipe: str) -> socket.socket:
    """The listening socket, taken before anything slow is done.

    Raises:
        UsageError: no such address on this machine, or no such port.
        InfrastructureError: the port is taken; says by whom, where that can be seen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
        # Else every answer waits 40 ms for the client's acknowledgement: asyncio sets this only on sockets it makes itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
    from aeops.process import run_module

    arguments = ["aeops.registry.fetch", recipe, which]
    output = run_module(arguments, root=project.root, home=project.home, log=project.logs / "fetch.log")
    found = json.loads(output.splitlines()[-1])
    return found["version"], Path(found["bundle"])


def serve(listener: socket.socket, recipe: str, version: str, bundle: Path) -> None:
    import uvicorn

    from aeops.serving.app import build_app
    from aeops.serving.detector import Detector

    detector = Detector(bundle)
    detector.score(detector.example())  # the first answer takes longest: let no user wait for it
    print(greeting(detector, recipe, version, listener), flush=True)
    config = uvicorn.Config(build_app(detector, recipe, version), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def greeting(detector: "Detector", recipe: str, version: str, listener: socket.socket) -> str:
    """The address, and a command that can be pasted."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    sample = "'a text'" if detector.kind == "text" else f"{detector.low:g}"
    for size in reversed(detector.shape if detector.kind != "text" else ()):
        sample = f"[{sample}]*{size}"
    return (
        f"{recipe} {version} (bundle {detector.sha256[:12]}) answers at {address}; stop it with Ctrl-C\n"
        f'try: python3 -c "import json; print(json.dumps(dict(inputs={sample})))" | curl -s {address}/score -d @-\n'
        f"see: curl -s {address}/model"
    )
