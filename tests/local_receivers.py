"""Receivers of notifications on this machine: a web server and a mail server that keep what they are sent."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace


@contextmanager
def served_by(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests by a handler's class in threads of this process; yields the address, without a slash at its end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def receiver(*statuses: int) -> Iterator[SimpleNamespace]:
    """A web server that answers with these codes, the last one again and again, and keeps what it was sent."""
    seen = SimpleNamespace(requests=[], address="")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.requests.append((self.path, dict(self.headers.items()), body))
            self.send_response(statuses[min(len(seen.requests), len(statuses)) - 1])
            self.end_headers()
            self.wfile.write(b"no such channel")

        def log_message(self, *_: object) -> None:
            pass

    with served_by(Handler) as address:
        seen.address = f"{address}/hook/secret-part"
        yield seen


@contextmanager
def mail_server(refuses: bool = False) -> Iterator[SimpleNamespace]:
    """A mail server that speaks as much of RFC 5321 as a client needs, and keeps the mails."""
    seen = SimpleNamespace(mails=[], address="")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            lines: list[bytes] = []
            in_data = False
            for line in self.rfile:
                if in_data:
                    if line == b".\r\n":
                        in_data = False
                        seen.mails.append(b"".join(lines).decode())
                        self.wfile.write(b"250 taken\r\n")
                    else:
                        lines.append(line)
                elif line.upper().startswith(b"DATA"):
                    in_data = True
                    self.wfile.write(b"354 go on\r\n")
                elif line.upper().startswith(b"RCPT") and refuses:
                    self.wfile.write(b"550 unknown\r\n")
                elif line.upper().startswith(b"QUIT"):
                    self.wfile.write(b"221 bye\r\n")
                    return
                else:
                    self.wfile.write(b"250 good\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        seen.address = f"smtp://127.0.0.1:{server.server_address[1]}"
        yield seen
        server.shutdown()
        thread.join()


def name_webhook(root: Path, address: str, **settings: object) -> None:
    """Write an ae.yaml that names one signed webhook, `ops`, with its key in a file."""
    key = root / "ops.key"
    key.write_text("key\n", encoding="utf-8")
    key.chmod(0o600)
    receiver = {"name": "ops", "kind": "webhook", "address": address, "key": "file:ops.key", **settings}
    (root / "ae.yaml").write_text(json.dumps({"notify": {"receivers": [receiver]}}), encoding="utf-8")


def notices_of(seen: SimpleNamespace) -> list[dict[str, object]]:
    """Return the notifications that a web server was sent."""
    return [json.loads(body) for _, _, body in seen.requests]
