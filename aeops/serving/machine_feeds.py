"""The growing series of machines: POST /score with {"machine": ..., "readings": [...]} keeps the machine's last window.

What readings bring says `aeops.kinds.series_feed`. A machine's window is kept in memory alone: after a restart, and after a model
with other channels or steps has taken over, it begins anew. Of more machines than `RequestLimits.machines` the one that was
silent longest is forgotten. A request that fails changes nothing, so that it can be sent again.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from ae_models.names import names_not_in, names_of
from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.kinds.samples import SampleSpec
from aeops.kinds.series_feed import FeedState, FeedSteps, extend_feed, follow_alarm
from aeops.kinds.series_readings import (
    MACHINE_BYTES,
    columns_of_readings,
    read_columns,
    require_numbers,
)
from aeops.kinds.series_times import describe_time
from aeops.kinds.series_windows import step_name
from aeops.kinds.table_cells import shorten_cell
from aeops.serving.limits import RequestLimits

MACHINE_KEY, READINGS_KEY = "machine", "readings"
FEED_KEYS = (MACHINE_KEY, READINGS_KEY)
FEED_EXAMPLE = '{"machine": "NAME", "readings": [{TIME: ..., CHANNEL: ...}, ...]}'


class MachineFeeds:
    """The last windows of machines.

    Args:
        machines: that are remembered, at most.
    """

    def __init__(self, machines: int) -> None:
        self.machines = machines
        self._states: OrderedDict[str, tuple[object, FeedState]] = OrderedDict()
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def take(self, body: Mapping[str, Any], detector: Detector, limits: RequestLimits) -> "FeedBatch":
        """Read the readings of a request and return what they bring; the machine is busy until `commit` or `release`.

        Raises:
            HTTPException: 400, a body of another form; 409, another request for the machine is being answered.
            DataError: readings that cannot be placed or that are no numbers.
        """
        machine, columns = read_feed_body(body, detector.spec)
        steps = detector.spec.steps
        assert steps is not None, "a series with channels has steps"
        one_machine = replace(steps, machine=None)
        readings = read_columns(columns, detector.spec.channels, one_machine, from_text=False)
        require_numbers(readings, "reading")
        with self._lock:
            if machine in self._busy:
                raise HTTPException(
                    409, f"readings of {machine} are being scored: send those of a machine one request after the other"
                )
            self._busy.add(machine)
        try:
            model = _series_key(detector.spec)
            known_model, state = self._states.get(machine, (model, None))
            brought = extend_feed(state if known_model == model else None, readings, steps, limits.samples)
        except BaseException:
            self.release(machine)
            raise
        return FeedBatch(machine, brought, model, steps.length * steps.every, self)

    def commit(self, machine: str, model: object, state: FeedState) -> None:
        """Remember the state of a machine; it is no longer busy."""
        with self._lock:
            self._states[machine] = (model, state)
            self._states.move_to_end(machine)
            while len(self._states) > self.machines:
                self._states.popitem(last=False)
            self._busy.discard(machine)

    def release(self, machine: str) -> None:
        """Leave the state of a machine as it was; it is no longer busy."""
        with self._lock:
            self._busy.discard(machine)


@dataclass(frozen=True)
class FeedBatch:
    """What a request brings of one machine.

    Attributes:
        machine: its name.
        brought: the windows of new steps, and the state after them.
        model: names channels and steps of the model that scores them.
        alarm_reach: seconds without an anomaly that end an alarm.
        feeds: that remember the machine.
    """

    machine: str
    brought: FeedSteps
    model: object
    alarm_reach: float
    feeds: MachineFeeds = field(repr=False)

    def names(self) -> list[str]:
        """Return the name of each scored step, by which its prediction is found."""
        return [step_name(self.machine, time) for time in self.brought.times.tolist()]

    def answer(self, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the content of the reply, and remember the machine.

        Args:
            scores: score, p_value, is_anomaly and flags of the windows, (n,) each; empty where there are none.
        """
        brought, predictions = self.brought, []
        alarm = brought.state.alarm
        if len(brought.times):
            predictions = to_answers(dict(scores))
            for prediction, time in zip(predictions, brought.times.tolist(), strict=True):
                prediction["time"] = describe_time(time)
            flagged, values = scores["is_anomaly"].tolist(), scores["score"].tolist()
            alarm = follow_alarm(alarm, brought.times.tolist(), values, flagged, self.alarm_reach)
        self.feeds.commit(self.machine, self.model, replace(brought.state, alarm=alarm))
        described = None
        if alarm is not None:
            described = {
                "start": describe_time(alarm.start),
                "end": describe_time(alarm.end),
                "peak": describe_time(alarm.peak),
                "peak_score": alarm.peak_score,
            }
        return {
            "machine": self.machine,
            "predictions": predictions,
            "waiting": brought.waiting,
            "ignored": brought.ignored,
            "alarm": described,
        }

    def release(self) -> None:
        """Leave the machine as it was: the request has failed."""
        self.feeds.release(self.machine)


def is_feed_body(body: Any) -> bool:
    """Return whether parsed JSON is about a machine's readings."""
    return isinstance(body, dict) and any(key in body for key in FEED_KEYS) and "inputs" not in body


def read_feed_body(body: Mapping[str, Any], spec: SampleSpec) -> tuple[str, dict[str, list[Any]]]:
    """Return the machine of a body and its readings as columns by name; a channel that no reading has is a missing value.

    Raises:
        HTTPException: 400, a body of another form.
    """
    machine, readings = body.get(MACHINE_KEY), body.get(READINGS_KEY)
    unknown = names_not_in(body, FEED_KEYS)
    if unknown:
        raise HTTPException(400, f"expected {FEED_EXAMPLE}, got the key {unknown[0]!r}")
    if not isinstance(machine, str) or not machine.strip() or not machine.isprintable() or len(machine.encode()) > MACHINE_BYTES:
        expected = f"{FEED_EXAMPLE} with a printable name of up to {MACHINE_BYTES} bytes"
        raise HTTPException(400, f"expected {expected}, got {shorten_cell(machine)}")
    if not isinstance(readings, list) or not readings or not all(isinstance(reading, dict) for reading in readings):
        raise HTTPException(400, f"expected {FEED_EXAMPLE} with one reading or more, got none")
    assert spec.steps is not None, "a series with channels has steps"
    return machine, columns_of_readings(readings, (*spec.steps.time_columns, *names_of(spec.channels)))


def _series_key(spec: SampleSpec) -> object:
    """Return what two models have to share so that the window of one is the window of the other."""
    assert spec.steps is not None, "a series with channels has steps"
    steps = spec.steps
    return tuple(names_of(spec.channels)), steps.length, steps.every, steps.fill
