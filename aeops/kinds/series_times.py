"""Time stamps of readings: texts of ISO 8601, dates, numbers since 1970, or a date and a time of day in two columns.

They become seconds since 1970 UTC, float64. numpy and the standard library only.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from ae_models.spec import UNITS_PER_SECOND, StepsSpec
from aeops.errors import DataError
from aeops.kinds.table_cells import shorten_cell

LATEST = 253_402_300_800.0  # seconds since 1970 of the year 10000, from which on there are no dates
FIRST_YEAR, LAST_YEAR = 1971, 2261  # of numbers in a stated unit; what lies outside is of another unit, or a mark
DAY_SECONDS = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_RANGE = (datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp(), datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp())
_DATE_DIGITS = 8  # of a date without marks, such as 20261130, which is no number
_NUMBER = re.compile(r"[+-]?(\d+)(\.\d*)?")


def stamp_cells(columns: Mapping[str, Any], steps: StepsSpec) -> np.ndarray:
    """Return the time stamps in columns by name, (n,), as they stand there; those of two columns joined."""
    cells = columns[steps.time]
    if steps.time_of_day is not None:
        cells = join_days_and_clocks(cells, columns[steps.time_of_day])
    return cells if isinstance(cells, np.ndarray) else _object_array(cells)


def join_days_and_clocks(days: Any, clocks: Any) -> list[str]:
    """Return dates and times of day as texts with a space between them; empty where one of them is missing.

    Args:
        days: texts, dates of Python or numpy.
        clocks: texts, times of Python, or seconds since midnight.

    >>> join_days_and_clocks(["2026-11-30", "2026-11-30", ""], ["12:30", 45000.0, "12:30"])
    ['2026-11-30 12:30', '2026-11-30 12:30:00', '']
    """
    stamps = []
    for day, clock in zip(list(days), list(clocks), strict=True):
        day_part, clock_part = _day_text(day), clock_text(clock)
        stamps.append(f"{day_part} {clock_part}" if day_part and clock_part else "")
    return stamps


def parse_times(array: np.ndarray, machines: np.ndarray, steps: StepsSpec) -> np.ndarray:
    """Return time stamps as seconds since 1970 UTC, float64 (n,); NaN where a cell is none.

    A stamp without a zone is one of `steps.timezone`. Of an hour that its clock shows twice, stamps are of the first one until
    the clock of a machine goes back, then of the second.

    Args:
        array: cells, (n,).
        machines: of each reading, (n,).
        steps: their unit, where they are numbers, and their time zone.
    """
    if array.dtype.kind in "iuf":
        times = _scale_numbers(array.astype(np.float64), steps.time_unit)
    elif array.dtype.kind == "M" and steps.timezone == "UTC":
        times = (array.astype("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(1, "s")
        times[np.isnat(array)] = np.nan
    else:
        stamps = array.astype("datetime64[us]").tolist() if array.dtype.kind == "M" else array.tolist()
        times = _parse_stamps(stamps, machines, steps)
    times[~(np.abs(times) < LATEST)] = np.nan
    return np.asarray(np.round(times, 6))


def read_times(cells: Any, machines: np.ndarray, steps: StepsSpec) -> np.ndarray:
    """Return time stamps as seconds since 1970 UTC, float64 (n,); see `parse_times`.

    Raises:
        DataError: a cell that is no time stamp; the message names the row.
    """
    array = cells if isinstance(cells, np.ndarray) else _object_array(cells)
    times = parse_times(array, machines, steps)
    require_times(times, array, steps)
    return times


def require_times(times: np.ndarray, cells: np.ndarray, steps: StepsSpec) -> None:
    """Raise DataError where a time is NaN; the message names the first row and its cell."""
    is_wrong = np.isnan(times)
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        more = f" (and in {int(is_wrong.sum()) - 1:,} other rows)" if is_wrong.sum() > 1 else ""
        raise DataError(f"row {row}, {describe_wrong_time(cells[row], steps)}{more}")


def describe_wrong_time(cell: Any, steps: StepsSpec) -> str:
    """Return what was expected of a time stamp, and what was got."""
    expected = "a time stamp such as 2026-11-30T12:00:00Z, or seconds since 1970"
    if steps.time_unit is not None:
        expected = f"{steps.time_unit} since 1970, of the years {FIRST_YEAR} to {LAST_YEAR} (input.steps.time_unit), or ISO 8601"
    noun = "column"
    if steps.time_of_day is not None:
        noun, expected = "columns", "a date such as 2026-11-30 and a time of day such as 12:00:00"
    return f"{noun} {' and '.join(steps.time_columns)}: expected {expected}, got {shorten_cell(cell)}"


def describe_time(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, with a fraction where there is one.

    >>> describe_time(1_400_000_000)
    '2014-05-13T16:53:20Z'
    """
    return datetime.fromtimestamp(round(seconds, 6), UTC).isoformat().replace("+00:00", "Z")


