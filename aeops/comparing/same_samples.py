"""Two versions on the same test samples: each metric with the interval of its difference, and the samples they disagree on."""

from dataclasses import dataclass

import numpy as np

from aeops.bundle.detector import Detector
from aeops.evaluation.paired_scores import TestPredictions, predict_both, sample_difference
from aeops.evaluation.prepared import PreparedSamples
from aeops.gate.comparison import (
    MIN_DRAWS,
    Estimate,
    estimate_auroc_difference,
    estimate_error_difference,
    estimate_power_difference,
)
from aeops.recipe.gate_rules import MIN_GROUPS
from aeops.recipe.reader import Recipe

CAUGHT, RANKED, FALSE_ALARMS, RECONSTRUCTION = "novelty caught", "AUROC", "false alarms", "reconstruction error"
FLAGGED = "flagged test samples"  # where there are no labels, so that nobody knows which alarms are false
TAIL = 0.025  # on either side of an interval: 95 %
SMALLEST_P = 1e-6  # of a p-value, in the order of the samples


@dataclass(frozen=True)
class MeasuredPair:
    """One metric of two versions on the same samples.

    Attributes:
        name: for a reader.
        is_share: whether the values are shares, to be shown in per cent.
        difference: the second one's less the first one's; of the error as a share of the first one's.
        interval: of the difference, 95 %; None where too few samples, or groups of them, are there.
        better: `first`, `second`, or empty where the interval does not tell.
    """

    name: str
    is_share: bool
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    better: str


@dataclass(frozen=True)
class Disagreement:
    """A sample that one version flags and the other does not.

    Attributes:
        row: its place among the test samples.
        label: as a person knows it; empty where it has none.
        flagged_by: `first` or `second`.
        p_values: of both versions.
        scores: of both versions.
    """

    row: int
    id: str
    label: str
    is_novelty: bool
    flagged_by: str
    p_values: tuple[float, float]
    scores: tuple[float, float]


@dataclass(frozen=True)
class SampleComparison:
    """Both versions on the n test samples.

    Attributes:
        problem: why they could not be compared; empty if they were.
        disagreements: the largest ratio of p-values first.
    """

    rows: int
    problem: str
    measures: list[MeasuredPair]
    disagreements: list[Disagreement]


def compare_on_samples(recipe: Recipe, data: PreparedSamples, first: Detector, second: Detector) -> SampleComparison:
    """Score the test samples with both bundles and compare what they say.

    Args:
        recipe: how the samples are served, with the codes of `data` where it is of a table.
        data: the prepared samples.
        first, second: the bundles, each with its own threshold.
    """
    if difference := sample_difference(first, second):
        return SampleComparison(len(data.test), f"they take different samples: {difference}", [], [])
    predictions = predict_both(recipe, data, first, second)
    for name, prediction in zip(("first", "second"), predictions, strict=True):
        refused = int((~np.isfinite(prediction.score) | ~np.isfinite(prediction.error)).sum())
        if refused:
            return SampleComparison(len(data.test), f"the {name} refuses {refused} of the test samples", [], [])
    groups = data.table["group"].to_numpy(dtype=str)
    pairs = measure_pairs(*predictions, data.novelty, groups, has_labels=bool(recipe.data.labels))
    return SampleComparison(len(data.test), "", pairs, find_disagreements(recipe, data, *predictions))


# ---------------------------------------------------------------- metrics


