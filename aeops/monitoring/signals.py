"""The signals: what each says of the champion, in numbers and in plain words. A signal alarms, is quiet, or is unknown."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from aeops.drawing.words import share
from aeops.evaluation.reference import Reference
from aeops.monitoring.daily_counts import Observed, Reign, midnight
from aeops.monitoring.eprocess import any_change, log_evidence, more_than, worst_of
from aeops.monitoring.ranks import Cuts
from aeops.recipe.monitoring import ALARM_RATE, CODES, INPUTS, SCORES, STALE, TESTS, VOLUME, MonitorSpec

QUIET, ALARM, UNKNOWN = "quiet", "alarm", "unknown"
LATELY = 7  # days with samples, of which it is said what has moved
LARGEST = 690.0  # of a logarithm whose number is told: a float holds no more


@dataclass(frozen=True)
class Signal:
    """One thing that is watched.

    Attributes:
        verdict: QUIET, ALARM or UNKNOWN.
        says: what was found, for a person.
        samples: how many predictions it rests on; None for a signal that rests on none.
        e_value, highest: evidence of a change now and at its highest since the promotion; None for a rule, or where unknown.
        log10_e: the first as a power of ten, which no float bounds.
        level: it alarms once `highest` has passed 1 / level; None for a rule.
        since: the day on which it did; None where it did not.
    """

    name: str
    verdict: str
    says: str
    samples: int | None = None
    e_value: float | None = None
    highest: float | None = None
    log10_e: float | None = None
    level: float | None = None
    since: str | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Course:
    """A test's evidence over time: log E after each of the days on which the champion scored."""

    days: list[date]
    log_e: np.ndarray


# ---------------------------------------------------------------- tests


def courses(observed: Observed, cuts: dict[str, list[Cuts]]) -> dict[str, Course]:
    """The course of each test that has a reference and data."""
    return {test: course(observed.bins[test], columns, test) for test, columns in cuts.items() if observed.bins[test]}


def course(by_day: dict[date, np.ndarray], columns: list[Cuts], test: str) -> Course:
    days = sorted(by_day)
    counts = np.stack([by_day[day] for day in days], axis=1)  # (columns, days, bins)
    logs = [log_evidence(one, cuts.gaps, alternative(test, cuts)) for one, cuts in zip(counts, columns, strict=True)]
    return Course(days, worst_of(np.stack(logs)))


def alternative(test: str, cuts: Cuts) -> Callable[[np.ndarray], np.ndarray]:
    gaps = cuts.gaps.astype(np.float64)
    return more_than(promised(cuts)) if test == ALARM_RATE else any_change(gaps)


def promised(cuts: Cuts) -> float:
    """The chance of a value in the last bin, beyond the threshold."""
    return float(cuts.gaps[-1] / cuts.gaps.sum())


def judge_tests(
    reference: Reference | None,
    observed: Observed,
    cuts: dict[str, list[Cuts]],
    found: dict[str, Course],
    spec: MonitorSpec,
    reign: Reign,
    before: dict[str, str],
) -> list[Signal]:
    """A signal for each test.

    Args:
        before: test -> the day since which an earlier look has it in alarm, of this same reign: an alarm stays.
    """
    return [
        judge(test, found[test], observed, cuts[test], spec.level, reign, before.get(test))
        if test in found
        else gone(test, spec.level, before[test])
        if test in before
        else Signal(test, UNKNOWN, why_unknown(test, reference, observed, cuts), level=spec.level)
        for test in TESTS
    ]


def gone(test: str, level: float, since: str) -> Signal:
    """An alarm of this reign whose predictions are no longer there."""
    return Signal(test, ALARM, f"an alarm since {since}; what was scored then is no longer there", level=level, since=since)


def why_unknown(test: str, reference: Reference | None, observed: Observed, cuts: dict[str, list[Cuts]]) -> str:
    if reference is None:
        return "the champion was registered without a reference: its next retrain keeps one"
    if test not in cuts:
        return f"{len(reference.score)} calibration samples are too few to compare with"
    if observed.lacking[test]:
        return f"none of {observed.lacking[test]:,} predictions holds what this signal looks at, as older ones do not"
    return "nothing scored since the promotion, by the service or in batches"


def judge(
    test: str, own: Course, observed: Observed, columns: list[Cuts], level: float, reign: Reign, before: str | None
) -> Signal:
    passed = np.flatnonzero(own.log_e >= -np.log(level))
    since = before or (own.days[passed[0]].isoformat() if len(passed) else None)
    by_day = observed.bins[test]
    lately = np.sum([by_day[day] for day in own.days[-LATELY:]], axis=0)
    says = SAYS[test](lately, columns, observed, reign)
    return Signal(
        test,
        ALARM if since else QUIET,
        f"{says}; {evidence_in_words(float(own.log_e[-1]), float(own.log_e.max()), level, since)}",
        samples=int(sum(counts[0].sum() for counts in by_day.values())),
        e_value=told(own.log_e[-1]),
        highest=told(own.log_e.max()),
        log10_e=round(float(own.log_e[-1] / np.log(10)), 3),
        level=level,
        since=since,
    )


def told(log_e: float) -> float:
    return float(f"{np.exp(min(float(log_e), LARGEST)):.4g}")


def evidence_in_words(now: float, highest: float, level: float, since: str | None) -> str:
    odds = f"evidence {brief(now)} to 1 for a change"
    if since is None:
        return f"{odds}, {1 / level:,.0f} would be an alarm"
    past = "" if now >= -np.log(level) else f" (at its highest {brief(highest)})"
    return f"{odds}{past}, an alarm since {since}"


