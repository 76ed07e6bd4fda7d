"""Keep history.parquet, a row a check and signal, so that an alarm stays one and the page can show former champions."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aeops.errors import DataError
from aeops.files import atomic_write
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.signals import Signal

HISTORY_SCHEMA = pa.schema(
    [
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("recipe", pa.string()),
        ("version", pa.string()),
        ("promoted", pa.string()),
        ("signal", pa.string()),
        ("verdict", pa.string()),
        ("e_value", pa.float64()),
        ("highest", pa.float64()),
        ("log10_e", pa.float64()),
        ("level", pa.float64()),
        ("samples", pa.int64()),
        ("since", pa.string()),
        ("says", pa.string()),
    ]
)


def read_history(file: Path) -> pa.Table:
    """Return every row in order of time; an empty table where there is no file.

    Raises:
        DataError: the file cannot be read.
    """
    if not file.is_file():
        return HISTORY_SCHEMA.empty_table()
    try:
        return pq.read_table(file, schema=HISTORY_SCHEMA).sort_by("as_of")
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{file} cannot be read ({reason}): put back a copy, or remove it and lose what earlier checks found"
        ) from error


def append_check(file: Path, as_of: datetime, recipe: str, period: ChampionPeriod, signals: Sequence[Signal]) -> pa.Table:
    """Add the signals of a check, in place of one at the same time, and return all rows.

    Args:
        file: history.parquet.
        as_of: time of the check, with its zone.
        recipe: its name.
        period: of the champion that was checked.
        signals: of the check.

    Raises:
        DataError: the file cannot be read.
    """
    timestamp = as_of.astimezone(UTC)
    rows = []
    for signal in signals:
        row: dict[str, Any] = {**signal.to_dict()}
        row["signal"] = row.pop("name")
        rows.append({"as_of": timestamp, "recipe": recipe, "version": period.version, "promoted": period.promotion_time} | row)
    history = read_history(file)
    other_checks = history.filter(pc.not_equal(history["as_of"], pa.scalar(timestamp, HISTORY_SCHEMA.field("as_of").type)))
    table = pa.concat_tables([other_checks, pa.Table.from_pylist(rows, schema=HISTORY_SCHEMA)]).sort_by("as_of")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    atomic_write(file, buffer.getvalue())
    return table


def find_past_alarms(history: pa.Table, period: ChampionPeriod, level: float) -> dict[str, str]:
    """Return signal -> the day since which it alarms at `level`, by the earlier checks of this champion's period."""
    is_period = pc.and_(pc.equal(history["version"], period.version), pc.equal(history["promoted"], period.promotion_time))
    alarms: dict[str, str] = {}
    for row in history.filter(is_period).select(["signal", "since", "highest"]).to_pylist():
        if row["since"] and row["highest"] is not None and row["highest"] >= 1 / level:
            alarms.setdefault(row["signal"], row["since"])
    return alarms
