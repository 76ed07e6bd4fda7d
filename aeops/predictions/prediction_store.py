"""What was scored, by hand, by the service and in batches, so that `ae why` can say later what stands behind a score.

    <home>/predictions/<recipe>/<date>/<call>.parquet     a row a sample; the date is that of the first row, in UTC
    <home>/predictions/<recipe>/journal/<call>.arrow      what a service has answered and not yet turned into such a file

A prediction's id is `<call>-<row>`, such as 7f3a9c2e-12: 8 to 16 hexadecimal digits that name the call, and the row from 0. Files
that were written before there were channels stay readable: theirs is `hand`, and what they do not have is null.
Standard library only on import.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.errors import DataError, InfrastructureError, UsageError, as_ae_error
from aeops.files import atomic_path
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.rows import Prediction, Scorer, schema
from aeops.project import Project
from aeops.recipe.monitoring import CHANNELS, HAND, SERVICE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


ID = re.compile(r"([0-9a-f]{8,16})-(\d+)")
JOURNAL = "journal"
LONGEST_CALL = timedelta(days=1)  # from a file's first row to its last


# ---------------------------------------------------------------- writing


def record(
    project: Project,
    scorer: Scorer,
    *,
    channel: str,
    names: Sequence[str],
    samples: "Sequence[str] | np.ndarray",
    scored: "Mapping[str, np.ndarray]",
) -> list[str]:
    """Records a call of its own, now; returns the id of each prediction. See `build_rows` for the arguments.

    Raises:
        InfrastructureError: it cannot be written.
    """
    call, now = new_call(project), datetime.now(UTC)

    batch = build_rows(scorer, call=call, channel=channel, time=now, names=names, samples=samples, scored=scored)
    write(call_file(project, scorer.recipe, now, call), [batch])
    return [f"{call}-{row}" for row in range(len(names))]


def new_call(project: Project) -> str:
    """Eight hexadecimal digits that no recorded call has."""
    while True:
        call = secrets.token_hex(4)
        if not files_of(project, call):
            return call


def folder_of(project: Project, recipe: str) -> Path:
    return project.home / "predictions" / recipe


def call_file(project: Project, recipe: str, time: datetime, call: str) -> Path:
    """Where a call goes whose first row is of that time."""
    return folder_of(project, recipe) / f"{time.astimezone(UTC):%Y-%m-%d}" / f"{call}.parquet"


def journal_file(project: Project, recipe: str, call: str) -> Path:
    return folder_of(project, recipe) / JOURNAL / f"{call}.arrow"


def write(file: Path, batches: "Iterable[pa.RecordBatch]", metadata: Mapping[str, str] | None = None) -> None:
    """A call's file, whole or not there, and on the disk before anybody is told an id; one batch in memory at a time.

    Args:
        metadata: kept in the file beside the rows.

    Raises:
        InfrastructureError: it cannot be written. What the batches themselves raise is passed on, and nothing is left.
    """
    import pyarrow.parquet as pq

    complete_schema = schema().with_metadata(dict(metadata or {}))
    try:
        with (
            atomic_path(file) as tmp_path,
            tmp_path.open("wb") as stream,
            pq.ParquetWriter(stream, complete_schema, compression="zstd") as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
    except OSError as error:
        raise as_ae_error(error) or InfrastructureError(
            f"the predictions cannot be recorded in {file.parent} ({error.strerror}): make it yours to write, or set AE_HOME to "
            "a folder that is; no score is told that could not be asked for later"
        ) from error


# ---------------------------------------------------------------- reading


def files_of(project: Project, call: str) -> list[Path]:
    """The file of a call, or its journal as long as there is no file."""
    places = project.home / "predictions"
    return sorted(places.glob(f"*/*/{call}.parquet")) or sorted(places.glob(f"*/{JOURNAL}/{call}.arrow"))


def find(project: Project, prediction: str) -> Prediction:
    """The prediction of that id.

    Raises:
        UsageError: it is no id, or nothing is recorded under it.
        DataError: the file that should hold it cannot be read, or holds another one in its place.
    """
    form = ID.fullmatch(prediction)
    if form is None:
        raise UsageError(f"{prediction!r} is no prediction; an id as `ae score` prints it is allowed, such as 7f3a9c2e-12")
    found = files_of(project, form[1])
    if not found:
        raise UsageError(
            f"no prediction {prediction} in {project.home / 'predictions'}: `ae score` prints the ids that there are"
        )
    held = read_call(found[0])
    place = int(form[2])
    if place >= held.num_rows:
        raise UsageError(f"no prediction {prediction}: the call {form[1]} has {form[1]}-0 to {form[1]}-{held.num_rows - 1}")
    row = held.slice(place, 1).to_pylist()[0]
    if row.get("id") != prediction:
        raise DataError(f"{found[0]} holds {row.get('id')} where {prediction} should be: its rows were changed")
    return Prediction(**row, file=found[0])


def read(
    project: Project,
    recipe: str,
    since: datetime | None = None,
    until: datetime | None = None,
    channels: Sequence[str] = CHANNELS,
    columns: Sequence[str] | None = None,
) -> "pa.Table":
    """The recipe's predictions in order of time, those in journals included.

    Args:
        since: the first moment, with its zone; None: the beginning.
        until: the first moment that is left out, with its zone; None: all.
        columns: of `schema`; None: all.

    Raises:
        DataError: a file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = list(columns or schema().names)
    asked = list(dict.fromkeys([*wanted, "time", "channel"]))
    parts = [chosen(part, since, until, channels) for part in calls(project, recipe, since, until, channels, asked)]
    parts = sorted((part for part in parts if part.num_rows), key=lambda part: part["time"][0].value)
    table = pa.concat_tables(parts) if parts else empty().select(asked)
    return table.take(pc.sort_indices(table["time"])).select(wanted)  # stable: the rows of one moment keep their order


