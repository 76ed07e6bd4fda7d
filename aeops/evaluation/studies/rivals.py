"""Baseline models on the same samples: does the recipe's own model earn its place?"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.checksums import json_sha256
from ae_models.spec import FitSpec, QuantisedBottleneckSpec
from aeops.bundle.detector import Detector
from aeops.data.fit_samples import find_backbone, learnt_fit, open_fit_samples
from aeops.drawing import mosaics
from aeops.drawing.words import format_number, format_share, format_span
from aeops.evaluation import model_input
from aeops.evaluation.detection import measure_ranking
from aeops.evaluation.sampling import strip_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.machine.scratch import ScratchFolder
from aeops.machine.source_files import source_hashes
from aeops.machine.stored_json import read_json
from aeops.recipe.studies import MODEL, RivalsStudy

STRIP_SAMPLES = 10  # samples in the strips
_FOLDER_DIGITS = 16  # of the SHA-256 that names a rival's checkpoints


@dataclass(frozen=True)
class ModelResult:
    """One model on the test samples.

    Attributes:
        predictions: of its detector.
        error: of the normals, as their kind measures it.
        auroc, interval: novelty against normals; None where there is no novelty.
        active: share of a code's numbers that are not 0; None where a code consists of code indices.
    """

    predictions: dict[str, np.ndarray]
    error: float
    auroc: float | None
    interval: tuple[float, float] | None
    active: float | None

    @property
    def metrics(self) -> dict[str, Any]:
        """The model's section of metrics.json."""
        return {"error": self.error, "auroc": self.auroc, "auroc_interval": self.interval, "active_share": self.active}


