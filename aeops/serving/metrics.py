"""Prometheus metrics of the service, exposed at /metrics, in a registry of their own: two services in one process do not mix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aeops.kinds.flags import FLAG_TEXTS, flag_bit

if TYPE_CHECKING:
    from aeops.serving.served_version import ServedVersion

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text format, which `generate_latest` writes
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class Metrics:
    """Counters of one service. Labels are bounded: paths are those of the service, or `other`."""

    def __init__(self, queue_length: Callable[[], int], journal_bytes: Callable[[], int]) -> None:
        """
        Args:
            queue_length: returns the number of requests that wait.
            journal_bytes: returns the bytes of predictions written since the start.
        """
        registry = self.registry = CollectorRegistry()
        self._requests = Counter("ae_requests", "Answers by path and status", ["path", "status"], registry=registry)
        self._seconds = Histogram("ae_request_seconds", "From headers to answer", ["path"], buckets=SECONDS, registry=registry)
        self._request_children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._samples = Counter("ae_samples", "Samples scored for answers", registry=registry)
        self._flagged_samples = Counter("ae_flagged", "Of these, flagged", registry=registry)
        data_flags = Counter("ae_data_flags", "Samples unlike those of the training, by flag", ["flag"], registry=registry)
        self._data_flags = {flag_bit(name): data_flags.labels(name) for name in FLAG_TEXTS}
        self._batches = Histogram("ae_batch_samples", "Samples scored at once", buckets=BATCH_SIZES, registry=registry)
        self._version = Gauge("ae_version", "1 for what answers", ["recipe", "version", "bundle_sha256"], registry=registry)
        self._ready = Gauge("ae_ready", "1 where a version answers", registry=registry)
        self._shadow_samples = Counter("ae_shadow_samples", "Samples scored in the shadow", registry=registry)
        self._rollover_events = Counter(
            "ae_succession", "What became of versions: serves, refused, ...", ["event"], registry=registry
        )
        Gauge("ae_queue_requests", "Requests that wait", registry=registry).set_function(queue_length)
        Gauge("ae_journal_bytes", "Bytes of predictions written since the start", registry=registry).set_function(journal_bytes)

    def record_request(self, path: str, status: int, seconds: float) -> None:
        if (path, status) not in self._request_children:  # finding a child by its labels takes as long as everything else here
            self._request_children[path, status] = self._requests.labels(path, str(status)), self._seconds.labels(path)
        requests, duration_histogram = self._request_children[path, status]
        requests.inc()
        duration_histogram.observe(seconds)

    def record_batch(self, is_anomaly: np.ndarray, flags: np.ndarray) -> None:
        self._batches.observe(len(flags))
        self._samples.inc(len(flags))
        self._flagged_samples.inc(int(is_anomaly.sum()))
        if flags.any():
            for bit, counter in self._data_flags.items():
                counter.inc(int(np.count_nonzero(flags & bit)))

    def record_shadow(self, samples: int) -> None:
        self._shadow_samples.inc(samples)

    def record_event(self, event: str) -> None:
        self._rollover_events.labels(event).inc()

    def set_version(self, served_version: "ServedVersion | None") -> None:
        self._version.clear()
        self._ready.set(served_version is not None)
        if served_version is not None:
            self._version.labels(served_version.name, served_version.version, served_version.detector.sha256).set(1)

    def text(self) -> bytes:
        return generate_latest(self.registry)
