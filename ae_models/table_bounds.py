"""Values of a table's row that no training row had: what they are for the network, and how far out they are."""

import torch
from torch import Tensor, nn

from ae_models.spec import (
    BOOLEAN,
    CATEGORY,
    FLAG_MISSING,
    IMPUTE_MISSING,
    LARGEST_EXCESS,
    REFUSE_MISSING,
    SampleRules,
)
from ae_models.table_preprocessing import TablePreprocessing

__all__ = ["TableBounds"]


class TableBounds(nn.Module):
    """Measure how far a row lies outside of what its columns allow; what the network gets of it has no infinite value.

    Args:
        preprocessing: of the rows; has learnt from the training rows.
        rules: for missing and infinite values and for categories that are not known.

    Attributes:
        dtype: of the rows.
    """

    dtype = torch.float64
    low: Tensor
    high: Tensor
    unit: Tensor

    def __init__(self, preprocessing: TablePreprocessing, rules: SampleRules) -> None:
        super().__init__()
        self.rules = rules
        low, high = preprocessing.allowed.clone()
        inverse_spread = preprocessing.inverse_spread
        spread = torch.where(inverse_spread > 0, 1 / inverse_spread, 1.0)
        unknown = torch.full((len(preprocessing.columns),), torch.inf, dtype=torch.float64)
        for index, column in enumerate(preprocessing.columns):
            if column.type in (BOOLEAN, CATEGORY):
                low[index], high[index], spread[index] = 0.0, 1.0 if column.type == BOOLEAN else torch.inf, 1.0
            if column.type == CATEGORY:
                unknown[index] = len(column.categories)
        length = high - low
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("unit", torch.where(torch.isfinite(length) & (length > 0), length, spread))
        self.register_buffer("unknown", unknown)
        may_miss = [column.missing for column in preprocessing.columns]
        self.register_buffer("may_miss", torch.tensor(may_miss))

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network takes of rows, and how far out each is.

        Args:
            raw: float64 (n, columns), any values.

        Returns:
            float64 (n, columns), NaN where a value is missing, and the excess, float32 (n,): how far values lie outside of
            `min` and `max`, in lengths of that range, summed; of a missing value that may not be missing, of an unknown category
            1 each, of an infinite value the largest one, unless the rule is `impute`. It is 0 for a row that is as the columns
            say, and NaN for one to refuse. A value is not moved to the range: scores see how far out it is.
        """
        infinite, missing = torch.isinf(raw), torch.isnan(raw)
        is_unknown = (raw >= self.get_buffer("unknown")) & ~infinite
        is_number = ~(missing | infinite)
        outside = torch.maximum(self.low - raw, raw - self.high).clamp(min=0.0) / self.unit
        excess = torch.where(is_number, outside.clamp(max=LARGEST_EXCESS), 0.0)
        excess = torch.where(is_unknown, _excess_of(self.rules.unknown, 1.0), excess)
        excess = torch.where(missing & ~self.get_buffer("may_miss"), _excess_of(self.rules.missing, 1.0), excess)
        excess = torch.where(infinite, _excess_of(self.rules.infinite, LARGEST_EXCESS), excess)
        inputs = raw
        if self.rules.unknown == IMPUTE_MISSING:
            inputs = torch.where(is_unknown, torch.nan, inputs)
        if self.rules.infinite == IMPUTE_MISSING:
            inputs = torch.where(infinite, torch.nan, inputs)
        return inputs, excess.sum(1).float()


def _excess_of(rule: str, flagged: float) -> float:
    """Return the excess of a value by the rule for such values."""
    return {FLAG_MISSING: flagged, REFUSE_MISSING: torch.nan, IMPUTE_MISSING: 0.0}[rule]
