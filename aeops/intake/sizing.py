"""How large a model and how long a training are proposed, by the size of the data; docs/own-data.md says the same in words.

The rules are about time as much as about quality: the first run of a person's own data should end within minutes, and the model
should not be larger than its samples can teach. Every number stands in the recipe, to be changed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aeops.errors import DataError

LEAST_SAMPLES = 100  # fewer leave too little to train, to calibrate and to test
FEW_SAMPLES = 200  # below which a fifth may be fewer normal test samples than two models can be compared by
VALUES_SEEN = 40_000_000  # numbers that pass through a training, at most
SAMPLES_SEEN = (8_000, 150_000)  # samples that pass through a training
EPOCHS = (4, 60)
RATES = ((600, 0.01), (90, 0.05), (0, 0.1))  # calibration samples from which -> rate of false alarms: some 6 samples above it


@dataclass(frozen=True)
class SplitSizes:
    """The shares of a set, and the samples that are trained on.

    Attributes:
        shares: of data.split.
        train: samples that are left to train on.
        rate: of false alarms that so many calibration samples can promise.
        reason: of the shares and the rate.
    """

    shares: dict[str, float]
    train: int
    rate: float
    reason: str


def count_normal(labelled_count: int, label_counts: Mapping[str, int], anomalies: Sequence[str]) -> int:
    """Return how many of the labelled samples have no label of an anomaly."""
    return labelled_count - count_anomalies(label_counts, anomalies)


def count_anomalies(label_counts: Mapping[str, int], anomalies: Sequence[str]) -> int:
    """Return how many samples have a label of an anomaly."""
    return sum(label_counts[name] for name in anomalies)


def split_sizes(normal_count: int) -> SplitSizes:
    """Return the shares for so many normal samples.

    Raises:
        DataError: there are too few.
    """
    if normal_count < LEAST_SAMPLES:
        raise DataError(
            f"expected at least {LEAST_SAMPLES} normal samples, got {normal_count}: a part is trained on, a part calibrates the "
            "threshold and a part tests it; bring more"
        )
    calibration = 0.2 if normal_count < 20_000 else 0.1
    test = 0.3 if normal_count < FEW_SAMPLES else calibration
    shares = {"validation": 0.1, "calibration": calibration, "test": test}
    calibration_count = int(normal_count * calibration)
    rate = next(rate for least, rate in RATES if calibration_count >= least)
    reason = (
        f"of about {normal_count:,} normal samples some {calibration_count:,} calibrate the threshold: enough to promise a rate "
        f"of false alarms of {rate:g}"
    )
    return SplitSizes(shares, int(normal_count * (1 - sum(shares.values()))), rate, reason)


def epochs_for(train_count: int, values: int, most: int = SAMPLES_SEEN[1]) -> tuple[int, str]:
    """Return the passes over `train_count` samples of so many numbers each, and why; `most` samples in all.

    >>> epochs_for(3000, 784)[0], epochs_for(600, 12288)[0], epochs_for(48_000, 784)[0]
    (17, 13, 4)
    """
    seen = min(most, max(SAMPLES_SEEN[0], VALUES_SEEN // values))
    epochs = min(EPOCHS[1], max(EPOCHS[0], round(seen / train_count)))
    return (
        epochs,
        f"`ae new` proposed {epochs} passes over about {train_count:,} training samples, {epochs * train_count:,} samples in all",
    )


def threads_for(batch: int, values: int) -> int:
    """Return the threads of a training: small batches are no quicker on two, and slower where the machine has other work.

    >>> threads_for(16, 4096), threads_for(128, 12288)
    (1, 2)
    """
    return 1 if batch * values <= 2**18 else 2


def batch_for(train_count: int) -> int:
    """Return the samples a step: so many that an epoch has some dozens of steps.

    >>> batch_for(300), batch_for(3000), batch_for(50_000)
    (16, 64, 128)
    """
    return 16 if train_count < 1000 else 64 if train_count < 20_000 else 128


def fitting_side(side: float, multiple: int, least: int) -> int:
    """Return the multiple that is nearest to a side, and not less than `least`."""
    return max(least, multiple * max(1, math.floor(side / multiple + 0.5)))
