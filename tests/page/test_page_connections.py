"""Clients of the page that are silent, slow or too many, and samples that take much memory."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from aeops.errors import DataError, InfrastructureError
from aeops.kinds.arrays import fit_pasted
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import FitOptions, FittedSample, SampleSpec
from aeops.machine.http_limits import ConnectionLimits, limited_config
from aeops.page import app, try_it
from aeops.page.app import MAX_UPLOADS, SCORING_THREADS, QueueFullError, UploadQueue, build_page_app
from aeops.page.serve import open_page_listener
from aeops.page.try_it import Upload, fit_upload
from aeops.project import Project

from .conftest import Served

LIMITS = ConnectionLimits(head_seconds=0.5, body_seconds=0.5, idle_seconds=1)
HEAD = b"POST /try/digits HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n"


@pytest.fixture(scope="module")
def quick(project: Project) -> Iterator[SimpleNamespace]:
    """The page with short timeouts."""
    server = uvicorn.Server(limited_config(build_page_app(project), LIMITS, log_level="warning"))
    with open_page_listener("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield SimpleNamespace(port=listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def rest(client: socket.socket) -> bytes:
    """All that comes until the other side closes the connection; fails where it does not."""
    received = b""
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def test_the_page_answers_through_a_crowd_of_silent_clients(served: Served) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(int(served.address.rsplit(":", 1)[1])))
        time.sleep(0.2)
        for path in ("/", "/healthz"):
            assert httpx.get(f"{served.address}{path}", timeout=20).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n", HEAD, HEAD + b"abc"])
def test_a_client_that_does_not_go_on_is_dropped(quick: SimpleNamespace, sent: bytes) -> None:
    started = time.monotonic()
    with connected(quick.port) as client:
        client.sendall(sent)
        assert rest(client) == b""
    assert time.monotonic() - started < 10


def test_more_samples_than_places_are_refused_and_the_page_still_shows(served: Served) -> None:
    port = int(served.address.rsplit(":", 1)[1])
    with ExitStack() as stack:
        for _ in range(MAX_UPLOADS):
            stack.enter_context(connected(port)).sendall(HEAD)
        deadline, told = time.monotonic() + 10, httpx.Response(0)
        # The first ones may be read before the others have taken their places, and the service may be too busy to answer them.
        while "too many samples" not in told.text and time.monotonic() < deadline:
            told = httpx.post(f"{served.address}/try/digits", content=b"[1]", timeout=20)
        assert (told.status_code, told.headers.get("retry-after")) == (503, "1")
        assert httpx.get(f"{served.address}/r/digits", timeout=20).status_code == 200
    deadline = time.monotonic() + 10
    while told.status_code == 503 and time.monotonic() < deadline:  # the places are free again
        told = httpx.post(f"{served.address}/try/digits", content=b"[1]", timeout=20)
    assert told.status_code == 422


class CountingKind:
    """A kind of data that counts how many samples are made at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.02)
        self.now -= 1
        return FittedSample(np.zeros((1, 1, 1, 1)), [], [])


def test_one_image_is_decoded_at_a_time() -> None:
    kind: Any = CountingKind()
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    upload, spec = Upload(content.getvalue(), "image/png", "a.png"), SampleSpec((1, 1, 1), (1, 1, 1), 0, 255)
    threads = [threading.Thread(target=fit_upload, args=(kind, upload, spec, FitOptions())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kind.most == 1


def test_a_sample_waits_for_others_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(try_it, "DECODE_WAIT", 0.1)
    spec = SampleSpec((1, 1, 1), (1, 1, 1), 0, 255)
    upload = Upload(b"[1]", "text/plain", "a")
    with try_it._decode_lock, pytest.raises(InfrastructureError, match="try again in a few seconds"):
        fit_upload(load_kind("image"), upload, spec, FitOptions())
    assert fit_upload(load_kind("image"), upload, spec, FitOptions()).batch.shape == (1, 1, 1, 1)


def test_a_sample_waits_for_a_thread_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "THREAD_WAIT", 0.1)
    finish = threading.Event()
    waited: Any = lambda: finish.wait(20)  # noqa: E731

    async def fill_all_threads() -> None:
        upload_queue = UploadQueue()
        async with anyio.create_task_group() as tasks:
            for _ in range(SCORING_THREADS):
                tasks.start_soon(upload_queue.run, waited)
            await anyio.sleep(0.1)
            with pytest.raises(QueueFullError):
                await upload_queue.run(waited)
            finish.set()
        await upload_queue.run(waited)  # the threads are free again

    anyio.run(fill_all_threads)


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["[[],[],", "{},", '{"a":{'])
def test_pasted_json_of_countless_lists_is_refused_before_it_is_parsed(piece: str) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match="expected JSON of at most 200,000 lists"):
        fit_pasted("[" + piece * (2**22 // len(piece)), SampleSpec((1, 8, 8), (1, 8, 8), 0, 255), FitOptions())
    assert time.monotonic() - started < 1
