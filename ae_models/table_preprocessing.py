"""From the rows of a table to the vectors that networks and distances read. Learnt on training rows only; part of the graph.

    preprocessing = TablePreprocessing(InputSpec("table", columns=number_columns(20)))
    preprocessing.learn(rows)                     # float64 (n, columns), NaN where a value is missing
    vectors = preprocessing(torch.from_numpy(rows))    # float32 (n, width)

A row is float64 as `ae_models.spec.ColumnSpec` says. Places of a vector: `InputSpec.blocks`.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from ae_models.sample_sets import SampleArray, SampleSet, as_sample_set
from ae_models.spec import BOOLEAN, CATEGORY, ColumnBlock, ColumnSpec, InputSpec
from ae_models.table_facts import LARGEST, learn_column, present_values

__all__ = ["ONE_HOT", "TAIL", "ColumnFacts", "TablePreprocessing"]

TAIL = 8.0  # spreads from the middle, from which on a scaled number grows by its logarithm only
ONE_HOT = 0.5**0.5  # value of a category's place, so that two different categories are at a distance of 1
_KNOTS = 33  # quantiles of a column that its map is a straight line between
_LARGEST_SCALED = 1e6
_TINY = 1e-300  # in the place of a length of 0
_NORMAL_REACH = 3.0  # of the knots of a normal scaling, in standard deviations, so that its tails have knots, too
_NORMAL_MARGIN = 0.001  # share beyond the lowest and the highest training value: these lie 3.1 standard deviations out
# Quantiles of the normal distribution as Tukey's lambda distribution has them, by powers alone, which a graph can hold: within
# 0.01 up to 2.6 standard deviations (Joiner and Rosenblatt 1971).
_TUKEY_LAMBDA, _TUKEY_SCALE = 0.135, 0.1975
_NEWTON_STEPS = 6  # to the inverse of these: exact to 1e-9
_LEARNT_ROWS = 500_000  # rows, evenly chosen, from which quantiles are learnt; they need a column at once
_UNIT_DEVIATION = 3.0**0.5  # half the length of a uniform distribution with a standard deviation of 1


class ColumnFacts(NamedTuple):
    """What was learnt of a column.

    Attributes:
        centre, spread: of its numbers, as they are scaled; 0 and infinity where there were none. Of others 0 and 1.
        fill: value in the place of a missing one: the median, or the most frequent code.
        low, high: the 2.5th and the 97.5th percentile of its values, its usual range; NaN where there were none.
        missing: share of training rows without a value.
        allowed_low, allowed_high: its allowed range, infinite where it has none.
    """

    centre: float
    spread: float
    fill: float
    low: float
    high: float
    missing: float
    allowed_low: float
    allowed_high: float


class TablePreprocessing(nn.Module):
    """Impute, scale and encode the columns of a table.

    - A missing value becomes the median of its column, or its most frequent category; where one is allowed, its indicator is 1.
    - Numbers, integers and dates, by `InputSpec.scaling`: `robust`, (x - median) / (interquartile distance / 1.349), from
      `TAIL` on its logarithm; `standard`, (x - mean) / standard deviation; `quantile`, the place among the training values,
      uniform with a deviation of 1, and beyond them the logarithm of the distance; `normal`, the same place, but as a normal
      distribution has it. A column whose quartiles are equal is scaled by its standard deviation, a constant one by 1; one
      without any value is 0.
    - A boolean is -1/2 or 1/2.
    - A category has `ONE_HOT` in its place. Those beyond the `one_hot` first ones, and unknown ones, share the last place.

    Args:
        input_spec: of kind table; its categories are known.

    Attributes:
        columns: of the table.
    """

    is_boolean: Tensor
    membership: Tensor
    centre: Tensor
    inverse_spread: Tensor
    fill: Tensor
    usual: Tensor
    missing_share: Tensor
    allowed: Tensor
    knots: Tensor

    def __init__(self, input_spec: InputSpec) -> None:
        super().__init__()
        self.columns: tuple[ColumnSpec, ...] = input_spec.columns
        self.blocks, self.scaling = input_spec.blocks, input_spec.scaling
        count = len(self.columns)
        self.plain_columns: list[int] = []
        self.category_blocks: list[ColumnBlock] = []
        self.indicator_columns: list[int] = []
        is_boolean = []
        for block in self.blocks:
            if block.spec.type == CATEGORY:
                self.category_blocks.append(block)
            else:
                self.plain_columns.append(block.column)
                is_boolean.append(block.spec.type == BOOLEAN)
            if block.indicator is not None:
                self.indicator_columns.append(block.column)
        self.register_buffer("is_boolean", torch.tensor(is_boolean, dtype=torch.bool), persistent=False)
        self.register_buffer("membership", self._column_membership(), persistent=False)
        for name in ("centre", "inverse_spread", "fill", "missing_share"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.float64))
        self.register_buffer("usual", torch.full((2, count), torch.nan, dtype=torch.float64))
        self.register_buffer("allowed", torch.tensor([[-torch.inf], [torch.inf]], dtype=torch.float64).repeat(1, count))
        self.knot_places = _knot_places(self.scaling)
        knots = len(self.knot_places)
        self.register_buffer("knots", torch.zeros(knots, count, dtype=torch.float64))

    def learn(self, rows: SampleArray | SampleSet) -> None:
        """Learn from training rows, (n, columns) with n >= 1."""
        values = _read_rows(as_sample_set(rows))
        for index, column in enumerate(self.columns):
            present = present_values(values[:, index])
            self.missing_share[index] = 1 - len(present) / max(1, len(values))
            learnt = learn_column(present, column, self.scaling)
            self.centre[index], self.inverse_spread[index], self.fill[index] = learnt[:3]
            self.usual[:, index] = torch.tensor([learnt.low, learnt.high], dtype=torch.float64)
            self.allowed[:, index] = torch.tensor([learnt.allowed_low, learnt.allowed_high], dtype=torch.float64)
            if len(self.knots) and column.is_scaled and len(present):
                self.knots[:, index] = torch.from_numpy(np.quantile(present, self.knot_places))

    def facts(self) -> list[ColumnFacts]:
        """Return what was learnt, one entry a column."""
        arrays = [
            self.centre,
            1 / self.inverse_spread,
            self.fill,
            self.usual[0],
            self.usual[1],
            self.missing_share,
            *self.allowed,
        ]
        return list(map(ColumnFacts._make, torch.stack(arrays, 1).tolist()))

    def _column_membership(self) -> Tensor:
        """Return which places of a vector belong to which column, (width, columns), 1 or 0."""
        width = sum(block.size for block in self.blocks) + len(self.indicator_columns)
        belongs = torch.zeros(width, len(self.columns))
        for block in self.blocks:
            belongs[block.places, block.column] = 1.0
            if block.indicator is not None:
                belongs[block.indicator, block.column] = 1.0
        return belongs

    def forward(self, raw: Tensor) -> Tensor:
        """Return the vectors of rows.

        Args:
            raw: float64 (n, columns), NaN where a value is missing; infinite values count as the largest ones.

        Returns:
            float32 (n, width).
        """
        is_missing = torch.isnan(raw)
        filled = torch.where(is_missing, self.fill, raw).clamp(-LARGEST, LARGEST)
        parts = []
        if self.plain_columns:
            parts.append(self._scale(filled[:, self.plain_columns]))
        for block in self.category_blocks:
            places = filled[:, block.column : block.column + 1].clamp(0, block.size - 1)
            parts.append(ONE_HOT * (places == torch.arange(block.size, dtype=raw.dtype, device=raw.device)).float())
        if self.indicator_columns:
            parts.append(is_missing[:, self.indicator_columns].float())
        return torch.cat(parts, 1)

    def _scale(self, values: Tensor) -> Tensor:
        """Return the numbers of the columns that are no categories, float64 (n, columns), scaled."""
        centre, inverse_spread = self.centre[self.plain_columns], self.inverse_spread[self.plain_columns]
        linear = (values - centre) * inverse_spread
        if self.scaling == "standard":
            return linear.clamp(-_LARGEST_SCALED, _LARGEST_SCALED).float()
        if self.scaling == "robust":
            return _shorten_tail(linear).float()
        knots = self.knots[:, self.plain_columns]
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            position = _place_in_graph(values, knots, self.knot_places)
        else:
            position = _place_by_search(values, knots, self.knot_places)
        placed = _normal_quantile(position) if self.scaling == "normal" else _UNIT_DEVIATION * (2 * position - 1)
        beyond = (values - torch.minimum(torch.maximum(values, knots[0]), knots[-1])) * inverse_spread
        quantile = placed + torch.sign(beyond) * torch.log1p(beyond.abs())
        has_values = inverse_spread > 0
        return torch.where(self.is_boolean | ~has_values, linear, quantile).float()

    def invert(self, vectors: Tensor) -> Tensor:
        """Return the rows of vectors, float64 (n, columns): a category is that of the largest place.

        Vectors may be a reconstruction's. A missing value comes back as the one that was put in its place.
        """
        values = vectors.double()
        columns: list[Tensor] = []
        if self.plain_columns:
            plain = self._unscale(values[:, : len(self.plain_columns)])
        for block in self.blocks:
            if block.spec.type == CATEGORY:
                columns.append(values[:, block.places].argmax(1, keepdim=True).double())
            else:
                columns.append(plain[:, block.start : block.start + 1])
        return torch.cat(columns, 1)

    def _unscale(self, scaled: Tensor) -> Tensor:
        centre, inverse_spread = self.centre[self.plain_columns], self.inverse_spread[self.plain_columns]
        spread = torch.where(inverse_spread > 0, 1 / inverse_spread.clamp(min=1e-300), 0.0)
        if self.scaling == "standard":
            linear = scaled * spread + centre
        elif self.scaling == "robust":
            linear = _restore_tail(scaled) * spread + centre
        else:
            linear = torch.where(self.is_boolean, scaled + centre, self._from_quantiles(scaled, spread))
        return torch.where(self.is_boolean, (linear > 0.5).to(linear.dtype), linear)

    def _from_quantiles(self, scaled: Tensor, spread: Tensor) -> Tensor:
        """Return the values whose places among the training values are these."""
        knots = self.knots[:, self.plain_columns]
        if self.scaling == "normal":
            end = float(_normal_quantile(torch.ones(1, dtype=torch.float64)))
            position = _normal_place(scaled.clamp(-end, end))
        else:
            position, end = (scaled / _UNIT_DEVIATION + 1) / 2, _UNIT_DEVIATION
        values = knots[0].expand_as(scaled)  # of zeros an export would make a constant of its example's rows
        for place, share, (low, high) in zip(
            self.knot_places[:-1].tolist(), np.diff(self.knot_places).tolist(), pairwise(knots), strict=True
        ):
            values = values + (high - low) * ((position - place) / share).clamp(0.0, 1.0)
        beyond = scaled - scaled.clamp(-end, end)
        return values + torch.sign(beyond) * ((beyond.abs().clamp(max=50.0)).exp() - 1) * spread


def _knot_places(scaling: str) -> npt.NDArray[np.float64]:
    """Return the places of a column's knots among its training values, ascending from 0 to 1; none where there are no knots."""
    if scaling == "quantile":
        return np.linspace(0, 1, _KNOTS)
    if scaling == "normal":
        places = ndtr(np.linspace(-_NORMAL_REACH, _NORMAL_REACH, _KNOTS))
        return np.concatenate([[0.0], places[1:-1], [1.0]])
    return np.zeros(0)


