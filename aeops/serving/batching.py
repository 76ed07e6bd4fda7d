"""Batching of requests: a worker thread takes whatever is in the queue and processes it together.

An idle service processes a request at once. Small requests that arrive while a batch is processed wait until it is done, which
is the only wait, and form the next batch. Only one batch of small requests runs at a time: two would share the interpreter and
halve the batch size. Large requests run alone, two at once: one is read and recorded while the other's model runs, which
releases the interpreter.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

log = logging.getLogger("aeops.serving")

WORKER_THREADS = 2
MAX_BATCH_REQUESTS = 64
LARGE_REQUEST_BYTES = 128 * 2**10  # a request of this size or more runs alone; also the largest batch of small requests


class QueuedRequest(Protocol):
    """A request in the queue.

    Attributes:
        size: of its body, bytes.
        arrived_at: from `time.monotonic`.
    """

    @property
    def size(self) -> int: ...

    @property
    def arrived_at(self) -> float: ...


T = TypeVar("T", bound=QueuedRequest)


class Batcher(Generic[T]):
    """Passes queued requests in batches to `process_batch`, which answers them."""

    def __init__(self, process_batch: Callable[[list[T]], None], max_queue_length: int) -> None:
        self._process_batch, self._max_queue_length = process_batch, max_queue_length
        self._small_requests: deque[T] = deque()
        self._large_requests: deque[T] = deque()
        self._small_batch_running = False
        self._changed = threading.Condition()
        self._is_ending = False
        self._threads: list[threading.Thread] = []
        for index in range(WORKER_THREADS):
            thread = threading.Thread(target=self._run_worker, name=f"scoring-{index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def try_enqueue(self, request: T) -> bool:
        """Add a request to the queue; return False if the queue is full or closed."""
        with self._changed:
            if self.queue_length() >= self._max_queue_length or self._is_ending:
                return False
            if request.size >= LARGE_REQUEST_BYTES:
                self._large_requests.append(request)
                self._changed.notify()
            else:
                self._small_requests.append(request)
                if not self._small_batch_running:  # else it is taken when the running batch is done
                    self._changed.notify()
        return True

    def queue_length(self) -> int:
        return len(self._small_requests) + len(self._large_requests)

    def end(self) -> None:
        """Process the queued requests, then stop the threads."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run_worker(self) -> None:
        while batch := self._next_batch():
            is_small = batch[0].size < LARGE_REQUEST_BYTES
            try:
                self._process_batch(batch)
            except Exception:
                log.exception("internal error in a batch of %d requests", len(batch))
            finally:
                del batch  # or the last one would stay in memory until the next request
                if is_small:
                    with self._changed:
                        self._small_batch_running = False
                        self._changed.notify()

    def _next_batch(self) -> list[T]:
        """Wait for the next batch; return an empty list when the batcher ends."""
        with self._changed:
            while True:
                takes_small = bool(self._small_requests) and not self._small_batch_running
                if self._large_requests and not (takes_small and self._is_small_older()):
                    return [self._large_requests.popleft()]
                if takes_small:
                    self._small_batch_running = True
                    return self._fill_batch()
                if self._is_ending and not self._small_requests:
                    return []
                self._changed.wait()

    def _is_small_older(self) -> bool:
        return self._small_requests[0].arrived_at < self._large_requests[0].arrived_at

    def _fill_batch(self) -> list[T]:
        """Take the oldest small request and those after it that fit into one batch."""
        batch = [self._small_requests.popleft()]
        batch_size = batch[0].size
        while self._small_requests and len(batch) < MAX_BATCH_REQUESTS:
            if batch_size + self._small_requests[0].size > LARGE_REQUEST_BYTES:
                break
            batch.append(self._small_requests.popleft())
            batch_size += batch[-1].size
        return batch
