"""Rows of a table that are nearly the same, and how many would be by chance.

Two rows are near copies where the same cells are missing, categories and booleans are the same, and numbers are close: 1 - the
mean squared difference / 2, each in spreads of its column, is at least the limit. A tree of the different rows finds the nearest
ones, so many equal rows cost no more than one.
"""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from aeops.data.sample_pairs import EXACT, NEAR, Pairs, unique_pairs
from aeops.kinds.named_rows import NamedRows

__all__ = ["NEIGHBOURS", "count_by_chance", "equal_rows_are_ordinary", "near_rows"]

NEIGHBOURS = 5  # of each row that are compared with it
ORDINARY_SHARE = 0.5  # of the rows that have an equal one, from which on chance explains them
_GAP = 2.0  # between rows that differ in what has no distance; similar rows are at a distance of 1 at most
_ROUNDING = 1e-6


def near_rows(rows: NamedRows, splits: pd.Series, limit: float) -> Pairs:
    """Return pairs of rows with a similarity of at least `limit` that are not equal.

    The five nearest of each row are looked at, and its nearest in each other split.

    Args:
        rows: (n).
        splits: of each row.
        limit: above 0, at most 1.
    """
    if not rows.numbers.shape[1]:  # without a number, near rows are equal ones
        return unique_pairs(NEAR, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    positions, codes = _place_rows(rows), splits.to_numpy(str)
    everywhere = np.ones(len(rows), bool)
    found = [_nearest(rows, positions, everywhere, everywhere, limit, NEIGHBOURS)]
    for split in np.unique(codes):
        found.append(_nearest(rows, positions, codes != split, codes == split, limit, 1))
    first, second, similarity = map(np.concatenate, zip(*found, strict=True))
    return unique_pairs(NEAR, first, second, similarity)


def _place_rows(rows: NamedRows) -> np.ndarray:
    """Return float64 (n, k) whose squared distances are 1 - the similarity; what has no distance is an axis of its own."""
    numbers = rows.numbers.astype(np.float64) / np.sqrt(2 * rows.numbers.shape[1])
    return np.column_stack([rows.strict_contents * _GAP, numbers])


def _nearest(
    rows: NamedRows, positions: np.ndarray, asked: np.ndarray, offered: np.ndarray, limit: float, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each asked row, a near one among the offered, and their similarity, (k,) each.

    Args:
        rows: (n).
        positions: of them.
        asked, offered: bool (n,).
        limit: of the similarity.
        neighbours: of each row, at most.
    """
    queries = np.flatnonzero(asked)
    targets = _first_of_each(rows.contents, np.flatnonzero(offered))
    if not len(queries) or not len(targets):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    different = _first_of_each(rows.contents, queries)
    tree = cKDTree(positions[targets], balanced_tree=False)
    radius = np.sqrt(1 - limit) + _ROUNDING
    # One more than is needed: a row may be its own nearest one.
    distances, places = tree.query(positions[different], k=np.arange(1, neighbours + 2), distance_upper_bound=radius)
    expanded = pd.Series(np.arange(len(different)), rows.contents[different])[rows.contents[queries]].to_numpy()
    first, distances = np.repeat(queries, neighbours + 1), distances[expanded].ravel()
    is_near = np.isfinite(distances) & (1 - distances**2 >= limit - _ROUNDING)
    first, second = first[is_near], targets[places[expanded].ravel()[is_near]]
    similarity = 1 - distances[is_near] ** 2
    differ = rows.contents[first] != rows.contents[second]
    return first[differ], second[differ], similarity[differ]


def _first_of_each(contents: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return those of some places that are the first of their content."""
    return places[np.sort(np.unique(contents[places], return_index=True)[1])]


def count_by_chance(rows: NamedRows, limit: float) -> dict[str, int]:
    """Return how many rows would have an equal one, and a near one, if the columns had nothing to do with each other."""
    shuffled = rows.shuffled()
    counts = np.bincount(shuffled.contents)
    near = near_rows(shuffled, pd.Series(np.zeros(len(rows), np.int64)), limit)
    return {EXACT: int(counts[counts > 1].sum()), NEAR: len(np.unique(np.concatenate([near.first, near.second])))}


def equal_rows_are_ordinary(equal: int, by_chance: int) -> bool:
    """Return whether chance explains most of the rows that have an equal one: they are no copies of one record."""
    return by_chance > 0 and by_chance >= ORDINARY_SHARE * equal
