"""The scoring service of one detector, in a thread, behind the sockets and the server that `ae serve` gives it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from aeops.bundle.detector import Detector
from aeops.cli.serve import listen, uvicorn_server
from aeops.serving.limits import Limits
from aeops.serving.served_version import Served
from aeops.serving.service import Service


@contextmanager
def running(detector: Detector, limits: Limits, password: str | None = None) -> Iterator[SimpleNamespace]:
    """The service until the block ends: its `port`, `service` and `server`."""
    service = Service("small", limits=limits, password=password)
    service.succession.current = Served("small", "1", detector)
    server = uvicorn_server(service)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield SimpleNamespace(port=listener.getsockname()[1], service=service, server=server)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
