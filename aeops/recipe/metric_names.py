"""Names of the metrics that evaluation measures of a recipe, so that a rule on another one is a mistake before any training.

Standard library only. A test compares them with what the stage evaluate writes.
"""

from dataclasses import dataclass

from ae_models.spec import FAULT_NAMES, FitSpec
from aeops.kinds import KIND_INFOS
from aeops.recipe.sections import DataSpec, EvaluateSpec
from aeops.recipe.studies import POWER_STUDY

RANKING_MEASURES = ("auroc", "average_precision")
ALARM_MEASURES = ("threshold", "alarms", "normals", "measured")
SPLIT_ROWS = ("train", "validation", "calibration", "test_normal", "test_novelty")
HISTORY_MEASURES = ("epochs", "final_train_loss", "final_validation_error")
POWER_NUMBERS = ("settings.samples", "settings.rate", "mean_caught", "mean_separation", "lead", "lead_lower_bound")
POWER_INTERVALS = ("mean_caught_interval", "lead_interval")


@dataclass(frozen=True)
class MetricNames:
    """Dotted paths in metrics.json, those of other studies than `power` left out: of numbers, and of intervals."""

    numbers: tuple[str, ...]
    intervals: tuple[str, ...]


def metric_names(fit: FitSpec, data: DataSpec, evaluate: EvaluateSpec) -> MetricNames:
    """Return the metrics of a recipe, from its model and its sections data and evaluate."""
    input_kind, threshold = fit.input.kind, fit.threshold
    numbers = ["format", *_below("rows", SPLIT_ROWS), *_below("false_alarms", ALARM_MEASURES)]
    numbers += ["novelty_flagged", "export.max_difference", *_below("history", HISTORY_MEASURES)]
    intervals = ["false_alarms.interval", "novelty_flagged_interval"]
    if threshold.has_rate:
        numbers.append("false_alarms.requested")
    if threshold.has_law:
        intervals += _below("false_alarms", ("interval_with_calibration", "promise_interval"))
    models = ["model"]
    if evaluate.pca_components is not None:
        models.append("pca")
        numbers += ["reconstruction.pca.components", "reconstruction.gain_over_pca"]
    for model in models:
        numbers += _below(f"reconstruction.{model}", KIND_INFOS[input_kind].measures)
        intervals += _below(f"reconstruction.{model}", KIND_INFOS[input_kind].measured_intervals)
    if evaluate.neighbours is not None and data.novelty:
        detectors = ["model", "knn"]
        if evaluate.pca_components is not None:
            detectors.append("pca_residual")
        for detector in detectors:
            numbers += _below(f"detection.{detector}", RANKING_MEASURES)
            intervals.append(f"detection.{detector}.auroc_interval")
        numbers += ["detection.knn.neighbours", "detection.lead"]
    if POWER_STUDY in evaluate.studies:
        numbers += _below(POWER_STUDY, POWER_NUMBERS)
        numbers += _below(f"{POWER_STUDY}.faults", tuple(map(fault_key, FAULT_NAMES[input_kind])))
        intervals += _below(POWER_STUDY, POWER_INTERVALS)
    return MetricNames(tuple(numbers), tuple(intervals))


def fault_key(name: str) -> str:
    """Return the key of a fault in metrics.json.

    >>> fault_key("cut-and-paste")
    'cut_and_paste'
    """
    return name.replace("-", "_")


def _below(section: str, names: tuple[str, ...]) -> list[str]:
    return [f"{section}.{name}" for name in names]
