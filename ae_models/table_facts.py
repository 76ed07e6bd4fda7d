"""What is learnt of a table's column from training rows: how it is scaled, filled, and what is usual. numpy only.

`ae_models.table_preprocessing` makes part of a network's graph of it; an audit, which has no network, scales its rows by it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ae_models.spec import BOOLEAN, CATEGORY, ColumnSpec

__all__ = ["LARGEST", "LearntColumn", "learn_column", "present_values"]

LARGEST = 1e300  # of a value, so that differences stay finite
_NORMAL_QUARTILES = 1.3489795003921634  # distance between the quartiles of a normal distribution, in its standard deviations


class LearntColumn(NamedTuple):
    """What was learnt of a column.

    Attributes:
        centre, inverse_spread: of its numbers, as they are scaled; 0 and 0 where there were none, and of categories.
        fill: value in the place of a missing one: the median, or the most frequent code.
        low, high: the 2.5th and the 97.5th percentile of its values; NaN where there were none.
        allowed_low, allowed_high: its allowed range, infinite where it has none.
    """

    centre: float = 0.0
    inverse_spread: float = 0.0
    fill: float = 0.0
    low: float = np.nan
    high: float = np.nan
    allowed_low: float = -np.inf
    allowed_high: float = np.inf


def present_values(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the values of a column (n,) that are not missing, infinite ones as the largest."""
    return values[~np.isnan(values)].clip(-LARGEST, LARGEST)


def learn_column(present: npt.NDArray[np.float64], column: ColumnSpec, scaling: str) -> LearntColumn:
    """Learn of a column's present values.

    Args:
        present: as `present_values` returns them; unknown categories are left out.
        column: its type, and the range that it allows.
        scaling: of the table's numbers.
    """
    if column.type == CATEGORY:
        present = present[present < len(column.categories)]
    if not len(present):
        return LearntColumn()
    low, high = np.quantile(present, (0.025, 0.975)).tolist()
    if not column.is_scaled:
        codes, counts = np.unique(present, return_counts=True)
        centre, inverse_spread = (0.5, 1.0) if column.type == BOOLEAN else (0.0, 0.0)
        return LearntColumn(centre, inverse_spread, float(codes[counts.argmax()]), low, high)
    centre, inverse_spread, median = _learn_scale(present, scaling)
    return LearntColumn(centre, inverse_spread, median, low, high, *_allowed_range(present, column))


def _learn_scale(present: npt.NDArray[np.float64], scaling: str) -> tuple[float, float, float]:
    """Return centre, inverse spread and median of numbers."""
    first, median, third = np.quantile(present, (0.25, 0.5, 0.75)).tolist()
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(present.mean()), float(present.std())
    quartile_deviation = (third - first) / _NORMAL_QUARTILES
    spread = deviation if scaling == "standard" or quartile_deviation == 0 else quartile_deviation
    if not np.isfinite(spread) or not np.isfinite(mean):
        mean, spread = median, quartile_deviation
    centre = mean if scaling == "standard" else median
    return centre, 1 / spread if spread > 0 else 1.0, median


def _allowed_range(present: npt.NDArray[np.float64], column: ColumnSpec) -> tuple[float, float]:
    low, high = float(present.min()), float(present.max())
    allowed = [-np.inf, np.inf]
    for place, (limit, end, direction) in enumerate(((column.min, low, -1), (column.max, high, 1))):
        if limit is not None:
            allowed[place] = limit
        elif column.headroom is not None:
            allowed[place] = end + direction * column.headroom * (high - low)
    return allowed[0], allowed[1]
