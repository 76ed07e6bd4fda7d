"""Names of the metrics that evaluation measures of a recipe, so that a rule on another one is a mistake before any training.

Standard library only. A test compares them with what the stage evaluate writes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ae_models.spec import FAULT_NAMES, FitSpec
from aeops.kinds import KIND_INFOS
from aeops.recipe.gate_rules import LEAD_LOWER_BOUND
from aeops.recipe.sections import DataSpec, EvaluateSpec
from aeops.recipe.studies import POWER_STUDY

MODEL_DETECTOR = "model"
PCA_RESIDUAL, KNN, ISOLATION_FOREST = "pca_residual", "knn", "isolation_forest"
LOCAL_HULLS = {"local_hull_10": 10, "local_hull_20": 20}  # name -> neighbours that span the hull
# Rates of false alarms at which every detector is asked for the share of novelty that it catches, by their names.
TABLE_RATES = {"at_0_1_percent": 0.001, "at_1_percent": 0.01, "at_5_percent": 0.05, "at_10_percent": 0.1}
AT_REQUESTED_RATE = "at_requested_rate"  # the same at the rate of the recipe's threshold, if it names one
RANKING_MEASURES = ("auroc", "average_precision")
ALARM_MEASURES = ("threshold", "alarms", "normals", "measured")
SPLIT_ROWS = ("train", "validation", "calibration", "test_normal", "test_novelty")
HISTORY_MEASURES = ("epochs", "final_train_loss", "final_validation_error")
SERIES_ALARMS = "series_alarms"  # section of metrics.json about a series that is stored step by step
SERIES_NUMBERS = (
    *("normal_hours", "false_alarms", "false_alarms_per_hour", "promised_per_hour"),
    *("known_anomalies", "known_anomalies_found", "unscored_steps"),
)
UNLABELLED_SERIES_NUMBERS = ("test_hours", "alarms", "alarms_per_hour", "promised_per_hour", "unscored_steps")
POWER_NUMBERS = ("settings.samples", "settings.rate", "mean_caught", "mean_separation", "lead", "lead_lower_bound")
POWER_INTERVALS = ("mean_caught_interval", "lead_interval")


def has_labels(metrics: Mapping[str, Any]) -> bool:
    """Return whether the test samples of a metrics.json have labels; without them nobody knows which alarms are false."""
    return bool(metrics.get("labelled", True))


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
        numbers += ["reconstruction.pca.components", "reconstruction.pca.rows", "reconstruction.gain_over_pca"]
    for model in models:
        numbers += _below(f"reconstruction.{model}", KIND_INFOS[input_kind].measures)
        intervals += _below(f"reconstruction.{model}", KIND_INFOS[input_kind].measured_intervals)
    if evaluate.neighbours is not None and data.novelty:
        numbers += _detection_numbers(evaluate, threshold.has_rate and not threshold.has_block)
        for detector in _detectors(evaluate):
            intervals.append(f"detection.{detector}.auroc_interval")
        intervals.append("detection.lead_interval")
    if fit.input.channels:
        numbers += _below(SERIES_ALARMS, SERIES_NUMBERS if data.labels else UNLABELLED_SERIES_NUMBERS)
        rate = "false_alarms_per_hour" if data.labels else "alarms_per_hour"
        intervals.append(f"{SERIES_ALARMS}.{rate}_interval")
    if threshold.has_block:
        numbers.append("false_alarms.block")
    if POWER_STUDY in evaluate.studies:
        numbers += _below(POWER_STUDY, POWER_NUMBERS)
        numbers += _below(f"{POWER_STUDY}.faults", map(fault_key, FAULT_NAMES[input_kind]))
        intervals += _below(POWER_STUDY, POWER_INTERVALS)
    return MetricNames(tuple(numbers), tuple(intervals))


def fault_key(name: str) -> str:
    """Return the key of a fault in metrics.json.

    >>> fault_key("cut-and-paste")
    'cut_and_paste'
    """
    return name.replace("-", "_")


def _detection_numbers(evaluate: EvaluateSpec, has_rate: bool) -> list[str]:
    rates = list(TABLE_RATES)
    if has_rate:
        rates.append(AT_REQUESTED_RATE)
    numbers = ["detection.baseline_rows", "detection.lead", LEAD_LOWER_BOUND]
    for detector in _detectors(evaluate):
        numbers += _below(f"detection.{detector}", RANKING_MEASURES)
        for measure in ("caught", "false_alarms"):
            numbers += _below(f"detection.{detector}.{measure}", rates)
    for detector in (KNN, *LOCAL_HULLS):
        numbers.append(f"detection.{detector}.neighbours")
    return numbers


def _detectors(evaluate: EvaluateSpec) -> list[str]:
    """Return the names of the model and of its baselines."""
    detectors = [MODEL_DETECTOR]
    if evaluate.pca_components is not None:
        detectors.append(PCA_RESIDUAL)
    return [*detectors, KNN, *LOCAL_HULLS, ISOLATION_FOREST]


def _below(section: str, names: Iterable[str]) -> list[str]:
    return [f"{section}.{name}" for name in names]
