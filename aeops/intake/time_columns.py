"""Times that are no dates in one column: numbers since 1970, and a date with its time of day in another column."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ae_models.spec import DATE, INTEGER, NUMBER, UNITS_PER_SECOND
from aeops.intake.column_profile import ENOUGH, ColumnProfile
from aeops.kinds.series_times import DAY_SECONDS, clock_text

CLOCK_FORMATS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p")
ORDERED = 0.9  # share of the rows that are no earlier than the one before, from which rows are in the order of time
LEAST_ROWS = 20
_FIRST, _END = datetime(1980, 1, 1, tzinfo=UTC).timestamp(), datetime(2100, 1, 1, tzinfo=UTC).timestamp()
_TIME_WORDS = frozenset(
    ("time", "timestamp", "stamp", "datetime", "date", "ts", "t", "epoch", "unix", "clock", "utc", "when", "zeit", "uhrzeit")
)


def join_time_columns(profiles: Sequence[ColumnProfile], columns: Mapping[str, Any], but: Collection[str]) -> list[ColumnProfile]:
    """Return profiles in which times that are numbers, and a date with a time of day beside it, are dates.

    Only what orders the rows is taken for such times.

    Args:
        profiles: of all columns.
        columns: name -> cells.
        but: columns that have another role already.
    """
    found = []
    for profile in profiles:
        is_epoch = profile.name not in but and names_time(profile.name)
        found.append((is_epoch and _as_epoch(profile)) or profile)
    days = [profile for profile in found if profile.type == DATE and profile.time_unit is None and profile.name not in but]
    for day in days:
        if not _are_days(day):
            continue
        for clock in found:
            joined = None if clock.name in but or clock is day else _join(day, clock, columns)
            if joined is not None:
                rest = [profile for profile in found if profile is not clock]
                return [joined if profile is day else profile for profile in rest]
    return found


def names_time(name: str) -> bool:
    """Return whether a column is named as a time.

    >>> names_time("timestamp_ms"), names_time("eventTime"), names_time("runtime"), names_time("part")
    (True, True, False, False)
    """
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    return not _TIME_WORDS.isdisjoint(re.split(r"[^a-z]+", words))


def _as_epoch(profile: ColumnProfile) -> ColumnProfile | None:
    """Return the profile of a column of numbers since 1970 as that of dates; None where it is no such column."""
    if profile.type not in (NUMBER, INTEGER) or not isinstance(profile.values, np.ndarray):
        return None
    present = profile.values[~np.isnan(profile.values)]
    for unit, per_second in UNITS_PER_SECOND.items():
        seconds = present / per_second
        is_inside = (seconds >= _FIRST) & (seconds < _END)
        if len(present) > LEAST_ROWS and is_inside.mean() >= ENOUGH and _are_ordered(seconds[is_inside].tolist()):
            return _epoch_profile(profile, unit, profile.values / per_second)
    return None


def _epoch_profile(profile: ColumnProfile, unit: str, seconds: np.ndarray) -> ColumnProfile:
    values = []
    for value in seconds.tolist():
        is_time = _FIRST <= value < _END
        values.append(datetime.fromtimestamp(value, UTC).isoformat() if is_time else "")
    present = list(filter(None, values))
    outside = len(values) - len(present)
    return replace(
        profile,
        type=DATE,
        values=values,
        missing=outside / len(values),
        nulls=(),
        description=f"{min(present)[:19]} to {max(present)[:19]}, {unit} since 1970",
        span=None,
        time_unit=unit,
    )


def _are_ordered(times: Sequence[Any]) -> bool:
    ordered = sum(after >= before for before, after in pairwise(times))
    return bool(ordered >= ORDERED * (len(times) - 1))


# ---------------------------------------------------------------- a date and a time of day


def _are_days(profile: ColumnProfile) -> bool:
    """Return whether dates have no time of day: that of all is midnight."""
    clocks = {value[10:19].strip("T ") for value in profile.values if value}
    return bool(clocks) and clocks <= {"", "00:00:00"}


def _join(day: ColumnProfile, clock: ColumnProfile, columns: Mapping[str, Any]) -> ColumnProfile | None:
    """Return the profile of dates with their times of day; None where the other column holds none, or they order nothing."""
    if clock.type in (NUMBER, INTEGER) and not _are_seconds_of_day(clock):
        return None
    texts = list(map(clock_text, columns[clock.name]))
    formats = CLOCK_FORMATS if day.date_format else (None, *CLOCK_FORMATS)
    for clock_format in formats:
        stamps = _joined_stamps(day.values, texts, clock_format)
        present = list(filter(None, stamps))
        if len(present) <= LEAST_ROWS or len(present) < ENOUGH * len(stamps) or not _are_ordered(present):
            continue
        return replace(
            day,
            values=stamps,
            missing=1 - len(present) / len(stamps),
            distinct=len(set(present)),
            date_format=None if clock_format is None else f"{day.date_format or '%Y-%m-%d'} {clock_format}",
            description=f"{min(present)[:19]} to {max(present)[:19]}",
            time_of_day=clock.name,
        )
    return None


def _joined_stamps(days: Sequence[str], clocks: Sequence[str], clock_format: str | None) -> list[str]:
    """Return days and times of day in ISO 8601; empty where one is missing or none. A format of None is ISO 8601."""
    stamps = []
    for day, text in zip(days, clocks, strict=True):
        clock = _parse_clock(text, clock_format) if day and ":" in text else None
        stamps.append("" if clock is None else f"{day[:10]} {clock.isoformat()}")
    return stamps


@cache
def _parse_clock(text: str, clock_format: str | None) -> time | None:
    try:
        return time.fromisoformat(text) if clock_format is None else datetime.strptime(text, clock_format).time()
    except ValueError:
        return None


def _are_seconds_of_day(profile: ColumnProfile) -> bool:
    """Return whether numbers may be seconds since midnight, as a file with types holds times of day."""
    return names_time(profile.name) and profile.span is not None and profile.span[0] >= 0 and profile.span[1] < DAY_SECONDS
