"""What the service counts, as Prometheus reads it at /metrics. A registry of its own: two services in one process do not mix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from aeops.serving.served_version import Served

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text format, which `generate_latest` writes
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class Metrics:
    """Counters of one service. Labels are bounded: paths are those of the service, or `other`."""

    def __init__(self, depth: Callable[[], int], journal_bytes: Callable[[], int]) -> None:
        """
        Args:
            depth: how many requests wait.
            journal_bytes: how many bytes of predictions were written since the start.
        """
        registry = self.registry = CollectorRegistry()
        self._requests = Counter("ae_requests", "Answers by path and status", ["path", "status"], registry=registry)
        self._seconds = Histogram("ae_request_seconds", "From headers to answer", ["path"], buckets=SECONDS, registry=registry)
        self._of_request: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._samples = Counter("ae_samples", "Samples scored for answers", registry=registry)
        self._flagged = Counter("ae_flagged", "Of these, flagged", registry=registry)
        self._batches = Histogram("ae_batch_samples", "Samples scored at once", buckets=SIZES, registry=registry)
        self._version = Gauge("ae_version", "1 for what answers", ["recipe", "version", "bundle_sha256"], registry=registry)
        self._ready = Gauge("ae_ready", "1 where a version answers", registry=registry)
        self._shadowed = Counter("ae_shadow_samples", "Samples scored in the shadow", registry=registry)
        self._succession = Counter("ae_succession", "What became of versions: serves, refused, ...", ["event"], registry=registry)
        Gauge("ae_queue_requests", "Requests that wait", registry=registry).set_function(depth)
        Gauge("ae_journal_bytes", "Bytes of predictions written since the start", registry=registry).set_function(journal_bytes)

    def request(self, path: str, status: int, seconds: float) -> None:
        if (path, status) not in self._of_request:  # looking a child up by its labels costs as much as all else here
            self._of_request[path, status] = self._requests.labels(path, str(status)), self._seconds.labels(path)
        requests, took = self._of_request[path, status]
        requests.inc()
        took.observe(seconds)

    def scored(self, samples: int, flagged: int) -> None:
        self._batches.observe(samples)
        self._samples.inc(samples)
        self._flagged.inc(flagged)

    def shadowed(self, samples: int) -> None:
        self._shadowed.inc(samples)

    def succession(self, event: str) -> None:
        self._succession.labels(event).inc()

    def serves(self, served: "Served | None") -> None:
        self._version.clear()
        self._ready.set(served is not None)
        if served is not None:
            self._version.labels(served.name, served.version, served.detector.sha256).set(1)

    def text(self) -> bytes:
        return generate_latest(self.registry)