def _place_in_graph(values: Tensor, knots: Tensor, places: npt.NDArray[np.float64]) -> Tensor:
    """Return where values (n, columns) lie between their columns' knots (knots, columns): places in [0, 1].

    A straight line leads from each knot to the next; of knots that are equal, a value which equals them has the middle place.
    A graph has no search, so each length between two knots adds what a value has behind it.
    """
    position = torch.zeros_like(values)
    for share, (low, high) in zip(np.diff(places).tolist(), pairwise(knots), strict=True):
        length = high - low
        inside = ((values - low) / torch.where(length > 0, length, 1.0)).clamp(0.0, 1.0)
        step = 0.5 * (values > low).to(values.dtype) + 0.5 * (values >= low).to(values.dtype)
        position = position + share * torch.where(length > 0, inside, step)
    return position


def _place_by_search(values: Tensor, knots: Tensor, places: npt.NDArray[np.float64]) -> Tensor:
    """Return what `_place_in_graph` does, by a binary search: some ten times as quick."""
    by_column, ascending = values.T.contiguous(), knots.T.contiguous()
    lengths = (ascending[:, 1:] - ascending[:, :-1]).clamp(min=_TINY)
    shares = torch.from_numpy(np.diff(places))
    behind = torch.from_numpy(np.concatenate([[0.0], np.cumsum(np.diff(places))]))  # place of each knot, summed as in the graph
    lower = torch.searchsorted(ascending, by_column)  # knots below a value
    interval = (lower - 1).clamp(0, len(shares) - 1)
    inside = ((by_column - ascending.gather(1, interval)) / lengths.gather(1, interval)).clamp(0.0, 1.0)
    position = behind[interval] + shares[interval] * inside
    if (lengths == _TINY).any():  # equal knots: half of their share lies behind a value that equals them
        not_higher = torch.searchsorted(ascending, by_column, right=True)
        first, last = lower.clamp(max=len(shares)), (not_higher - 1).clamp(min=0)
        position += 0.5 * (behind[last] - behind[first]).clamp(min=0.0)
    return position.T


