"""Rows of a table as vectors of scaled numbers and one-hot categories, for baselines and reconstruction errors. numpy only.

As `ae_models.table_preprocessing` has it, by what a bundle says of its columns; a quantile map is replaced by robust scaling, so
that errors have one unit whatever the model's own scaling.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ae_models.spec import BOOLEAN, CATEGORY, ColumnSpec, SpecReader
from ae_models.table_facts import LARGEST, learn_column, present_values

TAIL = 8.0  # spreads, from which on a scaled number grows by its logarithm only
ONE_HOT = 0.5**0.5  # value of a category's place


@dataclass(frozen=True)
class ServedColumn:
    """A column of a model: what the recipe says of it, with its categories, and what was learnt of it.

    Attributes:
        spec: the recipe's, with the categories that have codes.
        centre, spread: by which its numbers are scaled; a spread of infinity: it had no values.
        fill: value in the place of a missing one.
        low, high: its usual range, the 2.5th and 97.5th percentile of the training values; NaN where there were none.
        missing: share of training rows without a value.
        allowed_low, allowed_high: its allowed range.
    """

    spec: ColumnSpec
    centre: float = 0.0
    spread: float = 1.0
    fill: float = 0.0
    low: float = math.nan
    high: float = math.nan
    missing: float = 0.0
    allowed_low: float = -math.inf
    allowed_high: float = math.inf

    @property
    def name(self) -> str:
        """Its name, by which rows are sent."""
        return self.spec.name


def read_columns(document: Mapping[str, Any]) -> tuple[ServedColumn, ...]:
    """Return the columns of a bundle.json; none where samples are no rows of a table."""
    raw_columns = document["input"].get("columns", [])
    facts = document.get("column_facts", [{}] * len(raw_columns))
    reader = SpecReader("bundle.json")
    columns = []
    for raw_column, fact in zip(raw_columns, facts, strict=True):
        spec = reader.read(ColumnSpec, raw_column, "input.columns")
        reader.finish()
        numbers = {}
        for name, value in fact.items():
            if name == "spread" and value is None:
                numbers[name] = math.inf
            elif name != "name" and value is not None:
                numbers[name] = value
        columns.append(ServedColumn(spec, **numbers))
    return tuple(columns)


def learn_columns(rows: np.ndarray, specs: Sequence[ColumnSpec]) -> tuple[ServedColumn, ...]:
    """Return what rows (n, columns) teach of their columns, whose categories are known: as a bundle has it, by robust scaling."""
    columns = []
    for index, spec in enumerate(specs):
        present = present_values(rows[:, index])
        learnt = learn_column(present, spec, "robust")
        spread = 1 / learnt.inverse_spread if learnt.inverse_spread else math.inf
        missing = 1 - len(present) / max(1, len(rows))
        columns.append(ServedColumn(spec, learnt.centre, spread, learnt.fill, learnt.low, learnt.high, missing))
    return tuple(columns)


def to_vectors(rows: np.ndarray, columns: Sequence[ServedColumn], one_hot: int) -> np.ndarray:
    """Return rows (n, columns) as float32 (n, numbers): one for each column, of a category one for each of its places."""
    parts = []
    for index, column in enumerate(columns):
        values = np.where(np.isnan(rows[:, index]), column.fill, rows[:, index]).clip(-LARGEST, LARGEST)
        if column.spec.type == CATEGORY:
            size = column.spec.place_count(one_hot)
            parts.append(ONE_HOT * (values.clip(0, size - 1)[:, None] == np.arange(size)))
        elif column.spec.type == BOOLEAN:
            parts.append((values - 0.5)[:, None])
        else:
            parts.append(shorten_tail((values - column.centre) / column.spread)[:, None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def shorten_tail(scaled: np.ndarray) -> np.ndarray:
    """Return numbers as they are up to `TAIL`, and beyond it by the logarithm of what is more."""
    size = np.abs(scaled)
    return np.where(size <= TAIL, scaled, np.sign(scaled) * (TAIL + np.log1p(np.maximum(size - TAIL, 0))))


def column_errors(target: np.ndarray, output: np.ndarray, columns: Sequence[ServedColumn], one_hot: int) -> np.ndarray:
    """Return the sum of squared differences of each column, (n, columns), of vectors (n, numbers)."""
    squares = np.square(target - output, dtype=np.float64)
    errors, place = [], 0
    for column in columns:
        size = column.spec.place_count(one_hot)
        errors.append(squares[:, place : place + size].sum(axis=1))
        place += size
    return np.stack(errors, axis=1)
