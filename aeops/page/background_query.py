"""Slow questions answered in the background, so that a page never waits for one.

A `BackgroundQuery` asks its question in a thread of its own, every few seconds while somebody reads the results, and not at all
while nobody does.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from aeops.errors import as_ae_error

T = TypeVar("T")
log = logging.getLogger(__name__)
IDLE_SECONDS = 60.0  # without a reader, after which the question is no longer asked


@dataclass(frozen=True)
class QueryResult(Generic[T]):
    """The last answer to a question.

    Attributes:
        value: the answer; None where there was none yet.
        answered_at: UTC; None where nothing was asked yet.
        error: the reason why the last try failed, in one line; empty where it succeeded.
    """

    value: T | None = None
    answered_at: datetime | None = None
    error: str = ""


class BackgroundQuery(Generic[T]):
    """A question asked again and again in a thread.

    Args:
        function: answers the question; an exception becomes the result's `error`, and the last value stays.
        period: seconds between two calls.
        name: of the question, for the thread's name.
    """

    def __init__(self, function: Callable[[], T], period: float, name: str) -> None:
        self._function = function
        self._period = period
        self._result: QueryResult[T] = QueryResult()
        self._last_read = time.monotonic()
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"query-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop asking, without waiting for a call under way."""
        self._is_closed = True
        self._wake.set()

    def latest_result(self) -> QueryResult[T]:
        """Return the last result without waiting."""
        was_idle = self._is_idle()
        self._last_read = time.monotonic()
        if was_idle:
            self._wake.set()
        return self._result

    def _is_idle(self) -> bool:
        return time.monotonic() - self._last_read > IDLE_SECONDS

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._result = QueryResult(self._function(), datetime.now(UTC))
            except Exception as error:
                ae_error = as_ae_error(error)
                if ae_error is None and not isinstance(error, OSError):
                    log.exception("a background query failed")  # it runs again: the page stays up and shows the error
                self._keep_value(str(ae_error or repr(error)))
            self._wake.clear()
            self._wake.wait(self._period)
            self._wait_for_reader()

    def _keep_value(self, message: str) -> None:
        """Keep the last value beside the message of an error."""
        self._result = QueryResult(self._result.value, self._result.answered_at, " ".join(message.split()))

    def _wait_for_reader(self) -> None:
        while True:
            self._wake.clear()  # before the check: a reader who comes after it sets the event again
            if self._is_closed or not self._is_idle():
                return
            self._wake.wait()
