"""The encoder of a table's rows, and the explanation of their scores by the names of the columns."""

import math
from collections.abc import Mapping
from itertools import compress
from typing import Any

import numpy as np

from ae_models.names import names_of
from ae_models.spec import BOOLEAN, CATEGORY, REFUSE_MISSING, SampleRules
from aeops.errors import DataError
from aeops.kinds.flags import FLAG_DTYPE, INFINITE, MISSING, OUT_OF_RANGE, REFUSED, UNKNOWN_CATEGORY, flag_bit
from aeops.kinds.results import ColumnShare, Explanation
from aeops.kinds.samples import CheckedSamples, SampleSpec
from aeops.kinds.table_cells import describe_value, plain_value
from aeops.kinds.table_rows import column_specs, columns_of_frame, columns_of_objects, rows_of_columns
from aeops.kinds.table_vectors import ServedColumn, column_errors, to_vectors

WORST_COLUMNS = 10  # that an explanation names


def find_unusual(rows: np.ndarray, columns: tuple[ServedColumn, ...]) -> dict[int, np.ndarray]:
    """Return which cells of rows (n, columns) are unlike those of the training, bool (n, columns), by the flag's bit."""
    missing, infinite = np.isnan(rows), np.isinf(rows)
    may_miss = np.array([column.spec.missing for column in columns])
    unknown, outside = np.zeros_like(missing), np.zeros_like(missing)
    for index, column in enumerate(columns):
        values = rows[:, index]
        if column.spec.type == CATEGORY:
            unknown[:, index] = values >= len(column.spec.categories)
        elif column.spec.type != BOOLEAN:
            outside[:, index] = (values < column.allowed_low) | (values > column.allowed_high)
    return {
        MISSING: missing & ~may_miss,
        INFINITE: infinite,
        UNKNOWN_CATEGORY: unknown & ~infinite,
        OUT_OF_RANGE: outside & ~infinite,
    }


class TableEncoder:
    """The encoder of rows: the network takes float64 (n, columns), as `ae_models.spec.ColumnSpec` says."""

    def __init__(self, spec: SampleSpec) -> None:
        self.spec = spec

    def encode(self, samples: Any) -> np.ndarray:
        """See `Encoder.encode`: an array of rows; or an object, objects, columns or a frame of pandas, by name."""
        specs = column_specs(self.spec)
        if hasattr(samples, "columns") and hasattr(samples, "to_dict"):
            return rows_of_columns(columns_of_frame(samples, specs), specs, from_text=False)
        if isinstance(samples, Mapping) and any(isinstance(cells, list | np.ndarray) for cells in samples.values()):
            return rows_of_columns(samples, specs, from_text=False)
        if not isinstance(samples, np.ndarray):
            return rows_of_columns(columns_of_objects(samples, specs), specs, from_text=False)
        if samples.dtype.kind not in "uif" or samples.shape[-1:] != self.spec.shape or samples.ndim not in (1, 2):
            raise DataError(
                f"expected rows by the names of the columns, or float64 (n, {len(specs)}), got {samples.dtype} of shape "
                f"{samples.shape}"
            )
        rows = np.atleast_2d(samples).astype(np.float64, copy=False)
        if not len(rows):
            raise DataError("expected at least one sample, got none")
        return rows

    def check(self, block: np.ndarray) -> CheckedSamples:
        """See `Encoder.check`."""
        rows, rules = np.ascontiguousarray(block, dtype=np.float64), self.spec.rules or SampleRules()
        flags = np.zeros(len(rows), FLAG_DTYPE)
        refused = {MISSING: rules.missing, INFINITE: rules.infinite, UNKNOWN_CATEGORY: rules.unknown}
        for bit, cells in find_unusual(rows, self.spec.columns).items():
            is_unusual = cells.any(axis=1)
            flags[is_unusual] |= FLAG_DTYPE(bit)
            if refused.get(bit) == REFUSE_MISSING:
                flags[is_unusual] |= FLAG_DTYPE(REFUSED)
        if "blank" in rules.expected:
            flags[np.isnan(rows).all(axis=1)] |= FLAG_DTYPE(flag_bit("blank"))
        return CheckedSamples(rows, flags)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """See `Encoder.decode`."""
        return outputs

    def to_measured(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.to_measured`: as vectors of scaled numbers and one-hot categories, float32 (n, numbers)."""
        return to_vectors(np.asarray(samples, np.float64), self.spec.columns, self.spec.one_hot)

    def explain(self, model_input: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[Explanation]:
        """See `Encoder.explain`: the columns that say most of the score, each value beside its usual range."""
        made = outputs["reconstruction"]
        shares = outputs.get("column_shares")
        if shares is None:
            shares = self._error_shares(model_input, made)
        unusual = find_unusual(model_input, self.spec.columns)
        explanations = []
        for row, values in enumerate(model_input):
            cells = {bit: is_unusual[row] for bit, is_unusual in unusual.items()}
            explanations.append(self._explain_row(values, made[row], shares[row], cells))
        return explanations

    def _error_shares(self, rows: np.ndarray, made: np.ndarray) -> np.ndarray:
        errors = column_errors(self.to_measured(rows), self.to_measured(made), self.spec.columns, self.spec.one_hot)
        return np.asarray(errors / np.maximum(errors.sum(axis=1, keepdims=True), 1e-30))

    def _explain_row(
        self, values: np.ndarray, made: np.ndarray, shares: np.ndarray, unusual: Mapping[int, np.ndarray]
    ) -> Explanation:
        is_unusual = np.any(list(unusual.values()), axis=0)
        # What lies outside of what a column allows comes first: it decides the score by itself.
        order = np.lexsort((-shares, ~is_unusual))[:WORST_COLUMNS]
        columns: list[ColumnShare] = []
        for index in order.tolist():
            column = self.spec.columns[index]
            columns.append(
                {
                    "column": column.spec.name,
                    "value": plain_value(column.spec, values[index]),
                    "made": plain_value(column.spec, made[index]),
                    "usual": usual_values(column),
                    "share": float(shares[index]),
                }
            )
        unusual_names = list(compress(names_of(self.spec.columns), is_unusual))
        explanation: Explanation = {"columns": columns, "unusual": unusual_names}
        for name, bit in (("outside", OUT_OF_RANGE), ("missing", MISSING)):
            explanation[name] = int(unusual[bit].sum())  # type: ignore[literal-required]
        return explanation


def usual_values(column: ServedColumn) -> Any:
    """Return the usual range of a column's values, or its most frequent category."""
    if column.spec.type == CATEGORY:
        return plain_value(column.spec, column.fill)
    if math.isnan(column.low):
        return None
    return [plain_value(column.spec, column.low), plain_value(column.spec, column.high)]


def describe_usual(column: ServedColumn) -> str:
    """Return the usual values of a column for a person."""
    if column.spec.type == CATEGORY:
        return describe_value(column.spec, column.fill)
    if math.isnan(column.low):
        return "no value"
    return f"{describe_value(column.spec, column.low)} to {describe_value(column.spec, column.high)}"