def calls(
    project: Project,
    recipe: str,
    since: datetime | None,
    until: datetime | None,
    channels: Sequence[str],
    columns: Sequence[str],
) -> "Iterator[pa.Table]":
    """Each call that may have predictions of that time and of these channels."""
    journals, files = listed(project, recipe, since, until, channels)
    yield from (table.select(columns) for table in journals)
    yield from (read_call(place, columns) for place in files)


def listed(
    project: Project, recipe: str, since: datetime | None, until: datetime | None, channels: Sequence[str]
) -> "tuple[list[pa.Table], list[Path]]":
    """The calls that may have predictions of that time and of these channels: what journals hold, and the files of the others.

    Journals are the service's alone. They are listed before files: one that becomes a file meanwhile is found as such, and not
    twice.
    """
    places = sorted(folder_of(project, recipe).glob(f"{JOURNAL}/*.arrow")) if SERVICE in channels else []
    held = {place.stem: read_journal_if_there(place) for place in places}
    known = {place.stem: place for place in sorted(folder_of(project, recipe).glob("*-*-*/*.parquet"))}
    journals = [table for call, table in held.items() if call not in known]
    return journals, [place for place in known.values() if may_hold(place.parent.name, since, until)]


def may_hold(folder: str, since: datetime | None, until: datetime | None) -> bool:
    """Whether a folder named by its date may have predictions of that time."""
    day = date.fromisoformat(folder)
    early = until is not None and day > until.astimezone(UTC).date()
    return not early and (since is None or day >= (since.astimezone(UTC) - LONGEST_CALL).date())


def chosen(table: "pa.Table", since: datetime | None, until: datetime | None, channels: Sequence[str]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = pc.is_in(table["channel"], value_set=pa.array(list(channels), pa.string()))
    if since is not None:
        kept = pc.and_(kept, pc.greater_equal(table["time"], pa.scalar(since, table["time"].type)))
    if until is not None:
        kept = pc.and_(kept, pc.less(table["time"], pa.scalar(until, table["time"].type)))
    return table.filter(kept)


def read_call(place: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """The predictions of a call's file or journal, with the columns of `schema` or those asked for.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if place.suffix == ".arrow":
        table = read_journal(place)
        return table.select(columns) if columns else table
    wanted = list(columns or schema().names)
    try:
        with pq.ParquetFile(place) as file:
            table = file.read([name for name in wanted if name in file.schema_arrow.names])
            return completed(table, wanted, file.metadata.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{place} cannot be read ({str(error).splitlines()[0]}): put back a copy of it") from error


def completed(table: "pa.Table", columns: Sequence[str], count: int) -> "pa.Table":
    """The table of an older file with the columns that it lacks: the channel `hand`, else null."""
    import pyarrow as pa

    kinds = schema()
    arrays = [
        table[name].cast(kinds.field(name).type)
        if name in table.column_names
        else pa.repeat(pa.scalar(HAND if name == "channel" else None, kinds.field(name).type), count)
        for name in columns
    ]
    return pa.table(arrays, names=list(columns))


def empty() -> "pa.Table":
    return schema().empty_table()


def read_journal_if_there(place: Path) -> "pa.Table":
    """A journal's predictions; none where it has become a file since it was listed."""
    try:
        return read_journal(place)
    except FileNotFoundError:
        return empty()


def read_journal(place: Path) -> "pa.Table":
    """The predictions of a journal, an Arrow IPC stream that may end in the middle of a message: whoever wrote it is still
    writing, or died, and nobody was told what is torn.

    Raises:
        DataError: it is broken before its end.
        FileNotFoundError: there is no such file.
    """
    import pyarrow as pa

    found: list[pa.RecordBatch] = []
    with pa.BufferReader(place.read_bytes()) as stream:
        try:
            for batch in pa.ipc.open_stream(stream):
                found.append(batch)  # what came before a torn end counts
        except (pa.ArrowInvalid, OSError) as error:
            if stream.tell() < stream.size():
                raise DataError(f"{place} cannot be read ({str(error).splitlines()[0]}): put back a copy of it") from error
    return pa.Table.from_batches(found, schema=schema()).combine_chunks()  # a batch a request: any step over them takes longer
