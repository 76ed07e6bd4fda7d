"""Draw the figures of the monitoring page, over the same days one below the other. Each function writes one SVG file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from aeops.drawing.palette import (
    GRID_COLOUR,
    KNN_COLOUR,
    LABEL_COLOURS,
    MODEL_COLOUR,
    MUTED_COLOUR,
    NOVELTY_COLOUR,
    PCA_COLOUR,
    TEXT_COLOUR,
)
from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.drawing.words import format_odds
from aeops.monitoring.daily_counts import midnight
from aeops.monitoring.evidence import EvidenceSeries
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL, SCORE_SIGNAL, VolumeSpec

TEST_COLOURS = {ALARM_RATE_SIGNAL: NOVELTY_COLOUR, SCORE_SIGNAL: MODEL_COLOUR, CODE_SIGNAL: PCA_COLOUR, INPUT_SIGNAL: KNN_COLOUR}
SPAN_COLOURS = (LABEL_COLOURS[0], LABEL_COLOURS[3], LABEL_COLOURS[4], LABEL_COLOURS[7])  # champions, one after the other
MAX_POWER = 12.0  # powers of ten of evidence that are shown: beyond, nobody doubts
DAY = timedelta(days=1)
MAX_TICKS = 9
DASHED_LINE, DOTTED_LINE = (0, (4, 2)), (0, (1, 2))
PastChecks = dict[str, list[tuple[datetime, float]]]  # test -> time and power of ten of each check


@dataclass(frozen=True)
class RateBand:
    """The champion's alarm rate since its promotion after each day, with a confidence sequence; arrays are (days,)."""

    days: Sequence[date]
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Timeline:
    """The days that all figures show, who was champion on each, and when retrains were started."""

    def __init__(self, days: Sequence[date], champions: Mapping[date, str], retrains: Iterable[datetime]) -> None:
        if days:
            self.first_day, self.last_day = min(days), max(days)
        else:
            self.first_day = self.last_day = date.today()
        self.champions = champions
        self.retrains = []
        for timestamp in retrains:
            if self.first_day <= timestamp.date() <= self.last_day:
                self.retrains.append(timestamp)

    @property
    def day_count(self) -> int:
        """Number of days from the first to the last one."""
        return (self.last_day - self.first_day).days + 1

    def spans(self) -> list[tuple[date, date, str]]:
        """Return first day, last day and version of each champion that answered, in order."""
        spans: list[tuple[date, date, str]] = []
        for day in sorted(self.champions):
            if spans and spans[-1][2] == self.champions[day]:
                spans[-1] = (spans[-1][0], day, spans[-1][2])
            else:
                spans.append((day, day, self.champions[day]))
        return spans


@contextmanager
def timeline_axes(file: Path, height: float, timeline: Timeline, name_versions: bool = False) -> Iterator[Axes]:
    """Yield axes over the days, with a coloured span for each champion and a mark for each retrain.

    Args:
        file: the SVG file to write.
        height: of the figure, in inches.
        timeline: the days.
        name_versions: write the version above each span.
    """
    with svg_axes(file, REPORT_WIDTH, height) as [axes]:
        assert isinstance(axes.figure, Figure)
        axes.figure.set_layout_engine("none")  # so that the days lie one below the other
        axes.set_position((0.098, 0.165, 0.882, 0.73 if name_versions else 0.79))
        yield axes
        for index, (first_day, last_day, version) in enumerate(timeline.spans()):
            start, end = _day_position(first_day), _day_position(last_day) + 1
            colour = SPAN_COLOURS[index % len(SPAN_COLOURS)]
            axes.axvspan(start, end, color=colour, alpha=0.09, linewidth=0, zorder=0)
            if name_versions:
                transform = axes.get_xaxis_transform()
                span_centre = (start + end) / 2
                axes.text(span_centre, 1.03, f"version {version}", color=colour, ha="center", va="bottom", transform=transform)
        for timestamp in timeline.retrains:
            x = _time_position(timestamp)
            axes.axvline(x, color=TEXT_COLOUR, linewidth=0.9, linestyle=DOTTED_LINE)
            axes.plot(x, 1.0, "v", color=TEXT_COLOUR, markersize=6, transform=axes.get_xaxis_transform(), clip_on=False)
        axes.set_xlim(_day_position(timeline.first_day), _day_position(timeline.last_day) + 1)
        _label_days(axes, timeline)


