"""Faults of the rows of a table, float64 (columns,), NaN where a value is missing.

Damage that moves values reads the spread of a column from other rows. What is drawn of a row does not depend on the strength, so
columns that are damaged by a weak fault are damaged by a strong one, too.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ae_models.fault_interface import DonorFunction, Fault
from ae_models.sample_sets import SampleArray
from ae_models.spec import INTEGER, ColumnSpec

__all__ = ["TABLE_FAULTS", "RowDonors"]

_COLUMN_UNIT = "of the columns"
_DONOR_DRAWS = 8  # rows from which a column's range and values are read


class RowDonors:
    """Draws other rows, and knows the columns.

    Args:
        draw: returns another row, drawn anew at each call.
        first: the row whose values a column that is frozen keeps.
        columns: of the table.
    """

    def __init__(self, draw: DonorFunction, first: SampleArray, columns: Sequence[ColumnSpec]) -> None:
        self._draw, self.first, self.columns = draw, first, columns

    def __call__(self) -> SampleArray:
        return self._draw()


def _require_rows(draw_donor: DonorFunction) -> RowDonors:
    assert isinstance(draw_donor, RowDonors), "faults of tables need RowDonors"
    return draw_donor


def _permute(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Give columns the values that they have in another row."""
    damaged, donors = row.copy(), [draw_donor() for _ in range(_DONOR_DRAWS)]
    for column in _draw_columns(len(row), strength, generator):
        other_values = [donor[column] for donor in donors if not _is_same(donor[column], row[column])]
        if other_values:
            damaged[column] = other_values[0]
    return damaged


def _swap(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Exchange the values of columns that hold numbers, in pairs; two of equal value stay as they are."""
    damaged, places = row.copy(), _scaled_places(draw_donor)
    count = 2 * max(1, round(strength * len(places) / 2))
    order = generator.permutation(places)[:count]
    for one, other in zip(order[0::2], order[1::2], strict=False):
        damaged[one], damaged[other] = row[other], row[one]
    return damaged


def _scale(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Multiply the value of a column by 1 + strength."""
    damaged, columns = row.copy(), _require_rows(draw_donor).columns
    places = [place for place in generator.permutation(_scaled_places(draw_donor)) if np.isfinite(row[place]) and row[place]]
    if places:
        value = row[places[0]] * (1 + strength)
        damaged[places[0]] = round(value) if columns[places[0]].type == INTEGER else value
    return damaged


def _leave_range(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Move the value of a column beyond those of a few rows, by the strength in lengths of their range."""
    damaged, places = row.copy(), _scaled_places(draw_donor)
    if len(places) == 0:
        return damaged
    place = int(generator.permutation(places)[0])
    is_high = generator.random() < 0.5
    values = np.array([draw_donor()[place] for _ in range(_DONOR_DRAWS)] + [row[place]])
    values = values[np.isfinite(values)]
    if len(values):
        length = float(values.max() - values.min()) or max(1.0, abs(float(values[0])))
        distance = strength * length
        if _require_rows(draw_donor).columns[place].type == INTEGER:
            distance = float(np.ceil(distance))
        damaged[place] = values.max() + distance if is_high else values.min() - distance
    return damaged


def _lose(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Leave columns without a value."""
    damaged = row.copy()
    damaged[_draw_columns(len(row), strength, generator)] = np.nan
    return damaged


def _freeze(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Give columns the values of one and the same row, whatever the row."""
    damaged, first = row.copy(), _require_rows(draw_donor).first
    places = _draw_columns(len(row), strength, generator)
    damaged[places] = first[places]
    return damaged


def _draw_columns(count: int, strength: float, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return a share of the columns, at least one."""
    return generator.permutation(count)[: max(1, round(strength * count))]


def _scaled_places(draw_donor: DonorFunction) -> npt.NDArray[np.int64]:
    """Return the places of the columns that hold numbers with a distance."""
    return np.flatnonzero([column.is_scaled for column in _require_rows(draw_donor).columns])


def _is_same(one: float, other: float) -> bool:
    return bool(one == other or (np.isnan(one) and np.isnan(other)))


_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)

TABLE_FAULTS = (
    Fault("permuted", "A join has given columns the values of another row.", _COLUMN_UNIT, _SHARES, 1.0, damage=_permute),
    Fault("swapped", "Two columns have changed places.", _COLUMN_UNIT, _SHARES, 1.0, damage=_swap),
    Fault("scaled", "A column comes in another unit.", "more", (0.2, 0.5, 1.0, 9.0, 99.0), highest=1e4, damage=_scale),
    Fault(
        "out-of-range",
        "A value is beyond those that there have been.",
        "of a range",
        (0.1, 0.25, 0.5, 1.0, 4.0),
        highest=1e4,
        damage=_leave_range,
    ),
    Fault("gone-missing", "Columns come without a value.", _COLUMN_UNIT, _SHARES, 1.0, damage=_lose),
    Fault("frozen", "Columns repeat the values of one row.", _COLUMN_UNIT, _SHARES, 1.0, damage=_freeze),
)
