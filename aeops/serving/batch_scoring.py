"""Score requests in batches: read them, score them together, record the predictions, format the replies.

Runs in the threads of the batcher. Each request gets its own reply or error; an invalid request does not affect the others. A
score is sent only after it is in the journal.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from starlette.exceptions import HTTPException

from aeops.bundle.answers import to_answers
from aeops.errors import DataError
from aeops.kinds.flags import REFUSED
from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY_TYPE
from aeops.kinds.samples import CheckedSamples
from aeops.kinds.series_windows import step_name
from aeops.predictions.journal import Journal
from aeops.serving.limits import RequestLimits
from aeops.serving.machine_feeds import MachineFeeds
from aeops.serving.metrics import Metrics
from aeops.serving.request_bodies import JSON, RequestSamples, read_request_samples
from aeops.serving.response_formats import (
    FirstPrediction,
    ScoringReply,
    explanations_reply,
    feed_reply,
    name_steps,
    scores_reply,
    values_reply,
)
from aeops.serving.served_version import ServedVersion
from aeops.serving.shadow import AnsweredBatch

SCORE_PATH = "/score"
INVOCATIONS_PATH = "/invocations"
EMBED_PATH = "/embed"
RECONSTRUCT_PATH = "/reconstruct"
EXPLAIN_PATH = "/explain"
RECONSTRUCTION_PATHS = (RECONSTRUCT_PATH, EXPLAIN_PATH)  # need reconstructions
PREDICTION_PATHS = (SCORE_PATH, INVOCATIONS_PATH, EXPLAIN_PATH)  # return scores, which are recorded as predictions
RECORDED_COLUMNS = ("score", "p_value", "is_anomaly", "flags", "code")

ScoreColumns = dict[str, np.ndarray]


class ReplyFuture(Protocol):
    """Receives the outcome of a request, on the event loop of the request; `asyncio.Future` is one."""

    def cancelled(self) -> bool: ...

    def set_result(self, result: ScoringReply, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


@dataclass
class Request:
    """A request in the queue.

    Attributes:
        served_version: answers the request, even if another version takes over in the meantime.
        request_id: value of x-request-id; predictions are named `request_id[row]`.
        accepted_type: media type of the reply.
        params: from the query.
        reply_future: receives the reply or the error.
        arrived_at: from `time.monotonic`.
        samples: set by `BatchScorer`.
    """

    path: str
    served_version: ServedVersion
    request_id: str
    body: bytes
    media_type: str
    accepted_type: str
    params: dict[str, bool]
    loop: asyncio.AbstractEventLoop
    reply_future: ReplyFuture
    arrived_at: float = field(default_factory=time.monotonic)
    samples: RequestSamples | None = None

    @property
    def size(self) -> int:
        return len(self.body)


RequestOutcome = tuple[Request, ScoringReply | Exception]


class BatchScorer:
    """Scores batches of requests.

    Args:
        journal: None to record no predictions, for instance for a bundle that is not registered.
        on_answered: called with the version and the batch after the replies were sent.
    """

    def __init__(
        self,
        limits: RequestLimits,
        metrics: Metrics,
        journal: Journal | None,
        on_answered: Callable[[ServedVersion, AnsweredBatch], None],
    ) -> None:
        self.limits, self.metrics, self.journal, self.on_answered = limits, metrics, journal, on_answered
        self.feeds = MachineFeeds(limits.machines)

    def process_batch(self, requests: list[Request]) -> None:
        """Send every request a reply or an error."""
        by_version: dict[int, list[Request]] = {}
        failures: list[RequestOutcome] = []  # and what is answered without a score
        for request in requests:
            try:
                request.samples = self._read_request(request)
                if request.samples.feed is not None and not len(request.samples):
                    failures.append((request, feed_reply(request.samples.feed, {}, None)))  # no window is complete yet
                    continue
                by_version.setdefault(id(request.served_version), []).append(request)
            except Exception as error:  # noqa: BLE001  # sent to its own client and logged there; the others are answered
                failures.append((request, error))
        send_outcomes(failures)
        for same_version in by_version.values():
            self._answer_requests(same_version)

    def _read_request(self, request: Request) -> RequestSamples:
        detector = request.served_version.detector
        feeds = self.feeds if request.path == SCORE_PATH else None
        samples = read_request_samples(request.body, request.media_type, request.params, detector, self.limits, feeds)
        request.body = b""  # the samples may share its memory; nothing else needs it
        if request.path == EXPLAIN_PATH and len(samples) > self.limits.explained_samples:
            message = f"expected at most {self.limits.explained_samples} samples to explain, got {len(samples)}"
            raise HTTPException(413, f"{message}: send smaller batches")
        if request.accepted_type == JSON:
            self._limit_json_reply(request, samples)
        return samples

    def _limit_json_reply(self, request: Request, samples: RequestSamples) -> None:
        """Raise HTTPException 413 if the reply as JSON would hold more numbers than allowed, and than one sample's reply has."""
        detector = request.served_version.detector
        values_per_sample = 0
        if request.path == RECONSTRUCT_PATH or samples.params.get("reconstruction", False):
            values_per_sample += math.prod(detector.output_shape)
        if request.path == EXPLAIN_PATH:
            values_per_sample += detector.explained_values
        if request.path == EMBED_PATH or samples.params.get("code", False):
            values_per_sample += math.prod(detector.bundle["code"]["shape"])
        if len(samples) > 1 and len(samples) * values_per_sample > self.limits.answer_values:
            max_samples = max(1, self.limits.answer_values // values_per_sample)
            message = f"expected at most {max_samples} samples for a JSON reply, got {len(samples)}"
            raise HTTPException(413, f"{message}: send fewer, or accept {NPY_TYPE}")

    def _answer_requests(self, requests: list[Request]) -> None:
        """Answer requests of one version together; if that fails, each by itself, so that one cannot break the others."""
        try:
            outcomes, answered_batch = self._score_requests(requests)
        except Exception as error:  # noqa: BLE001  # sent to the client and logged there
            if len(requests) == 1:
                if (feed := loaded_samples(requests[0]).feed) is not None:
                    feed.release()
                send_outcomes([(requests[0], error)])
                return
            for request in requests:
                self._answer_requests([request])
            return
        send_outcomes(outcomes)
        self.on_answered(requests[0].served_version, answered_batch)

    def _score_requests(self, requests: list[Request]) -> tuple[list[RequestOutcome], AnsweredBatch]:
        served_version = requests[0].served_version
        checked = concat_checked(requests)
        with_reconstruction = needs_reconstruction(requests)
        with_explanation = any(request.path == EXPLAIN_PATH for request in requests)
        start_time = time.perf_counter()
        score_columns = served_version.detector.score_checked(
            checked, reconstruction=with_reconstruction, code=True, explanation=with_explanation
        )
        seconds = time.perf_counter() - start_time
        require_finite(score_columns)
        scored_by_request = split_by_request(requests, score_columns)
        first_predictions = self._record_predictions(served_version, requests, scored_by_request)
        outcomes: list[RequestOutcome] = []
        for request, request_scores in zip(requests, scored_by_request, strict=True):
            outcomes.append((request, build_reply(request, request_scores, first_predictions.get(id(request)))))
        self.metrics.record_batch(score_columns["is_anomaly"], score_columns["flags"])
        return outcomes, AnsweredBatch(concat_stored(requests), len(requests), score_columns["is_anomaly"], seconds)

    def _record_predictions(
        self, served_version: ServedVersion, requests: list[Request], scored_by_request: list[ScoreColumns]
    ) -> dict[int, FirstPrediction]:
        """Write the predictions to the journal.

        Returns:
            First prediction of each request that has any, by the id of the request.
        """
        first_predictions: dict[int, FirstPrediction] = {}
        if self.journal is None:
            return first_predictions
        # The hash of a sample depends on its dtype: one write a dtype.
        by_dtype: dict[str, list[tuple[Request, ScoreColumns]]] = {}
        for request, request_scores in zip(requests, scored_by_request, strict=True):
            if request.path in PREDICTION_PATHS:
                by_dtype.setdefault(dtype_of(request), []).append((request, request_scores))
        for same_dtype in by_dtype.values():
            names = prediction_names(same_dtype)
            requests_of_dtype, scores_of_dtype = zip(*same_dtype, strict=True)
            columns: ScoreColumns = {}
            for name in RECORDED_COLUMNS:
                columns[name] = np.concatenate([request_scores[name] for request_scores in scores_of_dtype])
            stored_samples = concat_stored(requests_of_dtype)
            call, row = self.journal.append(served_version.scorer, names, stored_samples, columns)
            for request, request_scores in same_dtype:
                first_predictions[id(request)] = FirstPrediction(call, row)
                row += len(request_scores["score"])
        return first_predictions


def build_reply(request: Request, score_columns: ScoreColumns, first_prediction: FirstPrediction | None) -> ScoringReply:
    """Build the reply to a request in the media type that it accepts.

    Args:
        scored: result of the detector for the samples of this request.
        first_prediction: None if no prediction was recorded.
    """
    samples, detector = loaded_samples(request), request.served_version.detector
    if request.path == EMBED_PATH:
        return values_reply("codes", score_columns["code"], request.accepted_type)
    if request.path == RECONSTRUCT_PATH:
        return values_reply("reconstructions", detector.decode_outputs(score_columns["reconstruction"]), request.accepted_type)
    scores = {name: score_columns[name] for name in ("score", "p_value", "is_anomaly", "flags")}
    if samples.params.get("reconstruction"):
        scores["reconstruction"] = detector.decode_outputs(score_columns["reconstruction"])
    if samples.params.get("code"):
        scores["code"] = score_columns["code"]
    if samples.feed is not None:
        return feed_reply(samples.feed, scores, first_prediction)
    if request.path == EXPLAIN_PATH:
        explanations = detector.explain(samples.checked.model_input, score_columns)
        predictions = to_answers(scores)
        for prediction, explanation in zip(predictions, explanations, strict=True):
            prediction.update(explanation)
        return explanations_reply(name_steps(predictions, samples.ends), first_prediction)
    with_ids = request.path == SCORE_PATH
    return scores_reply(scores, first_prediction, request.accepted_type, with_ids=with_ids, ends=samples.ends)


def require_finite(score_columns: ScoreColumns) -> None:
    is_finite = np.isfinite(score_columns["score"]) & np.isfinite(score_columns["p_value"])
    is_finite |= score_columns["flags"] & REFUSED > 0
    if not is_finite.all():
        row = int(np.argmin(is_finite))
        values = f"{score_columns['score'][row]} and {score_columns['p_value'][row]}"
        raise DataError(f"sample {row}: expected a finite score and p-value, got {values}: this version cannot score it")


def needs_reconstruction(requests: list[Request]) -> bool:
    for request in requests:
        if request.path in RECONSTRUCTION_PATHS or loaded_samples(request).params.get("reconstruction"):
            return True
    return False


def split_by_request(requests: list[Request], score_columns: ScoreColumns) -> list[ScoreColumns]:
    """Split columns of the whole batch into the columns of each request, in the same order."""
    scored_by_request: list[ScoreColumns] = []
    start = 0
    for request in requests:
        end = start + len(loaded_samples(request))
        scored_by_request.append({name: values[start:end] for name, values in score_columns.items()})
        start = end
    return scored_by_request


def prediction_names(scored_requests: list[tuple[Request, ScoreColumns]]) -> list[str]:
    names: list[str] = []
    for request, _ in scored_requests:
        if (feed := loaded_samples(request).feed) is not None:
            names += feed.names()
            continue
        if (ends := loaded_samples(request).ends) is not None:
            names += [step_name(machine, end) for machine, end in ends]
            continue
        for row in range(len(loaded_samples(request))):
            names.append(f"{request.request_id}[{row}]")
    return names


def loaded_samples(request: Request) -> RequestSamples:
    assert request.samples is not None, "a request is read before it is scored"
    return request.samples


def dtype_of(request: Request) -> str:
    return loaded_samples(request).stored_samples.dtype.str


def concat_checked(requests: list[Request]) -> CheckedSamples:
    """Return the checked samples of all requests, without a copy if there is one request."""
    parts = [loaded_samples(request).checked for request in requests]
    if len(parts) == 1:
        return parts[0]
    return CheckedSamples(*map(np.concatenate, zip(*parts, strict=True)))


def concat_stored(requests: Sequence[Request]) -> np.ndarray:
    """Return a copy of the samples of all requests as a dataset stores them."""
    return np.concatenate([loaded_samples(request).stored_samples for request in requests])


def send_outcomes(outcomes: Iterable[RequestOutcome]) -> None:
    """Send outcomes to the waiting requests, with one call for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[RequestOutcome]] = {}
    for request, outcome in outcomes:
        by_loop.setdefault(request.loop, []).append((request, outcome))
    for loop, loop_outcomes in by_loop.items():
        if not loop.is_closed():  # it is if the service was stopped without waiting
            loop.call_soon_threadsafe(resolve_futures, loop_outcomes)


def resolve_futures(outcomes: list[RequestOutcome]) -> None:
    for request, outcome in outcomes:
        if request.reply_future.cancelled():
            continue
        if isinstance(outcome, Exception):
            request.reply_future.set_exception(outcome)
        else:
            request.reply_future.set_result(outcome)
