"""Store of predictions, by hand, by the service and in batches, so that `ae why` can explain a score later.

    <home>/predictions/<recipe>/<date>/<call>.parquet     a row a sample; the date is of the first row, in UTC
    <home>/predictions/<recipe>/<date>/day-<name>.parquet the small calls of a day that is over: see day_files.py
    <home>/predictions/<recipe>/journal/<call>.arrow      answers of a service, not yet rolled into such a file

A prediction's id is `<call>-<row>`, such as 7f3a9c2e-12: 8 to 16 hexadecimal digits that name the call, and the row from 0. Files
that were written before there were channels stay readable: their channel is `hand`, and columns that they lack are null.
Standard library only on import.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.names import names_in
from aeops.errors import AeError, DataError, InfrastructureError, UsageError, as_ae_error
from aeops.files import atomic_path
from aeops.predictions.recorded_files import (
    DAY_PREFIX,
    is_day_file,
    joined_calls,
    list_day_folders,
    list_recorded,
    predictions_folder,
)
from aeops.predictions.rows import Prediction, Scorer, ids_of_call, predictions_schema
from aeops.project import Project
from aeops.recipe.monitoring import CHANNELS, MANUAL_CHANNEL, SERVICE_CHANNEL

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


PREDICTION_ID = re.compile(r"([0-9a-f]{8,16})-(\d+)")
JOURNAL = "journal"
UNNAMED_SUFFIX = ".aside"  # of a journal that is not locked yet
LONGEST_CALL = timedelta(days=1)  # from a file's first row to its last


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class CallName:
    """What names the file of a call: recorded twice by the same name, it is there once.

    Attributes:
        call: eight hexadecimal digits.
        time: of its predictions, with its zone.
    """

    call: str
    time: datetime


def record_call(
    project: Project,
    scorer: Scorer,
    *,
    channel: str,
    names: Sequence[str],
    samples: "Sequence[str] | np.ndarray",
    outputs: "Mapping[str, np.ndarray]",
    name: CallName | None = None,
) -> list[str]:
    """Record a call. See `build_rows` for the other arguments.

    Args:
        name: of the call; None: a new one, now.

    Returns:
        The id of each prediction.

    Raises:
        InfrastructureError: it cannot be written.
    """
    from aeops.predictions.arrow_rows import build_rows  # here: it loads numpy and pyarrow

    name = name or CallName(new_call(project), datetime.now(UTC))
    batch = build_rows(scorer, call=name.call, channel=channel, time=name.time, names=names, samples=samples, outputs=outputs)
    write_call(call_file(project, scorer.recipe, name.time, name.call), [batch])
    return ids_of_call(name.call, 0, len(names))


def new_call(project: Project) -> str:
    """Return twelve hexadecimal digits that no call with a file of its own has; so many that one of a day file has others."""
    while True:
        call = secrets.token_hex(6)
        if not own_files(project, call):
            return call


def call_file(project: Project, recipe: str, time: datetime, call: str) -> Path:
    """Return the file of a call whose first row is of that time."""
    return predictions_folder(project, recipe) / f"{time.astimezone(UTC):%Y-%m-%d}" / f"{call}.parquet"


def journal_file(project: Project, recipe: str, call: str) -> Path:
    return predictions_folder(project, recipe) / JOURNAL / f"{call}.arrow"


def write_call(file: Path, batches: "Iterable[pa.RecordBatch]", metadata: Mapping[str, str] | None = None) -> None:
    """Write a call's file atomically and to the disk, before an id is returned; one batch in memory at a time.

    Args:
        metadata: stored in the file beside the rows.

    Raises:
        InfrastructureError: it cannot be written. What the batches themselves raise is passed on, and nothing is left.
    """
    import pyarrow.parquet as pq

    complete_schema = predictions_schema().with_metadata(dict(metadata or {}))
    try:
        with (
            atomic_path(file) as tmp_path,
            tmp_path.open("wb") as stream,
            pq.ParquetWriter(stream, complete_schema, compression="zstd") as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
    except OSError as error:
        raise write_error(file, error) from error


def write_error(file: Path, error: OSError) -> AeError:
    """Return the error to raise for predictions that cannot be written."""
    return as_ae_error(error) or InfrastructureError(
        f"the predictions cannot be recorded in {file.parent} ({error.strerror}): make it yours to write, or set AE_HOME to "
        "a folder that is; no score is returned that could not be looked up later"
    )


# ---------------------------------------------------------------- reading


def own_files(project: Project, call: str) -> list[Path]:
    """Return the file that a call alone has, or its journal as long as there is no file; none where it is in a day file."""
    root = project.home / "predictions"
    return sorted(root.glob(f"*/*/{call}.parquet")) or sorted(root.glob(f"*/{JOURNAL}/{call}.arrow"))


def call_files(project: Project, call: str) -> list[Path]:
    """Return the file that holds a call: its own, its journal as long as there is no file, or a day file."""
    files = own_files(project, call)
    if files:
        return files
    day_files = (project.home / "predictions").glob(f"*/*/{DAY_PREFIX}*.parquet")
    return [file for file in sorted(day_files) if call in joined_calls(file)]


def find_prediction(project: Project, prediction: str) -> Prediction:
    """Return the prediction with an id.

    Raises:
        UsageError: it is no id, or nothing is recorded under it.
        DataError: the file that should hold it cannot be read, or holds another one in its place.
    """
    import pyarrow.compute as pc

    id_match = PREDICTION_ID.fullmatch(prediction)
    if id_match is None:
        raise UsageError(f"expected the id of a prediction as `ae score` prints it, such as 7f3a9c2e-12, got {prediction!r}")
    call, row_index = id_match[1], int(id_match[2])
    files = call_files(project, call)
    if not files:
        raise UsageError(
            f"no prediction {prediction} in {project.home / 'predictions'}: `ae score` prints the ids that there are"
        )
    file = files[0]
    table = read_call(file)
    if is_day_file(file):
        table = table.filter(pc.starts_with(table["id"], f"{call}-"))
    if row_index >= table.num_rows:
        raise UsageError(f"no prediction {prediction}: the call {call} has {call}-0 to {call}-{table.num_rows - 1}")
    row = table.slice(row_index, 1).to_pylist()[0]
    if row.get("id") != prediction:
        raise DataError(f"{file}: expected {prediction} in row {row_index}, got {row.get('id')}: its rows were changed")
    return Prediction(**row, file=file)


def read_predictions(
    project: Project,
    recipe: str,
    since: datetime | None = None,
    until: datetime | None = None,
    channels: Sequence[str] = CHANNELS,
    columns: Sequence[str] | None = None,
) -> "pa.Table":
    """Read the recipe's predictions in order of time, those in journals included.

    Args:
        since: the first timestamp, with its zone; None: the beginning.
        until: the first timestamp that is left out, with its zone; None: all.
        columns: of `schema`; None: all.

    Raises:
        DataError: a file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    output_columns = list(columns or predictions_schema().names)
    read_columns = list(dict.fromkeys([*output_columns, "time", "channel"]))
    parts = []
    for call_table in read_calls(project, recipe, since, until, channels, read_columns):
        part = select_rows(call_table, since, until, channels)
        if part.num_rows:
            parts.append(part)
    if not parts:
        return empty_table().select(output_columns)
    table = pa.concat_tables(sorted(parts, key=lambda part: part["time"][0].value))
    return table.take(pc.sort_indices(table["time"])).select(output_columns)  # stable: rows of one time keep their order


