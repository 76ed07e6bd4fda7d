"""Asks a server as fast as it answers and prints JSON: `python serving_load.py PORT PATH BODY_FILE MEDIA_TYPE CLIENTS SECONDS`

One process, plain sockets that are kept alive, requests made beforehand, one selector: it costs a fraction of what a server
costs. Each client sends its next request when the answer to the last one is whole.
"""

import argparse
import json
import os
import re
import selectors
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Client:
    def __init__(self, port: int, request: bytes) -> None:
        self.request = request
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send()

    def send(self) -> None:
        self.sent_at, self.response = time.perf_counter(), b""
        self.socket.sendall(self.request)

    def read(self) -> int | None:
        """Return the status if the response is complete, else None."""
        received = self.socket.recv(1 << 20)
        if not received:
            raise ConnectionError(f"the server closed the connection after {self.response[:200]!r}")
        self.response += received
        head, separator, body = self.response.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            return None
        return int(head[9:12])


def content_length(head: bytes) -> int:
    match = CONTENT_LENGTH.search(head)
    if match is None:
        raise ValueError(f"expected a response with Content-Length, got {head[:200]!r}")
    return int(match[1])


def run_load(port: int, request: bytes, client_count: int, duration: float) -> dict[str, Any]:
    """Send a request from several clients for `duration` seconds; return counts and latencies in seconds."""
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        clients = [Client(port, request) for _ in range(client_count)]
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        started_at, cpu_before = time.perf_counter(), sum(os.times()[:2])
        while time.perf_counter() - started_at < duration:
            for key, _ in selector.select(timeout=1):
                status = key.data.read()
                if status is not None:
                    latencies.append(time.perf_counter() - key.data.sent_at)
                    statuses[status] = statuses.get(status, 0) + 1
                    key.data.send()
        elapsed = time.perf_counter() - started_at
        cores = (sum(os.times()[:2]) - cpu_before) / elapsed
        for client in clients:
            client.socket.close()
    result: dict[str, Any] = {"requests": len(latencies), "seconds": elapsed, "statuses": statuses, "cores": cores}
    latencies.sort()
    if latencies:
        result["p50"] = latencies[len(latencies) // 2]
        result["p99"] = latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)]
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ask a server on this machine as fast as it answers.")
    parser.add_argument("port", type=int)
    parser.add_argument("path", help="to which is posted, such as /score")
    parser.add_argument("body", type=Path, help="file with the body of each request")
    parser.add_argument("media_type", help="of the body, such as application/json")
    parser.add_argument("clients", type=int)
    parser.add_argument("seconds", type=float)
    args = parser.parse_args(arguments)
    body = args.body.read_bytes()
    head = f"POST {args.path} HTTP/1.1\r\nHost: 127.0.0.1:{args.port}\r\nContent-Type: {args.media_type}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    print(json.dumps(run_load(args.port, head.encode() + body, args.clients, args.seconds)))


if __name__ == "__main__":
    main()