def brief(log_e: float) -> str:
    power = log_e / np.log(10)
    return ten_to(power) if power >= 5 else f"{np.exp(log_e):,.2g}" if power < 1 else f"{np.exp(log_e):,.0f}"


def ten_to(power: float) -> str:
    """A power of ten, such as 10¹²."""
    return "10" + f"{power:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def say_alarm_rate(_lately: np.ndarray, columns: list[Cuts], observed: Observed, reign: Reign) -> str:
    _, tallies = observed.days_of(reign)
    parts = [f"{alarms:,} of {samples:,}" for alarms, samples in (tallies.sum(axis=0), tallies[-LATELY:].sum(axis=0))]
    alarms, samples = tallies.sum(axis=0)
    rate, promise = share(alarms / samples, 2), share(promised(columns[0]), 2)
    return f"{parts[0]} samples flagged, {rate} where {promise} is promised; {parts[1]} on the last {LATELY} days"


def say_scores(lately: np.ndarray, columns: list[Cuts], _observed: Observed, _reign: Reign) -> str:
    return f"of the scores of the last {LATELY} days {moved(lately[0], columns[0])}"


def say_codes(lately: np.ndarray, columns: list[Cuts], _observed: Observed, _reign: Reign) -> str:
    worst = most_moved(lately, columns)
    return f"of the code's {len(columns)} numbers no. {worst + 1} has moved most: of it {moved(lately[worst], columns[worst])}"


def say_inputs(lately: np.ndarray, columns: list[Cuts], _observed: Observed, _reign: Reign) -> str:
    worst = most_moved(lately, columns)
    name = ("mean", "standard deviation")[worst]
    return f"of the samples' values the {name} has moved most: of it {moved(lately[worst], columns[worst])}"


SAYS: dict[str, Callable[[np.ndarray, list[Cuts], Observed, Reign], str]] = {
    ALARM_RATE: say_alarm_rate,
    SCORES: say_scores,
    CODES: say_codes,
    INPUTS: say_inputs,
}


def shares(counts: np.ndarray, cuts: Cuts) -> tuple[np.ndarray, np.ndarray]:
    """The share of new values in each bin, and the share that is usual."""
    return counts / counts.sum(), cuts.gaps / cuts.gaps.sum()


def most_moved(counts: np.ndarray, columns: list[Cuts]) -> int:
    """The column whose shares are furthest from the usual ones, in total variation."""
    apart = [np.abs(np.subtract(*shares(one, cuts))).sum() for one, cuts in zip(counts, columns, strict=True)]
    return int(np.argmax(apart))


def moved(counts: np.ndarray, cuts: Cuts) -> str:
    """The bin whose share has changed most, as a part of the range between calibration values."""
    found, usual = shares(counts, cuts)
    place = int(np.argmax(np.abs(found - usual)))
    where = "lowest" if place == 0 else "highest" if place == cuts.bins - 1 else f"{ordinal(place + 1)} lowest"
    return f"{share(found[place])} lie among the {where} {share(usual[place], 0)} of calibration"


def ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


# ---------------------------------------------------------------- rules


def judge_age(spec: MonitorSpec, reign: Reign, now: datetime) -> Signal:
    if reign.since is None:
        return Signal(STALE, QUIET, "the clock is behind the ledger's, so no time has passed since the promotion")
    days = (now - reign.since) / timedelta(days=1)
    says = f"champion {reign.version} was promoted {days:.1f} days ago; {spec.stale_after_days:g} are allowed"
    since = (reign.since + timedelta(days=spec.stale_after_days)).date().isoformat()
    return Signal(STALE, ALARM, says, since=since) if days > spec.stale_after_days else Signal(STALE, QUIET, says)


def judge_volume(spec: MonitorSpec, observed: Observed, reign: Reign, now: datetime) -> Signal:
    """Judges the last whole day, and silence: a day or a silence that began before anybody watched is not judged."""
    today, bounds = midnight(now), spec.volume
    last = observed.samples_on((today - timedelta(days=1)).date())
    known = [*observed.tallies, *([] if reign.since is None else [reign.since.date()])]
    watched = (today.date() - min(known, default=today.date())).days - 1  # whole days
    silent = silence(observed, today, bounds.silent_days) >= bounds.silent_days and observed.samples_on(today.date()) == 0
    nothing, says = f"no sample scored in {bounds.silent_days} whole days", f"{last:,} samples on the last whole day"
    if silent and watched >= bounds.silent_days:
        return Signal(VOLUME, ALARM, nothing, samples=0)
    if watched >= 1 and bounds.min is not None and last < bounds.min:
        return Signal(VOLUME, ALARM, f"{says}; at least {bounds.min:,.0f} are usual", samples=last)
    if bounds.max is not None and last > bounds.max:
        return Signal(VOLUME, ALARM, f"{says}; at most {bounds.max:,.0f} are usual", samples=last)
    if silent:
        return Signal(VOLUME, UNKNOWN, f"{nothing}, nor watched for so long", samples=0)
    ends = [f"{word} {end:,.0f}" for word, end in (("at least", bounds.min), ("at most", bounds.max)) if end is not None]
    return Signal(VOLUME, QUIET, f"{says}; {' and '.join(ends) or 'any number'} will do", samples=last)


def silence(observed: Observed, today: datetime, most: int) -> int:
    """How many whole days without a sample lie before today, up to `most`."""
    days = ((today - timedelta(days=back)).date() for back in range(1, most + 1))
    return next((place for place, day in enumerate(days) if observed.samples_on(day)), most)
