"""Requests that come whole are answered without a task, those that come in pieces by uvicorn's way: with the same answers."""

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkout import wait_for
from running_service import running
from small_bundles import SIDE, small_bundle

from aeops.bundle.detector import Detector
from aeops.serving.fast_path import DirectCycle
from aeops.serving.limits import RequestLimits
from aeops.serving.npy import write_npy
from aeops.serving.post import ScoringEndpoint
from aeops.serving.response_formats import ScoringReply
from aeops.serving.timeouts import TimeoutProtocol

JSON, NPY = b"application/json", b"application/x-npy"
SAMPLE = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(1, SIDE, SIDE)
ONE = json.dumps({"inputs": SAMPLE.tolist()}).encode()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(small_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture(scope="module")
def served(detector: Detector) -> Iterator[SimpleNamespace]:
    with running(detector, RequestLimits(body_bytes=20_000)) as found:
        yield found


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each request to the model goes."""
    gone: list[str] = []
    begin, ask = DirectCycle.__init__, ScoringEndpoint.__call__

    def begun(*given: Any) -> None:
        gone.append("direct")
        begin(*given)

    async def asked(*given: Any) -> None:
        gone.append("uvicorn")
        await ask(*given)

    monkeypatch.setattr(DirectCycle, "__init__", begun)
    monkeypatch.setattr(ScoringEndpoint, "__call__", asked)
    return gone


def request(body: bytes, media_type: bytes = JSON, path: bytes = b"/score", name: bytes = b"mine", more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\nx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n"
    return head % (path, media_type, name, len(body), more) + body


def connected(served: SimpleNamespace) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=20)


def answers(client: socket.socket, count: int) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """The next answers: status, headers, body."""
    found, data = [], b""
    while len(found) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(headers.get(b"content-length", 0))
        if end and len(rest) >= size:
            found.append((int(head.split()[1]), headers, rest[:size]))
            data = rest[size:]
        else:
            piece = client.recv(65536)
            assert piece, f"closed after {len(found)} of {count} answers"
            data += piece
    assert data == b""
    return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(ONE), 200),
        (request(ONE, path=b"/invocations"), 200),
        (request(write_npy(SAMPLE), NPY, b"/embed"), 200),
        (request(ONE, path=b"/reconstruct", more=b"accept: application/x-npy\r\n"), 200),
        (request(b"{]"), 400),
        (request(b""), 400),
        (request(b"xy", b"text/plain"), 415),
        (request(b'{"inputs": [[1]]}'), 422),
        (request(ONE, name=b"no name, \xff"), 200),
    ],
)
def test_a_request_is_told_the_same_whether_it_comes_whole_or_in_two_pieces(
    served: SimpleNamespace, ways: list[str], sent: bytes, status: int
) -> None:
    has_body = not sent.endswith(b"\r\n\r\n")
    with connected(served) as client:
        client.sendall(sent)
        [whole] = answers(client, 1)
        middle = sent.index(b"\r\n\r\n") + (5 if has_body else 1)
        client.sendall(sent[:middle])
        if has_body:
            wait_for(lambda: len(ways) == 2, seconds=20)  # it has begun without the rest
        client.sendall(sent[middle:])
        [halves] = answers(client, 1)
    assert ways == ["direct", "uvicorn" if has_body else "direct"]  # a head may come in pieces
    assert (whole[0], whole[2]) == (halves[0], halves[2])
    assert whole[0] == status
    own = {b"date"} | ({b"x-request-id"} if b"no name" in sent else set())  # of the moment, and drawn
    assert {name: value for name, value in whole[1].items() if name not in own} == {
        name: value for name, value in halves[1].items() if name not in own
    }
    assert b"date" in whole[1]
    assert re.fullmatch(rb"mine|[0-9a-f]{12}-[0-9a-f]+", whole[1][b"x-request-id"])
    assert served.service.in_flight == 0


@pytest.mark.parametrize(
    "sent",
    [
        request(ONE, path=b"/score?code=true"),
        request(b" " * 20_001),
        request(ONE, more=b"connection: close\r\n"),
        request(ONE, more=b"expect: 100-continue\r\n"),
        request(ONE).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(ONE).replace(b"content-length: %d" % len(ONE), b"transfer-encoding: chunked").replace(ONE, b"0\r\n\r\n"),
    ],
    ids=["query", "too large", "close", "expect", "1.0", "chunked"],
)
def test_a_request_with_anything_special_goes_uvicorns_way(served: SimpleNamespace, ways: list[str], sent: bytes) -> None:
    with connected(served) as client:
        client.sendall(sent)
        assert client.recv(65536).startswith(b"HTTP/1.1 ")
    assert ways == ["uvicorn"]


def test_requests_that_follow_one_another_without_waiting_are_answered_in_their_order(
    served: SimpleNamespace, ways: list[str]
) -> None:
    with connected(served) as client:
        client.sendall(b"".join(request(ONE, name=b"n%d" % place) for place in range(20)))
        found = answers(client, 20)
    assert [headers[b"x-request-id"] for _, headers, _ in found] == [b"n%d" % place for place in range(20)]
    assert {status for status, _, _ in found} == {200}
    assert ways.count("direct") + ways.count("uvicorn") == 20
    assert ways[0] == "direct"


def test_garbage_after_a_kept_head_is_answered_400_once(served: SimpleNamespace) -> None:
    sent = request(ONE)[: -len(ONE)].replace(b"content-length: %d\r\n" % len(ONE), b"content-length: 5\r\ncontent-length: 6\r\n")
    with connected(served) as client:
        client.sendall(sent + b"abcde")
        found = client.recv(65536)
        assert client.recv(65536) == b""
    assert found.count(b"HTTP/1.1 400") == 1
    assert served.service.in_flight == 0


def test_a_client_that_left_is_not_missed(served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, work = threading.Event(), served.service.batcher._process_batch
    monkeypatch.setattr(served.service.batcher, "_process_batch", lambda requests: (gate.wait(20), work(requests)))
    with connected(served) as client:
        client.sendall(request(ONE))
        wait_for(lambda: served.service.in_flight > 0, seconds=20)
    gate.set()
    wait_for(lambda: served.service.in_flight == 0, seconds=20)
    with connected(served) as client:
        client.sendall(request(ONE))
        assert answers(client, 1)[0][0] == 200


def test_a_connection_that_is_just_going_costs_the_others_no_answer(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.service.batcher, "_process_batch", lambda requests: None)  # whoever asks is told by this test

    async def drop_and_tell(connection: TimeoutProtocol) -> None:
        connection.transport.abort()  # gone for the transport, which tells the protocol only in the loop's next turn
        connection.cycle.set_result(ScoringReply(b"{}"))  # type: ignore[attr-defined]

    with connected(served) as client:
        client.sendall(request(ONE))
        wait_for(lambda: served.service.in_flight > 0, seconds=20)
        [connection] = [one for one in served.server.server_state.connections if isinstance(one.cycle, DirectCycle)]
        asyncio.run_coroutine_threadsafe(drop_and_tell(connection), connection.loop).result(20)
    assert served.service.in_flight == 0


def test_a_service_that_is_stopped_answers_what_waits_and_closes(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(detector, RequestLimits()) as found, connected(found) as client:
        gate, work = threading.Event(), found.service.batcher._process_batch
        monkeypatch.setattr(found.service.batcher, "_process_batch", lambda requests: (gate.wait(20), work(requests)))
        client.sendall(request(ONE))
        wait_for(lambda: found.service.in_flight > 0, seconds=20)
        [connection] = found.server.server_state.connections
        found.server.should_exit = True
        wait_for(lambda: not connection.cycle.keep_alive, seconds=20)
        gate.set()
        [(status, headers, _)] = answers(client, 1)
        assert (status, headers[b"connection"]) == (200, b"close")
        assert client.recv(65536) == b""


@pytest.mark.parametrize("before_it_waits", [False, True])
def test_a_fault_of_another_kind_is_500_and_logged(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before_it_waits: bool
) -> None:
    def fail(*_given: object, **_named: object) -> None:
        raise RuntimeError("a fault inside")

    if before_it_waits:
        monkeypatch.setattr(served.service, "submit_request", fail)
    else:
        monkeypatch.setattr(served.service.rollover.current_version.detector, "score_checked", fail)
    with caplog.at_level(logging.ERROR, "aeops.serving"), connected(served) as client:
        client.sendall(request(ONE))
        [(status, _, body)] = answers(client, 1)
    assert (status, json.loads(body)) == (500, {"error": "internal error; see the log of the service"})
    assert "a fault inside" in caplog.text
    assert served.service.in_flight == 0


def test_what_is_counted_is_the_same_for_both_ways(served: SimpleNamespace) -> None:
    def counted() -> float:
        return served.service.metrics.registry.get_sample_value("ae_requests_total", {"path": "/score", "status": "200"}) or 0

    before = counted()
    with connected(served) as client:
        client.sendall(request(ONE))
        answers(client, 1)
        client.sendall(request(ONE, path=b"/score?code=false"))
        answers(client, 1)
    assert counted() - before == 2


def test_the_password_is_asked_for(detector: Detector, ways: list[str]) -> None:
    with running(detector, RequestLimits(), password="hush") as found, connected(found) as client:
        client.sendall(request(ONE))
        assert answers(client, 1)[0][0] == 401
        client.sendall(request(ONE, more=b"authorization: Basic YWU6aHVzaA==\r\n"))
        assert answers(client, 1)[0][0] == 200
    assert ways == ["direct"]
