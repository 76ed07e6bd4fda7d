"""The test span of a series as a whole: scores of its steps, alarms as intervals, false alarms an hour, and pictures over time.

The windows are cut as `ae score` cuts them, so that each step has windows; those of training and validation are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.intervals import poisson_interval
from ae_models.names import names_of
from ae_models.thresholds import read_threshold
from aeops.drawing.words import NO_LABELS, format_number
from aeops.evaluation.series_charts import MAX_CHANNELS, SeriesPicture, draw_series
from aeops.evaluation.series_zoom import ZOOM_FILE, write_zoom
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.kinds.series_scores import SeriesScores, score_series
from aeops.kinds.series_times import describe_time
from aeops.kinds.series_windows import AlarmInterval, SeriesWindows, run_bounds, window_starts
from aeops.recipe.metric_names import SERIES_ALARMS

SERIES_FILE = "series.parquet"  # in the folder of the stage prepare
MAX_ROWS = 20  # alarms in the table
MAX_ZOOMS = 2  # figures beside that of the whole series
ZOOM_WINDOWS = 6  # lengths of a window beside the alarm that is drawn
SHADES_TEXT = (
    "Grey: the training span. Orange: alarms. Between dotted lines: known anomalies. The score of a step is the mean over the "
    "windows that hold it."
)


@dataclass(frozen=True)
class TestSpan:
    """The scored part of a series.

    Attributes:
        series: all of its steps, as the stage prepare wrote them.
        rows: the places of the scored steps in it, ascending.
        scores: of these steps.
        is_test: whether a scored step is of the test, bool (n,).
        is_known: whether it is known to be anomalous, bool (n,).
    """

    series: pd.DataFrame
    rows: np.ndarray
    scores: SeriesScores
    is_test: np.ndarray
    is_known: np.ndarray


def series_results(context: EvaluationContext, folder: Path) -> dict[str, StudyResult]:
    """Return the alarms of the test span as intervals, with figures; nothing where samples are no windows of stored steps."""
    if not context.detector.spec.channels:
        return {}
    span = score_test_span(context)
    alarms = [alarm for alarm in span.scores.alarms if span.is_test[alarm.first : alarm.last + 1].any()]
    is_false = [not _meets(alarm, span) for alarm in alarms]
    has_labels = bool(context.recipe.data.labels)
    head = ["machine", "from", "to", "peak", "score", "channels"]
    rows = list(starmap(_row, _strongest(alarms, is_false)))
    if has_labels:
        metrics = _measure_labelled(context, span, alarms, sum(is_false))
        lead = _labelled_lead(metrics, len(alarms))
        head.append("known")
    else:
        metrics = _measure_unlabelled(context, span, len(alarms))
        lead = _unlabelled_lead(metrics)
        rows = [row[: len(head)] for row in rows]
    return {
        SERIES_ALARMS: StudyResult(
            title="Alarms over time",
            lead=lead,
            head=head,
            rows=rows,
            figures=_draw(folder, span, context),
            metrics=metrics,
            note=_note(context, len(alarms), has_labels),
        )
    }


def score_test_span(context: EvaluationContext) -> TestSpan:
    """Score the steps that are of no use in training, as one series."""
    series = pd.read_parquet(context.data.folder / SERIES_FILE)
    spec = context.detector.spec
    assert spec.steps is not None, "a series with channels has steps"
    rows = np.flatnonzero(~series["split"].isin(["train", "validation"]).to_numpy())
    machines, times = series["machine"].to_numpy()[rows], series["time"].to_numpy()[rows]
    values = _channel_values(series, names_of(spec.channels))[rows]
    starts = window_starts(run_bounds(machines, times, spec.steps.every), spec.steps.length, spec.steps.stride)
    windows = SeriesWindows(machines, times, values, starts, spec.steps.length, spec.steps.every)
    scores = score_series(context.detector, windows)
    is_test = (series["split"].to_numpy() == "test")[rows]
    return TestSpan(series, rows, scores, is_test, series["novelty"].to_numpy(bool)[rows])


def _channel_values(series: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Return the readings of these channels, (steps, channels)."""
    return series[list(map("channel:{}".format, names))].to_numpy(np.float64)


def _near_known(span: TestSpan) -> np.ndarray:
    """Return whether a window that holds a step may hold a known anomaly: the steps at most a window away from one."""
    windows = span.scores.windows
    near = np.zeros(len(windows.times), bool)
    known = np.flatnonzero(span.is_known)
    for offset in range(-windows.length + 1, windows.length):
        places = known + offset
        inside = places[(places >= 0) & (places < len(near))]
        of_them = known[(places >= 0) & (places < len(near))]
        same = windows.machines[inside] == windows.machines[of_them]
        close = np.abs(windows.times[inside] - windows.times[of_them]) < windows.length * windows.every
        near[inside[same & close]] = True
    return near