def read_calls(
    project: Project,
    recipe: str,
    since: datetime | None,
    until: datetime | None,
    channels: Sequence[str],
    columns: Sequence[str],
) -> "Iterator[pa.Table]":
    """Yield each call that may have predictions of that time and of these channels."""
    journal_tables, files = _list_calls(project, recipe, since, until, channels)
    for table in journal_tables:
        yield table.select(columns)
    for file in files:
        yield read_call(file, columns)


def _list_calls(
    project: Project, recipe: str, since: datetime | None, until: datetime | None, channels: Sequence[str]
) -> "tuple[list[pa.Table], list[Path]]":
    """Return the calls that may have predictions of that time and of these channels: tables of journals, and other calls' files.

    Only the service has journals. They are listed before files, so that one that becomes a file meanwhile counts once.
    """
    folder = predictions_folder(project, recipe)
    tables_by_call = {}
    if SERVICE_CHANNEL in channels:
        for journal in sorted(folder.glob(f"{JOURNAL}/*.arrow")):
            tables_by_call[journal.stem] = _read_journal_if_exists(journal)
    files = []
    for day_folder in list_day_folders(project, recipe):
        for file in day_folder.glob("*.parquet"):
            tables_by_call.pop(file.stem, None)
        if _may_hold(day_folder.name, since, until):
            files += list_recorded(day_folder)
    return list(tables_by_call.values()), files


