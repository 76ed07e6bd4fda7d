"""Slow questions answered in the background, so that a page never waits for one.

A `Kept` asks its question in a thread of its own, again every few seconds while somebody looks, and not at all while nobody does.
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
LOOKED_FOR = 60.0  # seconds after the last look during which a question is still asked again


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What is known.

    Attributes:
        value: the last answer; None where there was none yet.
        at: when that was, UTC.
        fault: why the question could not be answered last time, in one line; empty where it could.
    """

    value: T | None = None
    at: datetime | None = None
    fault: str = ""


class Kept(Generic[T]):
    """The last answer to a question.

    Args:
        ask: the question; what it raises is told as the answer's fault, and the value before is kept.
        every: seconds between two times.
        what: for the thread's name.
    """

    def __init__(self, ask: Callable[[], T], every: float, what: str) -> None:
        self._ask, self._every = ask, every
        self._answer: Answer[T] = Answer()
        self._looked = time.monotonic()
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name=f"ask-{what}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Asks no more; a question under way is not waited for."""
        self._ended = True
        self._wake.set()

    def now(self) -> Answer[T]:
        """What is known at this moment; does not wait."""
        idle = time.monotonic() - self._looked > LOOKED_FOR
        self._looked = time.monotonic()
        if idle:
            self._wake.set()
        return self._answer

    def _work(self) -> None:
        while not self._ended:
            try:
                self._answer = Answer(self._ask(), datetime.now(UTC))
            except Exception as error:
                known = as_ae_error(error)
                if known is None and not isinstance(error, OSError):
                    log.exception("a question of the page failed")  # it is asked again: the page stays up, and says so
                self._answer = Answer(self._answer.value, self._answer.at, " ".join(str(known or repr(error)).split()))
            self._wake.clear()
            self._wake.wait(self._every)
            self._wait_for_a_look()

    def _wait_for_a_look(self) -> None:
        while True:
            self._wake.clear()  # before the question: whoever looks after it sets it again
            if self._ended or time.monotonic() - self._looked <= LOOKED_FOR:
                return
            self._wake.wait()
