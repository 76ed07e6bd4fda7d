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
from aeops.page import pictures, state_files
from aeops.page.sample_input import IMAGE, SERIES, TEXT, Shaped, Wanted, shape
from aeops.page.stack_status import Service
from aeops.project import Project
from aeops.recipe.reader import Recipe

SCORED_WITHIN = 20.0  # seconds a scoring service may take
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. ITU-R BT.601-7
LOADED = 2  # detectors that this process keeps
_loading = threading.Lock()


@dataclass(frozen=True)
class Given:
    """What a person gave: its bytes, media type and name, and the box's options."""

    content: bytes
    kind: str
    name: str
    row: int = 0
    invert: str = "auto"


@dataclass(frozen=True)
class Scored:
    """What a scorer said of a sample.

    Attributes:
        made: the reconstruction in raw units, or a text; None where there is none.
        prediction: its id; empty where the scorer gave none.
        by: who scored, in words.
    """

    version: str
    bundle_sha256: str
    threshold: dict[str, Any]
    score: float
    p_value: float
    is_anomaly: bool
    made: Any
    prediction: str
    by: str


@dataclass(frozen=True)
class Tried:
    """A sample and its score, ready to be shown.

    Attributes:
        panels: pictures with a caption each, (kind, address or markup or text, title, caption).
        no_error: why there is no error map; empty where there is one.
    """

    recipe: str
    name: str
    scored: Scored
    shaped: Shaped
    panels: list[tuple[str, Any, str, str]]
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
    mean = None if bounds is None else (bounds.min, bounds.max)
    champion = state_files.story(project, recipe.name).champion
    if service is not None and service.state == "up":
        model = ask(service, access, "/model")
        wanted = wanted_by(model["input"], mean)
        shaped = shape(given.content, given.kind, wanted, given.row, given.invert)
        scored = by_service(service, access, model, shaped)
    else:
        detector, version = local_detector(project, recipe, champion)
        source = {"kind": detector.kind, "shape": detector.shape, "low": detector.low, "high": detector.high}
        wanted = wanted_by(source, mean)
        shaped = shape(given.content, given.kind, wanted, given.row, given.invert)
        scored = by_hand(project, recipe.name, version, detector, shaped, given.name)
    panels, no_error = draw(shaped, scored, wanted)
    scores = calibration(project, recipe.name, scored)
    drawn = None if scores is None else pictures.histogram(scores, float(scored.threshold["value"]), scored.score)
    return Tried(recipe.name, given.name, scored, shaped, panels, drawn, no_error, champion)


def wanted_by(source: dict[str, Any], mean: tuple[float, float] | None) -> Wanted:
    return Wanted(source["kind"], tuple(source["shape"]), float(source["low"]), float(source["high"]), mean)


# ---------------------------------------------------------------- by the scoring service


def by_service(service: Service, access: str | None, model: dict[str, Any], shaped: Shaped) -> Scored:
    sample = shaped.sample if isinstance(shaped.sample, str) else shaped.sample.tolist()
    answer = ask(service, access, "/score", {"inputs": [sample], "params": {"reconstruction": True}})
    said = answer["predictions"][0]
    made = said.get("reconstruction")
    return Scored(
        version=str(model["version"]),
        bundle_sha256=model["bundle_sha256"],
        threshold=model["threshold"],
        score=float(said["score"]),
        p_value=float(said["p_value"]),
        is_anomaly=bool(said["is_anomaly"]),
        made=made if made is None or isinstance(made, str) else np.asarray(made, dtype=np.float64),
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


def by_hand(project: Project, recipe: str, version: str, detector: Any, shaped: Shaped, name: str) -> Scored:
    from aeops.predictions import prediction_store
    from aeops.predictions.rows import scorer_of
    from aeops.recipe.monitoring import HAND

    batch = np.array([shaped.sample], dtype=object) if detector.kind == TEXT else np.asarray(shaped.sample, np.float32)[None]
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
        made=said["reconstruction"][0],
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

    from ae_models.sums import bundle_sha256

    if bundle_sha256(place) != scored.bundle_sha256:
        return None
    scores = load_file(place / "scorer.safetensors").get("calibration_scores")
    return None if scores is None or not len(scores) else np.sort(scores.astype(np.float64))


def draw(shaped: Shaped, scored: Scored, wanted: Wanted) -> tuple[list[tuple[str, Any, str, str]], str]:
    """The panels, and why there is no error map where there is none."""
    given, made, low, high = shaped.sample, scored.made, wanted.low, wanted.high
    if wanted.kind == TEXT:
        return [("text", given, "Given", ""), ("text", made or "", "What the model makes of it", "")], ""
    if wanted.kind == SERIES or given.ndim != 3:
        same = made is not None and made.shape == given.shape
        return [
            ("svg", pictures.curves(given, made if same else None, low, high), "Given, and what the model makes of it", "")
        ], ""
    panels = [("image", pictures.png(given, low, high), "Given", "as the model sees it")]
    if made is None:
        return panels, "The scorer gives no reconstruction."
    panels.append(("image", pictures.png(made, low, high), "Reconstruction", "what the model makes of it"))
    if given.shape[0] == 1 and made.shape[0] == 3 and given.shape[1:] == made.shape[1:]:  # a grey one that was coloured
        made = np.tensordot(LUMA, made, axes=1)[None]
    if made.shape != given.shape:
        return panels, "What this model makes is not what it is given, so there is no error to draw."
    error = np.abs(made - given).mean(axis=0) / (high - low)
    caption = f"mean {error.mean():.3f}, most {error.max():.2f} of the range"
    return [*panels, ("image", pictures.error_map(error), "Error at each pixel", caption)], ""


def accepts(kind: str) -> str:
    """What the file field of a recipe's box takes, as browsers want it."""
    return {TEXT: ".txt,text/plain", IMAGE: "image/png,image/jpeg,image/webp,image/bmp,.npy"}.get(kind, ".npy")
