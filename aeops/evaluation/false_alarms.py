"""Whether the alarms among fresh normals agree with the rate that a threshold promises.

For one calibration set the true rate is itself random (for a split-conformal threshold a draw from a beta law, see
`ae_models.threshold_laws`), so a measured rate scatters more widely than a binomial interval says.
"""

from dataclasses import dataclass

from ae_models.intervals import clopper_pearson
from ae_models.threshold_interface import GATE_LEVEL, StoredThreshold


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
