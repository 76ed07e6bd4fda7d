"""Whether the alarms among fresh normals agree with the rate that a threshold promises.

For one calibration set the true rate is itself random (for a split-conformal threshold a draw from a beta law, see
`ae_models.threshold_laws`), so a measured rate scatters more widely than a binomial interval says.
"""

from dataclasses import dataclass

import numpy as np

from ae_models.intervals import clopper_pearson
from ae_models.threshold_interface import GATE_LEVEL, StoredThreshold
from aeops.errors import DataError


@dataclass(frozen=True)
class FalseAlarms:
    """Alarms among fresh normals.

    Attributes:
        alarms: number of normals that were flagged.
        normals: number of normals.
        measured: alarms / normals.
        interval: 95 % interval of this threshold's true rate (Clopper-Pearson).
        interval_with_calibration: the promised rates that the alarms do not contradict (95 %), the chance of the
            calibration draw included; None where the threshold's kind has no such law.
        promise_interval: the same at 99.9 %, by which the gate judges the promise.
    """

    alarms: int
    normals: int
    measured: float
    interval: tuple[float, float]
    interval_with_calibration: tuple[float, float] | None
    promise_interval: tuple[float, float] | None


def count_blocks(is_anomaly: np.ndarray, is_normal: np.ndarray, runs: np.ndarray, block: int) -> tuple[int, int]:
    """Return how many blocks of normal windows in a row have a flagged one, and how many such blocks there are, 1 or more.

    Args:
        is_anomaly: of each window in the order of time, bool (n,).
        is_normal: likewise.
        runs: the number of each window's unbroken run, (n,): a block lies in one run, between two anomalies.
        block: windows of a block.

    Raises:
        DataError: no block of normal windows.

    >>> flags = np.array([False, True, False, False, False])
    >>> count_blocks(flags, np.ones(5, bool), np.zeros(5), 2)
    (1, 2)
    """
    alarms = normals = 0
    edges = np.flatnonzero((np.diff(runs) != 0) | (np.diff(is_normal.astype(np.int8)) != 0)) + 1
    for part in np.split(np.arange(len(runs)), edges):
        if len(part) and is_normal[part[0]]:
            blocks = len(part) // block
            flags = is_anomaly[part[: blocks * block]].reshape(blocks, block)
            alarms, normals = alarms + int(flags.any(axis=1).sum()), normals + blocks
    if not normals:
        raise DataError(
            f"expected a block of {block} normal test windows in a row (threshold.block), got none: bring a longer series, raise "
            "data.split.test, or shorten threshold.block"
        )
    return alarms, normals


def measure_false_alarms(alarms: int, normals: int, threshold: StoredThreshold) -> FalseAlarms:
    """Return the rate of alarms among fresh normals with its intervals.

    Args:
        alarms: number of normals that were flagged.
        normals: number of normals, 1 or more.
        threshold: that flagged them.
    """
    return FalseAlarms(
        alarms=alarms,
        normals=normals,
        measured=alarms / normals,
        interval=clopper_pearson(alarms, normals),
        interval_with_calibration=threshold.plausible_rates(alarms, normals),
        promise_interval=threshold.plausible_rates(alarms, normals, GATE_LEVEL),
    )
