"""The try-it box: one sample scored by a recipe's champion, with everything there is to show of it.

A running scoring service of the recipe does the work. Without one this process does, with the champion's bundle that was
downloaded to the state folder before and is the one that the ledger names. Either way the prediction is recorded.
"""

import json
import threading
import urllib.error
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ae_models.mappings import select_keys
from ae_models.names import names_in
from ae_models.threshold_interface import StoredThreshold
from ae_models.thresholds import read_threshold
from aeops.bundle.explanations import describe_explanation
from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.files import file_sha256
from aeops.kinds.flags import FLAG_TEXTS, flag_texts
from aeops.kinds.interface import DataKind, load_kind
from aeops.kinds.results import Explanation, PageBlock, ScoredPart
from aeops.kinds.samples import FitOptions, FittedSample, SampleSpec
from aeops.machine.network import open_url
from aeops.page import pictures, state_files
from aeops.page.stack_status import ServiceStatus, json_request
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.champion_anchor import has_anchor, read_anchor

if TYPE_CHECKING:
    from aeops.bundle.detector import Detector

SCORING_TIMEOUT = 20.0  # seconds a scoring service may take
LARGEST_UPLOAD = 8 * 2**20  # bytes
CACHED_DETECTORS = 2
ERROR_LENGTH = 4096  # bytes of a service's error that are read
DECODE_WAIT = 1.0  # seconds that a sample waits for others to be decoded
_load_lock = threading.Lock()
_decode_lock = threading.Lock()


@dataclass(frozen=True)
class Upload:
    """A sample that a person dropped or pasted: bytes, media type and name, and the box's options; see `FitOptions`."""

    content: bytes
    media_type: str
    name: str
    row: int = 0
    invert: str = "auto"


@dataclass(frozen=True)
class ScoredSample:
    """One sample's score.

    Attributes:
        flags: what is unlike the samples of the training, in words.
        reconstruction: (1, ...) in raw units, or (1,) with a string; None where there is none.
        explanation: of the score.
        prediction_id: empty where the scorer returned none.
        scorer: in words.
    """

    version: str
    bundle_sha256: str
    threshold: StoredThreshold
    score: float
    p_value: float
    is_anomaly: bool
    flags: list[str]
    reconstruction: np.ndarray | None
    explanation: Explanation
    prediction_id: str
    scorer: str


@dataclass(frozen=True)
class TryResult:
    """A scored sample, ready to be rendered.

    Attributes:
        reason: why the sample has its score, in one line.
        parts: of a combined score, the one that says most first; empty for a single score.
        missing_error: the reason why there is no error map; empty where there is one.
    """

    recipe: str
    name: str
    scored_sample: ScoredSample
    fitted_sample: FittedSample
    reason: str
    panels: list[PageBlock]
    histogram: Markup | None
    missing_error: str
    champion: str | None
    parts: list[ScoredPart]


def try_sample(
    project: Project, recipe: Recipe, service: ServiceStatus | None, auth_header: str | None, upload: Upload
) -> TryResult:
    """Score an uploaded sample.

    Args:
        service: the recipe's scoring service; None where there is none.
        auth_header: the header Authorization that the service asks for.

    Raises:
        UsageError: nothing here can score it; the message says what to type.
        DataError: it cannot be made a sample of the model.
        InfrastructureError: the scoring service does not answer.
    """
    options = FitOptions(upload.row, upload.invert, sample_mean_bounds(recipe))
    champion = state_files.read_ledger(project, recipe.name).champion
    if service is not None and service.state == "up":
        model = request_service(service, auth_header, "/model")
        kind, spec = load_kind(model["input"]["kind"]), parse_sample_spec(model)
        fitted_sample = fit_upload(kind, upload, spec, options)
        scored_sample = score_by_service(service, auth_header, model, as_json(fitted_sample.batch, kind, spec))
    else:
        detector, version = load_champion(project, recipe)
        kind, spec = detector.data_kind, detector.spec
        fitted_sample = fit_upload(kind, upload, spec, options)
        scored_sample = score_here(project, recipe.name, version, detector, fitted_sample, upload.name)
    panels, missing_error = kind.page_panels(fitted_sample.batch, scored_sample.reconstruction, spec, scored_sample.explanation)
    return TryResult(
        recipe=recipe.name,
        name=upload.name,
        scored_sample=scored_sample,
        fitted_sample=fitted_sample,
        reason=describe_explanation(scored_sample.explanation),
        panels=panels,
        histogram=draw_score_histogram(project, recipe.name, scored_sample),
        missing_error=missing_error,
        champion=champion,
        parts=scored_sample.explanation.get("parts", []),
    )


