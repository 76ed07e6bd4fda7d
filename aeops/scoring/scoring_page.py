"""The page of a scoring run: one self-contained HTML file.

To change what it says: aeops/report/templates/scoring.html.j2; how it looks: report.css beside it; the figures: figures.py.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from aeops.bundle.detector import Detector
from aeops.drawing.mosaics import COLUMNS
from aeops.drawing.svg import inline, theme_css
from aeops.evaluation.false_alarms import clopper_pearson, requested_rates
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.monitoring import BATCH
from aeops.report.html_template import environment
from aeops.scoring.charts import Day, draw_anomalous, draw_days
from aeops.scoring.inbox import Found
from aeops.scoring.score_file import MovedError, Taken, samples_in

DAYS = 14  # of the histogram
ANOMALOUS = 2 * COLUMNS  # samples that are shown
LISTED = 200  # files of a kind that the page names


@dataclass(frozen=True)
class Anomalous:
    """One of the samples with the highest scores, and where it lies."""

    taken: Taken
    row: int
    score: float
    p_value: float
    sample: str
    is_anomaly: bool

    @property
    def id(self) -> str:
        return f"{self.taken.call}-{self.row}"


def page_of(
    project: Project,
    told: Mapping[str, Any],
    by_content: Mapping[str, Found],
    taken: Sequence[Taken],
    detector: Detector,
    now: datetime,
) -> str:
    """The page as text.

    Args:
        told: the run's summary.
        by_content: the inbox's files by their SHA-256.
        taken: the files that the run has recorded.
        detector: of the version that scored.
        now: the time of the run.
    """
    threshold = detector.bundle["threshold"]
    worst = most_anomalous(taken)
    shown = [one for one in worst if one.taken.version == told["version"] and one.taken.sha256 in by_content]
    return (
        environment()
        .get_template("scoring.html.j2")
        .render(
            told=told,
            time=now.astimezone(UTC),
            threshold=threshold,
            bundle_sha256=detector.sha256,
            legend=detector.data_kind.ERROR_LEGEND,
            rate=rate_of(told["flagged"], told["samples"], threshold),
            worst=worst,
            pictures=pictures(shown, by_content, detector),
            compared=detector.shape == detector.made_shape,
            days=days_figure(project, str(told["recipe"]), threshold["value"], now),
            days_shown=DAYS,
            listed=LISTED,
            theme=theme_css(),
        )
    )


def rate_of(flagged: int, samples: int, threshold: Mapping[str, Any]) -> dict[str, Any] | None:
    """The alarm rate with its intervals, and whether the promise lies in the one that counts; None without samples.

    That is the one with the luck of the calibration where the bundle says how many samples it had; else the binomial one.
    """
    if samples == 0:
        return None
    found: dict[str, Any] = {"measured": flagged / samples, "interval": clopper_pearson(flagged, samples), "wide": None}
    if "calibration_rows" in threshold:
        found["wide"] = requested_rates(flagged, samples, int(threshold["calibration_rows"]))
    low, high = found["wide"] or found["interval"]
    promised = threshold["false_alarm_rate"]
    verdict = "as promised" if low <= promised <= high else "more than promised" if promised < low else "fewer than promised"
    return found | {"verdict": verdict, "promised": promised}


def most_anomalous(taken: Sequence[Taken]) -> list[Anomalous]:
    """The samples of the run with the highest scores, the highest first; one file's scores in memory at a time."""
    best: list[tuple[float, Taken, int]] = []
    for one in taken:
        scores = pq.read_table(one.file, columns=["score"])["score"].to_numpy()
        rows = np.argsort(-scores, kind="stable")[:ANOMALOUS]
        best = sorted([*best, *((float(scores[row]), one, int(row)) for row in rows)], key=lambda each: -each[0])[:ANOMALOUS]
    return [described(one, row) for _, one, row in best]


def described(taken: Taken, row: int) -> Anomalous:
    columns = ["score", "p_value", "sample", "is_anomaly"]
    [known] = pq.read_table(taken.file, columns=columns).slice(row, 1).to_pylist()
    return Anomalous(taken, row, **known)


# ---------------------------------------------------------------- figures


def days_figure(project: Project, recipe: str, threshold: float, now: datetime) -> Markup | None:
    """The scores of the last days, as the batches recorded them; None where there are none."""
    first = (now.astimezone(UTC) - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    columns = ["time", "score", "is_anomaly"]
    table = prediction_store.read(project, recipe, since=first, channels=[BATCH], columns=columns)
    if not table.num_rows:
        return None
    dates = table["time"].to_numpy().astype("datetime64[D]")
    scores, flags = table["score"].to_numpy(), np.asarray(table["is_anomaly"])
    days = [Day(str(date), scores[dates == date], int(flags[dates == date].sum())) for date in np.unique(dates)[::-1]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "days.svg"
        draw_days(file, days, threshold)
        alt = "The histogram of the scores of each day, a row a day, with the threshold."
        return inline(file.read_text(encoding="utf-8"), "days", alt)


def pictures(shown: Sequence[Anomalous], by_content: Mapping[str, Found], detector: Detector) -> list[Markup]:
    """Strips of the samples with what the model makes of them; none where they cannot be drawn."""
    if not detector.data_kind.DRAWABLE:
        return []
    held = [(one, sample) for one in shown if (sample := sample_at(by_content[one.taken.sha256], one.row, detector)) is not None]
    if not held:
        return []
    samples = np.stack([sample for _, sample in held])
    made = detector.score(samples, reconstruction=True)["reconstruction"]
    inputs, outputs = (unit(values, detector) for values in (samples, made))
    captions = [f"{one.score:.3g}" for one, _ in held]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, len(held), COLUMNS):
            part, file = slice(first, first + COLUMNS), Path(folder) / f"{first}.svg"
            draw_anomalous(file, inputs[part], outputs[part], captions[part])
            alt = "Samples with the highest scores: what came in, what the model made of it, the error where it can be told."
            found.append(inline(file.read_text(encoding="utf-8"), f"anomalous-{first}", alt))
    return found


def sample_at(found: Found, row: int, detector: Detector) -> np.ndarray | None:
    """A sample (*shape) of a file, in raw units; None where the file went away or was written to after it was scored."""
    try:
        samples = samples_in(found, detector)
    except MovedError:
        return None
    chosen = samples.values[row] if len(samples.names) > 1 else samples.values
    return np.asarray(chosen, dtype=np.float32).reshape(detector.shape)


def unit(values: np.ndarray, detector: Detector) -> np.ndarray:
    """Raw values in [0, 1]."""
    return ((values - detector.low) / (detector.high - detector.low)).clip(0, 1)
