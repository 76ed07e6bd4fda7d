"""Render the page of a scoring run: one self-contained HTML file.

To change the text: aeops/report/templates/scoring.html.j2; the style: report.css beside it; the figures: charts.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ae_models.intervals import clopper_pearson
from ae_models.threshold_interface import StoredThreshold
from ae_models.thresholds import read_threshold
from aeops.bundle.detector import Detector
from aeops.bundle.explanations import caption_scores
from aeops.drawing.mosaics import COLUMNS
from aeops.drawing.svg import inline_svg, theme_css
from aeops.machine.scratch import ScratchFolder
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.monitoring import BATCH_CHANNEL
from aeops.report.html_template import html_environment
from aeops.scoring.charts import DayScores, draw_anomalous, draw_days
from aeops.scoring.inbox import InboxFile
from aeops.scoring.run_summary import InboxSummary
from aeops.scoring.score_file import FileChangedError, ScoredFile, read_call_rows, read_inbox_samples

HISTOGRAM_DAYS = 14
MAX_ANOMALOUS = 2 * COLUMNS  # samples that are shown
MAX_LISTED = 200  # files of a kind that the page names
PICTURE_ALT = (
    "Samples with the highest scores: input, output of the model, the error where both have the same shape, and the nearest "
    "normal samples where the score knows them."
)
DAYS_ALT = "The histogram of the scores of each day, a row a day, with the threshold."


@dataclass(frozen=True)
class AnomalousSample:
    """One of the samples with the highest scores, and its row in the file of predictions."""

    file: ScoredFile
    row: int
    score: float
    p_value: float
    sample: str
    is_anomaly: bool
    flags: list[str]

    @property
    def id(self) -> str:
        """Id of its prediction."""
        return f"{self.file.call}-{self.row}"


@dataclass(frozen=True)
class AlarmRate:
    """The alarm rate of a run beside the promised one.

    Attributes:
        measured: share of flagged samples.
        promised: by the threshold, for normal samples; None where it promises none.
        interval: 95 % interval of the rate (Clopper and Pearson).
        wide: the same with the sampling error of the calibration; None where its law is not known.
        verdict: `as promised`, `more than promised` or `fewer than promised`, by `wide` where there is one; `nothing promised`
            where the threshold promises no rate.
    """

    measured: float
    promised: float | None
    interval: tuple[float, float]
    wide: tuple[float, float] | None
    verdict: str


def render_page(
    project: Project,
    summary: InboxSummary,
    files_by_sha256: Mapping[str, InboxFile],
    scored_files: Sequence[ScoredFile],
    detector: Detector,
    now: datetime,
) -> str:
    """Return the page as HTML.

    Args:
        project: whose predictions of the last days are shown.
        summary: of the run.
        files_by_sha256: the inbox's files by the SHA-256 of their contents.
        scored_files: the files that the run has recorded.
        detector: of the version that scored.
        now: time of the run.
    """
    threshold = read_threshold(detector.bundle["threshold"])
    anomalous_samples = most_anomalous(scored_files)
    drawable_samples = []
    for sample in anomalous_samples:
        if sample.file.version == summary["version"] and sample.file.sha256 in files_by_sha256:
            drawable_samples.append(sample)
    return (
        html_environment()
        .get_template("scoring.html.j2")
        .render(
            summary=summary,
            time=now.astimezone(UTC),
            threshold=threshold,
            effect=threshold.method.describe_rate(),
            bundle_sha256=detector.sha256,
            legend=detector.data_kind.ERROR_LEGEND,
            rate=alarm_rate(summary["flagged"], summary["samples"] - summary["unscored"], threshold),
            worst=anomalous_samples,
            pictures=_draw_samples(drawable_samples, files_by_sha256, detector),
            compared=detector.shape == detector.output_shape,
            days=_draw_histograms(project, summary["recipe"], threshold.value, now),
            days_shown=HISTOGRAM_DAYS,
            listed=MAX_LISTED,
            theme=theme_css(),
        )
    )


def alarm_rate(flagged: int, samples: int, threshold: StoredThreshold) -> AlarmRate | None:
    """Return the alarm rate of a run with its intervals; None without samples.

    Args:
        flagged: number of flagged samples.
        samples: number of samples that have a score.
        threshold: that flagged them.
    """
    if samples == 0:
        return None
    interval = clopper_pearson(flagged, samples)
    wide = threshold.plausible_rates(flagged, samples)
    low, high = wide or interval
    promised = threshold.promised_rate
    if promised is None:
        verdict = "nothing promised"
    elif promised < low:
        verdict = "more than promised"
    elif promised > high:
        verdict = "fewer than promised"
    else:
        verdict = "as promised"
    return AlarmRate(flagged / samples, promised, interval, wide, verdict)


def most_anomalous(scored_files: Sequence[ScoredFile]) -> list[AnomalousSample]:
    """Return the samples with the highest scores, the highest first; one file's scores are in memory at a time.

    A refused sample has no score (NaN, which is sorted to the end) and is none of them.
    """
    top_rows: list[tuple[float, ScoredFile, int]] = []
    for file in scored_files:
        scores = read_call_rows(file.predictions, file.call, ["score"])["score"].to_numpy()
        for row in np.argsort(-scores, kind="stable")[: min(MAX_ANOMALOUS, np.count_nonzero(~np.isnan(scores)))]:
            top_rows.append((float(scores[row]), file, int(row)))
        top_rows.sort(key=lambda candidate: -candidate[0])
        del top_rows[MAX_ANOMALOUS:]
    return [_read_sample_row(file, row) for _, file, row in top_rows]


def _read_sample_row(file: ScoredFile, row: int) -> AnomalousSample:
    columns = ["score", "p_value", "sample", "is_anomaly", "flags"]
    [values] = read_call_rows(file.predictions, file.call, columns).slice(row, 1).to_pylist()
    return AnomalousSample(file, row, **values)


# ---------------------------------------------------------------- figures


def _draw_histograms(project: Project, recipe: str, threshold: float, now: datetime) -> Markup | None:
    """Return the figure of the last days' scores, as the batches recorded them; None where there are none."""
    since = (now.astimezone(UTC) - timedelta(days=HISTOGRAM_DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    columns = ["time", "score", "is_anomaly"]
    table = prediction_store.read_predictions(project, recipe, since=since, channels=[BATCH_CHANNEL], columns=columns)
    table = table.filter(table["score"].is_valid())
    if not table.num_rows:
        return None
    dates = table["time"].to_numpy().astype("datetime64[D]")
    scores, is_anomaly = table["score"].to_numpy(), np.asarray(table["is_anomaly"])
    days = []
    for day in np.unique(dates)[::-1]:
        rows = dates == day
        days.append(DayScores(str(day), scores[rows], int(is_anomaly[rows].sum())))
    with ScratchFolder() as folder:
        file = Path(folder) / "days.svg"
        draw_days(file, days, threshold)
        return inline_svg(file.read_text(encoding="utf-8"), "days", DAYS_ALT)


def _draw_samples(
    drawable_samples: Sequence[AnomalousSample], files_by_sha256: Mapping[str, InboxFile], detector: Detector
) -> list[Markup]:
    """Return strips of samples and the model's outputs; none where samples cannot be drawn."""
    if not detector.data_kind.IS_DRAWABLE:
        return []
    values, scores = [], []
    for sample in drawable_samples:
        pixels = _read_sample(files_by_sha256[sample.file.sha256], sample.row, detector)
        if pixels is not None:
            values.append(pixels)
            scores.append(sample.score)
    if not values:
        return []
    samples = np.stack(values)
    results = detector.score(samples, reconstruction=True, explanation=True)
    captions = caption_scores(np.array(scores), detector.part_names, results.get("part_scores"))
    inputs, outputs = _scale_to_unit(samples, detector), _scale_to_unit(results["reconstruction"], detector)
    nearest, distances = None, results.get("pixel_map")
    if detector.has_bank:
        nearest = _scale_to_unit(detector.bank_samples[results["nearest"]], detector)
    pictures = []
    with ScratchFolder() as folder:
        for start in range(0, len(samples), COLUMNS):
            strip_rows, file = slice(start, start + COLUMNS), Path(folder) / f"{start}.svg"
            strip_nearest, strip_distances = _take_rows(nearest, strip_rows), _take_rows(distances, strip_rows)
            draw_anomalous(file, inputs[strip_rows], outputs[strip_rows], captions[strip_rows], strip_nearest, strip_distances)
            pictures.append(inline_svg(file.read_text(encoding="utf-8"), f"anomalous-{start}", PICTURE_ALT))
    return pictures


def _take_rows(values: np.ndarray | None, rows: slice) -> np.ndarray | None:
    """Return rows of what a model may have."""
    if values is None:
        return None
    return values[rows]


def _read_sample(file: InboxFile, row: int, detector: Detector) -> np.ndarray | None:
    """Return a sample (*shape) of a file, in raw units; None where the file is gone or has changed since it was scored."""
    try:
        samples = read_inbox_samples(file, detector)
    except FileChangedError:
        return None
    values = samples.values[row] if len(samples.names) > 1 else samples.values
    return np.asarray(values, dtype=np.float32).reshape(detector.shape)


def _scale_to_unit(values: np.ndarray, detector: Detector) -> np.ndarray:
    """Return raw values in [0, 1], 0 where a value is missing."""
    return np.asarray(np.nan_to_num(detector.spec.unit(values).clip(0, 1)))
