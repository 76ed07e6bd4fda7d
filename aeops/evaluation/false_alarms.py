"""Whether the alarms among fresh normals agree with the rate that a threshold promises.

For one calibration set the true rate is itself random (for a split-conformal threshold a draw from a beta law, see
`ae_models.threshold_laws`), so a measured rate scatters more widely than a binomial interval says.
"""

from dataclasses import dataclass

from scipy.stats import beta

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


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a binomial share (Clopper and Pearson 1934).

    Args:
        successes: from 0 to `trials`.
        trials: 1 or more.
        level: confidence, in (0, 1).
    """
    tail_probability = (1 - level) / 2
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(beta.ppf(tail_probability, successes, trials - successes + 1))
    if successes < trials:
        high = float(beta.ppf(1 - tail_probability, successes + 1, trials - successes))
    return low, high
