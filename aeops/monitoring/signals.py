"""Evaluate the signals of a champion, in numbers and in plain words. A signal alarms, is quiet, or is unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from aeops.drawing.words import format_count, format_odds, format_share
from aeops.evaluation.reference import CalibrationReference
from aeops.monitoring.block_counts import MISSING_TIME
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.column_changes import ColumnChange, describe_most_moved
from aeops.monitoring.daily_counts import DailyCounts, midnight
from aeops.monitoring.evidence import EvidenceSeries, promised_alarm_rate
from aeops.monitoring.ranks import ColumnBins
from aeops.monitoring.verdict import SignalRecord
from aeops.recipe.monitoring import (
    ALARM_RATE_SIGNAL,
    CODE_SIGNAL,
    INPUT_SIGNAL,
    SCORE_SIGNAL,
    STALE_SIGNAL,
    TEST_SIGNALS,
    VOLUME_SIGNAL,
    MonitorSpec,
)

QUIET, ALARM, UNKNOWN = "quiet", "alarm", "unknown"
RECENT_DAYS = 7  # days with samples that the description of a change covers
MIN_SAMPLES = 100  # before a test says that nothing has changed: fewer would show the grossest change alone
MAX_LOG = 690.0  # largest logarithm whose number is written: a float holds no more


@dataclass(frozen=True)
class Signal:
    """The result of one test or rule.

    Attributes:
        verdict: QUIET, ALARM or UNKNOWN.
        message: the result in words.
        samples: number of predictions it rests on; None for a signal that rests on none.
        e_value: evidence of a change now; None for a rule, or where unknown.
        highest_e_value: the highest evidence since the promotion; None for a rule, or where unknown.
        log10_e: `e_value` as a power of ten, which no float bounds.
        level: it alarms once `highest_e_value` has passed 1 / level; None for a rule.
        since: the day on which it did; None where it did not.
    """

    name: str
    verdict: str
    message: str
    samples: int | None = None
    e_value: float | None = None
    highest_e_value: float | None = None
    log10_e: float | None = None
    level: float | None = None
    since: str | None = None

    def to_dict(self) -> SignalRecord:
        """Return the signal as verdict.json and history.parquet hold it."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "says": self.message,
            "samples": self.samples,
            "e_value": self.e_value,
            "highest": self.highest_e_value,
            "log10_e": self.log10_e,
            "level": self.level,
            "since": self.since,
        }


# ---------------------------------------------------------------- tests


def evaluate_tests(
    reference: CalibrationReference | None,
    counts: DailyCounts,
    test_bins: dict[str, list[ColumnBins]],
    evidence: dict[str, EvidenceSeries],
    spec: MonitorSpec,
    period: ChampionPeriod,
    past_alarms: dict[str, str],
    changes: Sequence[ColumnChange] = (),
) -> list[Signal]:
    """Return a signal for each test.

    Args:
        reference: of the champion; None where it was registered without one.
        counts: of the predictions.
        test_bins: of the tests that have a reference.
        evidence: of the tests that have a reference and data.
        spec: the recipe's section `monitor`.
        period: of the champion.
        past_alarms: test -> the day since which it alarms by earlier checks of this period: an alarm stays.
        changes: of the columns of a table, the one that has moved most first; none of other samples.
    """
    signals = []
    unit = _counted_unit(reference)
    for test in TEST_SIGNALS:
        if test in evidence:
            signals.append(
                _evaluate_test(
                    test,
                    evidence[test],
                    counts,
                    test_bins[test],
                    spec.level,
                    period,
                    past_alarms.get(test),
                    unit,
                    changes,
                )
            )
        elif test in past_alarms:
            message = f"an alarm since {past_alarms[test]}; what was scored then is no longer there"
            signals.append(Signal(test, ALARM, message, level=spec.level, since=past_alarms[test]))
        else:
            signals.append(Signal(test, UNKNOWN, _unknown_reason(test, reference, counts, test_bins), level=spec.level))
    return signals


def _counted_unit(reference: CalibrationReference | None) -> str:
    """Return what is counted, in words."""
    return "samples" if reference is None or reference.blocks is None else reference.blocks.unit


def _unknown_reason(
    test: str, reference: CalibrationReference | None, counts: DailyCounts, test_bins: dict[str, list[ColumnBins]]
) -> str:
    if reference is None:
        return "the champion was registered without a reference, or its MLflow run was deleted: its next retrain keeps one"
    if test == ALARM_RATE_SIGNAL and reference.rank is None:
        if reference.blocks is not None:
            return "the threshold judges windows, which depend on each other, and no blocks of them: the scores are tested"
        return "the threshold is no calibration score, so its alarms follow no law that could be tested: the scores are"
    if test not in test_bins:
        return f"{len(reference.score)} calibration samples are too few to compare with"
    if reference.blocks is not None and (nameless := counts.incomplete_counts[MISSING_TIME]):
        return f"{nameless:,} windows were scored without the time of their steps: send readings, or files of them"
    if reference.blocks is not None and counts.blocks:
        return f"none of {reference.blocks.unit} is whole yet: {len(counts.blocks):,} have begun since the promotion"
    if counts.incomplete_counts[test]:
        return f"none of {counts.incomplete_counts[test]:,} predictions holds what this signal looks at, as older ones do not"
    return "nothing scored since the promotion, by the service or in batches"


