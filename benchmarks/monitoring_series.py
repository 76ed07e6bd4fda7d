"""How often monitoring cries wolf over a series whose scores depend on each other, and how soon it notices a change.

    python benchmarks/monitoring_series.py    # writes benchmarks/records/monitoring_series.json and the section that quotes it

A stream is a series with a memory: an autoregression, standard normal at each step. The score of a window is the mean of its
squares, its code their mean. A calibration of its own comes first, then the days that are watched. Beside the blocks that
monitoring counts, each window is counted as if it were drawn alone.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, replace_section, save_and_print, update_docs
from scipy.signal import lfilter

from ae_models.conformal_thresholds import BlockConformalThreshold
from ae_models.intervals import clopper_pearson
from aeops.drawing.words import format_share
from aeops.evaluation.reference import CalibrationReference
from aeops.kinds.series_blocks import BlockRule
from aeops.monitoring.block_counts import BlockKey, BlockSums, bin_blocks
from aeops.monitoring.daily_counts import DailyCounts
from aeops.monitoring.evidence import compute_evidence
from aeops.monitoring.ranks import assign_bins, even_ranks, make_bins
from aeops.monitoring.reference_bins import make_test_bins
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, CODE_SIGNAL, SCORE_SIGNAL, MonitorSpec
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "monitoring_series.json", ROOT / "docs" / "monitoring.md"
BEGIN, END = "<!-- series: written by `python benchmarks/monitoring_series.py` -->", "<!-- series: end -->"
RULE = BlockRule(every=300, length=32, stride=4, windows=16)
CALIBRATION, DAYS, CHANGE = 6_400, 90, 30  # steps; days that are watched, and the day on which a change comes
STEPS_A_DAY = 288
BLOCK_STEPS = RULE.windows * RULE.stride
THRESHOLD = BlockConformalThreshold(0.05, RULE.windows)
LEVEL, USUAL = 0.01, MonitorSpec().level  # of the false alarms, and of the delays
MEMORIES = (5, 32, 128)  # steps after which a deviation has faded to 1 / e
RISES = (1.25, 1.5)  # of the deviation of the steps
TESTS = (ALARM_RATE_SIGNAL, SCORE_SIGNAL, CODE_SIGNAL)
NAIVE = "scores, each window counted"
FIRST_DAY = date(2026, 1, 1)


@dataclass(frozen=True)
class Windows:
    """Score and code of windows in the order of time, (n,) each."""

    score: np.ndarray
    code: np.ndarray

    def part(self, rows: slice) -> "Windows":
        """Return some of the windows."""
        return Windows(self.score[rows], self.code[rows])


def draw_windows(memory: float, random: np.random.Generator, rise: float = 1.0) -> tuple[Windows, Windows]:
    """Return the windows of calibration, and those that end later; the steps deviate by `rise` times as much from `CHANGE` on."""
    steps, start = CALIBRATION + DAYS * STEPS_A_DAY, int(10 * memory)
    decay = float(np.exp(-1 / memory))
    values = lfilter([np.sqrt(1 - decay**2)], [1, -decay], random.normal(size=start + steps))[start:]
    values[CALIBRATION + (CHANGE - 1) * STEPS_A_DAY :] *= rise
    views = np.lib.stride_tricks.sliding_window_view(values, RULE.length)[:: RULE.stride]
    windows = Windows(np.square(views).mean(axis=1), views.mean(axis=1))
    count = CALIBRATION // RULE.stride
    return windows.part(slice(0, count - RULE.length // RULE.stride)), windows.part(slice(count, None))


def block_evidence(calibration: Windows, watched: Windows) -> dict[str, np.ndarray]:
    """Return log E of each test after each day with a block, as monitoring computes it."""
    count = len(calibration.score)
    machines, numbers = RULE.number(None, count)
    reference = CalibrationReference(
        calibration.score,
        np.zeros(count),
        np.zeros(count),
        calibration.code[:, np.newaxis],
        THRESHOLD,
        "0" * 64,
        blocks=RULE,
        machines=np.array(machines),
        block_numbers=np.array(numbers),
    )
    blocks: dict[BlockKey, BlockSums] = {}
    for number in range(len(watched.score) // RULE.windows):
        own = watched.part(slice(number * RULE.windows, (number + 1) * RULE.windows))
        day = FIRST_DAY + timedelta(days=number * BLOCK_STEPS // STEPS_A_DAY)
        blocks["", number] = BlockSums(day, RULE.windows, float(own.score.max()), (float(own.code.sum()),), (0.0, 0.0))
    test_bins = make_test_bins(reference)
    counts = DailyCounts()
    counts.bins |= bin_blocks(blocks, RULE, test_bins)
    return {test: series.log_e for test, series in compute_evidence(counts, test_bins).items() if test in TESTS}


def window_evidence(calibration: Windows, watched: Windows) -> np.ndarray:
    """Return log E of the scores after each day, each window counted as if it were drawn alone."""
    column = make_bins(calibration.score, even_ranks(len(calibration.score)))
    bins = assign_bins(watched.score, str, column)
    days = np.arange(len(bins)) * RULE.stride // STEPS_A_DAY
    counts = DailyCounts()
    for day in range(DAYS):
        day_counts = np.bincount(bins[days == day], minlength=column.bin_count)
        counts.bins[SCORE_SIGNAL][FIRST_DAY + timedelta(days=day)] = day_counts[np.newaxis]
    return compute_evidence(counts, {SCORE_SIGNAL: [column]})[SCORE_SIGNAL].log_e


def false_alarms(memory: int, streams: int, random: np.random.Generator) -> dict[str, Any]:
    """Count the streams that ever alarm although nothing changes, by test."""
    counts = dict.fromkeys((*TESTS, NAIVE), 0)
    for _ in range(streams):
        calibration, watched = draw_windows(memory, random)
        logs = block_evidence(calibration, watched) | {NAIVE: window_evidence(calibration, watched)}
        for test, log_e in logs.items():
            counts[test] += bool(log_e.max() >= -np.log(LEVEL))
    tests = {}
    for test, count in counts.items():
        interval = [round(end, 4) for end in clopper_pearson(count, streams)]
        tests[test] = {"alarmed": count, "streams": streams, "interval": interval}
    return {"memory": memory, "tests": tests}


def delay(memory: int, rise: float, streams: int, random: np.random.Generator) -> dict[str, Any]:
    """Count on how many streams the scores alarm after a change, and half of them within how many days."""
    days = []
    for _ in range(streams):
        log_e = block_evidence(*draw_windows(memory, random, rise))[SCORE_SIGNAL]
        alarmed = np.flatnonzero(log_e >= -np.log(USUAL))
        days.append(float(alarmed[0]) + 2 - CHANGE if len(alarmed) else np.inf)
    half = float(np.quantile(days, 0.5, method="inverted_cdf"))
    noticed = int(np.isfinite(days).sum())
    return {
        "memory": memory,
        "rise": rise,
        "streams": streams,
        "noticed": noticed,
        "half": int(half) if np.isfinite(half) else None,
    }


def measure(streams: int, seed: int = 0) -> dict[str, Any]:
    """Return the content of benchmarks/records/monitoring_series.json."""
    random = np.random.default_rng(seed)
    alarms = [false_alarms(memory, streams, random) for memory in MEMORIES]
    delays = []
    for memory in MEMORIES:
        for rise in RISES:
            delays.append(delay(memory, rise, max(2, streams // 10), random))
    return {"level": LEVEL, "level_of_delays": USUAL, "days": DAYS, "false_alarms": alarms, "delays": delays}


# ---------------------------------------------------------------- docs/monitoring.md


def summarize(record: dict[str, Any] | None) -> str:
    """Return the section of docs/monitoring.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/monitoring_series.py` measures it."
    rows, delays = [], []
    for entry in record["false_alarms"]:
        cells = []
        for test in (*TESTS, NAIVE):
            result = entry["tests"][test]
            low, high = result["interval"]
            cells.append(f"{format_share(result['alarmed'] / result['streams'])} ({100 * low:.1f} to {100 * high:.1f})")
        rows.append([f"{entry['memory']} steps", *cells])
    streams = record["false_alarms"][0]["tests"][NAIVE]["streams"]
    for entry in record["delays"]:
        half = "not in time" if entry["half"] is None else str(entry["half"])
        rise = format_share(entry["rise"] - 1, 0)
        delays.append([f"{entry['memory']} steps", rise, half, format_share(entry["noticed"] / entry["streams"], 0)])
    return "\n\n".join(
        [
            f"{streams:,} series of each memory in which nothing changes: an autoregression with a step every five minutes, "
            f"windows of {RULE.length} steps at a stride of {RULE.stride}, {CALIBRATION:,} steps of calibration of its own, then "
            f"{record['days']} days, looked at on each. At a level of {record['level']:g} at most "
            f"{format_share(record['level'], 0)} may ever alarm; shares with 95 % intervals:",
            markdown_table(["memory", *(f"`{test}`" for test in TESTS), NAIVE], rows),
            f"A change that comes on day {CHANGE}, at the usual level of {record['level_of_delays']:g}: the steps deviate more. "
            f"Days until `{SCORE_SIGNAL}` notices it, the day itself counted:",
            markdown_table(["memory", "more by", "half of the series", f"noticed by day {record['days']}"], delays),
        ]
    )


def update_page(text: str, record: dict[str, Any] | None) -> str:
    """Return docs/monitoring.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How often monitoring cries wolf over a series with a memory.")
    parser.add_argument("--streams", type=int, default=1000, help="of each memory in which nothing changes [1000]")
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
