"""Asks a server as fast as it answers: `python serving_load.py PORT PATH BODY_FILE MEDIA_TYPE CLIENTS SECONDS`, prints JSON.

One process, plain sockets that are kept alive, requests made beforehand, one selector: it costs a fraction of what a server
costs. Each client sends its next request when the answer to the last one is whole.
"""

import json
import os
import re
import selectors
import socket
import sys
import time
from pathlib import Path

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Client:
    def __init__(self, port: int, request: bytes) -> None:
        self.request = request
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send()

    def send(self) -> None:
        self.begun, self.answer = time.perf_counter(), b""
        self.socket.sendall(self.request)

    def read(self) -> int | None:
        """The status when an answer is whole, else None."""
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise ConnectionError(f"the server closed the connection after {self.answer[:200]!r}")
        self.answer += piece
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found or len(body) < length_of(head):
            return None
        return int(head[9:12])


def length_of(head: bytes) -> int:
    found = LENGTH.search(head)
    if found is None:
        raise ValueError(f"an answer without its length: {head[:200]!r}")
    return int(found[1])


def main() -> None:
    port, path, body_file, media_type, clients, seconds = sys.argv[1:]
    body = Path(body_file).read_bytes()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    selector = selectors.DefaultSelector()
    for _ in range(int(clients)):
        client = Client(int(port), head.encode() + body)
        selector.register(client.socket, selectors.EVENT_READ, client)
    times: list[float] = []
    statuses: dict[int, int] = {}
    begun, used = time.perf_counter(), sum(os.times()[:2])
    while time.perf_counter() - begun < float(seconds):
        for key, _ in selector.select(timeout=1):
            status = key.data.read()
            if status is not None:
                times.append(time.perf_counter() - key.data.begun)
                statuses[status] = statuses.get(status, 0) + 1
                key.data.send()
    wall = time.perf_counter() - begun
    times.sort()
    told = {"requests": len(times), "seconds": wall, "statuses": statuses, "cores": (sum(os.times()[:2]) - used) / wall}
    if times:
        told |= {"p50": times[len(times) // 2], "p99": times[min(len(times) - 1, len(times) * 99 // 100)]}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