def _evaluate_test(
    test: str,
    evidence: EvidenceSeries,
    counts: DailyCounts,
    columns: list[ColumnBins],
    level: float,
    period: ChampionPeriod,
    past_alarm: str | None,
    unit: str,
    changes: Sequence[ColumnChange],
) -> Signal:
    since = past_alarm or _first_alarm_day(evidence, level)
    sample_count = _count_samples(counts.bins[test])
    current_log_e, highest_log_e = float(evidence.log_e[-1]), float(evidence.log_e.max())
    change = _describe_change(test, counts, evidence, columns, period, unit, changes)
    message = f"{change}; {_describe_evidence(current_log_e, highest_log_e, level, since)}"
    verdict = QUIET
    if since:
        verdict = ALARM
    elif sample_count < MIN_SAMPLES:
        verdict = UNKNOWN
        message = f"too few {unit} to tell: {sample_count:,} since the promotion, and {MIN_SAMPLES} are needed; {message}"
    return Signal(
        test,
        verdict,
        message,
        samples=sample_count,
        e_value=_round_e_value(current_log_e),
        highest_e_value=_round_e_value(highest_log_e),
        log10_e=round(float(current_log_e / np.log(10)), 3),
        level=level,
        since=since,
    )


def _count_samples(by_day: Mapping[date, np.ndarray]) -> int:
    """Return how many values were counted, in the column that has most."""
    return int(np.sum([bin_counts.sum(axis=1) for bin_counts in by_day.values()], axis=0).max())


def _first_alarm_day(evidence: EvidenceSeries, level: float) -> str | None:
    indices = np.flatnonzero(evidence.log_e >= -np.log(level))
    if not len(indices):
        return None
    first_day: date = evidence.days[indices[0]]
    return first_day.isoformat()


def _round_e_value(log_e: float) -> float:
    return float(f"{np.exp(min(log_e, MAX_LOG)):.4g}")


def _describe_evidence(current_log_e: float, highest_log_e: float, level: float, since: str | None) -> str:
    odds = f"evidence {format_log_odds(current_log_e)} for a change"
    if since is None:
        return f"{odds}, {format_log_odds(-np.log(level))} would be an alarm"
    peak = "" if current_log_e >= -np.log(level) else f" (at its highest {format_log_odds(highest_log_e)})"
    return f"{odds}{peak}, an alarm since {since}"


def format_log_odds(log_e: float) -> str:
    """Return exp(`log_e`) as `aeops.drawing.words.format_odds` writes it."""
    return format_odds(float(log_e / np.log(10)))


# ---------------------------------------------------------------- changes in words


def _describe_change(
    test: str,
    counts: DailyCounts,
    evidence: EvidenceSeries,
    columns: list[ColumnBins],
    period: ChampionPeriod,
    unit: str,
    changes: Sequence[ColumnChange],
) -> str:
    if test == ALARM_RATE_SIGNAL:
        return _describe_alarm_rate(counts, columns, period, unit)
    if test == INPUT_SIGNAL and changes:
        return f"of {format_count(len(changes), 'column')}, on the last {RECENT_DAYS} days: {describe_most_moved(changes)}"
    recent_counts = np.sum([counts.bins[test][day] for day in evidence.days[-RECENT_DAYS:]], axis=0)
    if test == SCORE_SIGNAL:
        return f"of the scores of the last {RECENT_DAYS} days {_describe_shift(recent_counts[0], columns[0])}"
    index = _most_shifted(recent_counts, columns)
    shift = _describe_shift(recent_counts[index], columns[index])
    if test == CODE_SIGNAL:
        return f"of the code's {len(columns)} numbers no. {index + 1} has moved most: of it {shift}"
    assert test == INPUT_SIGNAL
    name = ("mean", "standard deviation")[index]
    return f"of the samples' values the {name} has moved most: of it {shift}"


def _describe_alarm_rate(counts: DailyCounts, columns: list[ColumnBins], period: ChampionPeriod, unit: str) -> str:
    _, daily_counts = counts.alarm_days(period)
    alarms, samples = daily_counts.sum(axis=0)
    recent_alarms, recent_samples = daily_counts[-RECENT_DAYS:].sum(axis=0)
    rate, promised_rate = format_share(alarms / samples, 2), format_share(promised_alarm_rate(columns[0]), 2)
    message = (
        f"{alarms:,} of {samples:,} {unit} flagged, {rate} where {promised_rate} is promised; "
        f"{recent_alarms:,} of {recent_samples:,} on the last {RECENT_DAYS} days"
    )
    if unlike_count := counts.count_unlike(period):
        message += f"; {unlike_count:,} are unlike the training's samples, such as blank or out of range"
    return message


