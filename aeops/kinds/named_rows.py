"""Rows of a table as an audit reads them: to classify, to compare, and to show by the names of their columns. numpy only."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from ae_models.names import names_of
from ae_models.spec import CATEGORY, DATE, NUMBER, ColumnSpec
from aeops.kinds.table_cells import describe_value
from aeops.kinds.table_encoder import describe_usual
from aeops.kinds.table_vectors import ServedColumn, column_errors, learn_columns, to_vectors

BLOCK = 8_192  # rows that are made vectors of at once
CELL_DIGITS = 7  # of a number that is shown
DAY = 86_400  # seconds
SHOWN_DAYS = 10  # from which on a range of dates is shown without the time of day
RANK_LENGTH = 12.0**0.5  # of a uniform distribution with a standard deviation of 1
LARGEST_SCALED = 1e6  # of a number in spreads
SMALLEST_SPREAD = 1e-3  # mean squared distance of a group's rows to their mean, so that an equal column does not decide alone


class RowProfile(NamedTuple):
    """A group of rows, such as those with one label.

    Attributes:
        mean: of their vectors, (numbers,).
        spreads: their mean squared distance to it in each column, (columns,).
    """

    mean: np.ndarray
    spreads: np.ndarray


class NamedRows:
    """Rows of named columns.

    Args:
        rows: float64 (n, columns), with codes for categories and NaN where a value is missing.
        columns: as they were learnt of these or other rows.
        one_hot: categories of a column that have a place of their own in a vector, at most.
    """

    def __init__(self, rows: np.ndarray, columns: Sequence[ServedColumn], one_hot: int) -> None:
        self.rows, self.columns, self.one_hot = rows + 0.0, tuple(columns), one_hot  # -0.0 becomes 0.0: the two are equal

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return names_of(self.columns)

    @property
    def specs(self) -> list[ColumnSpec]:
        """What a recipe says of the columns, with their categories."""
        return [column.spec for column in self.columns]

    @cached_property
    def missing(self) -> np.ndarray:
        """Which cells have no value, bool (n, columns)."""
        return np.isnan(self.rows)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Scaled numbers, one-hot categories, and an indicator of each column that lacks values: float32 (n, numbers)."""
        lacking = self.missing.any(axis=0)
        width = int(lacking.sum())
        for column in self.columns:
            width += column.spec.place_count(self.one_hot)
        vectors = np.empty((len(self.rows), width), np.float32)
        for start in range(0, len(self.rows), BLOCK):
            part = slice(start, start + BLOCK)
            values = _scale(self.rows[part], self.columns, self.one_hot)
            vectors[part] = np.concatenate([values, self.missing[part][:, lacking]], axis=1)
        return vectors

    @cached_property
    def ranked_vectors(self) -> np.ndarray:
        """The same with each number by its rank in its column, uniform with a deviation of 1 and a mean of 0: to classify rows.

        No heavy tail decides a distance then; in docs/audit.md this finds more wrong labels than scaled numbers do.
        """
        vectors, place = self.vectors.copy(), 0
        for index, spec in enumerate(self.specs):
            if spec.is_scaled:
                vectors[:, place] = _rank_values(self.rows[:, index])
            place += spec.place_count(self.one_hot)
        return vectors

    # ---------------------------------------------------------------- to compare

    @cached_property
    def numbers(self) -> np.ndarray:
        """The columns that have a distance, in spreads and 0 where a value is missing: float32 (n, k)."""
        places = np.flatnonzero(self._have_distance)
        if not len(places):
            return np.zeros((len(self.rows), 0), np.float32)
        scaled = _scale(self.rows[:, places], [self.columns[place] for place in places], self.one_hot)
        scaled[self.missing[:, places]] = 0
        return scaled

    @cached_property
    def contents(self) -> np.ndarray:
        """A number of each row that exactly the rows of the same values share, int64 (n,)."""
        return _number_rows(self.rows)

    @cached_property
    def strict_contents(self) -> np.ndarray:
        """The same of what near rows have in common: categories, booleans, and where a value is missing.

        A category that is not known equals no other, since its text is not.
        """
        parts = self.rows.copy()
        parts[:, self._have_distance] = 0.0
        parts[self.missing] = np.nan
        numbers = _number_rows(parts)
        unknown = np.zeros(len(self.rows), bool)
        for place, spec in enumerate(self.specs):
            if spec.type == CATEGORY:
                unknown |= self.rows[:, place] >= len(spec.categories)
        numbers[unknown] = len(numbers) + np.arange(int(unknown.sum()))
        return numbers

    @property
    def _have_distance(self) -> np.ndarray:
        return np.array([spec.is_scaled for spec in self.specs])

    def shuffled(self) -> Self:
        """Return as many rows, each column's values in an order of their own: these rows are alike by chance alone."""
        random = np.random.default_rng(0)
        rows = self.rows.copy()
        for place in range(rows.shape[1]):
            rows[:, place] = rows[random.permutation(len(rows)), place]
        return type(self)(rows, self.columns, self.one_hot)

    # ---------------------------------------------------------------- to show

    def profile(self, members: np.ndarray) -> RowProfile:
        """Return what the rows at these places, (k,) with k >= 1, have in common."""
        mean = self.vectors[members].mean(axis=0, dtype=np.float64)
        return RowProfile(mean, self._distances(members, mean).mean(axis=0))

    def unlike(self, row: int, profile: RowProfile) -> np.ndarray:
        """Return how far a row is from a group in each column, in the group's own mean squared distances, (columns,)."""
        distances = self._distances(np.array([row]), profile.mean)[0]
        return np.asarray(distances / np.maximum(profile.spreads, SMALLEST_SPREAD))

    def _distances(self, places: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return the squared distance of rows to a vector in each column, that of missing cells added, (k, columns)."""
        vectors = self.vectors[places]
        distances = column_errors(vectors, np.broadcast_to(mean, vectors.shape), self.columns, self.one_hot)
        lacking = np.flatnonzero(self.missing.any(axis=0))
        if len(lacking):
            distances[:, lacking] += np.square(vectors[:, -len(lacking) :] - mean[-len(lacking) :])
        return distances

    def cells(self, row: int) -> list[str]:
        """Return the values of a row as a person reads them, precisely enough to tell near rows apart."""
        texts = []
        for spec, value in zip(self.specs, self.rows[row].tolist(), strict=True):
            is_plain = spec.type == NUMBER and np.isfinite(value)
            texts.append(f"{value:.{CELL_DIGITS}g}" if is_plain else describe_value(spec, value))
        return texts

    def usual(self, members: np.ndarray | None = None) -> list[str]:
        """Return the usual values of each column among the rows at these places; None: among those it was learnt of."""
        columns = self.columns if members is None else learn_columns(self.rows[members], self.specs)
        return list(map(_describe_range, columns))


def _scale(rows: np.ndarray, columns: Sequence[ServedColumn], one_hot: int) -> np.ndarray:
    """Return the vectors of rows, finite whatever they hold: a source that is not validated may hold infinite values."""
    with np.errstate(over="ignore"):
        return to_vectors(rows, columns, one_hot).clip(-LARGEST_SCALED, LARGEST_SCALED)


def _describe_range(column: ServedColumn) -> str:
    """Return the usual values of a column, its ends rounded as far as they remain apart."""
    if column.spec.type == DATE and column.high - column.low > SHOWN_DAYS * DAY:
        return describe_usual(replace(column, low=column.low // DAY * DAY, high=column.high // DAY * DAY))
    if column.spec.type == NUMBER and np.isfinite([column.low, column.high]).all():
        return f"{float(f'{column.low:.4g}'):.10g} to {float(f'{column.high:.4g}'):.10g}"
    return describe_usual(column)


def _rank_values(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value (n,), the middle one of equal values; 0, the middle, where it is missing."""
    ordered = np.sort(values[~np.isnan(values)])
    places = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / max(1, 2 * len(ordered))
    return np.where(np.isnan(values), 0.0, RANK_LENGTH * (places - 0.5))


def _number_rows(rows: np.ndarray) -> np.ndarray:
    """Return a number of each row (n, columns) that exactly the rows of the same bits share, int64 (n,)."""
    content = np.ascontiguousarray(np.where(np.isnan(rows), np.nan, rows))  # one way to write NaN
    keys = content.view(np.dtype((np.void, content.dtype.itemsize * content.shape[1]))).reshape(-1)
    return np.asarray(np.unique(keys, return_inverse=True)[1], np.int64).reshape(-1)
