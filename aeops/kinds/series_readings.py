"""Readings of a series out of columns by name: times in seconds since 1970 UTC, machines, and a value for each channel.

Two forms, told apart by the names: wide, with a column for each channel, and long, with a reading in each row: the columns
`channel` and `value`. `aeops.kinds.series_grid` brings readings to the steps of a grid. numpy and the standard library only.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ae_models.mappings import map_values
from ae_models.names import names_not_in, names_of
from ae_models.spec import NUMBER, ChannelSpec, ColumnSpec, StepsSpec, join_names, suggest_match
from aeops.errors import DataError
from aeops.kinds.series_times import describe_wrong_time, parse_times, require_times, stamp_cells
from aeops.kinds.table_cells import ParsedColumn, parse_column, shorten_cell

CHANNEL_COLUMN, VALUE_COLUMN = "channel", "value"  # of the long form
MACHINE_BYTES = 64  # of UTF-8 in a machine's name
NAMED_COLUMNS = 8  # that a message names


@dataclass(frozen=True)
class Readings:
    """Readings in the order of their source.

    Attributes:
        times: seconds since 1970 UTC, float64 (n,).
        machines: names, str (n,); all empty where there is no such column.
        values: float64 (n, channels); NaN where a reading lacks a channel, which in the long form is all but one.
        mistyped: row -> the cells that are no numbers, with their channels.
        labels: (n,) as the source has them, or None.
        untimed: row of the source -> why it has no time; such rows are no readings.
    """

    times: np.ndarray
    machines: np.ndarray
    values: np.ndarray
    mistyped: Mapping[int, str]
    labels: np.ndarray | None = None
    untimed: Mapping[int, str] = field(default_factory=dict)


def is_long(names: Sequence[str], channels: Sequence[ChannelSpec]) -> bool:
    """Return whether columns of these names are the long form: a reading a row."""
    return CHANNEL_COLUMN in names and VALUE_COLUMN in names and not any(channel.name in names for channel in channels)


def read_columns(
    columns: Mapping[str, Any],
    channels: Sequence[ChannelSpec],
    steps: StepsSpec,
    from_text: bool,
    labels: str | None = None,
    skip_untimed: bool = False,
) -> Readings:
    """Return the readings in columns by name; further columns are ignored.

    Args:
        columns: name -> cells.
        channels: of the series.
        steps: names the columns of time and machine.
        from_text: whether all cells are texts, as in CSV.
        labels: the column with labels; None: none is read.
        skip_untimed: whether rows whose time stamp is none are left out, and named in `Readings.untimed`.

    Raises:
        DataError: no readings, a missing column, a time stamp that is none (of all rows, where such are skipped), or, in the long
            form, a channel that no reading has.
    """
    wanted = [*steps.stamp_columns, *([] if labels is None else [labels])]
    long_form = is_long(list(columns), channels)
    if not long_form:
        wanted += names_of(channels)
    _require_columns(list(columns), wanted)
    count = len(columns[steps.time])
    if not count:
        raise DataError("expected one reading or more, got none")
    machines = np.full(count, "", dtype=str)
    if steps.machine is not None:
        machines = _read_machines(columns[steps.machine], steps.machine)
    cells = stamp_cells(columns, steps)
    times, untimed = parse_times(cells, machines, steps), dict[int, str]()
    is_timed = ~np.isnan(times)
    if not skip_untimed or not is_timed.any():
        require_times(times, cells, steps)
    elif not is_timed.all():
        for row in np.flatnonzero(~is_timed).tolist():
            untimed[row] = describe_wrong_time(cells[row], steps)
        columns = {name: _cells_at(columns[name], is_timed) for name in columns}
        times, machines = times[is_timed], machines[is_timed]
    read_values = _read_long if long_form else _read_wide
    values, mistyped = read_values(columns, channels, from_text)
    found_labels = None if labels is None else np.asarray(columns[labels])
    return Readings(times, machines, values, mistyped, found_labels, untimed)


def _cells_at(cells: Any, is_taken: np.ndarray) -> Any:
    """Return some cells of a column, an array or a list; `is_taken` is bool (n,)."""
    return cells[is_taken] if isinstance(cells, np.ndarray) else list(itertools.compress(cells, is_taken.tolist()))


def require_numbers(readings: Readings, noun: str = "row") -> None:
    """Raise DataError where a cell is no number; the message names the row, by this noun."""
    if readings.mistyped:
        row = min(readings.mistyped)
        more = f" (and in {len(readings.mistyped) - 1:,} other {noun}s)" if len(readings.mistyped) > 1 else ""
        raise DataError(f"{noun} {row}: expected numbers, got {readings.mistyped[row]}{more}")


def columns_of_readings(objects: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return objects as columns by these names, those that no object has left out; a key that one lacks is a missing value."""
    found = set().union(*objects)
    columns = {}
    for name in names:
        if name in found:
            columns[name] = [reading.get(name) for reading in objects]
    return columns