def measure_pairs(
    first: TestPredictions, second: TestPredictions, novelty: np.ndarray, group: np.ndarray, *, has_labels: bool = True
) -> list[MeasuredPair]:
    """Return each metric of both: what is caught of the novelty, its ranking, the false alarms, the reconstruction error.

    Args:
        first: on the n test samples.
        second: on the same ones.
        novelty: bool (n,); without any novelty the first two metrics are left out.
        group: (n,); samples of one group are no independent evidence.
        has_labels: without them it is not known whether fewer flagged samples are better.
    """
    pairs = []
    normal = ~novelty
    is_enough_novelty, is_enough_normal = _has_enough_groups(group[novelty]), _has_enough_groups(group[normal])
    if novelty.any():
        estimate = _share_difference(first, second, novelty, group)
        pairs.append(_measured(CAUGHT, estimate, True, 1, is_enough_novelty))
        estimate = estimate_auroc_difference(first.score, second.score, novelty, group)
        pairs.append(_measured(RANKED, estimate, False, 1, is_enough_novelty and is_enough_normal))
    estimate = _share_difference(first, second, normal, group)
    if has_labels:
        pairs.append(_measured(FALSE_ALARMS, estimate, True, -1, is_enough_normal))
    else:
        pairs.append(_measured(FLAGGED, estimate, True, 0, is_enough_normal))
    if first.error[normal].any():
        errors, errors_of_second = first.error[normal].astype(np.float64), second.error[normal].astype(np.float64)
        estimate = estimate_error_difference(errors, errors_of_second, group[normal], MIN_DRAWS)
        pairs.append(_error_pair(estimate, is_enough_normal))
    return pairs


def _has_enough_groups(group: np.ndarray) -> bool:
    return len(np.unique(group)) >= MIN_GROUPS


def _share_difference(first: TestPredictions, second: TestPredictions, rows: np.ndarray, group: np.ndarray) -> Estimate:
    """Estimate by how much more of these rows, bool (n,), the second version flags."""
    flagged, flagged_by_second = first.is_anomaly[rows].astype(np.float64), second.is_anomaly[rows].astype(np.float64)
    return estimate_power_difference(flagged, flagged_by_second, group[rows], MIN_DRAWS)


def _error_pair(estimate: Estimate, has_interval: bool) -> MeasuredPair:
    """Return the pair of the reconstruction error, whose estimate is positive where the second version's is smaller."""
    measured = _measured(RECONSTRUCTION, estimate, False, 1, has_interval)
    interval = measured.interval
    if interval is not None:
        interval = -interval[1], -interval[0]
    return MeasuredPair(measured.name, False, measured.first, measured.second, -measured.difference, interval, measured.better)


def _measured(name: str, estimate: Estimate, is_share: bool, direction: int, has_interval: bool) -> MeasuredPair:
    """Return a pair out of an estimate.

    Args:
        name: of the metric.
        estimate: whose champion is the first version.
        is_share: whether its values are shares.
        direction: 1 where larger values are better, -1 where smaller ones are, 0 where neither is.
        has_interval: whether there are enough groups of samples for one.
    """
    interval, better = None, ""
    if has_interval:
        low, high = estimate.interval(TAIL)
        interval = low, high
        if not np.isfinite([low, high]).all():
            interval = None
        elif direction and (low > 0 or high < 0):
            better = "second" if (low > 0) == (direction > 0) else "first"
    return MeasuredPair(name, is_share, estimate.champion, estimate.challenger, estimate.value, interval, better)


# ---------------------------------------------------------------- samples


def find_disagreements(
    recipe: Recipe, data: PreparedSamples, first: TestPredictions, second: TestPredictions
) -> list[Disagreement]:
    """Return the samples that one of them flags and the other does not."""
    ids, labels, novelty = data.table["id"].astype(str).to_numpy(), data.labels, data.novelty
    rows = np.flatnonzero(first.is_anomaly != second.is_anomaly)
    distances = np.abs(_log_p_values(first) - _log_p_values(second))
    disagreements = []
    for row in rows[np.argsort(-distances[rows], kind="stable")]:
        disagreements.append(
            Disagreement(
                row=int(row),
                id=str(ids[row]),
                label=recipe.label_text(int(labels[row])) if labels[row] >= 0 else "",
                is_novelty=bool(novelty[row]),
                flagged_by="first" if first.is_anomaly[row] else "second",
                p_values=(float(first.p_value[row]), float(second.p_value[row])),
                scores=(float(first.score[row]), float(second.score[row])),
            )
        )
    return disagreements


def _log_p_values(predictions: TestPredictions) -> np.ndarray:
    return np.asarray(np.log(np.maximum(predictions.p_value.astype(np.float64), SMALLEST_P)))
