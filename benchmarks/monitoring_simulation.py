"""How often monitoring cries wolf, and how soon it notices a change; see docs/monitoring.md.

    python benchmarks/monitoring_simulation.py    # writes benchmarks/records/monitoring.json and the section that quotes it

A stream is a calibration draw and the days after it. Only ranks count, so nothing is scored: under any distribution the
chances of the bins are a draw from Dirichlet(g), g as in aeops/monitoring/eprocess.py, and each day is a multinomial draw.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, replace_section, save_and_print, update_docs
from scipy.special import ndtr
from scipy.stats import binom

from ae_models.intervals import clopper_pearson
from ae_models.threshold_laws import conformal_rank
from aeops.drawing.words import format_share
from aeops.monitoring.eprocess import any_change, log_evidence, more_than, worst_of
from aeops.monitoring.ranks import even_ranks
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL, SCORE_SIGNAL, MonitorSpec
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "monitoring.json", ROOT / "docs" / "monitoring.md"
BEGIN, END = "<!-- simulation: written by `python benchmarks/monitoring_simulation.py` -->", "<!-- simulation: end -->"
CALIBRATION = 900  # samples, as the recipe digits has
RATE = 0.01  # that the threshold promises
DAYS, CHANGE = 180, 60  # days of a stream, and the day on which a change comes
LEVEL = 0.01  # of the false alarms: one in a hundred can be counted, one in a thousand hardly
USUAL = MonitorSpec().level  # of the delays: what a recipe has that does not say
COLUMNS = {SCORE_SIGNAL: 1, CODE_SIGNAL: 16, INPUT_SIGNAL: 2}
DAY, ALL = "each day by itself", "all days so far"  # what the naive test looks at
A_DAY = 100  # samples, where false alarms are counted
AT_ONCE = 25  # streams: what is computed with stays in the cache
GAPS = np.diff([0, *even_ranks(CALIBRATION), CALIBRATION + 1]).astype(np.float64)
RANK = conformal_rank(CALIBRATION, RATE)
ALARM_GAPS = np.array([RANK, CALIBRATION + 1 - RANK], dtype=np.float64)
PROMISE = ALARM_GAPS[1] / ALARM_GAPS.sum()


# ---------------------------------------------------------------- streams


def draw_counts(shares: np.ndarray, a_day: int, random: np.random.Generator, days: int) -> np.ndarray:
    """Draw counts (streams, days, bins) with the chances (streams, bins)."""
    return random.multinomial(a_day, np.repeat(shares[:, None], days, axis=1))


def unchanged(gaps: np.ndarray, streams: int, a_day: int, random: np.random.Generator) -> np.ndarray:
    return draw_counts(random.dirichlet(gaps, streams), a_day, random, DAYS)


def changed(before: np.ndarray, after: np.ndarray, a_day: int, random: np.random.Generator) -> np.ndarray:
    """Draw streams whose chances change on day `CHANGE`."""
    parts = draw_counts(before, a_day, random, CHANGE - 1), draw_counts(after, a_day, random, DAYS - CHANGE + 1)
    return np.concatenate(parts, axis=1)


def more_alarms(factor: float, streams: int, a_day: int, random: np.random.Generator) -> np.ndarray:
    """Draw streams in which the alarm rate, at first the threshold's own, is multiplied."""
    usual = random.dirichlet(ALARM_GAPS, streams)[:, 1]
    after = np.minimum(1, factor * usual)
    return changed(np.stack([1 - usual, usual], 1), np.stack([1 - after, after], 1), a_day, random)


def shifted_scores(shift: float, streams: int, a_day: int, random: np.random.Generator) -> np.ndarray:
    """Draw streams of normal scores that move by so many standard deviations."""
    calibration = np.sort(random.normal(size=(streams, CALIBRATION)), axis=1)
    ends = calibration[:, np.array(even_ranks(CALIBRATION)) - 1]

    def shares(by: float) -> np.ndarray:
        below = np.concatenate([np.zeros((streams, 1)), ndtr(ends - by), np.ones((streams, 1))], axis=1)
        return np.diff(below, axis=1)

    return changed(shares(0.0), shares(shift), a_day, random)


