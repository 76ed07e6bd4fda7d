"""history.parquet: a row a look and signal, so that an alarm stays an alarm and the page can show former champions."""

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
from aeops.monitoring.signals import Signal

SCHEMA = pa.schema(
    [
        ("as_of", pa.timestamp("us", tz="UTC")),
        *((name, pa.string()) for name in ("recipe", "version", "promoted", "signal", "verdict")),
        *((name, pa.float64()) for name in ("e_value", "highest", "log10_e", "level")),
        ("samples", pa.int64()),
        *((name, pa.string()) for name in ("since", "says")),
    ]
)


def read(file: Path) -> pa.Table:
    """Every row, in order of time; none where there is no file.

    Raises:
        DataError: it cannot be read.
    """
    if not file.is_file():
        return SCHEMA.empty_table()
    try:
        return pq.read_table(file, schema=SCHEMA).sort_by("as_of")
    except (pa.ArrowInvalid, OSError) as error:
        why = str(error).splitlines()[0]
        raise DataError(
            f"{file} cannot be read ({why}): put back a copy, or remove it and lose what earlier looks found"
        ) from error


def add(file: Path, as_of: datetime, recipe: str, version: str, promoted: str, signals: Sequence[Signal]) -> pa.Table:
    """Adds a look, in place of one at the same moment; returns all rows."""
    moment = as_of.astimezone(UTC)
    head = {"as_of": moment, "recipe": recipe, "version": version, "promoted": promoted}
    rows = [head | {("signal" if key == "name" else key): value for key, value in one.plain().items()} for one in signals]
    old = read(file)
    kept = old.filter(pc.not_equal(old["as_of"], pa.scalar(moment, SCHEMA.field("as_of").type)))
    table = pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=SCHEMA)]).sort_by("as_of")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    atomic_write(file, buffer.getvalue())
    return table


def alarms_since(table: pa.Table, version: str, promoted: str, level: float) -> dict[str, str]:
    """signal -> the day since which it alarms at that level, as the looks at this reign found."""
    own = pc.and_(pc.equal(table["version"], version), pc.equal(table["promoted"], promoted))
    rows: list[dict[str, Any]] = table.filter(own).select(["signal", "since", "highest"]).to_pylist()
    passed = [row for row in rows if row["since"] and row["highest"] is not None and row["highest"] >= 1 / level]
    return {row["signal"]: row["since"] for row in reversed(passed)}