def _may_hold(folder: str, since: datetime | None, until: datetime | None) -> bool:
    """Return whether a folder named by its date may have predictions of that time."""
    day = date.fromisoformat(folder)
    if until is not None and day > until.astimezone(UTC).date():
        return False
    return since is None or day >= (since.astimezone(UTC) - LONGEST_CALL).date()


def select_rows(table: "pa.Table", since: datetime | None, until: datetime | None, channels: Sequence[str]) -> "pa.Table":
    """Return the rows of a period and of some channels; see `read_predictions`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    row_mask = pc.is_in(table["channel"], value_set=pa.array(list(channels), pa.string()))
    if since is not None:
        row_mask = pc.and_(row_mask, pc.greater_equal(table["time"], pa.scalar(since, table["time"].type)))
    if until is not None:
        row_mask = pc.and_(row_mask, pc.less(table["time"], pa.scalar(until, table["time"].type)))
    return table.filter(row_mask)


def read_call(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read the predictions of a call's file or journal.

    Args:
        columns: of `predictions_schema`; None: all.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    output_columns = list(columns or predictions_schema().names)
    if path.suffix == ".arrow":
        return read_journal(path).select(output_columns)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(names_in(output_columns, file.schema_arrow.names))
            return _complete_table(table, output_columns, file.metadata.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}): put back a copy of it") from error


def _complete_table(table: "pa.Table", columns: Sequence[str], count: int) -> "pa.Table":
    """Add the columns that the table of an older file lacks: the channel `hand`, all others null."""
    import pyarrow as pa

    defaults = {"channel": MANUAL_CHANNEL}
    arrays = []
    for name in columns:
        data_type = predictions_schema().field(name).type
        if name in table.column_names:
            arrays.append(table[name].cast(data_type))
        else:
            arrays.append(pa.repeat(pa.scalar(defaults.get(name), data_type), count))
    return pa.table(arrays, names=list(columns))


def empty_table() -> "pa.Table":
    """Return a table of no predictions."""
    return predictions_schema().empty_table()


def _read_journal_if_exists(path: Path) -> "pa.Table":
    """Read a journal's predictions; none where it has become a file since it was listed."""
    try:
        return read_journal(path)
    except FileNotFoundError:
        return empty_table()


def read_journal(path: Path) -> "pa.Table":
    """Read the predictions of a journal, an Arrow IPC stream.

    It may end in the middle of a message: its writer is still writing or died, and never answered with the incomplete rows. A
    power failure within seconds of its first row may leave nothing but zeros.

    Raises:
        DataError: it is broken before its end.
        FileNotFoundError: there is no such file.
    """
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    journal_schema = predictions_schema()
    data = path.read_bytes()
    if not any(data):
        data = b""
    with pa.BufferReader(data) as stream:
        try:
            with pa.ipc.open_stream(stream) as reader:
                journal_schema = reader.schema  # an older version may have written it
                for batch in reader:
                    batches.append(batch)  # those before an incomplete end count
        except (pa.ArrowInvalid, OSError) as error:
            if stream.tell() < stream.size():
                raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}): put back a copy of it") from error
    table = pa.Table.from_batches(batches, schema=journal_schema).combine_chunks()  # a batch a request: any step takes longer
    return _complete_table(table, predictions_schema().names, table.num_rows)
