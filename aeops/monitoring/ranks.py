"""Where new values lie among the calibration's: from values to bins, with ties broken by lot. See eprocess.py for why.

The lot of a sample is a number in [0, 1) made of its prediction's id, so that a second look finds the same; those of the
calibration samples are drawn once, by a fixed seed.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10
GRAIN = 1e-6  # of the largest calibration value: closer values are equal, as the same sample's are in batches of other sizes
LOTS_SEED = 20_250_601


@dataclass(frozen=True)
class Cuts:
    """One column's bins.

    Attributes:
        ends: the calibration values at which all bins but the last end, ascending, (bins - 1,), in whole grains.
        lots: of those calibration samples.
        gaps: how many of the m + 1 gaps between calibration values each bin holds, (bins,).
        grain: the unit of `ends`.
    """

    ends: np.ndarray
    lots: np.ndarray
    gaps: np.ndarray
    grain: float

    @property
    def bins(self) -> int:
        return len(self.gaps)


def cut(values: np.ndarray, ranks: Sequence[int]) -> Cuts:
    """Bins that end at the calibration values (m,) of these ranks, ascending, each of 1 to m."""
    grain = grain_of(values)
    lots = np.random.default_rng(LOTS_SEED).random(len(values))
    whole = in_grains(values, grain)
    order = np.lexsort((lots, whole))[np.asarray(ranks) - 1]
    return Cuts(whole[order], lots[order], np.diff([0, *ranks, len(values) + 1]), grain)


def even_ranks(m: int, bins: int = BINS) -> list[int]:
    """The ranks that cut m values into as many bins as there can be, up to `bins`, of gaps as even as can be."""
    bins = min(bins, m + 1)
    return [round(place * (m + 1) / bins) for place in range(1, bins)]


def grain_of(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return GRAIN * float(finite.max(initial=0.0)) or 1.0


def in_grains(values: np.ndarray, grain: float) -> np.ndarray:
    """Values as whole numbers of grains, float64; what is not a number lies above all others."""
    whole = np.rint(np.asarray(values, dtype=np.float64) / grain)
    return np.where(np.isnan(whole), np.inf, whole)


def bins_of(values: np.ndarray, id_of: Callable[[int], str], cuts: Cuts) -> np.ndarray:
    """The bin of each new value (n,), int64 from 0; `id_of` is asked for the prediction of a row where there is a tie."""
    whole = in_grains(values, cuts.grain)
    above = whole[:, None] > cuts.ends
    tied = whole[:, None] == cuts.ends
    rows = np.flatnonzero(tied.any(axis=1))
    if len(rows):
        lots = np.array([lot(id_of(int(row))) for row in rows])
        above[rows] |= tied[rows] & (lots[:, None] > cuts.lots)
    found: np.ndarray = above.sum(axis=1)
    return found


def lot(prediction: str) -> float:
    """A number in [0, 1) that belongs to a prediction."""
    return int.from_bytes(hashlib.blake2b(prediction.encode(), digest_size=6).digest(), "big") / 2**48
