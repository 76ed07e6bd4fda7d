"""The figures of the page, over the same days one below the other. Each function writes one SVG file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from aeops.drawing.palette import GRID, INK, KNN, LABELS, MODEL, MUTED, NOVELTY, PCA
from aeops.drawing.style import WIDE, drawing
from aeops.monitoring.daily_counts import midnight
from aeops.monitoring.signals import Course, ten_to
from aeops.recipe.monitoring import ALARM_RATE, CODES, INPUTS, SCORES, VolumeSpec

COLOURS = {ALARM_RATE: NOVELTY, SCORES: MODEL, CODES: PCA, INPUTS: KNN}
SPANS = (LABELS[0], LABELS[3], LABELS[4], LABELS[7])  # champions, one after the other
TOP = 12.0  # powers of ten of evidence that are shown: beyond, nobody doubts
DAY = timedelta(days=1)
TICKS = 9
Looks = Mapping[str, list[tuple[datetime, float]]]  # test -> moment and power of ten of each look


class Days:
    """What all figures share: the days shown, who was champion on each, and when retrains were started."""

    def __init__(self, days: Sequence[date], champions: Mapping[date, str], retrains: Iterable[datetime]) -> None:
        self.first, self.last = (min(days), max(days)) if days else (date.today(), date.today())
        self.champions = champions
        self.retrains = [moment for moment in retrains if self.first <= moment.date() <= self.last]

    def spans(self) -> list[tuple[date, date, str]]:
        """First and last day of each champion that answered, in order."""
        found: list[tuple[date, date, str]] = []
        for day in sorted(self.champions):
            if found and found[-1][2] == self.champions[day]:
                found[-1] = (found[-1][0], day, found[-1][2])
            else:
                found.append((day, day, self.champions[day]))
        return found


@contextmanager
def over_days(file: Path, height: float, days: Days, named: bool = False) -> Iterator[Axes]:
    """Axes over the days, with the champions as coloured spans (`named`: with their versions) and the retrains as marks."""
    with drawing(file, WIDE, height) as [axes]:
        assert isinstance(axes.figure, Figure)
        axes.figure.set_layout_engine("none")  # so that the days lie one below the other
        axes.set_position((0.098, 0.165, 0.882, 0.73 if named else 0.79))
        yield axes
        for place, (first, last, version) in enumerate(days.spans()):
            left, right, colour = number(first), number(last) + 1, SPANS[place % len(SPANS)]
            axes.axvspan(left, right, color=colour, alpha=0.09, linewidth=0, zorder=0)
            if named:
                middle, over = (left + right) / 2, axes.get_xaxis_transform()
                axes.text(middle, 1.03, f"version {version}", color=colour, ha="center", va="bottom", transform=over)
        for moment in days.retrains:
            x = place_of(moment)
            axes.axvline(x, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
            axes.plot(x, 1.0, "v", color=INK, markersize=6, transform=axes.get_xaxis_transform(), clip_on=False)
        axes.set_xlim(number(days.first), number(days.last) + 1)
        name_days(axes, days)


def name_days(axes: Axes, days: Days) -> None:
    """At most `TICKS` dates along the bottom, whole days apart; the first of a year with its year."""
    count = (days.last - days.first).days + 1
    shown = [days.first + place * DAY for place in range(0, count, -(-count // TICKS))]
    years = [place == 0 or day.year != shown[place - 1].year for place, day in enumerate(shown)]
    labels = [f"{day.day} {day:%b}" + (f"\n{day.year}" if new else "") for day, new in zip(shown, years, strict=True)]
    axes.set_xticks([number(day) + 0.5 for day in shown], labels)


def number(day: date) -> float:
    """Where a day begins on the axis."""
    return float(day.toordinal())


def place_of(moment: datetime) -> float:
    start = midnight(moment)
    return number(start.date()) + (moment - start) / DAY


def places(days: Sequence[date]) -> np.ndarray:
    """Noon of each day: where its value stands."""
    return np.array([number(day) + 0.5 for day in days])


def draw_alarm_rate(
    file: Path,
    days: Days,
    of_day: Sequence[tuple[date, int, int]],
    promise: float | None,
    band: tuple[Sequence[date], np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """The share of flagged samples on each day, and the champion's rate since its promotion with its band.

    Args:
        of_day: day, alarms, samples; one a day and version.
        promise: the rate that the threshold keeps; None: no line.
        band: days, rate since the promotion, lower and upper end.
    """
    with over_days(file, 3.1, days, named=True) as axes:
        own, rate, low, high = band
        x, y = places([day for day, _, _ in of_day]), np.array([alarms / samples for _, alarms, samples in of_day])
        if len(own):
            axes.fill_between(places(own), low, high, color=MODEL, alpha=0.20, linewidth=0, label="since the promotion, 95 %")
            axes.plot(places(own), rate, color=MODEL)
        axes.plot(x, y, marker="o", markersize=3.2, linestyle="none", color=NOVELTY, label="each day")
        if promise is not None:
            axes.axhline(promise, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"promised {promise:.2%}")
        top = max([*y, *(rate if len(own) else []), promise or 0.0, 1e-4])
        axes.set(ylim=(0, min(1.0, 1.25 * top)), ylabel="share flagged")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}" if value == 0 else f"{100 * value:.3g} %")
        axes.legend(loc="upper left", ncols=3)


def draw_evidence(
    file: Path,
    days: Days,
    courses: Mapping[str, Course],
    former: Mapping[str, Looks],
    level: float,
) -> None:
    """The evidence of each test over time, on a logarithmic scale, with the line at which it is an alarm.

    Args:
        courses: of the present champion.
        former: reign -> test -> (moment, power of ten) of each look at a former champion.
    """
    limit = -np.log10(level)
    with over_days(file, 3.1, days) as axes:
        for test, colour in COLOURS.items():
            label = test.replace("_", " ")
            for reign in former.values():
                points = reign.get(test, [])
                x = [place_of(moment) for moment, _ in points]
                axes.plot(x, clipped([power for _, power in points]), color=colour, linewidth=1.2, alpha=0.75)
            if test in courses:
                own = courses[test]
                axes.plot(places(own.days), clipped(own.log_e / np.log(10)), color=colour, label=label, marker=dot(own.days))
        axes.axhline(limit, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"alarm: {1 / level:,.0f} to 1")
        axes.set(ylim=(-2.4, TOP + 0.6), ylabel="evidence of a change")
        axes.yaxis.set_major_locator(FixedLocator([-2, 0, 3, 6, 9, 12]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(as_odds))
        axes.legend(loc="upper left", ncols=5)


def clipped(powers: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(powers, dtype=np.float64), -2.3, TOP)


def dot(days: Sequence[date]) -> str:
    """A single day is no line: it is drawn as a point."""
    return "o" if len(days) == 1 else ""


def as_odds(power: float, _: int | None = None) -> str:
    words = {-2: "1 : 100", 0: "1 : 1", 3: "1,000 : 1"}
    return words.get(round(power), f"{ten_to(power)} : 1")


def draw_volume(file: Path, days: Days, samples: Mapping[date, int], bounds: VolumeSpec) -> None:
    """How many samples were scored on each day, and how many are usual."""
    with over_days(file, 2.1, days) as axes:
        count = (days.last - days.first).days + 1
        values = [samples.get(days.first + place * DAY, 0) for place in range(count)]
        edges = number(days.first) + np.arange(count + 1)
        axes.stairs(values, edges, fill=True, color=MUTED, alpha=0.8)  # one path, where bars would be one a day
        for bound in (bounds.min, bounds.max):
            if bound is not None:
                axes.axhline(bound, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set(ylabel="samples a day", ylim=(0, None))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="x")
        axes.spines["left"].set_color(GRID)
