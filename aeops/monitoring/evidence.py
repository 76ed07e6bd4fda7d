"""The evidence of each test day by day: of a column's bins, and of the columns of a test together."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np

from aeops.monitoring.daily_counts import DailyCounts
from aeops.monitoring.eprocess import any_change, log_evidence, more_than, worst_of
from aeops.monitoring.ranks import ColumnBins
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL


@dataclass(frozen=True)
class EvidenceSeries:
    """A test's evidence over time.

    Attributes:
        days: those on which the champion scored.
        log_e: log E after each of them, (days,): the largest of the columns.
        column_log_e: of each column, divided by their number, (columns, days).
    """

    days: list[date]
    log_e: np.ndarray
    column_log_e: np.ndarray


def compute_evidence(counts: DailyCounts, test_bins: dict[str, list[ColumnBins]]) -> dict[str, EvidenceSeries]:
    """Return the evidence of each test that has a reference and data."""
    series = {}
    for test, columns in test_bins.items():
        if counts.bins[test]:
            series[test] = _test_evidence(counts.bins[test], columns, test)
    return series


def _test_evidence(by_day: dict[date, np.ndarray], columns: list[ColumnBins], test: str) -> EvidenceSeries:
    days = sorted(by_day)
    counts = np.stack([by_day[day] for day in days], axis=1)  # (columns, days, bins)
    logs = []
    for column_counts, column in zip(counts, columns, strict=True):
        logs.append(log_evidence(column_counts, column.gaps, _choose_alternative(test, column)))
    column_logs = np.stack(logs)
    return EvidenceSeries(days, worst_of(column_logs), column_logs - np.log(len(columns)))


def _choose_alternative(test: str, column: ColumnBins) -> Callable[[np.ndarray], np.ndarray]:
    if test == ALARM_RATE_SIGNAL:
        return more_than(promised_alarm_rate(column))
    return any_change(column.gaps.astype(np.float64))


def promised_alarm_rate(column: ColumnBins) -> float:
    """Return the probability of a value in the last bin, beyond the threshold."""
    return float(column.gaps[-1] / column.gaps.sum())
