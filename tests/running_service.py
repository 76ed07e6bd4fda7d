"""The scoring service of one detector, in a thread, behind the sockets and the server that `ae serve` gives it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from aeops.bundle.detector import Detector
from aeops.cli.serve import open_service_listener, uvicorn_server
from aeops.serving.limits import RequestLimits
from aeops.serving.served_version import ServedVersion
from aeops.serving.service import ScoringService


@contextmanager
def running(
    detector: Detector, limits: RequestLimits, password: str | None = None, *, own_names_only: bool = False
) -> Iterator[SimpleNamespace]:
    """The service until the block ends: its `port`, `service` and `server`."""
    service = ScoringService("small", limits=limits, password=password, own_names_only=own_names_only)
    service.rollover.current_version = ServedVersion("small", "1", detector)
    server = uvicorn_server(service)
    with open_service_listener("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield SimpleNamespace(port=listener.getsockname()[1], service=service, server=server)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
