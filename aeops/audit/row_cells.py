"""The columns of a row that say most of a finding: those that are most unlike its label, or that differ between two rows."""

from functools import cache

import numpy as np

from aeops.audit.findings import PairCell, SuspectCell
from aeops.kinds.named_rows import NamedRows, RowProfile

__all__ = ["SHOWN_COLUMNS", "LabelColumns", "pair_cells"]

SHOWN_COLUMNS = 8  # of a row


class LabelColumns:
    """What rows with each label have in common, column by column.

    Args:
        rows: (n).
        labels: of each row, (n,); -1 where it has none.
    """

    def __init__(self, rows: NamedRows, labels: np.ndarray) -> None:
        self._rows, self._labels = rows, labels
        self._profile, self._usual = cache(self._compute_profile), cache(self._compute_usual)

    def _compute_profile(self, label: int) -> RowProfile:
        return self._rows.profile(np.flatnonzero(self._labels == label))

    def _compute_usual(self, label: int) -> list[str]:
        return self._rows.usual(np.flatnonzero(self._labels == label))

    def suspect_cells(self, row: int, label: int, suggested: int) -> list[SuspectCell]:
        """Return the columns in which a row is most unlike the others with its label, the most unlike first."""
        unlike = self._rows.unlike(row, self._profile(label))
        values, usual, usual_suggested = self._rows.cells(row), self._usual(label), self._usual(suggested)
        cells = []
        for place in np.argsort(-unlike, kind="stable")[:SHOWN_COLUMNS].tolist():
            cells.append(SuspectCell(self._rows.names[place], values[place], usual[place], usual_suggested[place]))
        return cells


def pair_cells(rows: NamedRows, first: int, second: int) -> list[PairCell]:
    """Return columns of two rows, those with the largest difference first."""
    differ = _differences(rows, first, second)
    first_cells, second_cells, usual = rows.cells(first), rows.cells(second), rows.usual()
    cells = []
    for place in np.argsort(-differ, kind="stable")[:SHOWN_COLUMNS].tolist():
        cells.append(PairCell(rows.names[place], first_cells[place], second_cells[place], usual[place], bool(differ[place] > 0)))
    return cells


def _differences(rows: NamedRows, first: int, second: int) -> np.ndarray:
    """Return how far two rows are apart in each column, in its spreads, (columns,).

    It is 1 where a category or a boolean differs, or one of the two values is missing.
    """
    one, other = rows.rows[first], rows.rows[second]
    spreads = np.array([column.spread for column in rows.columns])
    with np.errstate(over="ignore", invalid="ignore"):  # of infinite values
        distances = np.abs(one - other) / spreads
    has_distance = np.array([spec.is_scaled for spec in rows.specs]) & ~np.isnan(distances)
    unequal = (one != other) & ~(np.isnan(one) & np.isnan(other))
    return np.where(unequal, np.where(has_distance, np.maximum(distances, np.finfo(float).tiny), 1.0), 0.0)
