"""Shadow trial of a new champion: it scores the same requests as the old one, after their replies were sent.

It is refused if it raises, gives invalid answers, flags most samples where the old one flags few, or is so slow that requests
would pile up. Scores themselves may differ: the gate has already judged them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any

import numpy as np

from aeops.bundle.answer_check import check_answers
from aeops.kinds.flags import REFUSED
from aeops.serving.served_version import ServedVersion

MAX_QUEUED_BATCHES = 2  # more are skipped, so that the shadow neither grows nor lags
MIN_FLOOD_SAMPLES = 20  # fewer say little about the share that is flagged
FLOOD_RATE, CALM_RATE = 0.5, 0.1  # a flood: the new one flags more than the first share, the old one less than the second
SLOW_FACTOR, SLOW_SECONDS = 10.0, 0.05  # too slow: more than so many times the old one's time, and so many seconds a sample


@dataclass
class ShadowCounts:
    """Counts of a trial; /model shows them under these names.

    Attributes:
        requests: answered by the old version and scored by the new one.
        disagreements: samples that only one of the two flags.
        passed_over: batches skipped because the shadow was busy.
        seconds: that the new version took for `samples`.
    """

    requests: int = 0
    samples: int = 0
    flagged: int = 0
    flagged_by_old: int = 0
    disagreements: int = 0
    passed_over: int = 0
    seconds: float = 0.0
    seconds_of_old: float = 0.0

    def find_problem(self) -> str | None:
        """Return the reason to refuse the new version according to the counts; None if there is none."""
        if self.samples >= MIN_FLOOD_SAMPLES:
            new_rate, old_rate = self.flagged / self.samples, self.flagged_by_old / self.samples
            if new_rate > FLOOD_RATE and old_rate < CALM_RATE:
                return f"it flags {new_rate:.0%} of {self.samples} samples of which the served one flags {old_rate:.0%}"
        if self.samples and self.seconds > SLOW_FACTOR * self.seconds_of_old and self.seconds / self.samples > SLOW_SECONDS:
            return f"it takes {self.seconds / self.samples:.3f} s a sample, more than {SLOW_FACTOR:g} times the served one's time"
        return None


@dataclass(frozen=True)
class AnsweredBatch:
    """A batch that the old version has answered.

    Attributes:
        samples: as a dataset stores them.
        flagged: bool (n,), of the old version.
        seconds: that the old version took.
    """

    samples: Any
    requests: int
    flagged: np.ndarray
    seconds: float


@dataclass
class ShadowTrial:
    """Trial of a new champion.

    Attributes:
        on_scored: called with the number of samples of each batch.
        started_at: from `time.monotonic`.
        problem: reason to refuse the new version; None if there is none so far.
    """

    new: ServedVersion
    old: ServedVersion
    on_scored: Callable[[int], None] = lambda samples: None
    started_at: float = field(default_factory=time.monotonic)
    counts: ShadowCounts = field(default_factory=ShadowCounts)
    problem: str | None = None
    _batch_queue: "Queue[AnsweredBatch]" = field(default_factory=lambda: Queue(MAX_QUEUED_BATCHES))
    _stop_event: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run_trial, name="shadow", daemon=True).start()

    def add_batch(self, batch: AnsweredBatch) -> None:
        """Queue a batch that was answered; never blocks."""
        try:
            self._batch_queue.put_nowait(batch)
        except Full:
            self.counts.passed_over += 1

    def end(self) -> None:
        self._stop_event.set()

    def _run_trial(self) -> None:
        while not self._stop_event.is_set() and self.problem is None:
            try:
                batch = self._batch_queue.get(timeout=0.2)
            except Empty:
                continue
            self.problem = self._score_batch(batch) or self.counts.find_problem()

    def _score_batch(self, batch: AnsweredBatch) -> str | None:
        """Score a batch by the new version and count it; return the problem, if any."""
        start_time = time.perf_counter()
        try:
            score_columns = self.new.detector.score_checked(self.new.detector.check(batch.samples), code=True)
        except Exception as error:  # noqa: BLE001  # any exception of a broken model refuses it
            return f"it raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if len(score_columns["flags"]) != len(batch.flagged):
            return f"answers {len(batch.flagged)} samples with {len(score_columns['flags'])}"
        is_scored = score_columns["flags"] & REFUSED == 0
        if problem := check_answers({name: values[is_scored] for name, values in score_columns.items()}, int(is_scored.sum())):
            return problem
        self._count_batch(batch, score_columns["is_anomaly"], time.perf_counter() - start_time)
        return None

    def _count_batch(self, batch: AnsweredBatch, flagged_by_new: np.ndarray, seconds: float) -> None:
        counts = self.counts
        counts.requests += batch.requests
        counts.samples += len(flagged_by_new)
        counts.flagged += int(flagged_by_new.sum())
        counts.flagged_by_old += int(batch.flagged.sum())
        counts.disagreements += int((flagged_by_new != batch.flagged).sum())
        counts.seconds += seconds
        counts.seconds_of_old += batch.seconds
        self.on_scored(len(flagged_by_new))
