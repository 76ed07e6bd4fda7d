"""page.html: the last months of a recipe on one self-contained page. Templates and look are those of aeops/report.

To change what it says: aeops/report/templates/monitoring.html.j2; what it draws: figures.py.
"""

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from aeops.drawing.svg import inline, theme_css
from aeops.files import atomic_write
from aeops.monitoring import charts
from aeops.monitoring.daily_counts import Observed, Reign
from aeops.monitoring.eprocess import confidence_sequence
from aeops.monitoring.ranks import Cuts
from aeops.monitoring.retrains import Retrain
from aeops.monitoring.signals import Course, brief, promised
from aeops.recipe.monitoring import ALARM_RATE, MonitorSpec
from aeops.report.html_template import environment

BAND_LEVEL = 0.05
ALT = {
    "alarm_rate": "Share of samples flagged on each day, the rate since the promotion with its band, and the promised rate.",
    "evidence": "Evidence of a change of each signal over time on a logarithmic scale, with the line at which it is an alarm.",
    "volume": "Bars: samples scored on each day.",
}


@dataclass(frozen=True)
class Scene:
    """All that the page tells.

    Attributes:
        verdict: verdict.json.
        about: the recipe's.
        past: every row of history.parquet.
    """

    verdict: dict[str, Any]
    about: str
    spec: MonitorSpec
    reign: Reign
    observed: Observed
    cuts: dict[str, list[Cuts]]
    courses: dict[str, Course]
    past: pa.Table
    retrains: Sequence[Retrain]


def write_page(out: Path, scene: Scene) -> None:
    """Write the page."""
    text = (
        environment()
        .get_template("monitoring.html.j2")
        .render(
            verdict=scene.verdict,
            about=scene.about,
            spec=scene.spec,
            since=None if scene.reign.since is None else f"{scene.reign.since:%Y-%m-%d %H:%M}",
            alarms=[one for one in scene.verdict["signals"] if one["verdict"] == "alarm"],
            samples=sum(tally["samples"] for by_version in scene.observed.tallies.values() for tally in by_version.values()),
            retrains=list(reversed(scene.retrains))[:12],
            figures=drawn(scene),
            odds=odds,
            theme=theme_css(),
        )
    )
    atomic_write(out, text)


def odds(log10_e: float) -> str:
    """Evidence as odds."""
    return f"{brief(log10_e * np.log(10))} : 1"


def drawn(scene: Scene) -> dict[str, Markup]:
    """The figures, ready to stand in the page; none where nothing was scored."""
    tallies = scene.observed.tallies
    if not tallies:
        return {}
    champions = {day: max(by_version, key=lambda one: by_version[one]["samples"]) for day, by_version in tallies.items()}
    days = charts.Days(sorted(tallies), champions, [one.moment for one in scene.retrains])
    of_day = [
        (day, by_version[version]["alarms"], by_version[version]["samples"])
        for day, by_version in sorted(tallies.items())
        for version in sorted(by_version)
    ]
    promise = promised(scene.cuts[ALARM_RATE][0]) if ALARM_RATE in scene.cuts else None
    with tempfile.TemporaryDirectory(prefix="ae-page-") as folder:
        files = {name: Path(folder) / f"{name}.svg" for name in ALT}
        charts.draw_alarm_rate(files["alarm_rate"], days, of_day, promise, band(scene))
        charts.draw_evidence(files["evidence"], days, scene.courses, former(scene, days.first), scene.spec.level)
        charts.draw_volume(files["volume"], days, {day: scene.observed.samples_on(day) for day in tallies}, scene.spec.volume)
        return {name: inline(file.read_text(encoding="utf-8"), name, ALT[name]) for name, file in files.items()}


def band(scene: Scene) -> tuple[list[date], np.ndarray, np.ndarray, np.ndarray]:
    """The champion's alarm rate since its promotion after each day, and its confidence sequence."""
    days, counts = scene.observed.days_of(scene.reign)
    alarms, samples = np.cumsum(counts, axis=0).T
    low, high = confidence_sequence(alarms, samples, BAND_LEVEL)
    return days, alarms / np.maximum(samples, 1), low, high


def former(scene: Scene, first: date) -> dict[str, dict[str, list[tuple[datetime, float]]]]:
    """reign -> test -> what each look at a former champion found, in order of time."""
    found: dict[str, dict[str, list[tuple[datetime, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in scene.past.select(["as_of", "version", "promoted", "signal", "log10_e"]).to_pylist():
        is_former = (row["version"], row["promoted"]) != (scene.reign.version, scene.reign.promoted)
        if is_former and row["log10_e"] is not None and row["as_of"].date() >= first:
            found[row["promoted"]][row["signal"]].append((row["as_of"], row["log10_e"]))
    return found
