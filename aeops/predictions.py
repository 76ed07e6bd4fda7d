"""What was scored: a Parquet file a call, so that `ae why` can say later what stands behind a score.

    <home>/predictions/<recipe>/<date>/<call>.parquet     a row a sample, in their order; the date is UTC's

A prediction's id is `<call>-<row>`, such as 7f3a9c2e-12: eight hexadecimal digits that are drawn once a call, and the row from 0.
Standard library only on import.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.errors import DataError, InfrastructureError, UsageError, as_ae_error
from aeops.project import Project

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ID = re.compile(r"([0-9a-f]{8})-(\d+)")


@dataclass(frozen=True)
class Prediction:
    """One score.

    Attributes:
        time: of the call, UTC.
        bundle_sha256: the bundle that scored.
        sample: what the sample was called, such as batch.npy[12].
        sample_sha256: of the sample's dtype, shape and bytes, as in a dataset's index; of a text, of its UTF-8.
        threshold: the score above which it would have been flagged.
        file: where this is recorded.
    """

    id: str
    time: datetime
    recipe: str
    version: str
    bundle_sha256: str
    sample: str
    sample_sha256: str
    score: float
    p_value: float
    is_anomaly: bool
    threshold: float
    file: Path


def record(
    project: Project,
    *,
    recipe: str,
    version: str,
    bundle_sha256: str,
    threshold: float,
    names: Sequence[str],
    samples: "Sequence[str] | np.ndarray",
    scored: "dict[str, np.ndarray]",
) -> list[str]:
    """Records a call; returns the id of each prediction.

    Args:
        names: what each sample is called.
        samples: (n, ...) as they were given, or texts.
        scored: score, p_value and is_anomaly, (n,) each.

    Raises:
        InfrastructureError: it cannot be written.
    """
    import pyarrow as pa

    now = datetime.now(UTC)
    folder = project.home / "predictions" / recipe / f"{now:%Y-%m-%d}"
    call = new_call(project)
    ids = [f"{call}-{row}" for row in range(len(names))]
    same = {"recipe": recipe, "version": version, "bundle_sha256": bundle_sha256}
    columns = {
        "id": pa.array(ids, pa.string()),
        "time": pa.array([now] * len(ids), pa.timestamp("us", tz="UTC")),
        **{name: pa.array([value] * len(ids), pa.string()) for name, value in same.items()},
        "sample": pa.array([name.encode("utf-8", "backslashreplace").decode() for name in names], pa.string()),
        "sample_sha256": pa.array(sums(samples), pa.string()),
        **{name: pa.array(scored[name]) for name in ("score", "p_value", "is_anomaly")},
        "threshold": pa.array([threshold] * len(ids), pa.float64()),
    }
    write(folder / f"{call}.parquet", pa.table(columns))
    return ids


def new_call(project: Project) -> str:
    """Eight hexadecimal digits that no recorded call has."""
    while True:
        call = secrets.token_hex(4)
        if not files_of(project, call):
            return call


def sums(samples: "Sequence[str] | np.ndarray") -> list[str]:
    """The hash of each sample; see `Prediction`."""
    import numpy as np

    from aeops.statistics import sample_sha256

    if isinstance(samples, np.ndarray) and samples.dtype != object:
        return sample_sha256(samples.astype(samples.dtype.newbyteorder("="), copy=False))  # as a dataset is kept
    return [hashlib.sha256(str(text).encode()).hexdigest() for text in samples]


def write(file: Path, table: "pa.Table") -> None:
    """Whole or not there, and on the disk before anybody is told an id."""
    import pyarrow.parquet as pq

    aside = file.with_name(f".{file.name}.aside")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    except OSError as error:
        raise as_ae_error(error) or InfrastructureError(
            f"the predictions cannot be recorded in {file.parent} ({error.strerror}): make it yours to write, or set AE_HOME to "
            "a folder that is; no score is told that could not be asked for later"
        ) from error


def files_of(project: Project, call: str) -> list[Path]:
    return sorted((project.home / "predictions").glob(f"*/*/{call}.parquet"))


def find(project: Project, prediction: str) -> Prediction:
    """The prediction of that id.

    Raises:
        UsageError: it is no id, or nothing is recorded under it.
        DataError: the file that should hold it cannot be read, or holds another one in its place.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    form = ID.fullmatch(prediction)
    if form is None:
        raise UsageError(f"{prediction!r} is no prediction; an id as `ae score` prints it is allowed, such as 7f3a9c2e-12")
    found = files_of(project, form[1])
    if not found:
        raise UsageError(
            f"no prediction {prediction} in {project.home / 'predictions'}: `ae score` prints the ids that there are"
        )
    try:
        rows = pq.read_table(found[0])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{found[0]} cannot be read ({str(error).splitlines()[0]}): put back a copy of it") from error
    place = int(form[2])
    if place >= rows.num_rows:
        raise UsageError(f"no prediction {prediction}: the call {form[1]} has {form[1]}-0 to {form[1]}-{rows.num_rows - 1}")
    row = rows.slice(place, 1).to_pylist()[0]
    if row.get("id") != prediction:
        raise DataError(f"{found[0]} holds {row.get('id')} where {prediction} should be: its rows were changed")
    return Prediction(**row, file=found[0])
