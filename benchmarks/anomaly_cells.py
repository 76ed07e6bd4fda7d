"""What the protocols of anomaly_detection.py share: a cell, the spread of figures over seeds, and how a figure is written."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student_t

__all__ = ["Cell", "figure_text", "spread"]


@dataclass
class Cell:
    """Measurements of one detector on one task.

    Attributes:
        protocol, task, detector: their names.
        seed: of the training, and of the split where the protocol draws one; None for a detector without one.
        auroc, average_precision: of the test samples.
        caught: share of the novelty above the detector's threshold at the rate of the protocol; None without a threshold.
        false_alarms: measured share of the normal test samples above it.
        seconds: to train and calibrate.
        milliseconds: to score a sample, of the whole test set at once.
        model_bytes: size of model.onnx; None for a detector without one.
        parts: scores that went in, of a combined score.
    """

    protocol: str
    task: str
    detector: str
    seed: int | None
    auroc: float
    average_precision: float
    caught: float | None
    false_alarms: float | None
    seconds: float
    milliseconds: float
    model_bytes: int | None = None
    parts: tuple[str, ...] = ()


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, standard deviation and the 95 % interval of the mean (Student's t); the last two None for one value."""
    if not values:
        return {"mean": None, "sd": None, "low": None, "high": None}
    mean = statistics.fmean(values)
    if len(values) == 1:
        return {"mean": mean, "sd": None, "low": None, "high": None}
    deviation = statistics.stdev(values)
    half_width = float(student_t.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return {"mean": mean, "sd": deviation, "low": mean - half_width, "high": mean + half_width}


def figure_text(figures: Mapping[str, float | None], *, percent: bool = False) -> str:
    """Return a mean with its standard deviation, if there is one; a dash for no value."""
    if figures["mean"] is None:
        return "-"
    form = "{:.1%}" if percent else "{:.4f}"
    text = form.format(figures["mean"])
    if figures["sd"] is not None:
        text += f" ± {form.format(figures['sd'])}"
    return text
