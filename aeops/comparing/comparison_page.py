"""Render the page of a comparison: one self-contained HTML file. Its text: aeops/report/templates/compare.html.j2."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from ae_models.spec import join_names
from aeops.comparing.comparison import VersionComparison
from aeops.comparing.same_samples import RANKED, RECONSTRUCTION, MeasuredPair
from aeops.comparing.version_facts import Difference
from aeops.drawing.svg import theme_css
from aeops.drawing.words import format_number, format_share
from aeops.report.html_template import html_environment

TOPICS = ("recipe", "data", "code", "machine")
DIGITS = {RANKED: 3, RECONSTRUCTION: 5}


def render_page(comparison: VersionComparison, now: datetime) -> str:
    """Return the page as HTML; `now` is the time of the comparison, UTC."""
    return (
        html_environment()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            versions=(comparison.first, comparison.second),
            summary=summary_sentence(comparison),
            topics=_by_topic(comparison.differences),
            measures=[(pair, *measure_texts(pair)) for pair in comparison.samples.measures],
            counts=disagreement_lines(comparison),
            cards=list(zip(comparison.samples.disagreements, comparison.pictures, strict=False)),
            time=now,
            theme=theme_css(),
        )
    )


def _by_topic(differences: Sequence[Difference]) -> dict[str, list[Difference]]:
    """Return the differences of each topic, none where there are none."""
    topics: dict[str, list[Difference]] = {}
    for topic in TOPICS:
        topics[topic] = [difference for difference in differences if difference.topic == topic]
    return topics


def summary_sentence(comparison: VersionComparison) -> str:
    """Return what the comparison comes to, in one sentence."""
    if comparison.samples.problem:
        return f"Not compared on samples: {comparison.samples.problem}."
    clauses = []
    for facts, which in ((comparison.first, "first"), (comparison.second, "second")):
        better = []
        for pair in comparison.samples.measures:
            if pair.better == which:
                better.append(pair.name)
        if better:
            clauses.append(f"{facts.name} is better by {join_names(better)}")
    rows, disagreements = comparison.samples.rows, len(comparison.samples.disagreements)
    text = "; ".join(clauses) or "No metric tells which is better"
    if not disagreements:
        return f"{text}. They decide alike about all {rows:,} test samples."
    return f"{text}. On {rows:,} test samples they decide differently about {disagreements:,}."


def measure_texts(pair: MeasuredPair) -> tuple[str, str, str, str]:
    """Return the texts of a metric: first, second, difference and its interval."""
    scale, digits, unit = 1.0, 3, ""
    if pair.is_share:
        values = format_share(pair.first, 2), format_share(pair.second, 2)
        scale, digits, unit = 100.0, 2, " points"
    else:
        values = format_number(pair.first, DIGITS[pair.name]), format_number(pair.second, DIGITS[pair.name])
        if pair.name == RECONSTRUCTION:
            scale, digits, unit = 100.0, 1, " %"
    difference = f"{_signed(scale * pair.difference, digits)}{unit}"
    if pair.interval is None:
        return *values, difference, "too few samples"
    return *values, difference, " to ".join(_signed(scale * bound, digits) for bound in pair.interval)


def _signed(value: float, digits: int) -> str:
    """Return a number with its sign; of one that is rounded to zero, none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def disagreement_lines(comparison: VersionComparison) -> list[str]:
    """Return how many samples only one version flags, of the novelty and of the normals."""
    counts = Counter((one.is_novelty, one.flagged_by) for one in comparison.samples.disagreements)
    lines = []
    for is_novelty, kind in ((True, "novelty"), (False, "normal")):
        for facts, which in ((comparison.first, "first"), (comparison.second, "second")):
            if count := counts[is_novelty, which]:
                lines.append(f"{count:,} {kind} samples flagged by {facts.name} alone")
    return lines