def fit_upload(kind: DataKind, upload: Upload, spec: SampleSpec, options: FitOptions) -> FittedSample:
    """Make the upload a sample of the model.

    One at a time: a small file may hold an image whose pixels take hundreds of megabytes while they are decoded.

    Raises:
        DataError: as `DataKind.fit_sample`.
        InfrastructureError: other samples took too long.
    """
    if not _decode_lock.acquire(timeout=DECODE_WAIT):
        raise InfrastructureError("other large samples are being read here; try again in a few seconds")
    try:
        return kind.fit_sample(upload.content, upload.media_type, spec, options)
    finally:
        _decode_lock.release()


def sample_mean_bounds(recipe: Recipe) -> tuple[float, float] | None:
    bounds = recipe.validate.sample_mean
    if bounds is None:
        return None
    return bounds.min, bounds.max


def parse_sample_spec(model: dict[str, Any]) -> SampleSpec:
    """Return the samples that a service takes according to its /model, which does not tell the shape of a reconstruction."""
    return SampleSpec.from_bundle(select_keys(model, names_in(("input", "column_facts"), model)))


# ---------------------------------------------------------------- scored by the service


def score_by_service(service: ServiceStatus, auth_header: str | None, model: dict[str, Any], inputs: Any) -> ScoredSample:
    """Score one sample, ready for JSON, by the recipe's service; `model` is its answer to /model."""
    body = {"inputs": inputs, "params": {"reconstruction": True}}
    response = request_service(service, auth_header, "/explain", body)
    prediction = response["predictions"][0]
    reconstruction = prediction.get("reconstruction")
    if reconstruction is not None:
        reconstruction = np.asarray([reconstruction])
    return ScoredSample(
        version=str(model["version"]),
        bundle_sha256=model["bundle_sha256"],
        threshold=read_threshold(model["threshold"]),
        score=prediction["score"],
        p_value=prediction["p_value"],
        is_anomaly=bool(prediction["is_anomaly"]),
        flags=[FLAG_TEXTS.get(flag, flag) for flag in prediction.get("flags", [])],
        reconstruction=reconstruction,
        explanation=prediction,
        prediction_id=str((response.get("ids") or [""])[0]),
        scorer=f"the scoring service at {service.address}",
    )


def as_json(batch: np.ndarray, kind: DataKind, spec: SampleSpec) -> Any:
    """Return a batch for JSON, which knows no infinite numbers, and null for a missing value; by name where it has columns."""
    if kind.IS_BY_NAME:
        return [kind.plain_sample(sample, spec) for sample in batch]
    if batch.dtype.kind != "f" or np.isfinite(batch).all():
        return batch.tolist()
    limit = float(np.finfo(np.float32).max)
    limited = np.clip(batch, -limit, limit).astype(object)
    limited[np.isnan(batch)] = None
    return limited.tolist()


def request_service(service: ServiceStatus, auth_header: str | None, path: str, body: Any = None) -> dict[str, Any]:
    """Return the service's response to GET, or to a POST of JSON where `body` is not None.

    Raises:
        DataError: the service refuses the sample; the message has its reason.
        InfrastructureError: the service does not answer.
    """
    request = json_request(f"{service.address.rstrip('/')}{path}", auth_header, body)
    try:
        with open_url(request, SCORING_TIMEOUT) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        raise DataError(f"the scoring service refused the sample: {read_error(error)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InfrastructureError(
            f"the scoring service at {service.address} does not answer ({reason}): see `ae status`"
        ) from error


def read_error(error: urllib.error.HTTPError) -> str:
    """Return the reason in a service's error response, in one line."""
    text = error.read(ERROR_LENGTH).decode("utf-8", "replace")
    try:
        reason = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        reason = text or error.reason
    return " ".join(str(reason).split())


# ---------------------------------------------------------------- scored by this process


