"""Other sentences on the same samples: does the recipe's own model earn its place?"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ae_models.spec import FitSpec, QuantisedBottleneckSpec
from aeops.bundle.detector import Detector
from aeops.drawing import mosaics
from aeops.drawing.words import format_number, format_share, format_span
from aeops.evaluation import model_input
from aeops.evaluation.detection import measure_ranking
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.files import read_json
from aeops.recipe.studies import MODEL, RivalsStudy

SHOWN = 10  # samples in the strips


@dataclass(frozen=True)
class Contestant:
    """One model on the test samples.

    Attributes:
        said: its detector's answers.
        error: of the normals, as their kind measures it.
        auroc, interval: novelty against normals; None where there is no novelty.
        active: share of a code's numbers that are not 0; None where a code is made of words.
    """

    said: dict[str, np.ndarray]
    error: float
    auroc: float | None
    interval: tuple[float, float] | None
    active: float | None

    @property
    def metrics(self) -> dict[str, Any]:
        return {"error": self.error, "auroc": self.auroc, "auroc_interval": self.interval, "active_share": self.active}


def run_rivals_study(spec: RivalsStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Trains each rival in a scratch folder, as the recipe's model was trained, and asks all of them about the test samples."""
    found = {MODEL: judged(scene, scene.recipe.fit, scene.predictions, scene.detector)}
    for name, fit in spec.rivals.items():
        with TemporaryDirectory(prefix="ae-rival-") as scratch:
            found[name] = compete(scene, fit, Path(scratch))
    drawn = [draw(figures / "rivals_strips.svg", scene, found)] if scene.detector.data_kind.DRAWABLE else []
    return tell(scene, found, drawn)


def compete(scene: EvaluationContext, fit: FitSpec, scratch: Path) -> Contestant:
    """Trains a rival on the recipe's own samples."""
    from ae_models import fit as training  # here: it loads torch
    from ae_models.sample_sets import NpySampleSet

    folder = scene.data.folder
    training.fit(
        fit,
        **{part: NpySampleSet(folder / f"{part}.npy") for part in ("train", "validation", "calibration")},
        checkpoints=scratch / "checkpoints",
        content_sha256=read_json(folder / "prepared.json")["content_sha256"],
        recipe=scene.recipe.name,
        bundle=scratch / "bundle",
        history=scratch / "history",
        progress_bar=False,
    )
    detector = Detector(scratch / "bundle")
    return judged(scene, fit, detector.score(scene.inputs, reconstruction=True, code=True), detector)


def judged(scene: EvaluationContext, fit: FitSpec, said: dict[str, np.ndarray], detector: Detector) -> Contestant:
    """What a model's answers are worth. Tokens of a text are its own, as each rival trains a tokenizer."""
    novelty, normal = scene.data.novelty, scene.is_normal
    target = detector.measurable(model_input.target_channels(fit.input, scene.data.test[normal]))
    error = detector.data_kind.mean_error(target, detector.measurable(said["reconstruction"][normal]))
    ranked = measure_ranking(said["score"], novelty) if novelty.any() else None
    words = isinstance(fit.model.bottleneck, QuantisedBottleneckSpec)
    return Contestant(
        said,
        error,
        ranked.auroc if ranked else None,
        ranked.auroc_interval if ranked else None,
        None if words else float((said["code"] != 0).mean()),
    )


def draw(file: Path, scene: EvaluationContext, found: dict[str, Contestant]) -> tuple[str, str]:
    chosen = np.flatnonzero(scene.is_normal)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(SHOWN, len(chosen))).astype(int)]
    rows = {"input": scene.data.scale(scene.inputs[chosen])}
    rows |= {name: scene.data.scale(one.said["reconstruction"][chosen]) for name, one in found.items()}
    mosaics.draw_rows(file, rows)
    return file.name, "Normal test samples and what each model makes of them."


def tell(scene: EvaluationContext, found: dict[str, Contestant], figures: list[tuple[str, str]]) -> StudyResult:
    gain, lead = margins(found)
    rows = [
        [
            title(name),
            " x ".join(map(str, one.said["code"].shape[1:])),
            format_number(one.error, 5),
            *([format_number(one.auroc), format_span(one.interval)] if one.auroc is not None else []),
            "words" if one.active is None else format_share(one.active),
        ]
        for name, one in found.items()
    ]
    ranked = ["AUROC", "95 % interval (DeLong)"] if lead is not None else []
    own = {"gain": gain, "lead": lead}
    return StudyResult(
        title="Rivals",
        lead=verdict(found, gain, lead),
        head=["", "code", scene.detector.data_kind.ERROR_HEAD, *ranked, "numbers in use"],
        rows=rows,
        figures=figures,
        metrics={name: one.metrics | (own if name == MODEL else {}) for name, one in found.items()},
        note="Each was trained on the same samples with the same seed, and is the recipe's own but for what its name says in "
        "evaluate.studies.rivals. The error is that of the normal test samples; in use are the numbers of a code that are not 0.",
    )


def margins(found: dict[str, Contestant]) -> tuple[float | None, float | None]:
    """How far the recipe's model is ahead of the best rival: share of that one's error, and difference in AUROC."""
    own, *others = found.values()
    best = min(one.error for one in others)
    gain = 1 - own.error / best if best else None
    lead = None if own.auroc is None else own.auroc - max(one.auroc or 0.0 for one in others)
    return gain, lead


def verdict(found: dict[str, Contestant], gain: float | None, lead: float | None) -> str:
    """Who wins, and how the recipe's own model stands to the best rival."""
    nearest = min(found, key=lambda name: found[name].error)
    told = f"Lowest error: {title(nearest)}"
    if gain is not None:
        told += f"; that of the recipe's model is {format_share(abs(gain))} {'below' if gain >= 0 else 'above'} the best rival's"
    if lead is not None:
        ranks = max(found, key=lambda name: found[name].auroc or 0.0)
        told += f". Highest AUROC: {title(ranks)}; the recipe's model is {abs(lead):.3f} {'ahead of' if lead >= 0 else 'behind'} "
        told += "the best rival"
    return f"{told}."


def title(name: str) -> str:
    return "the recipe's model" if name == MODEL else name
