"""A client of the scoring service, typed, for programs of other projects: it needs httpx and this file alone.

from aeops.client import ScoringClient

with ScoringClient("http://127.0.0.1:8100") as client:
    for prediction in client.score(samples):  # lists of numbers, texts, an array, or a frame
        if prediction.is_anomaly:
            print(prediction.id, prediction.score, prediction.flags)
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

__all__ = ["Prediction", "ScoringClient", "ScoringError", "ServedModel"]

USER = "ae"  # of the service's password
DEFAULT_SECONDS = 30.0
READY_POLL_SECONDS = 0.2


class ScoringError(Exception):
    """The service refused a request, or did not answer.

    Attributes:
        status: of the answer; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Prediction:
    """What the service says of one sample.

    Attributes:
        id: argument of `ae why`; empty where the service records no predictions.
        score: higher is more anomalous; None for a sample that was refused.
        p_value: in (0, 1]; None likewise.
        is_anomaly: None likewise.
        flags: what is unlike the samples of the training.
        details: what was asked for beside these, such as `reconstruction`, `code` or `parts`.
    """

    id: str
    score: float | None
    p_value: float | None
    is_anomaly: bool | None
    flags: tuple[str, ...]
    details: dict[str, Any]


@dataclass(frozen=True)
class ServedModel:
    """The version that is served; `version` is None where none is. `details` is all of the answer of /model."""

    name: str
    version: str | None
    details: dict[str, Any]


class ScoringClient:
    """A connection to one scoring service. Use it as a context manager, or call `close`.

    Args:
        address: such as http://127.0.0.1:8100, as `ae serve` and `ae status` print it.
        password: of a service with `--password-file`.
        timeout: seconds for an answer.
    """

    def __init__(self, address: str, password: str | None = None, timeout: float = DEFAULT_SECONDS) -> None:
        auth = None if password is None else httpx.BasicAuth(USER, password)
        self._client = httpx.Client(base_url=address, auth=auth, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def score(self, samples: Any, *, reconstruction: bool = False, code: bool = False) -> list[Prediction]:
        """Score samples.

        Args:
            samples: a sequence of samples, nested lists of numbers or texts, an array, or a frame of pandas.
            reconstruction, code: ask for these, too; they stand in `details`.

        Raises:
            ScoringError: the service refused them, with its reason, or did not answer.
        """
        return self._predict("/score", samples, {"reconstruction": reconstruction, "code": code})

    def explain(self, samples: Any) -> list[Prediction]:
        """Score samples and ask why; the causes stand in `details`. Raises as `score`."""
        return self._predict("/explain", samples, {})

    def embed(self, samples: Any) -> list[Any]:
        """Return the code of each sample. Raises as `score`."""
        codes: list[Any] = self._request("POST", "/embed", {"inputs": to_lists(samples)})["codes"]
        return codes

    def model(self) -> ServedModel:
        """Return what is served. Raises ScoringError where the service does not answer."""
        answer = self._request("GET", "/model", None)
        return ServedModel(answer["name"], answer["version"], answer)

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait until a version is served, as after `ae serve`.

        Raises:
            ScoringError: none is after so many seconds.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                self._request("GET", "/readyz", None)
                return
            except ScoringError as error:
                if time.monotonic() > end:
                    raise ScoringError(f"not ready within {seconds:g} s: {error}", error.status) from error
            time.sleep(READY_POLL_SECONDS)

    def _predict(self, path: str, samples: Any, params: dict[str, bool]) -> list[Prediction]:
        asked = {name: True for name, is_wanted in params.items() if is_wanted}
        answer = self._request("POST", path, {"inputs": to_lists(samples), "params": asked})
        predictions: Sequence[dict[str, Any]] = answer["predictions"]
        ids = answer.get("ids") or [""] * len(predictions)
        return [to_prediction(one, prediction) for one, prediction in zip(ids, predictions, strict=True)]

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ScoringError(f"{self._client.base_url} does not answer ({error or type(error).__name__})") from error
        try:
            answer = response.json()
        except ValueError as error:
            raise ScoringError(f"{self._client.base_url}{path} is no scoring service", response.status_code) from error
        if response.is_error:
            raise ScoringError(str(answer.get("error", response.reason_phrase)), response.status_code)
        return dict(answer)


def to_lists(samples: Any) -> Any:
    """Return samples as JSON takes them: an array as nested lists, a frame as a list of rows by column name."""
    if hasattr(samples, "to_json"):  # of pandas: JSON knows no NaN and no NumPy numbers
        return json.loads(samples.to_json(orient="records", date_format="iso"))
    return samples.tolist() if hasattr(samples, "tolist") else samples


def to_prediction(prediction_id: str, answer: dict[str, Any]) -> Prediction:
    """Return an answer's prediction of one sample."""
    details = {name: value for name, value in answer.items() if name not in ("score", "p_value", "is_anomaly", "flags")}
    flags = tuple(answer.get("flags", ()))
    return Prediction(prediction_id, answer["score"], answer["p_value"], answer["is_anomaly"], flags, details)
