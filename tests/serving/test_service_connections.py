"""Clients that are slow, silent, endless, half-open or too many, against the service behind its own sockets."""

import base64
import http.client
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from running_service import running
from small_bundles import SIDE, small_bundle

from aeops.bundle.detector import Detector
from aeops.cli import serve
from aeops.errors import UsageError
from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.machine.passwords import server_password
from aeops.serving.limits import RequestLimits
from aeops.serving.npy import write_npy

BODY = write_npy(np.zeros((1, SIDE, SIDE), np.uint8))
QUICK = RequestLimits(body_seconds=0.5, head_seconds=0.5, idle_seconds=1, head_bytes=4096, queue=4)
HEAD = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-npy\r\n"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(small_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture(scope="module")
def quick(detector: Detector) -> Iterator[SimpleNamespace]:
    with running(detector, QUICK) as found:
        yield found


def connected(quick: SimpleNamespace) -> socket.socket:
    return socket.create_connection(("127.0.0.1", quick.port), timeout=20)


def rest(client: socket.socket) -> bytes:
    """All that comes until the other side closes or drops the connection; fails where it does neither."""
    found = b""
    try:
        while piece := client.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def is_dropped(client: socket.socket, pieces: Iterable[bytes], pause: float) -> bool:
    """Whether the other side drops the connection before all pieces are sent."""
    try:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def score(port: int, body: bytes = BODY, **headers: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("POST", "/score", body, {"content-type": MEDIA_TYPE} | headers)
    return client.getresponse()


def test_a_body_that_does_not_arrive_is_cut_off_with_408(quick: SimpleNamespace) -> None:
    with connected(quick) as client:
        client.sendall(HEAD + b"content-length: 1000\r\n\r\nabc")
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"got 3 bytes of it" in answer
    assert b"connection: close" in answer
    assert quick.service.in_flight == 0


@pytest.mark.parametrize("sent", [b"", b"POST /sco", HEAD, b"\r\n"])
def test_a_client_that_does_not_finish_its_headers_is_dropped(quick: SimpleNamespace, sent: bytes) -> None:
    with connected(quick) as client:
        client.sendall(sent)
        assert rest(client) == b""


def test_headers_that_come_byte_by_byte_are_dropped(quick: SimpleNamespace) -> None:
    with connected(quick) as client:
        assert is_dropped(client, (bytes([byte]) for byte in HEAD * 10), pause=0.02)


def test_endless_headers_are_dropped(quick: SimpleNamespace) -> None:
    with connected(quick) as client:
        client.sendall(HEAD)
        assert is_dropped(client, (b"x-more: " + b"x" * 1000 + b"\r\n" for _ in range(10_000)), pause=0)


def test_a_further_request_has_its_time_for_headers_too(quick: SimpleNamespace) -> None:
    with connected(quick) as client:
        client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /hea")
        assert rest(client) == b""


def test_an_idle_connection_is_closed(quick: SimpleNamespace) -> None:
    with connected(quick) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert rest(client) == b""


def test_a_refused_upload_is_not_read_for_ever(quick: SimpleNamespace) -> None:
    with connected(quick) as client:
        client.sendall(HEAD + b"content-length: 999999999\r\n\r\n")
        answer = rest(client)  # the connection goes, though the body never came
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", bytes(range(256)) * 8, b"\0" * 5000]
)
def test_garbage_is_answered_400_or_dropped(quick: SimpleNamespace, sent: bytes) -> None:
    with connected(quick) as client:
        client.sendall(sent)
        answer = rest(client)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_the_service_answers_through_a_crowd_of_half_open_clients(quick: SimpleNamespace) -> None:
    crowd = [connected(quick) for _ in range(100)]
    try:
        for client in crowd:
            client.sendall(HEAD + b"content-length: 50\r\n\r\n")
        assert score(quick.port).status == 200
        deadline = time.monotonic() + 20
        while len(quick.server.server_state.connections) > 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(quick.server.server_state.connections) <= 3
    finally:
        for client in crowd:
            client.close()


def test_a_full_queue_is_told_with_when_to_come_again(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(detector, QUICK) as found:
        gate = threading.Event()
        work = found.service.batcher._process_batch
        monkeypatch.setattr(found.service.batcher, "_process_batch", lambda requests: (gate.wait(20), work(requests)))
        answers: list[Any] = []
        clients = [threading.Thread(target=lambda: answers.append(score(found.port))) for _ in range(20)]
        for client in clients:
            client.start()
        while sum(answer.status == 503 for answer in answers) == 0:
            time.sleep(0.01)
        gate.set()
        for client in clients:
            client.join(timeout=20)
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {200, 503}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert b"4 requests wait already" in refused[0].read()


def test_too_many_large_bodies_at_once_are_put_off(detector: Detector) -> None:
    with running(detector, RequestLimits(bytes_in_flight=100_000, body_seconds=5)) as found, connected(found) as large:
        large.sendall(HEAD + b"content-length: 90000\r\n\r\n" + b"x" * 80_000)
        while found.service.in_flight < 80_000:
            time.sleep(0.01)
        answer = score(found.port, b"x" * 30_000)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert score(found.port).status == 200
        large.sendall(b"x" * 10_000)
        assert large.recv(65536).startswith(b"HTTP/1.1 400")
    assert found.service.in_flight == 0


# ---------------------------------------------------------------- the password


def test_only_the_password_opens_all_but_healthz(detector: Detector) -> None:
    def login(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    with running(detector, QUICK, password="größer") as found:
        assert score(found.port, authorization=login("ae:größer")).status == 200
        for wrong in ({}, {"authorization": login("ae:other")}, {"authorization": login("root:größer")}, {"authorization": "x"}):
            answer = score(found.port, **wrong)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="ae", charset="UTF-8"')
            assert b"user ae" in answer.read()
        client = http.client.HTTPConnection("127.0.0.1", found.port, timeout=20)
        client.request("GET", "/healthz")
        assert client.getresponse().status == 200


def test_an_address_that_others_reach_needs_a_password_file(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(UsageError, match=r"give --password-file FILE"):
            server_password(host, None)
    assert [server_password(host, None) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")] == [None] * 4
    file = tmp_path / "password"
    with pytest.raises(UsageError, match="No such file"):
        server_password("0.0.0.0", file)
    file.write_text("\nsecond\n")
    file.chmod(0o600)
    with pytest.raises(UsageError, match="its first line is empty"):
        server_password("0.0.0.0", file)
    file.write_text("  hush \nsecond\n")
    assert server_password("0.0.0.0", file) == server_password("127.0.0.1", file) == "hush"
    file.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others: type `chmod 600"):
        server_password("0.0.0.0", file)
    with pytest.raises(UsageError, match="can be read by others"):
        server_password("127.0.0.1", file)
    file.chmod(0o600)
    file.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        server_password("0.0.0.0", file)


def test_the_verb_refuses_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    given = SimpleNamespace(recipe="digits", version="champion", host="0.0.0.0", port=0, password_file=None)
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 lets others reach the server"):
        serve.run(given)  # type: ignore[arg-type]
