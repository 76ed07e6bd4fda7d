"""Limits of size and time on the requests of one client."""

from dataclasses import dataclass

from aeops.bundle.explanations import MAX_EXPLAINED_SAMPLES
from aeops.machine.http_limits import ConnectionLimits


@dataclass(frozen=True)
class RequestLimits(ConnectionLimits):
    body_bytes: int = 64 * 2**20
    json_bytes: int = 32 * 2**20  # of a JSON body, whose numbers take eight times as much memory: some 8,000 digits
    bytes_in_flight: int = 256 * 2**20  # of all bodies that are being read or wait in the queue
    samples: int = 16_384  # in one request
    json_numbers: int = 1_000_000  # in a JSON body, or those of one sample where that has more; npy and Arrow have no such limit
    explained_samples: int = MAX_EXPLAINED_SAMPLES  # in one request for explanations
    text_bytes: int = 65_536  # of one text
    all_text_bytes: int = 2**19  # of all texts of a request, in UTF-8 after NFKC: each takes a microsecond to become a token
    answer_values: int = 4_000_000  # numbers in a JSON reply, or those of one sample: some 80 MB; not of npy and Arrow
    queue: int = 256  # requests that wait
    machines: int = 1000  # whose last window is kept, of a series that grows: each takes a window of float64
