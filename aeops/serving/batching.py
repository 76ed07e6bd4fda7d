"""Requests that wait are worked on together: a thread takes whatever has come meanwhile.

An idle service works on a request at once. Small ones that come while others are worked on wait until these are done, which is
the only wait there is, and then go together: one batch of them at a time, as two would only share the interpreter and halve the
company. Large requests go alone, two at once: one is read and written down while the other's model runs, which needs no
interpreter.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

log = logging.getLogger("aeops.serving")

THREADS = 2
MOST = 64  # requests of a batch
ALONE = 128 * 2**10  # bytes: a request as large as this goes alone, and so many are the most of a batch


class Sized(Protocol):
    """A request.

    Attributes:
        size: of its body, bytes.
        since: when it came, by time.monotonic.
    """

    @property
    def size(self) -> int: ...

    @property
    def since(self) -> float: ...


T = TypeVar("T", bound=Sized)


class Batcher(Generic[T]):
    """Hands requests to `work`, several at once, which answers them."""

    def __init__(self, work: Callable[[list[T]], None], most: int) -> None:
        """
        Args:
            most: requests that may wait.
        """
        self._work, self._most = work, most
        self._small: deque[T] = deque()
        self._large: deque[T] = deque()
        self._small_at_work = False
        self._changed = threading.Condition()
        self._ending = False
        self._threads = [threading.Thread(target=self._serve, name=f"scoring-{place}", daemon=True) for place in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def put(self, request: T) -> bool:
        """Lets a request wait; false where too many do."""
        with self._changed:
            if self.depth() >= self._most or self._ending:
                return False
            is_large = request.size >= ALONE
            (self._large if is_large else self._small).append(request)
            if is_large or not self._small_at_work:  # else it is found when the batch at work is done
                self._changed.notify()
        return True

    def depth(self) -> int:
        return len(self._small) + len(self._large)

    def end(self) -> None:
        """Works on what waits, then stops."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while batch := self._take():
            is_small = batch[0].size < ALONE
            try:
                self._work(batch)
            except Exception:
                log.exception("a fault of the service's own, in a batch of %d requests", len(batch))
            finally:
                del batch  # or the last one would be kept for as long as nothing comes
                if is_small:
                    with self._changed:
                        self._small_at_work = False
                        self._changed.notify()

    def _take(self) -> list[T]:
        """The next batch; empty when all is done."""
        with self._changed:
            while True:
                small = self._small[0].since if self._small and not self._small_at_work else None
                large = self._large[0].since if self._large else None
                if large is not None and (small is None or large <= small):
                    return [self._large.popleft()]
                if small is not None:
                    self._small_at_work = True
                    return self._company()
                if self._ending and not self._small:
                    return []
                self._changed.wait()

    def _company(self) -> list[T]:
        """The oldest small request and those that fit in with it."""
        batch = [self._small.popleft()]
        size = batch[0].size
        while self._small and len(batch) < MOST and size + self._small[0].size <= ALONE:
            batch.append(self._small.popleft())
            size += batch[-1].size
        return batch