def load_champion(project: Project, recipe: Recipe) -> tuple["Detector", str]:
    """Return the detector and the version of the ledger's champion, or of its head's; see `read_anchor`.

    Raises:
        UsageError: there is no champion, or its bundle is not here, or needs a signature that only a service checks.
        DataError: the bundle here is not the one that the ledger names.
    """
    champion = None
    if has_anchor(project, recipe.name):
        anchor = read_anchor(project, recipe.name)
        champion = anchor.version
    if champion is None:
        raise UsageError(f"{recipe.name} has no champion to score with: make one with `ae run {recipe.name}`")
    next_step = f"type `ae serve {recipe.name}` (or `ae up`), then try again"
    if recipe.signature.require_signature:
        raise UsageError(f"{recipe.name} asks for a signed bundle, which its scoring service checks: {next_step}")
    folder = bundle_folder(project, recipe.name, champion)
    checksum_file = folder / "SHA256SUMS"
    if not checksum_file.is_file():
        raise UsageError(f"no scoring service runs for {recipe.name}, and version {champion} was not downloaded yet: {next_step}")
    if anchor.bundle_sha256 not in (None, file_sha256(checksum_file)):
        raise DataError(f"the bundle in {folder} is not the one that the ledger names: remove that folder, then {next_step}")
    with _load_lock:
        return load_detector(folder, anchor.bundle_sha256, checksum_file.stat().st_mtime_ns), champion


def bundle_folder(project: Project, recipe: str, version: str) -> Path:
    return project.home / "serving" / recipe / version


@lru_cache(maxsize=CACHED_DETECTORS)
def load_detector(folder: Path, bundle_sha256: str | None, _checksums_mtime: int) -> "Detector":
    from aeops.bundle.detector import Detector

    return Detector(folder, bundle_sha256)


def score_here(
    project: Project, recipe: str, version: str, detector: "Detector", fitted_sample: FittedSample, name: str
) -> ScoredSample:
    """Score one sample in this process and record the prediction."""
    from aeops.predictions import prediction_store
    from aeops.predictions.rows import scorer_of
    from aeops.recipe.monitoring import MANUAL_CHANNEL

    # The form in which the scoring service records samples from JSON, so that the same sample has the same hash.
    batch = detector.data_kind.stored_form(fitted_sample.batch, detector.spec, is_json=True)
    checked = detector.check(batch)
    scores = detector.score_checked(checked, code=True, explanation=True)
    detector.require_scored(scores["flags"])
    [explanation] = detector.explain(checked.model_input, scores)
    scorer = scorer_of(recipe, version, detector)
    [prediction_id] = prediction_store.record_call(
        project, scorer, channel=MANUAL_CHANNEL, names=[name], samples=batch, outputs=scores
    )
    return ScoredSample(
        version=version,
        bundle_sha256=detector.sha256,
        threshold=read_threshold(detector.bundle["threshold"]),
        score=float(scores["score"][0]),
        p_value=float(scores["p_value"][0]),
        is_anomaly=bool(scores["is_anomaly"][0]),
        flags=flag_texts(int(scores["flags"][0])),
        reconstruction=detector.decode_outputs(scores["reconstruction"]),
        explanation=explanation,
        prediction_id=prediction_id,
        scorer="this page itself: no scoring service runs for the recipe",
    )


# ---------------------------------------------------------------- shown beside the score


def draw_score_histogram(project: Project, recipe: str, scored_sample: ScoredSample) -> Markup | None:
    """Draw the score among the calibration scores; None where these are not known here."""
    calibration_scores = read_calibration_scores(project, recipe, scored_sample)
    if calibration_scores is None:
        return None
    return pictures.histogram(calibration_scores, scored_sample.threshold.value, scored_sample.score)


def read_calibration_scores(project: Project, recipe: str, scored_sample: ScoredSample) -> np.ndarray | None:
    """Return the sorted calibration scores (n,) of the bundle that scored; None where that bundle is not here."""
    folder = bundle_folder(project, recipe, scored_sample.version)
    if not (folder / "scorer.safetensors").is_file():
        return None
    from safetensors.numpy import load_file

    from ae_models.checksums import bundle_sha256

    if bundle_sha256(folder) != scored_sample.bundle_sha256:
        return None
    scores = load_file(folder / "scorer.safetensors").get("calibration_scores")
    if scores is None or not len(scores):
        return None
    return np.sort(scores.astype(np.float64))
