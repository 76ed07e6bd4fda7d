"""The try-it box: one sample through a recipe's champion, and all there is to see of it.

A recipe's scoring service does the work where one runs; else this process does, with a champion's bundle that lies in the state
folder already and is the one that the ledger names. Either way the prediction is recorded, as every score is.
"""

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.kinds.interface import load_kind
from aeops.kinds.results import Block
from aeops.kinds.samples import FitOptions, FittedSample, SampleSpec
from aeops.page import pictures, state_files
from aeops.page.stack_status import Service
from aeops.project import Project
from aeops.recipe.reader import Recipe

SCORED_WITHIN = 20.0  # seconds a scoring service may take
LARGEST_UPLOAD = 8 * 2**20  # bytes
LOADED = 2  # detectors that this process keeps
_loading = threading.Lock()


@dataclass(frozen=True)
class Given:
    """What a person gave: its bytes, media type and name, and the box's options; see `FitOptions`."""

    content: bytes
    media_type: str
    name: str
    row: int = 0
    invert: str = "auto"


@dataclass(frozen=True)
class Scored:
    """What a scorer said of a sample.

    Attributes:
        made: the reconstruction, (1, ...) in raw units, or (1,) with a string; None where there is none.
        prediction: its id; empty where the scorer gave none.
        by: who scored, in words.
    """

    version: str
    bundle_sha256: str
    threshold: dict[str, Any]
    score: float
    p_value: float
    is_anomaly: bool
    made: np.ndarray | None
    prediction: str
    by: str


@dataclass(frozen=True)
class Tried:
    """A sample and its score, ready to be shown.

    Attributes:
        no_error: why there is no error map; empty where there is one.
    """

    recipe: str
    name: str
    scored: Scored
    shaped: FittedSample
    panels: list[Block]
    histogram: Markup | None
    no_error: str
    champion: str | None


def try_sample(project: Project, recipe: Recipe, service: Service | None, access: str | None, given: Given) -> Tried:
    """Scores what a person gave; `access` is the header Authorization that the service asks for.

    Raises:
        UsageError: nothing here can score it: what to type.
        DataError: it cannot be made a sample of the model.
        InfrastructureError: the scoring service does not answer.
    """
    bounds = recipe.validate.sample_mean
    mean_bounds = None if bounds is None else (bounds.min, bounds.max)
    options = FitOptions(given.row, given.invert, mean_bounds)
    champion = state_files.story(project, recipe.name).champion
    if service is not None and service.state == "up":
        model = ask(service, access, "/model")
        kind, spec = load_kind(model["input"]["kind"]), served_spec(model["input"])
        shaped = kind.fit_sample(given.content, given.media_type, spec, options)
        scored = by_service(service, access, model, shaped)
    else:
        detector, version = local_detector(project, recipe, champion)
        kind, spec = detector.data_kind, detector.spec
        shaped = kind.fit_sample(given.content, given.media_type, spec, options)
        scored = by_hand(project, recipe.name, version, detector, shaped, given.name)
    panels, no_error = kind.panels(shaped.batch, scored.made, spec)
    scores = calibration(project, recipe.name, scored)
    drawn = None if scores is None else pictures.histogram(scores, float(scored.threshold["value"]), scored.score)
    return Tried(recipe.name, given.name, scored, shaped, panels, drawn, no_error, champion)


def served_spec(source: dict[str, Any]) -> SampleSpec:
    """The samples that a service takes by its page /model, which does not say what its model makes of them."""
    shape = tuple(source["shape"])
    return SampleSpec(shape, shape, float(source["low"]), float(source["high"]))


# ---------------------------------------------------------------- by the scoring service


def by_service(service: Service, access: str | None, model: dict[str, Any], shaped: FittedSample) -> Scored:
    answer = ask(service, access, "/score", {"inputs": shaped.batch.tolist(), "params": {"reconstruction": True}})
    said = answer["predictions"][0]
    made = said.get("reconstruction")
    return Scored(
        version=str(model["version"]),
        bundle_sha256=model["bundle_sha256"],
        threshold=model["threshold"],
        score=float(said["score"]),
        p_value=float(said["p_value"]),
        is_anomaly=bool(said["is_anomaly"]),
        made=None if made is None else np.asarray([made]),
        prediction=str((answer.get("ids") or [""])[0]),
        by=f"the scoring service at {service.address}",
    )


