"""Blocks of a series' windows, summed up over the files in which they are recorded; see `aeops.kinds.series_blocks`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from aeops.kinds.series_blocks import BlockRule
from aeops.monitoring.ranks import ColumnBins, assign_bins, is_counted
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL, SCORE_SIGNAL, SERVICE_CHANNEL

BlockKey = tuple[str, int]  # machine, number of the block
MISSING_TIME = "(no time)"  # key of incomplete_counts: windows whose name says no time


@dataclass(frozen=True)
class BlockSums:
    """What is recorded of a block.

    Attributes:
        day: of its last window.
        windows: that were scored.
        score: the highest.
        code, inputs: sums over the windows, (k,) each.
    """

    day: date
    windows: int
    score: float
    code: tuple[float, ...]
    inputs: tuple[float, ...]

    def __add__(self, other: "BlockSums") -> "BlockSums":
        return BlockSums(
            max(self.day, other.day),
            self.windows + other.windows,
            max(self.score, other.score),
            tuple(np.add(self.code, other.code).tolist()),
            tuple(np.add(self.inputs, other.inputs).tolist()),
        )


def sum_blocks(table: pa.Table, dates: np.ndarray, rule: BlockRule, incomplete: Counter[str]) -> dict[BlockKey, BlockSums]:
    """Return the sums of the blocks that windows with a score lie in.

    Of windows of one machine that end in the same stride the first counts.

    Args:
        table: predictions with the columns sample, channel, score, code, mean and std.
        dates: of the rows, (n,).
        rule: how windows are joined.
        incomplete: to which the windows that say no time are added.
    """
    sums: dict[BlockKey, BlockSums] = {}
    met: set[tuple[str, int]] = set()
    names = ("sample", "channel", "score", "code", "mean", "std")
    for row, (name, channel, score, code, mean, std) in enumerate(zip(*(table[one].to_pylist() for one in names), strict=True)):
        if score is None or code is None or mean is None:
            continue
        try:
            place = rule.place(name, channel == SERVICE_CHANNEL)
        except ValueError:
            incomplete[MISSING_TIME] += 1
            continue
        if place is None or place in met:
            continue
        met.add(place)
        key = (place[0], place[1] // rule.windows)
        own = BlockSums(dates[row].item(), 1, score, tuple(code), (mean, std))
        sums[key] = sums[key] + own if key in sums else own
    return sums


def bin_blocks(
    blocks: Mapping[BlockKey, BlockSums], rule: BlockRule, test_bins: Mapping[str, Sequence[ColumnBins]]
) -> dict[str, dict[date, np.ndarray]]:
    """Return test -> day -> how many blocks fell into each bin of each column, (columns, bins).

    A block counts once most of its windows are scored, and for a column with a `thinning` one of so many in a row.
    """
    whole = {}
    for key in sorted(blocks):
        if blocks[key].windows >= rule.fewest:
            whole[key] = blocks[key]
    if not whole:
        return {test: {} for test in test_bins}
    numbers = np.array([number for _, number in whole])
    days = np.array([block.day for block in whole.values()], dtype="datetime64[D]")
    ids = [f"{machine}@{number}" for machine, number in whole]
    counts: dict[str, dict[date, np.ndarray]] = {}
    for test, columns in test_bins.items():
        values = _block_values(test, list(whole.values()))
        counts[test] = {}
        for index, column in enumerate(columns):
            counted = is_counted(numbers, column.thinning)
            bins = assign_bins(values[:, index], ids.__getitem__, column)
            for day in np.unique(days[counted]):
                empty = np.zeros((len(columns), column.bin_count), np.int64)
                day_counts = counts[test].setdefault(day.item(), empty)
                day_counts[index] += np.bincount(bins[counted & (days == day)], minlength=column.bin_count)
    return counts


def _block_values(test: str, blocks: Sequence[BlockSums]) -> np.ndarray:
    """Return the values of a test, (blocks, columns): the highest score, or means over the windows."""
    if test in (ALARM_RATE_SIGNAL, SCORE_SIGNAL):
        return np.array([[block.score] for block in blocks])
    windows = np.array([[block.windows] for block in blocks])
    if test == CODE_SIGNAL:
        return np.asarray(np.array([block.code for block in blocks]) / windows)
    assert test == INPUT_SIGNAL
    return np.asarray(np.array([block.inputs for block in blocks]) / windows)


def blocks_to_json(blocks: Mapping[BlockKey, BlockSums]) -> dict[str, dict[str, list[Any]]]:
    """Return the sums by machine and number, as JSON holds them; `blocks_from_json` is the inverse."""
    content: dict[str, dict[str, list[Any]]] = {}
    for (machine, number), block in blocks.items():
        row = [block.day.isoformat(), block.windows, block.score, block.code, block.inputs]
        content.setdefault(machine, {})[str(number)] = row
    return content


def blocks_from_json(content: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[BlockKey, BlockSums]:
    """Return the sums that `blocks_to_json` has written."""
    blocks = {}
    for machine, rows in content.items():
        for number, (day, windows, score, code, inputs) in rows.items():
            blocks[machine, int(number)] = BlockSums(date.fromisoformat(day), windows, score, tuple(code), tuple(inputs))
    return blocks