def write_stamps(times: Sequence[float], steps: StepsSpec) -> dict[str, list[str]]:
    """Return seconds since 1970 as time stamps in the columns of time, by name."""
    stamps = list(map(describe_time, times))
    if steps.time_of_day is None:
        return {steps.time: stamps}
    days, clocks = [], []
    for stamp in stamps:
        day, _, clock = stamp.partition("T")
        days.append(day)
        clocks.append(clock)
    return {steps.time: days, steps.time_of_day: clocks}


def _object_array(cells: Any) -> np.ndarray:
    array = np.empty(len(cells), dtype=object)
    array[:] = list(cells)
    return array


# ---------------------------------------------------------------- a date and a time of day


def _day_text(day: Any) -> str:
    if day is None or day != day:  # NaN and NaT differ from themselves
        return ""
    if isinstance(day, np.datetime64):
        return str(day.astype("datetime64[D]"))
    if isinstance(day, datetime):
        return day.date().isoformat()
    if isinstance(day, date):
        return day.isoformat()
    return str(day).strip().removesuffix(" 00:00:00")  # as workbooks write a date


def clock_text(clock: Any) -> str:
    """Return a time of day as text, seconds since midnight as HH:MM:SS; empty where it is missing."""
    if clock is None or clock != clock:
        return ""
    if isinstance(clock, time):
        return clock.isoformat()
    if isinstance(clock, int | float | np.number) and 0 <= clock < DAY_SECONDS:
        return (datetime.min + timedelta(seconds=float(clock))).time().isoformat()
    return str(clock).strip()


# ---------------------------------------------------------------- numbers and texts


def _scale_numbers(numbers: np.ndarray, unit: str | None) -> np.ndarray:
    """Return numbers of a unit as seconds; NaN for one that no such time is written as."""
    if unit is None:
        return numbers
    seconds = numbers / UNITS_PER_SECOND[unit]
    first, end = _UNIT_RANGE
    return np.where((seconds >= first) & (seconds < end), seconds, np.nan)


def _parse_stamps(stamps: Sequence[Any], machines: np.ndarray, steps: StepsSpec) -> np.ndarray:
    zone, times = ZoneInfo(steps.timezone), np.full(len(stamps), np.nan)
    is_number = np.zeros(len(stamps), bool)
    last: dict[str, float] = {}
    for row, (stamp, machine) in enumerate(zip(stamps, machines.tolist(), strict=True)):
        number = _as_number(stamp)
        if number is not None:
            times[row], is_number[row] = number, True
            continue
        seconds = _parse_date(stamp, zone, last.get(machine, -np.inf))
        if seconds is not None:
            times[row] = last[machine] = seconds
    times[is_number] = _scale_numbers(times[is_number], steps.time_unit)
    return times


def _as_number(stamp: Any) -> float | None:
    """Return a number, or the text of one, as float; None where it is none.

    Eight digits are a date of ISO 8601. More are a number, though some are valid in ISO 8601, too: 1612120812345 would be of the
    year 1612.
    """
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return float(stamp)
    if not isinstance(stamp, str):
        return None
    text = stamp.strip()
    match = _NUMBER.fullmatch(text)
    if match is not None:
        return None if text.isdigit() and len(text) == _DATE_DIGITS else float(text)
    if "e" not in text.lower():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _parse_date(stamp: Any, zone: ZoneInfo, last: float) -> float | None:
    """Return seconds since 1970 of a date; None where it is none. `last` is that of the machine's reading before."""
    if isinstance(stamp, str):
        try:
            stamp = datetime.fromisoformat(stamp.strip())
        except ValueError:
            return None
    if not isinstance(stamp, datetime):
        return None
    if stamp.tzinfo is not None:
        return (stamp - _EPOCH).total_seconds()
    seconds = (stamp.replace(tzinfo=zone) - _EPOCH).total_seconds()
    later = (stamp.replace(tzinfo=zone, fold=1) - _EPOCH).total_seconds()
    return later if seconds < last <= later else seconds