def _meets(alarm: AlarmInterval, span: TestSpan) -> bool:
    """Return whether an alarm has a step that shares a window with a known anomaly."""
    return bool(_near_known(span)[alarm.first : alarm.last + 1].any()) if span.is_known.any() else False


def _measure_labelled(
    context: EvaluationContext, span: TestSpan, alarms: list[AlarmInterval], false_alarms: int
) -> dict[str, Any]:
    """Return the metrics: hours of normal test steps, false alarms an hour beside the promise, known anomalies found."""
    hours = _hours(span, ~_near_known(span))
    known = _known_intervals(span)
    found = 0
    for first, last in known:
        found += any(alarm.first <= last and alarm.last >= first for alarm in alarms)
    return {
        "normal_hours": hours,
        "false_alarms": false_alarms,
        **_rate_an_hour("false_alarms_per_hour", false_alarms, hours),
        "promised_per_hour": _promised_per_hour(context, span),
        "known_anomalies": len(known),
        "known_anomalies_found": found,
        "unscored_steps": _count_unscored(span),
    }


def _measure_unlabelled(context: EvaluationContext, span: TestSpan, count: int) -> dict[str, Any]:
    """Return the metrics where nobody knows which of the `count` alarms are false: alarms an hour beside the promise."""
    hours = _hours(span, np.ones(len(span.is_test), bool))
    return {
        "test_hours": hours,
        "alarms": count,
        **_rate_an_hour("alarms_per_hour", count, hours),
        "promised_per_hour": _promised_per_hour(context, span),
        "unscored_steps": _count_unscored(span),
    }


def _hours(span: TestSpan, is_counted: np.ndarray) -> float:
    """Return the hours of the scored test steps among those that are counted, bool (n,)."""
    is_scored = np.isfinite(span.scores.step_scores) & span.is_test
    return float((is_scored & is_counted).sum()) * span.scores.windows.every / 3600


def _rate_an_hour(name: str, count: int, hours: float) -> dict[str, Any]:
    """Return alarms an hour with their 95 % interval; None where there are no hours."""
    if not hours:
        return {name: None, f"{name}_interval": None}
    low, high = poisson_interval(count)
    return {name: count / hours, f"{name}_interval": [low / hours, high / hours]}


def _promised_per_hour(context: EvaluationContext, span: TestSpan) -> float | None:
    """Return at most how many alarms an hour the threshold promises of normal steps; None where it promises no rate."""
    threshold, steps = read_threshold(context.detector.bundle["threshold"]), context.detector.spec.steps
    if threshold.promised_rate is None or steps is None:
        return None
    block_hours = threshold.method.block * steps.stride * span.scores.windows.every / 3600
    return float(threshold.promised_rate / block_hours)


def _count_unscored(span: TestSpan) -> int:
    return int((span.is_test & ~np.isfinite(span.scores.step_scores)).sum())


def _known_intervals(span: TestSpan) -> list[tuple[int, int]]:
    """Return first and last step of each run of known anomalous test steps."""
    places = np.flatnonzero(span.is_known & span.is_test)
    if not len(places):
        return []
    same = span.scores.windows.machines[places[1:]] == span.scores.windows.machines[places[:-1]]
    is_break = (np.diff(places) > 1) | ~same
    first, last = places[np.append(True, is_break)], places[np.append(is_break, True)]
    return list(zip(first.tolist(), last.tolist(), strict=True))


# ---------------------------------------------------------------- words


def _count_alarms(count: int) -> str:
    return f"{count:,} alarm{'s' if count != 1 else ''} in the test span"


def _unlabelled_lead(metrics: dict[str, Any]) -> str:
    sentence = _count_alarms(metrics["alarms"])
    if metrics["alarms"] == 1:
        sentence += "; no labels, so whether it is false is not known"
    elif metrics["alarms"]:
        sentence += f"; {NO_LABELS}"
    if metrics["alarms_per_hour"] is None:
        return f"{sentence}."
    rate, (low, high) = metrics["alarms_per_hour"], metrics["alarms_per_hour_interval"]
    sentence += (
        f". That is {format_number(rate, 4)} an hour over {metrics['test_hours']:,.0f} hours (95 % interval "
        f"{format_number(low, 4)} to {format_number(high, 4)})"
    )
    if metrics["promised_per_hour"] is not None:
        sentence += f"; of normal steps {format_number(metrics['promised_per_hour'], 4)} at most are promised"
    return f"{sentence}."


