"""From requests that wait to their answers: read, scored together, written down, said. Runs in the batcher's threads.

Each request has an answer of its own: what is wrong with one is told to that one alone. A score is told only after it is in
the journal.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import numpy as np
from starlette.exceptions import HTTPException

from aeops.bundle.answers import answers
from aeops.errors import AeError, DataError
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY_TYPE
from aeops.predictions.journal import Journal
from aeops.serving.limits import Limits
from aeops.serving.metrics import Metrics
from aeops.serving.request_bodies import JSON, Samples, read_samples
from aeops.serving.response_formats import Reply, explanations_reply, scores_reply, values_reply
from aeops.serving.served_version import Served
from aeops.serving.shadow import Batch

SCORE, INVOCATIONS, EMBED, RECONSTRUCT, EXPLAIN = "/score", "/invocations", "/embed", "/reconstruct", "/explain"
MADE = (RECONSTRUCT, EXPLAIN)  # what needs reconstructions
RECORDED = ("score", "p_value", "is_anomaly", "code")
TOLD = (SCORE, INVOCATIONS, EXPLAIN)  # what tells scores, and so makes predictions


class Asking(Protocol):
    """Who is told the outcome of a request, on the loop that asked: a future, or what is like one."""

    def cancelled(self) -> bool: ...

    def set_result(self, result: Reply, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


@dataclass
class Request:
    """A request that waits.

    Attributes:
        served: the version that answers it, whatever takes over meanwhile.
        params: from the query.
        answer: is told the reply, or what is wrong.
    """

    path: str
    served: Served
    name: str
    body: bytes
    media_type: str
    accepted: str
    params: dict[str, bool]
    loop: asyncio.AbstractEventLoop
    answer: Asking
    since: float = field(default_factory=time.monotonic)
    samples: Samples | None = None

    @property
    def size(self) -> int:
        return len(self.body)


Outcome = tuple[Request, Reply | Exception]


class Answering:
    """Answers batches of requests.

    Args:
        journal: None where nothing is recorded, as where a bundle is served that is no registered version.
        on_answered: is shown what was answered, afterwards.
    """

    def __init__(
        self, limits: Limits, metrics: Metrics, journal: Journal | None, on_answered: Callable[[Served, Batch], None]
    ) -> None:
        self.limits, self.metrics, self.journal, self.on_answered = limits, metrics, journal, on_answered

    def work(self, requests: list[Request]) -> None:
        """Answers every one of them, with a reply or with what is wrong."""
        readable: dict[int, list[Request]] = {}
        wrong: list[Outcome] = []
        for request in requests:
            try:
                request.samples = self._read(request)
                readable.setdefault(id(request.served), []).append(request)
            except (HTTPException, AeError) as error:
                wrong.append((request, error))
            except Exception as error:  # noqa: BLE001  # told to the one who asked, who logs it; the others are answered
                wrong.append((request, error))
        tell(wrong)
        for together in readable.values():
            self._answer(together)

    def _read(self, request: Request) -> Samples:
        found = read_samples(request.body, request.media_type, request.params, request.served.detector, self.limits)
        request.body = b""  # numbers may share its memory; nothing else shall
        if request.path == EXPLAIN:
            detector = request.served.detector
            detector.data_kind.require_comparable(detector.spec)
        if request.accepted == JSON:
            self._require_sayable(request, found)
        return found

    def _require_sayable(self, request: Request, found: Samples) -> None:
        """Refuses an answer that would be far larger as JSON than its request."""
        detector = request.served.detector
        made = math.prod(detector.made_shape) * (request.path in MADE or found.params.get("reconstruction", False))
        code = math.prod(detector.bundle["code"]["shape"]) * (request.path == EMBED or found.params.get("code", False))
        if len(found) * (made + code) > self.limits.answer_values:
            most = self.limits.answer_values // (made + code)
            raise HTTPException(
                413, f"{len(found)} samples given; up to {most} are answered so as JSON: send fewer, or accept {NPY_TYPE}"
            )

    def _answer(self, requests: list[Request]) -> None:
        """Answers requests of one version together; where that fails, each by itself, so that one cannot hurt another."""
        try:
            outcomes, seen = self._scored(requests)
        except Exception as error:  # noqa: BLE001  # as above
            if len(requests) == 1:
                tell([(requests[0], error)])
                return
            for request in requests:
                self._answer([request])
            return
        tell(outcomes)
        self.on_answered(requests[0].served, seen)

    def _scored(self, requests: list[Request]) -> tuple[list[Outcome], Batch]:
        served, parts = requests[0].served, [samples_of(request) for request in requests]
        checked = np.concatenate([part.checked for part in parts]) if len(parts) > 1 else parts[0].checked
        wants_made = any(request.path in MADE or samples_of(request).params.get("reconstruction") for request in requests)
        begun = time.perf_counter()
        said = served.detector.score_checked(checked, reconstruction=wants_made, code=True)
        seconds = time.perf_counter() - begun
        require_finite(said)
        ends = list(accumulate(len(part) for part in parts))
        pieces = [slice(end - len(part), end) for end, part in zip(ends, parts, strict=True)]
        said_each = [{name: values[piece] for name, values in said.items()} for piece in pieces]
        ids = self._recorded(served, requests, said_each)
        outcomes: list[Outcome] = [
            (request, reply(request, own, ids.get(id(request)))) for request, own in zip(requests, said_each, strict=True)
        ]
        self.metrics.scored(len(checked), int(said["is_anomaly"].sum()))
        given = joined(requests)
        return outcomes, Batch(given, len(requests), said["is_anomaly"], seconds)

    def _recorded(self, served: Served, requests: list[Request], said: list[dict[str, np.ndarray]]) -> dict[int, tuple[str, int]]:
        """Writes down what will be told; call and first row of each request that has predictions."""
        told = [(request, own) for request, own in zip(requests, said, strict=True) if request.path in TOLD]
        firsts: dict[int, tuple[str, int]] = {}
        if self.journal is None:
            return firsts
        # The hash of a sample is of its dtype, too: those of one dtype are one write.
        for kind in dict.fromkeys(dtype_of(request) for request, _ in told):
            alike = [(request, own) for request, own in told if dtype_of(request) == kind]
            names = [f"{request.name}[{row}]" for request, _ in alike for row in range(len(samples_of(request)))]
            scored = {name: np.concatenate([own[name] for _, own in alike]) for name in RECORDED}
            call, row = self.journal.append(served.scorer, names, joined([request for request, _ in alike]), scored)
            for request, own in alike:
                firsts[id(request)] = (call, row)
                row += len(own["score"])
        return firsts


def reply(request: Request, said: dict[str, np.ndarray], first: tuple[str, int] | None) -> Reply:
    """The answer to a request in the form that it accepts."""
    samples, detector = samples_of(request), request.served.detector
    if request.path == EMBED:
        return values_reply("codes", said["code"], request.accepted)
    if request.path == RECONSTRUCT:
        return values_reply("reconstructions", detector.readable(said["reconstruction"]), request.accepted)
    scores = {name: said[name] for name in ("score", "p_value", "is_anomaly")}
    if request.path == EXPLAIN:
        told = detector.explain(samples.checked, said["reconstruction"])
        return explanations_reply([score | why for score, why in zip(answers(scores), told, strict=True)], first)
    if samples.params.get("reconstruction"):
        scores["reconstruction"] = detector.readable(said["reconstruction"])
    if samples.params.get("code"):
        scores["code"] = said["code"]
    return scores_reply(scores, first, request.accepted, with_ids=request.path == SCORE)


def require_finite(said: dict[str, np.ndarray]) -> None:
    finite = np.isfinite(said["score"]) & np.isfinite(said["p_value"])
    if not finite.all():
        raise DataError(f"sample {int(np.argmin(finite))} has no finite score by this version; it can say nothing about it")


def samples_of(request: Request) -> Samples:
    assert request.samples is not None, "a request is read before it is scored"
    return request.samples


def dtype_of(request: Request) -> str:
    return samples_of(request).given.dtype.str


def joined(requests: list[Request]) -> np.ndarray:
    """The samples of requests, as they were given."""
    return np.concatenate([samples_of(request).given for request in requests])


def tell(outcomes: Iterable[Outcome]) -> None:
    """Hands outcomes to those who wait for them, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for request, outcome in outcomes:
        by_loop.setdefault(request.loop, []).append((request, outcome))
    for loop, own in by_loop.items():
        if not loop.is_closed():  # as when the service was stopped without waiting
            loop.call_soon_threadsafe(set_answers, own)


def set_answers(outcomes: list[Outcome]) -> None:
    for request, outcome in outcomes:
        if request.answer.cancelled():
            continue
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)