def run_rivals_study(spec: RivalsStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Train each baseline model as the recipe's model was trained, and compare all on the test samples.

    Checkpoints stay in the state folder, so another score or threshold, of the recipe or of a rival, trains no rival again.
    """
    results = {MODEL: _measure_model(context, context.recipe.fit, context.predictions, context.detector)}
    folders = _checkpoint_folders(spec, context)
    document = read_json(context.data.folder / "prepared.json")
    for name, fit in spec.rivals.items():
        results[name] = _train_baseline(context, learnt_fit(fit, document), folders[name])
    _remove_other_folders(context, folders.values())
    figure_captions = []
    if context.detector.data_kind.IS_DRAWABLE:
        figure_captions.append(_draw_reconstructions(figures / "rivals_strips.svg", context, results))
    return _rivals_result(context, results, figure_captions)


def _rivals_folder(context: EvaluationContext) -> Path:
    return context.project.training(context.recipe.name) / "rivals"


def _checkpoint_folders(spec: RivalsStudy, context: EvaluationContext) -> dict[str, Path]:
    """Return the folder of each rival's checkpoints: named by its settings and by the code of a training.

    Samples, packages and machine are compared by the checkpoint itself: see `ae_models.checkpoint`.
    """
    code = source_hashes(context.project.root, ["ae_models.training"])
    folders = {}
    for name, fit in spec.rivals.items():
        key = json_sha256({"settings": fit.weights.to_dict(), "code": code})
        folders[name] = _rivals_folder(context) / key[:_FOLDER_DIGITS]
    return folders


def _remove_other_folders(context: EvaluationContext, folders: Iterable[Path]) -> None:
    """Remove the checkpoints of rivals that the recipe no longer names."""
    for folder in set(_rivals_folder(context).iterdir()) - set(folders):
        shutil.rmtree(folder)


def _train_baseline(context: EvaluationContext, fit: FitSpec, checkpoints: Path) -> ModelResult:
    """Train a baseline model on the recipe's own samples, unless its last checkpoint is its end; and measure it."""
    from ae_models.calibration import calibrate  # here: they load torch
    from ae_models.training import train_weights

    samples = open_fit_samples(context.data.folder, context.recipe, context.project)
    with ScratchFolder() as folder:
        training, bundle = Path(folder) / "training", Path(folder) / "bundle"
        train_weights(
            fit.weights,
            samples.roles.train,
            samples.roles.validation,
            checkpoints=checkpoints,
            content_sha256=samples.content_sha256,
            recipe=context.recipe.name,
            training=training,
            progress_bar=False,
            backbone=find_backbone(fit, context.project),
        )
        calibrate(fit, training, samples.roles, content_sha256=samples.content_sha256, bundle=bundle)
        detector = Detector(bundle)
        predictions = detector.score(context.inputs, reconstruction=True, code=True)
        return _measure_model(context, fit, predictions, detector)


def _measure_model(
    context: EvaluationContext, fit: FitSpec, predictions: dict[str, np.ndarray], detector: Detector
) -> ModelResult:
    """Measure a model's predictions. Tokens of a text are the model's own, as each trains a tokenizer."""
    novelty, normal = context.data.novelty, context.is_normal
    target = detector.to_measured(model_input.target_channels(fit.input, context.data.test[normal]))
    error = detector.data_kind.mean_error(target, detector.to_measured(predictions["reconstruction"][normal]))
    auroc, interval, active = None, None, None
    if novelty.any():
        ranking = measure_ranking(predictions["score"], novelty)
        auroc, interval = ranking.auroc, ranking.auroc_interval
    if not isinstance(fit.model.bottleneck, QuantisedBottleneckSpec):
        active = float((predictions["code"] != 0).mean())
    return ModelResult(predictions, error, auroc, interval, active)


def _draw_reconstructions(file: Path, context: EvaluationContext, results: dict[str, ModelResult]) -> tuple[str, str]:
    indices = np.flatnonzero(context.is_normal)
    indices = indices[strip_indices(len(indices), STRIP_SAMPLES)]
    strips = {"input": context.data.scale(context.inputs[indices])}
    for name, result in results.items():
        strips[name] = context.data.scale(result.predictions["reconstruction"][indices])
    mosaics.draw_rows(file, strips)
    return file.name, "Normal test samples and what each model makes of them."


def _rivals_result(
    context: EvaluationContext, results: dict[str, ModelResult], figure_captions: list[tuple[str, str]]
) -> StudyResult:
    gain, lead = _baseline_margins(results)
    metrics, rows = {}, []
    for name, result in results.items():
        metrics[name] = result.metrics
        rows.append(_result_row(name, result))
    metrics[MODEL] |= {"gain": gain, "lead": lead}
    ranking_head = []
    if lead is not None:
        ranking_head = ["AUROC", "95 % interval (DeLong)"]
    return StudyResult(
        title="Rivals",
        lead=_summary_sentence(results, gain, lead),
        head=["", "code", context.detector.data_kind.ERROR_HEAD, *ranking_head, "numbers in use"],
        rows=rows,
        figures=figure_captions,
        metrics=metrics,
        note="Each was trained on the same samples with the same seed, and is the recipe's own but for what its name says in "
        "evaluate.studies.rivals. The error is that of the normal test samples; in use are the numbers of a code that are not 0.",
    )


def _result_row(name: str, result: ModelResult) -> list[str]:
    row = [_model_title(name), " x ".join(map(str, result.predictions["code"].shape[1:])), format_number(result.error, 5)]
    if result.auroc is not None:
        row += [format_number(result.auroc), format_span(result.interval)]
    if result.active is None:
        return [*row, "words"]
    return [*row, format_share(result.active)]


def _baseline_margins(results: dict[str, ModelResult]) -> tuple[float | None, float | None]:
    """Return the margins of the recipe's model over the best baseline: share of its error, and difference in AUROC."""
    own_result, *baselines = results.values()
    gain, lead = None, None
    lowest_error = min(result.error for result in baselines)
    if lowest_error:
        gain = 1 - own_result.error / lowest_error
    if own_result.auroc is not None:
        lead = own_result.auroc - max(result.auroc or 0.0 for result in baselines)
    return gain, lead


def _summary_sentence(results: dict[str, ModelResult], gain: float | None, lead: float | None) -> str:
    """Return who has the lowest error and the highest AUROC, and the margins of the recipe's model."""
    lowest_error = min(results, key=lambda name: results[name].error)
    sentence = f"Lowest error: {_model_title(lowest_error)}"
    if gain is not None:
        direction = "below" if gain >= 0 else "above"
        sentence += f"; that of the recipe's model is {format_share(abs(gain))} {direction} the best rival's"
    if lead is not None:
        highest_auroc = max(results, key=lambda name: results[name].auroc or 0.0)
        direction = "ahead of" if lead >= 0 else "behind"
        sentence += f". Highest AUROC: {_model_title(highest_auroc)}; the recipe's model is {abs(lead):.3f} {direction} "
        sentence += "the best rival"
    return f"{sentence}."


def _model_title(name: str) -> str:
    if name == MODEL:
        return "the recipe's model"
    return name