def _labelled_lead(metrics: dict[str, Any], count: int) -> str:
    sentence = f"{_count_alarms(count)}, {metrics['false_alarms']:,} of them false"
    if metrics["false_alarms_per_hour"] is None:
        return f"{sentence}."
    rate, (low, high) = metrics["false_alarms_per_hour"], metrics["false_alarms_per_hour_interval"]
    sentence += (
        f": {format_number(rate, 4)} an hour over {metrics['normal_hours']:,.0f} normal hours (95 % interval "
        f"{format_number(low, 4)} to {format_number(high, 4)})"
    )
    if metrics["promised_per_hour"] is not None:
        sentence += f", {format_number(metrics['promised_per_hour'], 4)} at most are promised"
    if metrics["known_anomalies"]:
        sentence += f". Of {metrics['known_anomalies']} known anomalies {metrics['known_anomalies_found']} were found"
    return f"{sentence}."


def _strongest(alarms: list[AlarmInterval], is_false: list[bool]) -> list[tuple[AlarmInterval, bool]]:
    """Return the MAX_ROWS alarms with the highest peaks, in the order of time."""
    pairs = sorted(zip(alarms, is_false, strict=True), key=lambda pair: -pair[0].peak_score)[:MAX_ROWS]
    return sorted(pairs, key=lambda pair: (pair[0].machine, pair[0].start))


def _plain_time(seconds: float) -> str:
    return describe_time(seconds).replace("T", " ").removesuffix("Z")


def _row(alarm: AlarmInterval, is_false: bool) -> list[str]:
    times = map(_plain_time, (alarm.start, alarm.end, alarm.peak))
    return [alarm.machine, *times, f"{alarm.peak_score:.3g}", alarm.channels_text, "no" if is_false else "yes"]


def _note(context: EvaluationContext, count: int, has_labels: bool) -> str:
    length = context.detector.shape[1]
    shown = f" The {MAX_ROWS} strongest of {count:,} alarms are listed." if count > MAX_ROWS else ""
    false = " An alarm is false where none of its steps shares a window with a known anomaly." if has_labels else ""
    return (
        f"Times are in UTC. Alarms of a machine less than {length} steps apart share windows and are one.{false} Channels: the "
        f"share of the squared residual.{shown}"
    )


# ---------------------------------------------------------------- figures


def _draw(folder: Path, span: TestSpan, context: EvaluationContext) -> list[tuple[str, str]]:
    """Draw the machine with the strongest alarm as a whole, and the strongest alarms alone."""
    alarms = sorted(span.scores.alarms, key=lambda alarm: -alarm.peak_score)
    machines = span.scores.windows.machines
    machine = alarms[0].machine if alarms else str(machines[0])
    picture = _picture(span, context, machine)
    named = f" Machine {machine}." if machine else ""
    draw_series(folder / "series.svg", picture)
    write_zoom(folder / ZOOM_FILE, picture, context.detector.shape[1])
    figures = [("series.svg", f"The series over time, with its alarms.{named} {SHADES_TEXT}")]
    own = _alarms_of(machine, alarms)[:MAX_ZOOMS]
    for number, alarm in enumerate(own, 1):
        reach = ZOOM_WINDOWS * context.detector.shape[1] * picture.every
        part = picture.zoom(alarm.peak - reach, alarm.peak + reach)
        file = f"series_alarm_{number}.svg"
        draw_series(folder / file, part)
        place = "highest" if number == 1 else "second highest"
        figures.append((file, f"The alarm with the {place} peak, at {describe_time(alarm.peak)}."))
    return figures


def _alarms_of(machine: str, alarms: Sequence[AlarmInterval]) -> list[AlarmInterval]:
    return [alarm for alarm in alarms if alarm.machine == machine]


def _picture(span: TestSpan, context: EvaluationContext, machine: str) -> SeriesPicture:
    """Return one machine with all of its steps, those of the training too."""
    series, spec = span.series, context.detector.spec
    own = series["machine"].to_numpy() == machine
    full_scores = np.full(len(series), np.nan)
    reconstruction = np.full((len(series), len(spec.channels)), np.nan)
    full_scores[span.rows], reconstruction[span.rows] = span.scores.step_scores, span.scores.reconstruction
    spoken = np.nansum(np.square(span.scores.windows.values - span.scores.reconstruction), axis=0) / _squared_spans(spec)
    places = np.sort(np.argsort(-spoken, kind="stable")[:MAX_CHANNELS])
    names = [spec.channels[place].name for place in places.tolist()]
    values = _channel_values(series, names)
    return SeriesPicture(
        times=series["time"].to_numpy()[own],
        every=span.scores.windows.every,
        channels=names,
        values=values[own],
        reconstruction=reconstruction[own][:, places],
        scores=full_scores[own],
        threshold=span.scores.threshold,
        is_training=(series["split"].to_numpy() == "train")[own],
        is_known=series["novelty"].to_numpy(bool)[own],
        alarms=_alarms_of(machine, span.scores.alarms),
    )


def _squared_spans(spec: Any) -> np.ndarray:
    low, high = spec.value_range
    return np.asarray(np.square((high - low).reshape(-1)), np.float64)