def _bin_shares(counts: np.ndarray, column: ColumnBins) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of new values in each bin, and the expected share."""
    return counts / counts.sum(), column.gaps / column.gaps.sum()


def _most_shifted(counts: np.ndarray, columns: list[ColumnBins]) -> int:
    """Return the column whose shares are furthest from the expected ones, in total variation."""
    distances = []
    for column_counts, column in zip(counts, columns, strict=True):
        new_shares, expected_shares = _bin_shares(column_counts, column)
        distances.append(np.abs(new_shares - expected_shares).sum())
    return int(np.argmax(distances))


def _describe_shift(counts: np.ndarray, column: ColumnBins) -> str:
    """Describe the bin whose share has changed most, as a part of the range between calibration values."""
    new_shares, expected_shares = _bin_shares(counts, column)
    index = int(np.argmax(np.abs(new_shares - expected_shares)))
    if index == 0:
        position = "lowest"
    elif index == column.bin_count - 1:
        position = "highest"
    else:
        position = f"{_ordinal_number(index + 1)} lowest"
    return f"{format_share(new_shares[index])} lie among the {position} {format_share(expected_shares[index], 0)} of calibration"


def _ordinal_number(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


# ---------------------------------------------------------------- rules


def evaluate_age(spec: MonitorSpec, period: ChampionPeriod, now: datetime) -> Signal:
    """Return an alarm where the champion is older than `stale_after_days`."""
    if period.start is None:
        return Signal(STALE_SIGNAL, QUIET, "the clock is behind the ledger's, so no time has passed since the promotion")
    days = (now - period.start) / timedelta(days=1)
    message = f"champion {period.version} was promoted {days:.1f} days ago; {spec.stale_after_days:g} are allowed"
    if days <= spec.stale_after_days:
        return Signal(STALE_SIGNAL, QUIET, message)
    since = (period.start + timedelta(days=spec.stale_after_days)).date().isoformat()
    return Signal(STALE_SIGNAL, ALARM, message, since=since)


def evaluate_volume(spec: MonitorSpec, counts: DailyCounts, period: ChampionPeriod, now: datetime) -> Signal:
    """Check the volume of the last whole day, and silence; days before monitoring began are not judged."""
    midnight_today, bounds = midnight(now), spec.volume
    current_day = midnight_today.date()
    yesterday_samples = counts.samples_on((midnight_today - timedelta(days=1)).date())
    monitored_days = (current_day - _first_monitored_day(counts, period, current_day)).days - 1  # whole days
    silent_days = _count_silent_days(counts, midnight_today, bounds.silent_days)
    is_silent = silent_days >= bounds.silent_days and counts.samples_on(current_day) == 0
    silence_message = f"no sample scored in {bounds.silent_days} whole days"
    message = f"{format_count(yesterday_samples, 'sample')} on the last whole day"
    if is_silent and monitored_days >= bounds.silent_days:
        return Signal(VOLUME_SIGNAL, ALARM, silence_message, samples=0)
    if monitored_days >= 1 and bounds.min is not None and yesterday_samples < bounds.min:
        return Signal(VOLUME_SIGNAL, ALARM, f"{message}; at least {bounds.min:,.0f} are usual", samples=yesterday_samples)
    if bounds.max is not None and yesterday_samples > bounds.max:
        return Signal(VOLUME_SIGNAL, ALARM, f"{message}; at most {bounds.max:,.0f} are usual", samples=yesterday_samples)
    if is_silent:
        return Signal(VOLUME_SIGNAL, UNKNOWN, f"{silence_message}, and the champion has not been watched for as long", samples=0)
    limits = []
    if bounds.min is not None:
        limits.append(f"at least {bounds.min:,.0f}")
    if bounds.max is not None:
        limits.append(f"at most {bounds.max:,.0f}")
    return Signal(VOLUME_SIGNAL, QUIET, f"{message}; {' and '.join(limits) or 'any number'} will do", samples=yesterday_samples)


def _first_monitored_day(counts: DailyCounts, period: ChampionPeriod, current_day: date) -> date:
    first_day_candidates = list(counts.by_version)
    if period.start is not None:
        first_day_candidates.append(period.first_day)
    return min(first_day_candidates, default=current_day)


def _count_silent_days(counts: DailyCounts, midnight_today: datetime, limit: int) -> int:
    """Return how many whole days without a sample lie before today, up to `limit`."""
    for days_back in range(1, limit + 1):
        if counts.samples_on((midnight_today - timedelta(days=days_back)).date()):
            return days_back - 1
    return limit