def _normal_quantile(position: Tensor) -> Tensor:
    """Return the quantiles of a normal distribution at places in [0, 1], which are kept `_NORMAL_MARGIN` from its ends."""
    place = _NORMAL_MARGIN + (1 - 2 * _NORMAL_MARGIN) * position.clamp(0.0, 1.0)
    return (place**_TUKEY_LAMBDA - (1 - place) ** _TUKEY_LAMBDA) / _TUKEY_SCALE


def _normal_place(scaled: Tensor) -> Tensor:
    """Return the place in [0, 1] whose `_normal_quantile` is this one: by Newton's steps from a logistic distribution's."""
    place = 1 / (1 + (-1.702 * scaled).exp())  # no erf: onnxruntime has none in double precision
    for _ in range(_NEWTON_STEPS):
        place = place.clamp(_NORMAL_MARGIN, 1 - _NORMAL_MARGIN)
        excess = (place**_TUKEY_LAMBDA - (1 - place) ** _TUKEY_LAMBDA) - _TUKEY_SCALE * scaled
        slope = _TUKEY_LAMBDA * (place ** (_TUKEY_LAMBDA - 1) + (1 - place) ** (_TUKEY_LAMBDA - 1))
        place = place - excess / slope
    return (place - _NORMAL_MARGIN) / (1 - 2 * _NORMAL_MARGIN)


def _shorten_tail(scaled: Tensor) -> Tensor:
    """Return numbers as they are up to `TAIL`, and beyond it by the logarithm of what is more."""
    size = scaled.abs()
    return torch.where(size <= TAIL, scaled, torch.sign(scaled) * (TAIL + torch.log1p((size - TAIL).clamp(min=0.0))))


def _restore_tail(scaled: Tensor) -> Tensor:
    """Undo `_shorten_tail`; a reconstruction may lie anywhere, so the exponent has a bound."""
    size = scaled.abs()
    return torch.where(size <= TAIL, scaled, torch.sign(scaled) * (TAIL + (size - TAIL).clamp(0.0, 50.0).exp() - 1))


def _read_rows(rows: SampleSet) -> npt.NDArray[np.float64]:
    """Return the rows, or of very many ones evenly chosen ones, float64 (n, columns)."""
    stride = -(-rows.shape[0] // _LEARNT_ROWS)

    def chosen() -> Iterator[SampleArray]:
        first = 0
        for block in rows.blocks():
            yield np.asarray(block[(-first) % stride :: stride], np.float64)
            first += len(block)

    return np.concatenate(list(chosen()))