def _require_columns(found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = names_not_in(wanted, found)
    if missing:
        added = names_not_in(found, wanted)
        got = join_names(list(map(str, found))[:NAMED_COLUMNS]) or "none"
        raise DataError(
            f"expected readings with the column {join_names(missing[:NAMED_COLUMNS])}, or in the long form with {CHANNEL_COLUMN} "
            f"and {VALUE_COLUMN} in the place of the channels, got the columns {got}{suggest_match(missing[0], added)}"
        )


def _read_wide(columns: Mapping[str, Any], channels: Sequence[ChannelSpec], from_text: bool) -> tuple[np.ndarray, dict[int, str]]:
    channel_values = []
    problems: defaultdict[int, list[str]] = defaultdict(list)
    for name in names_of(channels):
        column = parse_column(ColumnSpec(name), columns[name], from_text)
        channel_values.append(column.values)
        for row, cell in column.mistyped.items():
            problems[row].append(f"{name}: {cell}")
    return np.stack(channel_values, axis=1), map_values("; ".join, problems)


def _read_long(columns: Mapping[str, Any], channels: Sequence[ChannelSpec], from_text: bool) -> tuple[np.ndarray, dict[int, str]]:
    parsed: ParsedColumn = parse_column(ColumnSpec(VALUE_COLUMN, type=NUMBER), columns[VALUE_COLUMN], from_text)
    names = np.asarray(list(map(str, columns[CHANNEL_COLUMN])), dtype=str)
    found = set(names.tolist())
    absent = names_not_in(names_of(channels), found)
    if absent:
        got = join_names(sorted(found)[:NAMED_COLUMNS])
        raise DataError(f"expected readings of the channel {join_names(absent)}, got none: the channels are {got}")
    values = np.full((len(names), len(channels)), np.nan)
    mistyped = {}
    for place, channel in enumerate(channels):
        rows = names == channel.name
        values[rows, place] = parsed.values[rows]
    known = set(names_of(channels))
    for row, cell in parsed.mistyped.items():
        if names[row] in known:
            mistyped[row] = f"{names[row]}: {cell}"
    return values, mistyped


def _machine_text(cell: Any) -> str:
    """Return a cell as text; nothing for a missing one."""
    if cell is None or cell != cell:
        return ""
    return str(cell)


def _read_machines(cells: Any, column: str) -> np.ndarray:
    machines = np.array(list(map(_machine_text, cells)), dtype=str)
    for row in np.flatnonzero(machines == "")[:1].tolist():
        raise DataError(f"row {row}, column {column}: expected the name of a machine or a run, got nothing")
    for name in np.unique(machines).tolist():
        if len(name.encode(errors="replace")) > MACHINE_BYTES or not name.isprintable():
            raise DataError(f"column {column}: expected printable names of up to {MACHINE_BYTES} bytes, got {shorten_cell(name)}")
    return machines
