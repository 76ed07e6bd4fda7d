"""Write page.html: the last months of a recipe on one self-contained page. Templates and style are those of aeops/report.

To change the text: aeops/report/templates/monitoring.html.j2; to change the figures: charts.py.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from aeops.drawing.svg import inline_svg, theme_css
from aeops.drawing.words import format_odds
from aeops.files import atomic_write
from aeops.machine.scratch import ScratchFolder
from aeops.monitoring import charts
from aeops.monitoring.alarm_answers import describe_alarm_answer
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.daily_counts import DailyCounts
from aeops.monitoring.eprocess import confidence_sequence
from aeops.monitoring.evidence import EvidenceSeries, promised_alarm_rate
from aeops.monitoring.ranks import ColumnBins
from aeops.monitoring.retrains import RetrainRecord
from aeops.monitoring.verdict import MonitoringVerdict, alarm_names, find_alarms
from aeops.monitoring.verdict_text import describe_calm
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, MonitorSpec
from aeops.registry.acknowledgement import describe_answer, find_acknowledgement
from aeops.registry.ledger import LedgerEntry
from aeops.report.html_template import html_environment

BAND_LEVEL = 0.05
RETRAINS_SHOWN = 12
COLUMNS_SHOWN = 20  # of a table, those that have moved most
ALT_TEXTS = {
    "alarm_rate": "Share of samples flagged on each day, the rate since the promotion with its band, and the promised rate.",
    "evidence": "Evidence of a change of each signal over time on a logarithmic scale, with the line at which it is an alarm.",
    "volume": "Bars: samples scored on each day.",
}


@dataclass(frozen=True)
class PageContent:
    """Everything that the page shows.

    Attributes:
        verdict: verdict.json.
        about: the recipe's description.
        history: every row of history.parquet.
        entries: the recipe's ledger: what came of the retrains, and who has seen the alarms.
    """

    verdict: MonitoringVerdict
    about: str
    spec: MonitorSpec
    period: ChampionPeriod
    counts: DailyCounts
    test_bins: dict[str, list[ColumnBins]]
    evidence: dict[str, EvidenceSeries]
    history: pa.Table
    retrains: Sequence[RetrainRecord]
    entries: Sequence[LedgerEntry] = ()

    @property
    def seen(self) -> LedgerEntry | None:
        """The entry by which a person has seen the alarms; None where nobody has, or there is none."""
        names = alarm_names(self.verdict)
        return find_acknowledgement(self.entries, names) if names else None


def write_page(out: Path, content: PageContent) -> None:
    """Write the page to `out`, as a whole or not at all."""
    start, shown_retrains = content.period.start, list(reversed(content.retrains))[:RETRAINS_SHOWN]
    text = (
        html_environment()
        .get_template("monitoring.html.j2")
        .render(
            verdict=content.verdict,
            about=content.about,
            spec=content.spec,
            since=None if start is None else f"{start:%Y-%m-%d %H:%M}",
            alarms=find_alarms(content.verdict),
            calm=describe_calm(content.verdict),
            seen=content.seen,
            samples=sum(map(content.counts.samples_on, content.counts.by_version)),
            retrains=[(one, describe_answer(content.entries, one.timestamp, one.outcome)) for one in shown_retrains],
            answer=describe_alarm_answer(content.verdict, content.retrains, content.entries),
            figures=_draw_figures(content),
            columns=content.verdict.get("columns", [])[:COLUMNS_SHOWN],
            unnamed=max(0, len(content.verdict.get("columns", [])) - COLUMNS_SHOWN),
            odds=format_odds,
            odds_of=lambda value: format_odds(math.log10(value)),
            theme=theme_css(),
        )
    )
    atomic_write(out, text)


def _draw_figures(content: PageContent) -> dict[str, Markup]:
    """Return the figures as inline SVG by name; none where nothing was scored."""
    counts = content.counts
    if not counts.by_version:
        return {}
    champions, samples = {}, {}
    for day, by_version in sorted(counts.by_version.items()):
        champions[day], samples[day] = _busiest_version(by_version), counts.samples_on(day)
    timeline = charts.Timeline(list(champions), champions, [retrain.timestamp for retrain in content.retrains])
    promised_rate = None
    if ALARM_RATE_SIGNAL in content.test_bins:
        promised_rate = promised_alarm_rate(content.test_bins[ALARM_RATE_SIGNAL][0])
    with ScratchFolder() as folder:
        files = {name: Path(folder) / f"{name}.svg" for name in ALT_TEXTS}
        charts.draw_alarm_rate(files["alarm_rate"], timeline, _alarm_rows(content), promised_rate, _rate_band(content))
        past_checks = _former_champions(content, timeline.first_day)
        charts.draw_evidence(files["evidence"], timeline, content.evidence, past_checks, content.spec.level)
        charts.draw_volume(files["volume"], timeline, samples, content.spec.volume)
        return {name: inline_svg(file.read_text(encoding="utf-8"), name, ALT_TEXTS[name]) for name, file in files.items()}


def _busiest_version(by_version: Mapping[str, Mapping[str, int]]) -> str:
    return max(by_version, key=lambda version: by_version[version]["samples"])


def _alarm_rows(content: PageContent) -> list[tuple[date, int, int]]:
    """Return day, alarms and samples of each day and version; of windows that are counted by blocks, those of the champion."""
    counts = content.counts
    if counts.has_block_alarms:
        days, day_counts = counts.alarm_days(content.period)
        return [(day, alarms, samples) for day, (alarms, samples) in zip(days, day_counts.tolist(), strict=True) if samples]
    rows = []
    for day, by_version in sorted(counts.by_version.items()):
        for version in sorted(by_version):
            rows.append((day, by_version[version]["alarms"], by_version[version]["samples"]))
    return rows


def _rate_band(content: PageContent) -> charts.RateBand:
    days, counts = content.counts.alarm_days(content.period)
    alarms, samples = np.cumsum(counts, axis=0).T
    low, high = confidence_sequence(alarms, samples, BAND_LEVEL)
    return charts.RateBand(days, alarms / np.maximum(samples, 1), low, high)


def _former_champions(content: PageContent, first_day: date) -> dict[str, charts.PastChecks]:
    """Return promotion time -> test -> the evidence that each check of a former champion found, in order of time."""
    former_periods: dict[str, charts.PastChecks] = defaultdict(lambda: defaultdict(list))
    present_champion = (content.period.version, content.period.promotion_time)
    columns = ["as_of", "version", "promoted", "signal", "log10_e"]
    for row in content.history.select(columns).to_pylist():
        if (row["version"], row["promoted"]) == present_champion or row["log10_e"] is None:
            continue
        if row["as_of"].date() >= first_day:
            former_periods[row["promoted"]][row["signal"]].append((row["as_of"], row["log10_e"]))
    return former_periods
