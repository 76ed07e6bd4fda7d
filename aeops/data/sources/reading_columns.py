"""Columns of readings as the kind of data reads them: numbers with a point, and times in ISO 8601 or numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from ae_models.spec import StepsSpec
from aeops.data.sources.row_values import iso_dates, plain_texts
from aeops.kinds.series_readings import VALUE_COLUMN
from aeops.kinds.series_times import join_days_and_clocks
from aeops.recipe.table_sources import TextFormat


def plain_readings(
    columns: Mapping[str, Any], dialect: TextFormat | None, channels: Sequence[str], steps: StepsSpec, time_format: str | None
) -> dict[str, Any]:
    """Return columns of readings with numbers with a point and times in ISO 8601.

    Args:
        columns: name -> cells.
        dialect: of a text file; None: numbers have a point already.
        channels: their names.
        steps: names the columns of time.
        time_format: of time stamps, as Python's strptime; of two columns with a space between date and time of day. None: they
            are as they have to be.
    """
    is_split = steps.time_of_day is not None
    dates = {} if time_format is None or is_split else {steps.time: time_format}
    plain = plain_texts(columns, dialect, {*channels, VALUE_COLUMN}, dates)
    if time_format is not None and is_split and plain.keys() >= set(steps.time_columns):
        _split_iso_stamps(plain, steps, time_format)
    return plain


def _split_iso_stamps(columns: dict[str, Any], steps: StepsSpec, time_format: str) -> None:
    """Write dates and times of day in ISO 8601 in the place of those that have the format together; others stay as they are."""
    days, clocks = list(columns[steps.time]), list(columns[str(steps.time_of_day)])
    joined = join_days_and_clocks(days, clocks)
    for row, (text, stamp) in enumerate(zip(joined, iso_dates(joined, time_format), strict=True)):
        if stamp != text:
            days[row], _, clocks[row] = stamp.partition("T")
    columns[steps.time], columns[str(steps.time_of_day)] = days, clocks
