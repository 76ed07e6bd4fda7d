"""Windows of a series that share steps: the end of one is the beginning of another."""

import numpy as np

from aeops.data.sample_pairs import SHARED_STEPS, Pairs, unique_pairs

MIN_SHARED_SHARE = 0.25  # of a window's steps: shorter overlaps are not looked for
MIN_SHARED_STEPS = 4
MIN_DIFFERENT_VALUES = 3  # in the shared steps: a flat or two-valued stretch is found everywhere
_HASH_SEED = 20_26


def shared_step_pairs(windows: np.ndarray) -> Pairs:
    """Return pairs of windows of which one begins with steps that the other one has later on, up to its end.

    Args:
        windows: (n, channels, steps) as they are stored; values are compared as bits.

    Returns:
        Their similarity is the share of steps in common.
    """
    count, _, steps = windows.shape
    block = max(MIN_SHARED_STEPS, round(MIN_SHARED_SHARE * steps))
    if steps <= block or count < 2:
        return _no_pairs()
    hashes = _rolling_hashes(windows, block)  # of the steps from each on
    beginnings = hashes[:, 0]
    order = np.argsort(beginnings, kind="stable")
    sorted_beginnings = beginnings[order]
    varied = _are_varied(windows[:, :, :block])
    found: list[tuple[np.ndarray, np.ndarray, int]] = []
    for offset in range(1, steps - block + 1):
        low = np.searchsorted(sorted_beginnings, hashes[:, offset], "left")
        high = np.searchsorted(sorted_beginnings, hashes[:, offset], "right")
        matches = np.where(varied[order[np.minimum(low, count - 1)]], high - low, 0)
        first = np.repeat(np.arange(count), matches)
        second = order[_ranges(low[matches > 0], matches[matches > 0])]
        equal = _overlap_equally(windows, first, second, offset)
        found.append((first[equal], second[equal], offset))
    return _as_pairs(found, steps)


def _rolling_hashes(windows: np.ndarray, block: int) -> np.ndarray:
    """Return a hash of each run of `block` steps of each window, uint64 (n, steps - block + 1)."""
    bits = np.ascontiguousarray(windows)
    words = bits.view(f"u{bits.dtype.itemsize}").astype(np.uint64)
    factors = np.random.default_rng(_HASH_SEED).integers(1, 2**63, (words.shape[1], block), dtype=np.uint64) * 2 + 1
    positions = words.shape[2] - block + 1
    hashes = np.zeros((len(words), positions), np.uint64)
    for channel in range(words.shape[1]):
        for step in range(block):  # sums modulo 2^64, which are exact
            hashes += (words[:, channel, step : step + positions] + np.uint64(1)) * factors[channel, step]
    return hashes


def _are_varied(blocks: np.ndarray) -> np.ndarray:
    """Return whether each block (n, channels, steps) has a channel with several different values."""
    ordered = np.sort(blocks, axis=2)
    different = (ordered[:, :, 1:] != ordered[:, :, :-1]).sum(axis=2) + 1
    return np.asarray((different >= MIN_DIFFERENT_VALUES).any(axis=1))


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return start, start + 1, ... of each length, one after another."""
    if not len(starts):
        return np.zeros(0, np.int64)
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1]) - np.repeat(ends - lengths - starts, lengths))


def _overlap_equally(windows: np.ndarray, first: np.ndarray, second: np.ndarray, offset: int) -> np.ndarray:
    """Return whether window `first` from `offset` on equals the beginning of window `second`, (k,)."""
    equal = np.zeros(len(first), bool)
    for start in range(0, len(first), 16_384):
        part = slice(start, start + 16_384)
        ends = windows[first[part], :, offset:]
        equal[part] = (ends == windows[second[part], :, : ends.shape[2]]).all(axis=(1, 2))
    return equal


def _as_pairs(found: list[tuple[np.ndarray, np.ndarray, int]], steps: int) -> Pairs:
    firsts, seconds, offsets = zip(*found, strict=True)
    similarity = np.repeat((steps - np.array(offsets)) / steps, list(map(len, firsts)))
    return unique_pairs(SHARED_STEPS, np.concatenate(firsts), np.concatenate(seconds), similarity)


def _no_pairs() -> Pairs:
    empty = np.zeros(0, np.int64)
    return Pairs(SHARED_STEPS, empty, empty, np.zeros(0))
