"""Which samples of one batch to call anomalies so that few of those are normal: Benjamini and Hochberg on conformal p-values.

What is promised, and when it is not: docs/thresholds.md.
"""

from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-6  # relative: p-values are float32, and one that equals its bound counts as at the bound


@dataclass(frozen=True)
class Discoveries:
    """The samples of a batch that are called anomalies.

    Attributes:
        share: q, the share of normal ones that may be among them, on average over batches.
        is_discovery: bool (n,); False for a sample without a p-value.
        cutoff: the highest p-value of a discovery; None where there is none.
        fewest: how many samples must have the smallest possible p-value for one of them to be called: 1 where a single anomaly
            can be, or where the number of calibration scores is not known.
    """

    share: float
    is_discovery: np.ndarray
    cutoff: float | None
    fewest: int

    @property
    def count(self) -> int:
        """Number of discoveries."""
        return int(self.is_discovery.sum())


def find_discoveries(p_values: np.ndarray, share: float, calibration_rows: int | None) -> Discoveries:
    """Return the discoveries of a batch by the step-up procedure of Benjamini and Hochberg (1995).

    With p_(1) <= ... <= p_(n) all samples up to the largest i with p_(i) <= i q / n are called. The p-values share their
    calibration samples, which makes them positively dependent, and the procedure stays valid (Bates, Candes, Lei, Romano and
    Sesia 2023, theorem 2).

    Args:
        p_values: of the batch, (n,); NaN for a sample that was refused.
        share: q, in (0, 1).
        calibration_rows: number of calibration scores, the smallest p-value being 1 / (calibration_rows + 1); None where the
            bundle is too old to say.

    >>> find_discoveries(np.array([0.001, 0.5, 0.012, 0.9]), 0.05, 999).is_discovery.tolist()
    [True, False, True, False]
    """
    is_scored = ~np.isnan(p_values)
    sorted_values = np.sort(p_values[is_scored].astype(np.float64))
    n = len(sorted_values)
    bounds = share * np.arange(1, n + 1) / max(n, 1)
    below = np.flatnonzero(sorted_values <= bounds * (1 + ROUNDING))
    cutoff, is_discovery = None, np.zeros(len(p_values), bool)
    if len(below):
        cutoff = float(sorted_values[below[-1]])
        is_discovery = is_scored & (p_values.astype(np.float64) <= cutoff)
    fewest = 1
    if calibration_rows is not None:
        fewest = max(fewest, int(np.ceil(n / (share * (calibration_rows + 1)) / (1 + ROUNDING))))
    return Discoveries(share, is_discovery, cutoff, fewest)
