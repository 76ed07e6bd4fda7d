"""How far the columns of a table have moved since calibration: by name, the values of the last days beside the usual ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from ae_models.spec import BOOLEAN, CATEGORY, DATE, ColumnSpec
from aeops.drawing.words import format_share
from aeops.evaluation.reference import CalibrationReference
from aeops.kinds.results import WatchedColumn
from aeops.kinds.table_cells import describe_value
from aeops.monitoring.column_record import ColumnRecord
from aeops.monitoring.evidence import EvidenceSeries

USUAL_PERCENT = (2.5, 97.5)  # of the calibration values, between which a value is usual
LOST_DISTANCE = 3.0  # spreads that a value counts as having moved which is missing now, or was
FURTHEST = 30.0  # spreads from the calibration's median, beyond which a value counts as so far
NORMAL_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
DAY_SECONDS = 86_400
NAMED_MOST = 3  # columns that a message names


@dataclass(frozen=True)
class ColumnChange:
    """What became of a column; see `ColumnRecord`."""

    name: str
    moved: float
    usual: str
    recent: str
    missing_usually: float
    missing_recently: float
    log10_e: float | None
    is_alarm: bool

    def to_dict(self) -> ColumnRecord:
        """Return the column as verdict.json holds it."""
        return {
            "column": self.name,
            "moved": round(self.moved, 4),
            "usual": self.usual,
            "recent": self.recent,
            "missing_usually": round(self.missing_usually, 4),
            "missing_recently": round(self.missing_recently, 4),
            "log10_e": None if self.log10_e is None else round(self.log10_e, 3),
            "alarm": self.is_alarm,
        }

    @property
    def words(self) -> str:
        """The column in words, such as `proline 1290 (950 to 1800), usually 290 to 1510`."""
        text = f"{self.name} {self.recent}, usually {self.usual}"
        if self.missing_recently > self.missing_usually + 0.01:
            text += f", missing in {format_share(self.missing_recently)} where {format_share(self.missing_usually)} are usual"
        return text


def find_column_changes(
    reference: CalibrationReference, recent: np.ndarray, evidence: EvidenceSeries | None, level: float
) -> list[ColumnChange]:
    """Return the watched columns, the one that has moved most first.

    Args:
        reference: of the champion.
        recent: values of the last days, (n, columns); without rows: nothing is known of them, and no column is returned.
        evidence: of the test of these columns; None where there is none.
        level: at which a test alarms.
    """
    changes = []
    if not len(recent):
        return []
    for index, column in enumerate(reference.columns):
        before, now = reference.values[:, index].astype(np.float64), recent[:, index].astype(np.float64)
        log10_e, is_alarm = None, False
        if evidence is not None:
            log10_e = float(evidence.column_log_e[index, -1] / np.log(10))
            is_alarm = bool(evidence.column_log_e[index].max() >= -np.log(level))
        changes.append(
            ColumnChange(
                name=column.name,
                moved=measure_move(before, now, column),
                usual=describe_usual_values(before, column),
                recent=describe_recent_values(now, column),
                missing_usually=float(np.isnan(before).mean()),
                missing_recently=float(np.isnan(now).mean()),
                log10_e=log10_e,
                is_alarm=is_alarm,
            )
        )
    return sorted(changes, key=lambda change: -change.moved)


def describe_most_moved(changes: Sequence[ColumnChange]) -> str:
    """Return the columns that have moved most in words: those that alarm, or else the first."""
    alarming = [change for change in changes if change.is_alarm] or list(changes[:1])
    more = f"; and {len(alarming) - NAMED_MOST} more columns" if len(alarming) > NAMED_MOST else ""
    return "; ".join(change.words for change in alarming[:NAMED_MOST]) + more


# ---------------------------------------------------------------- distances


def measure_move(before: np.ndarray, now: np.ndarray, column: WatchedColumn) -> float:
    """Return how far values have moved, in spreads of those before: the mean distance that the mass of a distribution travels.

    The distance of two categories is 1, and their spread that of one-hot vectors. A value that is missing on one side only has
    moved by LOST_DISTANCE.

    Args:
        before, now: values, (m,) and (n,); NaN where missing.
        column: whose they are.
    """
    lost = abs(float(np.isnan(now).mean()) - float(np.isnan(before).mean()))
    before, now = before[~np.isnan(before)], now[~np.isnan(now)]
    if not len(before) or not len(now):
        return LOST_DISTANCE * lost
    distance = _category_distance if column.type in (CATEGORY, BOOLEAN) else _number_distance
    return distance(before, now) + LOST_DISTANCE * lost


def _number_distance(before: np.ndarray, now: np.ndarray) -> float:
    """Return the Wasserstein distance in robust spreads of `before`, as the preprocessing of tables measures them."""
    finite = before[np.isfinite(before)]
    if not len(finite):
        return 0.0 if not np.isfinite(now).any() else FURTHEST
    low, median, high = np.percentile(finite, (25, 50, 75))
    spread = (high - low) / NORMAL_QUARTILES or float(finite.std()) or max(abs(median) * 1e-3, 1e-3)
    scaled_before, scaled_now = (np.clip((values - median) / spread, -FURTHEST, FURTHEST) for values in (before, now))
    return float(wasserstein_distance(scaled_before, scaled_now))


def _category_distance(before: np.ndarray, now: np.ndarray) -> float:
    """Return half the sum of the differences of shares, in spreads of one-hot vectors at a distance of 1."""
    codes = np.union1d(before, now)
    shares_before = np.array([(before == code).mean() for code in codes])
    shares_now = np.array([(now == code).mean() for code in codes])
    spread = max(np.sqrt((1 - np.square(shares_before).sum()) / 2), 0.05)
    return float(np.abs(shares_before - shares_now).sum() / 2 / spread)


# ---------------------------------------------------------------- words


def _cell(column: WatchedColumn, value: float) -> str:
    """Return a value as a person reads it, a date without its time."""
    if column.type == CATEGORY and not value < len(column.categories):
        return "a rare or unknown category"
    if column.type == DATE and np.isfinite(value):
        value = DAY_SECONDS * round(value / DAY_SECONDS)  # float32 holds seconds since 1970 to two minutes
    return describe_value(ColumnSpec(column.name, type=column.type, categories=column.categories), value)


def describe_usual_values(values: np.ndarray, column: WatchedColumn) -> str:
    """Return the usual values: the range of 95 % of them, or the most frequent category with its share."""
    present = values[~np.isnan(values)]
    if not len(present):
        return "missing"
    if column.type in (CATEGORY, BOOLEAN):
        return _most_frequent(present, column)
    low, high = np.percentile(present, USUAL_PERCENT, method="nearest")
    return f"{_cell(column, float(low))} to {_cell(column, float(high))}"


def describe_recent_values(values: np.ndarray, column: WatchedColumn) -> str:
    """Return the values of the last days: their median and the range of 95 %, or the most frequent category with its share."""
    present = values[~np.isnan(values)]
    if not len(present):
        return "missing"
    if column.type in (CATEGORY, BOOLEAN):
        return _most_frequent(present, column)
    low, median, high = np.percentile(present, (USUAL_PERCENT[0], 50, USUAL_PERCENT[1]), method="nearest")
    return f"{_cell(column, float(median))} ({_cell(column, float(low))} to {_cell(column, float(high))})"


def _most_frequent(values: np.ndarray, column: WatchedColumn) -> str:
    [(value, count)] = Counter(values.tolist()).most_common(1)
    return f"{_cell(column, value)} ({format_share(count / len(values), 0)})"
