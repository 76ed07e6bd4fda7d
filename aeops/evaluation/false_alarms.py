"""Whether the alarms among fresh normals agree with the rate that a threshold promises.

For one calibration set the true rate is itself random (for a split-conformal threshold a draw from a beta law, see
`ae_models.thresholds`), so a measured rate scatters more widely than a binomial interval says.
"""

from dataclasses import dataclass

from scipy.stats import beta

from ae_models.thresholds import ThresholdMethod


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
    """

    alarms: int
    normals: int
    measured: float
    interval: tuple[float, float]
    interval_with_calibration: tuple[float, float] | None


def measure_false_alarms(alarms: int, normals: int, method: ThresholdMethod, calibration_rows: int) -> FalseAlarms:
    """Return the rate of alarms among fresh normals with its intervals.

    Args:
        alarms: number of normals that were flagged.
        normals: number of normals, 1 or more.
        method: the threshold's method.
        calibration_rows: number of calibration samples that chose the threshold.
    """
    return FalseAlarms(
        alarms=alarms,
        normals=normals,
        measured=alarms / normals,
        interval=clopper_pearson(alarms, normals),
        interval_with_calibration=method.plausible_rates(alarms, normals, calibration_rows),
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