def _label_days(axes: Axes, timeline: Timeline) -> None:
    """Write at most `MAX_TICKS` dates along the bottom, whole days apart; the first of a year with its year."""
    positions, labels, previous_year = [], [], None
    for offset in range(0, timeline.day_count, -(-timeline.day_count // MAX_TICKS)):
        day = timeline.first_day + offset * DAY
        label = f"{day.day} {day:%b}"
        if day.year != previous_year:
            label += f"\n{day.year}"
        positions.append(_day_position(day) + 0.5)
        labels.append(label)
        previous_year = day.year
    axes.set_xticks(positions, labels)


def _day_position(day: date) -> float:
    """Return the beginning of a day on the axis."""
    return float(day.toordinal())


def _time_position(timestamp: datetime) -> float:
    start = midnight(timestamp)
    return _day_position(start.date()) + (timestamp - start) / DAY


def _noon_positions(days: Iterable[date]) -> np.ndarray:
    """Return the noon of each day on the axis, where its value is drawn."""
    return np.array([_day_position(day) + 0.5 for day in days])


def draw_alarm_rate(
    file: Path,
    timeline: Timeline,
    daily_rows: Sequence[tuple[date, int, int]],
    promised_rate: float | None,
    band: RateBand,
) -> None:
    """Draw the share of flagged samples on each day, and the champion's rate since its promotion with its band.

    Args:
        file: the SVG file to write.
        timeline: the days.
        daily_rows: day, alarms, samples; one a day and version.
        promised_rate: the rate that the threshold keeps; None: no line.
        band: the champion's rate.
    """
    with timeline_axes(file, 3.1, timeline, name_versions=True) as axes:
        days, alarms, samples = zip(*daily_rows, strict=True)
        x, y = _noon_positions(days), np.array(alarms) / np.array(samples)
        highest_rate = max([*y, promised_rate or 0.0, 1e-4])
        if len(band.days):
            band_x, rate, low, high = _noon_positions(band.days), band.rate, band.low, band.high
            if len(band_x) == 1:  # a single day makes no line: it is drawn from its morning to its evening
                band_x = band_x[0] + np.array([-0.5, 0.5])
                rate, low, high = np.repeat([rate, low, high], 2, axis=1)
                highest_rate = max(highest_rate, *high)
            axes.fill_between(band_x, low, high, color=MODEL_COLOUR, alpha=0.20, linewidth=0, label="since the promotion, 95 %")
            axes.plot(band_x, rate, color=MODEL_COLOUR)
            highest_rate = max([highest_rate, *band.rate])
        axes.plot(x, y, marker="o", markersize=3.2, linestyle="none", color=NOVELTY_COLOUR, label="each day")
        if promised_rate is not None:
            axes.axhline(
                promised_rate, color=TEXT_COLOUR, linewidth=1.2, linestyle=DASHED_LINE, label=f"promised {promised_rate:.2%}"
            )
        axes.set(ylim=(0, min(1.0, 1.25 * highest_rate)), ylabel="share flagged")
        axes.yaxis.set_major_formatter(_format_share)
        axes.legend(loc="upper left", ncols=3)


def _format_share(value: float, _: float | None = None) -> str:
    if value == 0:
        return "0"
    return f"{100 * value:.3g} %"


def draw_evidence(
    file: Path,
    timeline: Timeline,
    evidence: Mapping[str, EvidenceSeries],
    former_champions: Mapping[str, PastChecks],
    level: float,
) -> None:
    """Draw the evidence of each test over time, on a logarithmic scale, with the line at which it is an alarm.

    Args:
        file: the SVG file to write.
        timeline: the days.
        evidence: of the present champion.
        former_champions: promotion time -> the checks of that champion.
        level: a signal alarms once its evidence has passed 1 / level.
    """
    with timeline_axes(file, 3.1, timeline) as axes:
        for test, colour in TEST_COLOURS.items():
            for past_checks in former_champions.values():
                _draw_past_checks(axes, past_checks.get(test, []), colour)
            if test in evidence:
                series = evidence[test]
                axes.plot(
                    _noon_positions(series.days),
                    _clip_powers(series.log_e / np.log(10)),
                    color=colour,
                    label=test.replace("_", " "),
                    marker="o" if len(series.days) == 1 else "",  # a single day makes no line
                )
        alarm_power = -np.log10(level)
        axes.axhline(
            alarm_power, color=TEXT_COLOUR, linewidth=1.2, linestyle=DASHED_LINE, label=f"alarm: {format_odds(alarm_power)}"
        )
        axes.set(ylim=(-2.4, MAX_POWER + 0.6), ylabel="evidence of a change")
        axes.yaxis.set_major_locator(FixedLocator([-2, 0, 3, 6, 9, 12]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(_format_power))
        axes.legend(loc="upper left", ncols=5)


def _draw_past_checks(axes: Axes, checks: Sequence[tuple[datetime, float]], colour: str) -> None:
    x, y = [], []
    for timestamp, power in checks:
        x.append(_time_position(timestamp))
        y.append(power)
    marker = "o" if len(x) == 1 else ""  # a single check makes no line
    axes.plot(x, _clip_powers(y), color=colour, linewidth=1.2, alpha=0.75, marker=marker)


def _clip_powers(log10_values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(log10_values, dtype=np.float64), -2.3, MAX_POWER)


def _format_power(power: float, _: int | None = None) -> str:
    return format_odds(power)


def draw_volume(file: Path, timeline: Timeline, samples: Mapping[date, int], bounds: VolumeSpec) -> None:
    """Draw how many samples were scored on each day, and how many are usual.

    Args:
        file: the SVG file to write.
        timeline: the days.
        samples: day -> number of samples; 0 for a day that it lacks.
        bounds: the recipe's section `monitor.volume`.
    """
    with timeline_axes(file, 2.1, timeline) as axes:
        values = [samples.get(timeline.first_day + offset * DAY, 0) for offset in range(timeline.day_count)]
        edges = _day_position(timeline.first_day) + np.arange(timeline.day_count + 1)
        axes.stairs(values, edges, fill=True, color=MUTED_COLOUR, alpha=0.8)  # one path, where bars would be one a day
        for bound in (bounds.min, bounds.max):
            if bound is not None:
                axes.axhline(bound, color=TEXT_COLOUR, linewidth=1.2, linestyle=DASHED_LINE)
        axes.set(ylabel="samples a day", ylim=(0, None))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="x")
        axes.spines["left"].set_color(GRID_COLOUR)
