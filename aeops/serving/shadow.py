"""A new champion in the shadow of the old one: it scores the same requests after their answers went out, and is judged.

It is refused where it raises, where an answer is none, where it floods people with alarms that the old one did not give, and
where it is so slow that requests would pile up. Scores themselves may differ as they like: that is what the gate has judged.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any

import numpy as np

from aeops.bundle.answer_check import check_answers
from aeops.serving.served_version import Served

WAITING = 2  # batches that may wait for the shadow; more are passed over, so that it neither grows nor lags
FLOOD_SAMPLES = 20  # from so many samples on, the share that is flagged says something
FLOOD, CALM = 0.5, 0.1  # a flood: more than this share by the new one where the old one flags less than that
SLOWER, SLOW = 10.0, 0.05  # too slow: so many times the old one's time, and so many seconds a sample


@dataclass
class Seen:
    """What the shadow has seen so far.

    Attributes:
        requests: answered beside the old one.
        disagreements: samples that one of the two flags and the other does not.
        passed_over: batches of requests that came while the shadow was busy.
    """

    requests: int = 0
    samples: int = 0
    flagged: int = 0
    flagged_by_old: int = 0
    disagreements: int = 0
    passed_over: int = 0
    seconds: float = 0.0
    seconds_of_old: float = 0.0

    def fault(self) -> str | None:
        """Why the new one must not take over by what it did to all of them."""
        if self.samples >= FLOOD_SAMPLES:
            new, old = self.flagged / self.samples, self.flagged_by_old / self.samples
            if new > FLOOD and old < CALM:
                return f"it flags {new:.0%} of {self.samples} samples of which the served one flags {old:.0%}"
        if self.samples and self.seconds > SLOWER * self.seconds_of_old and self.seconds / self.samples > SLOW:
            return f"it takes {self.seconds / self.samples:.3f} s a sample, more than {SLOWER:g} times the served one's time"
        return None


@dataclass(frozen=True)
class Batch:
    """Samples as they were given, what the old one said of them, and how long that took."""

    samples: Any
    requests: int
    flagged: np.ndarray
    seconds: float


@dataclass
class Shadow:
    """A new champion on trial.

    Attributes:
        began: on the clock of time.monotonic.
        fault: why it is refused; None as long as it is not.
    """

    served: Served
    old: Served
    on_seen: Callable[[int], None] = lambda samples: None
    began: float = field(default_factory=time.monotonic)
    seen: Seen = field(default_factory=Seen)
    fault: str | None = None
    _waiting: "Queue[Batch]" = field(default_factory=lambda: Queue(WAITING))
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._work, name="shadow", daemon=True).start()

    def show(self, batch: Batch) -> None:
        """Hands it a batch that was answered. Never waits."""
        try:
            self._waiting.put_nowait(batch)
        except Full:
            self.seen.passed_over += 1

    def end(self) -> None:
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.is_set() and self.fault is None:
            try:
                batch = self._waiting.get(timeout=0.2)
            except Empty:
                continue
            self.fault = self._look(batch) or self.seen.fault()

    def _look(self, batch: Batch) -> str | None:
        begun = time.perf_counter()
        try:
            said = self.served.detector.score_checked(self.served.detector.check(batch.samples), code=True)
        except Exception as error:  # noqa: BLE001  # whatever a broken model raises is what is wanted to be known
            return f"it raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if fault := check_answers(said, len(batch.flagged)):
            return fault
        self._count(batch, said["is_anomaly"], time.perf_counter() - begun)
        return None

    def _count(self, batch: Batch, flagged: np.ndarray, seconds: float) -> None:
        seen = self.seen
        seen.requests += batch.requests
        seen.samples += len(flagged)
        seen.flagged += int(flagged.sum())
        seen.flagged_by_old += int(batch.flagged.sum())
        seen.disagreements += int((flagged != batch.flagged).sum())
        seen.seconds += seconds
        seen.seconds_of_old += batch.seconds
        self.on_seen(len(flagged))