# ---------------------------------------------------------------- evidence, false alarms and delays


def evidence_of(counts: np.ndarray, test: str) -> np.ndarray:
    """Return log E of each stream after each day, (streams, days).

    Args:
        counts: (streams, days, bins), or (columns, streams, days, bins).
        test: one of aeops.recipe.monitoring.TEST_SIGNALS.
    """
    if test == ALARM_RATE_SIGNAL:
        return in_parts(counts, lambda part: log_evidence(part, ALARM_GAPS, more_than(PROMISE)))
    columns = [in_parts(one, lambda part: log_evidence(part, GAPS, any_change(GAPS))) for one in counts]
    return worst_of(np.stack([column.ravel() for column in columns])).reshape(columns[0].shape)


def in_parts(counts: np.ndarray, find: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function to a few streams at a time."""
    return np.concatenate([find(counts[first : first + AT_ONCE]) for first in range(0, len(counts), AT_ONCE)])


def naive_alarms(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Test every day by a one-sided binomial test at `LEVEL`; return for each stream if it ever alarms."""
    alarms, samples = counts[..., 1], counts.sum(axis=-1)
    looks = {DAY: (alarms, samples), ALL: (np.cumsum(alarms, axis=1), np.cumsum(samples, axis=1))}
    result = {}
    for name, (successes, trials) in looks.items():
        result[name] = (binom.sf(successes - 1, trials, PROMISE) <= LEVEL).any(axis=1)
    return result


def false_alarms(streams: int, seed: int) -> dict[str, Any]:
    """Count the streams that ever alarm although nothing changes, by test and by the naive test."""
    random = np.random.default_rng(seed)
    alarms = unchanged(ALARM_GAPS, streams, A_DAY, random)
    tests = {ALARM_RATE_SIGNAL: count_alarmed(has_alarmed(evidence_of(alarms, ALARM_RATE_SIGNAL), LEVEL))}
    for test, columns in COLUMNS.items():
        counts = np.stack([unchanged(GAPS, streams, A_DAY, random) for _ in range(columns)])
        tests[test] = count_alarmed(has_alarmed(evidence_of(counts, test), LEVEL))
    return {"tests": tests, "naive": {name: count_alarmed(one) for name, one in naive_alarms(alarms).items()}}


def has_alarmed(log_e: np.ndarray, level: float) -> np.ndarray:
    return np.asarray((log_e >= -np.log(level)).any(axis=1))


def count_alarmed(alarmed: np.ndarray) -> dict[str, Any]:
    """Count the streams that alarmed, with the 95 % interval of the true share."""
    count, streams = int(alarmed.sum()), len(alarmed)
    return {"alarmed": count, "streams": streams, "interval": [round(end, 4) for end in clopper_pearson(count, streams)]}


def delays(streams: int, seed: int) -> list[dict[str, Any]]:
    """Measure how many days pass until a change is noticed, the day of the alarm included."""
    random = np.random.default_rng(seed)
    rows = []
    for a_day in (100, 1000):
        for times in (2, 3, 5):
            log_e = evidence_of(more_alarms(times, streams, a_day, random), ALARM_RATE_SIGNAL)
            rows.append({"test": ALARM_RATE_SIGNAL, "change": f"{times} times the alarms", "a_day": a_day} | delay_summary(log_e))
        for shift in (0.25, 0.5):
            log_e = evidence_of(shifted_scores(shift, streams, a_day, random)[None], SCORE_SIGNAL)
            rows.append(
                {"test": SCORE_SIGNAL, "change": f"scores {shift:g} standard deviations up", "a_day": a_day}
                | delay_summary(log_e)
            )
    return rows


def delay_summary(log_e: np.ndarray) -> dict[str, Any]:
    """Return the days until half and until nine in ten of the streams that did not alarm before the change have alarmed.

    None: not before the end of the stream.
    """
    passed = log_e >= -np.log(USUAL)
    is_late = ~passed[:, : CHANGE - 1].any(axis=1)
    after = passed[is_late, CHANGE - 1 :]
    days = np.where(after.any(axis=1), after.argmax(axis=1) + 1, np.inf)
    ends = {name: quantile(days, part) for name, part in (("half", 0.5), ("nine_in_ten", 0.9))}
    return {"streams": int(is_late.sum()), "noticed": int(np.isfinite(days).sum())} | ends


def quantile(days: np.ndarray, part: float) -> int | None:
    value = float(np.quantile(days, part, method="inverted_cdf"))
    return int(value) if np.isfinite(value) else None


def measure(streams: int, seed: int = 0) -> dict[str, Any]:
    """Return the content of benchmarks/records/monitoring.json."""
    return {
        "calibration": CALIBRATION,
        "rate": RATE,
        "days": DAYS,
        "change": CHANGE,
        "a_day": A_DAY,
        "level_of_false_alarms": LEVEL,
        "level_of_delays": USUAL,
        "columns": COLUMNS,
        "false_alarms": false_alarms(streams, seed),
        "delays": delays(max(5, streams // 5), seed + 1),
    }


# ---------------------------------------------------------------- docs/monitoring.md


def summarize(record: dict[str, Any] | None) -> str:
    """Return the section of docs/monitoring.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/monitoring_simulation.py` measures it."
    alarms, level = record["false_alarms"], record["level_of_false_alarms"]
    streams = alarms["tests"][ALARM_RATE_SIGNAL]["streams"]
    rows = [[f"`{name}`", *alarm_cells(one)] for name, one in alarms["tests"].items()]
    rows += [[f"binomial test, {name}", *alarm_cells(one)] for name, one in alarms["naive"].items()]
    days = record["days"]
    return "\n\n".join(
        [
            f"{streams:,} streams in which nothing changes, each with a calibration draw of {record['calibration']} samples of "
            f"its own, {record['a_day']} samples a day, looked at on each of {days} days. At a level of {level:g} at most "
            f"{format_share(level, 0)} of them may ever alarm:",
            markdown_table(["test", "ever alarmed", "share", "95 % interval"], rows),
            "The binomial test is the usual one: so many alarms, were the promised rate the true one. It is asked again every "
            "day, and it takes the promise for the true rate, while a threshold's true rate is the luck of its calibration draw.",
            f"A change that comes on day {record['change']}, at the usual level of {record['level_of_delays']:g}. Days until "
            "it is noticed, the day itself counted:",
            markdown_table(
                ["test", "what changes", "samples a day", "half of the streams", "nine in ten", f"noticed by day {days}"],
                [delay_cells(row) for row in record["delays"]],
            ),
        ]
    )


def alarm_cells(one: dict[str, Any]) -> list[str]:
    low, high = one["interval"]
    return [f"{one['alarmed']:,}", format_share(one["alarmed"] / one["streams"]), f"{format_share(low)} to {format_share(high)}"]


def delay_cells(row: dict[str, Any]) -> list[str]:
    ends = ["not in time" if row[name] is None else str(row[name]) for name in ("half", "nine_in_ten")]
    return [f"`{row['test']}`", row["change"], f"{row['a_day']:,}", *ends, format_share(row["noticed"] / row["streams"], 0)]


def update_page(text: str, record: dict[str, Any] | None) -> str:
    """Return docs/monitoring.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How often monitoring cries wolf, and how soon it notices a change.")
    parser.add_argument("--streams", type=int, default=1000, help="in which nothing changes; a fifth, 20 or more, change [1000]")
    parser.add_argument(
        "--out", type=Path, default=RECORD, help="JSON to write; docs/monitoring.md quotes the default [%(default)s]"
    )
    parser.add_argument("--docs-only", action="store_true", help="only write docs/monitoring.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        save_and_print(args.out, measure(args.streams))
    if args.out == RECORD:
        update_docs(DOCS, RECORD, update_page)


if __name__ == "__main__":
    main()
