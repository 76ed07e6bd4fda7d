"""Figures of a series over time: channels by name, reconstruction, score with its threshold, alarms, training span."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes

from aeops.drawing.palette import GRID_COLOUR, MODEL_COLOUR, MUTED_COLOUR, NOVELTY_COLOUR, TEXT_COLOUR
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.kinds.series_windows import AlarmInterval

MAX_CHANNELS = 6  # of a figure
TIME_BINS = 380  # along the axis: of each the lowest and the highest value are drawn, so that no spike is lost
CHANNEL_HEIGHT, SCORE_HEIGHT = 1.35, 1.6  # inches
GAP_STEPS = 1.5  # from which distance on a line breaks
MAX_NAME = 28  # characters of a channel's name


@dataclass(frozen=True)
class SeriesPicture:
    """What is drawn of one machine.

    Attributes:
        times: of the steps, seconds since 1970 UTC, (n,).
        every: seconds from one step to the next.
        channels: names, at most MAX_CHANNELS.
        values: in raw units, (n, channels).
        reconstruction: likewise; NaN where there is none.
        scores: of the steps, (n,); NaN where there is none.
        threshold: of the score.
        is_training: whether a step was trained on, bool (n,).
        is_known: whether a step is known to be anomalous, bool (n,).
        alarms: intervals of this machine.
    """

    times: np.ndarray
    every: float
    channels: Sequence[str]
    values: np.ndarray
    reconstruction: np.ndarray
    scores: np.ndarray
    threshold: float
    is_training: np.ndarray
    is_known: np.ndarray
    alarms: Sequence[AlarmInterval]

    def zoom(self, start: float, end: float) -> "SeriesPicture":
        """Return the steps from one moment to another."""
        inside = (self.times >= start) & (self.times <= end)
        alarms = [alarm for alarm in self.alarms if alarm.end >= start and alarm.start <= end]
        return SeriesPicture(
            self.times[inside],
            self.every,
            self.channels,
            self.values[inside],
            self.reconstruction[inside],
            self.scores[inside],
            self.threshold,
            self.is_training[inside],
            self.is_known[inside],
            alarms,
        )


def draw_series(file: Path, picture: SeriesPicture) -> None:
    """Draw a panel for each channel and one for the score, above each other on one axis of time."""
    rows = len(picture.channels) + 1
    height = CHANNEL_HEIGHT * len(picture.channels) + SCORE_HEIGHT + 0.35
    with svg_axes(file, REPORT_WIDTH, height, rows=rows) as panels:
        for place, axes in enumerate(panels[:-1]):
            _draw_channel(axes, picture, place)
        _draw_score(panels[-1], picture)
        first, last = picture.times[0], picture.times[-1]
        for axes in panels:
            _shade(axes, picture)
            axes.set_xlim(_date(first), _date(last + picture.every))
            locator = mdates.AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
            axes.xaxis.get_offset_text().set_color(MUTED_COLOUR)
        for axes in panels[:-1]:
            axes.tick_params(labelbottom=False)
            axes.xaxis.get_offset_text().set_visible(False)
        panels[-1].set_xlabel("time, UTC")


def _draw_channel(axes: Axes, picture: SeriesPicture, place: int) -> None:
    name = picture.channels[place]
    axes.set_title(name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…")
    times, values = _reduce(picture.times, picture.values[:, place], picture.every)
    axes.plot(times, values, color=TEXT_COLOUR, linewidth=0.8, label="readings")
    times, values = _reduce(picture.times, picture.reconstruction[:, place], picture.every)
    axes.plot(times, values, color=MODEL_COLOUR, linewidth=0.8, alpha=0.9, label="reconstruction")
    axes.locator_params(axis="y", nbins=4)
    if place == 0:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0, fontsize=8)


def _draw_score(axes: Axes, picture: SeriesPicture) -> None:
    axes.set_title("score of a step")
    times, scores = _reduce(picture.times, picture.scores, picture.every)
    axes.plot(times, scores, color=MODEL_COLOUR, linewidth=0.9)
    axes.axhline(picture.threshold, color=NOVELTY_COLOUR, linewidth=1.0, linestyle=(0, (3, 2)))
    axes.annotate(
        "threshold",
        xy=(1.0, picture.threshold),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        color=NOVELTY_COLOUR,
    )
    finite = picture.scores[np.isfinite(picture.scores)]
    if len(finite):
        low = min(float(np.quantile(finite, 0.001)), picture.threshold)
        high = max(float(finite.max()), picture.threshold)
        axes.set_ylim(low - 0.06 * (high - low or 1), high + 0.12 * (high - low or 1))
    axes.locator_params(axis="y", nbins=4)


def _shade(axes: Axes, picture: SeriesPicture) -> None:
    """Shade the training span, known anomalies and alarms."""
    for start, end in marked_spans(picture.is_training, picture.times, picture.every):
        axes.axvspan(_date(start), _date(end), color=GRID_COLOUR, alpha=0.75, linewidth=0, zorder=0)
    for alarm in picture.alarms:
        axes.axvspan(
            _date(alarm.start), _date(alarm.end + picture.every), color=NOVELTY_COLOUR, alpha=0.28, linewidth=0, zorder=0
        )
    for start, end in marked_spans(picture.is_known, picture.times, picture.every):
        for moment in (start, end):
            axes.axvline(_date(moment), color=NOVELTY_COLOUR, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)


def marked_spans(is_marked: np.ndarray, times: np.ndarray, every: float) -> list[tuple[float, float]]:
    """Return start and end of each run of marked steps; one that is short beside the axis is drawn all the same."""
    places = np.flatnonzero(is_marked)
    if not len(places):
        return []
    is_break = np.diff(places) > 1
    first, last = places[np.append(True, is_break)], places[np.append(is_break, True)]
    return list(zip(times[first].tolist(), (times[last] + every).tolist(), strict=True))


def _reduce(times: np.ndarray, values: np.ndarray, every: float) -> tuple[np.ndarray, np.ndarray]:
    """Return dates and values of a line with two points a bin of time at most, lowest and highest; NaN breaks it."""
    edges = np.linspace(times[0], times[-1] + every, TIME_BINS + 1)
    bins = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, TIME_BINS - 1)
    kept = []
    for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(bins)) + 1):
        finite = part[np.isfinite(values[part])]
        if len(finite):
            kept += sorted({int(finite[np.argmin(values[finite])]), int(finite[np.argmax(values[finite])])})
    if not kept:
        return np.array([_date(times[0])]), np.array([np.nan])
    places = np.array(kept)
    bin_length = max(GAP_STEPS * every, 2.5 * (edges[1] - edges[0]))
    breaks = np.flatnonzero(np.diff(times[places]) > bin_length) + 1
    dates = np.array(list(map(_date, times[places])))
    return np.insert(dates, breaks, dates[breaks]), np.insert(values[places].astype(float), breaks, np.nan)


def _date(seconds: float) -> float:
    """Return seconds since 1970 as matplotlib counts days."""
    return float(mdates.date2num(datetime.fromtimestamp(float(seconds), UTC)))  # type: ignore[no-untyped-call]
