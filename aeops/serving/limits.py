"""Limits of size and time on the requests of one client."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestLimits:
    body_bytes: int = 64 * 2**20  # some 15,000 digits as JSON
    bytes_in_flight: int = 256 * 2**20  # of all bodies that are being read or wait in the queue
    samples: int = 16_384  # in one request
    text_bytes: int = 65_536  # of one text
    answer_values: int = 4_000_000  # numbers in a JSON reply: some 80 MB; npy and Arrow have no such limit
    queue: int = 256  # requests that wait
    body_seconds: float = 30.0  # from the headers to the end of the body
    head_seconds: float = 10.0  # from the first byte of a request, or from connecting, to the end of its headers
    head_bytes: int = 65_536
    idle_seconds: int = 30  # between two requests on a connection
    stuck_seconds: int = 60  # that a client may leave a response unread before the kernel drops the connection
    connections: int = 1024