def ask(service: Service, access: str | None, path: str, body: Any = None) -> dict[str, Any]:
    """The service's answer; its refusal of a sample is a DataError with its own words."""
    address = f"{service.address.rstrip('/')}{path}"
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": access} if access else {})
    request = urllib.request.Request(address, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=SCORED_WITHIN) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise DataError(f"the scoring service refused it: {refusal(error)}") from error
    except (OSError, ValueError) as error:
        raise InfrastructureError(
            f"the scoring service at {service.address} does not answer ({getattr(error, 'reason', error)}): see `ae status`"
        ) from error


def refusal(error: urllib.error.HTTPError) -> str:
    """What a service says of a request that it does not take, in one line."""
    text = error.read(4096).decode("utf-8", "replace")
    try:
        told = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        told = text or error.reason
    return " ".join(str(told).split())


# ---------------------------------------------------------------- by this process


def local_detector(project: Project, recipe: Recipe, champion: str | None) -> tuple[Any, str]:
    """The champion's detector and version.

    Raises:
        UsageError: its bundle is not here, or needs a signature that only a service checks.
        DataError: the bundle here is not the one that the ledger names.
    """
    if champion is None:
        raise UsageError(f"{recipe.name} has no champion to score with: make one with `ae run {recipe.name}`")
    serve = f"type `ae serve {recipe.name}` (or `ae up`), then try again"
    if recipe.signature.require_signature:
        raise UsageError(f"{recipe.name} asks for a signed bundle, which its scoring service checks: {serve}")
    place = project.home / "serving" / recipe.name / champion
    if not (place / "SHA256SUMS").is_file():
        raise UsageError(f"no scoring service runs for {recipe.name}, and version {champion} was not downloaded yet: {serve}")
    lines = state_files.story(project, recipe.name).lines
    known = next((line.evidence.get("bundle_sha256") for line in reversed(lines) if line.to_version == champion), None)
    with _loading:
        detector = load(place, (place / "SHA256SUMS").stat().st_mtime_ns)
    if detector.sha256 != known:
        raise DataError(f"the bundle in {place} is not the one that the ledger names: remove that folder, then {serve}")
    return detector, champion


@lru_cache(maxsize=LOADED)
def load(place: Path, _written: int) -> Any:
    from aeops.bundle.detector import Detector

    return Detector(place)


def by_hand(project: Project, recipe: str, version: str, detector: Any, shaped: FittedSample, name: str) -> Scored:
    from aeops.predictions import prediction_store
    from aeops.predictions.rows import scorer_of
    from aeops.recipe.monitoring import HAND

    # As the scoring service would record what it gets as JSON: the same sample has the same hash.
    batch = detector.data_kind.stored_form(shaped.batch, detector.spec, is_json=True)
    said = detector.score(batch, reconstruction=True, code=True)
    scorer = scorer_of(recipe, version, detector)
    [identity] = prediction_store.record(project, scorer, channel=HAND, names=[name], samples=batch, scored=said)
    return Scored(
        version=version,
        bundle_sha256=detector.sha256,
        threshold=detector.bundle["threshold"],
        score=float(said["score"][0]),
        p_value=float(said["p_value"][0]),
        is_anomaly=bool(said["is_anomaly"][0]),
        made=said["reconstruction"],
        prediction=identity,
        by="this page itself: no scoring service runs for the recipe",
    )


# ---------------------------------------------------------------- to be seen


def calibration(project: Project, recipe: str, scored: Scored) -> np.ndarray | None:
    """The calibration scores of the bundle that scored, where that lies here; else None."""
    place = project.home / "serving" / recipe / scored.version
    if not (place / "scorer.safetensors").is_file():
        return None
    from safetensors.numpy import load_file

    from ae_models.checksums import bundle_sha256

    if bundle_sha256(place) != scored.bundle_sha256:
        return None
    scores = load_file(place / "scorer.safetensors").get("calibration_scores")
    return None if scores is None or not len(scores) else np.sort(scores.astype(np.float64))
