"""Score one file of the inbox and record it once: its content decides, not its name or when it came.

A call's name is derived from the recipe and the content, so a second try of the same content finds the first one's file. That
file appears as a whole, by a rename, or not at all: a process killed before has done nothing, and killed after it everything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aeops.bundle.detector import Detector
from aeops.errors import DataError, UsageError
from aeops.files import data_sha256, temporary_path
from aeops.kinds.flags import REFUSED
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.prediction_store import JOURNAL
from aeops.predictions.recorded_files import (
    is_day_file,
    joined_calls,
    list_recorded,
    predictions_folder,
    read_metadata,
)
from aeops.predictions.rows import Scorer
from aeops.project import Project
from aeops.recipe.monitoring import BATCH_CHANNEL
from aeops.scoring.inbox import InboxFile, read_fingerprint
from aeops.scoring.run_summary import ScoredFileRecord

if TYPE_CHECKING:
    import pyarrow as pa

    from aeops.kinds.samples import FileSamples

CALL_DIGITS = 16  # of a call's name
BLOCK_SAMPLES = 16_384  # scored at once, at most
BLOCK_VALUES = 2**24  # and at most so many values: fewer samples where they are large
SOURCE_KEY, SHA256_KEY, RUN_KEY = "ae.source", "ae.source_sha256", "ae.run"  # metadata of a file of predictions


class FileChangedError(Exception):
    """The file was written to while it was read."""


@dataclass(frozen=True)
class ScoredFile:
    """A file whose samples are recorded.

    Attributes:
        name: of the file in the inbox, printable.
        sha256: of its content.
        call: that its predictions belong to.
        predictions: the Parquet file with its predictions.
        version: of the model that scored it.
        sample_count: number of samples.
        flagged_count: number of samples that were flagged.
        refused_count: number of samples that have no score.
    """

    name: str
    sha256: str
    call: str
    predictions: Path
    version: str
    sample_count: int
    flagged_count: int
    refused_count: int = 0

    def to_dict(self) -> ScoredFileRecord:
        """Return the file as the summary of a run holds it."""
        return {
            "call": self.call,
            "flagged": self.flagged_count,
            "name": self.name,
            "samples": self.sample_count,
            "sha256": self.sha256,
            "unscored": self.refused_count,
            "version": self.version,
        }


def call_name(recipe: str, sha256: str, attempt: int) -> str:
    """Return the name of the call for a content; `attempt` counts the names that other contents have taken already."""
    return data_sha256(f"{recipe} {sha256} {attempt}")[:CALL_DIGITS]


class RecordedCalls:
    """The calls that are recorded, of every recipe and channel."""

    def __init__(self, project: Project) -> None:
        folder = project.home / "predictions"
        self._files: dict[str, list[Path]] = {}
        for file in (*folder.glob("*/*/[!.]*.parquet"), *folder.glob(f"*/{JOURNAL}/*.arrow")):
            for call in calls_of(file):
                self._files.setdefault(call, []).append(file)

    def add_file(self, file: Path) -> None:
        """Add a call by its file of predictions."""
        self._files.setdefault(file.stem, []).append(file)

    def __contains__(self, call: str | None) -> bool:
        return call in self._files

    def find(self, recipe: str, sha256: str) -> tuple[str, Path | None]:
        """Return the call of a content, and its file where it is recorded; calls of other contents are passed over."""
        attempt = 0
        while files := self._files.get(call := call_name(recipe, sha256, attempt)):
            for file in files:
                if read_batch_source(file, call).get(SHA256_KEY) == sha256:
                    return call, file
            attempt += 1
        return call, None


def calls_of(file: Path) -> Iterable[str]:
    """Return the names of the calls that a file of predictions or a journal holds."""
    return joined_calls(file) if is_day_file(file) else [file.stem]


def may_be_batch(call: str) -> bool:
    """Return whether a call may be of a batch, by its name; those of other channels may have such names, too."""
    return len(call) == CALL_DIGITS


def read_batch_source(file: Path, call: str) -> Mapping[str, str]:
    """Return the metadata about the source of a call, of the file that holds it; empty where it is not of a batch.

    Raises:
        DataError: the file cannot be read.
    """
    if file.suffix != ".parquet":
        return {}
    metadata = joined_calls(file)[call] if is_day_file(file) else read_metadata(file)
    source = {}
    for name, value in metadata.items():
        if name.startswith("ae."):
            source[name] = value
    return source


def score_and_record(
    project: Project, run: str, time: datetime, file: InboxFile, sha256: str, call: str, detector: Detector, scorer: Scorer
) -> ScoredFile:
    """Score the file block by block and record its predictions.

    Args:
        project: where predictions are recorded.
        run: name of the run, kept with the predictions.
        time: of the predictions.
        file: of the inbox.
        sha256: of its content.
        call: name of the call.
        detector: of the version that scores.
        scorer: describes that version in each row.

    Raises:
        DataError: it holds no samples that the version accepts, or none that it can score; nothing is recorded.
        FileChangedError: it was written to meanwhile; nothing is recorded.
    """
    predictions = prediction_store.call_file(project, scorer.recipe, time, call)
    name = temporary_path(predictions).name
    for left_over in predictions_folder(project, scorer.recipe).glob(f"*/{name}"):
        left_over.unlink()  # of a run that was killed on another day
    batches = ScoredBatches(file, detector, scorer, call, time)
    source = {SOURCE_KEY: file.printable_name, SHA256_KEY: sha256, RUN_KEY: run}
    prediction_store.write_call(predictions, batches.iter_rows(), source)
    return ScoredFile(
        file.printable_name,
        sha256,
        call,
        predictions,
        scorer.version,
        batches.sample_count,
        batches.flagged_count,
        batches.refused_count,
    )


def read_scored_file(predictions: Path, call: str) -> ScoredFile:
    """Return the scored file that an earlier try of the same run has recorded as this call."""
    source = read_batch_source(predictions, call)
    table = read_call_rows(predictions, call, ["is_anomaly", "version", "score"])
    return ScoredFile(
        name=source[SOURCE_KEY],
        sha256=source[SHA256_KEY],
        call=call,
        predictions=predictions,
        version=table["version"][0].as_py(),
        sample_count=table.num_rows,
        flagged_count=int(np.asarray(table["is_anomaly"]).sum()),
        refused_count=table["score"].null_count,
    )


def read_call_rows(file: Path, call: str, columns: Sequence[str]) -> "pa.Table":
    """Return columns of a call's rows, in order.

    Args:
        file: that held the call: its own, or a day file; its own may have become part of one since.
        call: name of the call.
        columns: of predictions.
    """
    if not file.is_file():
        file = next(
            day_file for day_file in list_recorded(file.parent) if is_day_file(day_file) and call in joined_calls(day_file)
        )
    if not is_day_file(file):
        return pq.read_table(file, columns=list(columns))
    table = pq.read_table(file, columns=["id", *columns])
    return table.filter(pc.starts_with(table["id"], f"{call}-")).select(list(columns))


class ScoredBatches:
    """The predictions of a file, computed one block at a time.

    Attributes:
        sample_count: number of samples, once `iter_rows` has come to its end.
        flagged_count: number of flagged samples, likewise.
        refused_count: number of samples without a score, likewise.
    """

    def __init__(self, file: InboxFile, detector: Detector, scorer: Scorer, call: str, time: datetime) -> None:
        self._file, self._detector, self._scorer, self._call, self._time = file, detector, scorer, call, time
        self.sample_count = self.flagged_count = self.refused_count = 0

    def iter_rows(self) -> "Iterator[pa.RecordBatch]":
        """Yield the rows of each block.

        Raises:
            DataError: the file holds no samples that the version accepts, or none that it can score.
            FileChangedError: the file was written to meanwhile.
        """
        for names, samples, scored in score_blocks(self._file, self._detector):
            yield build_rows(
                self._scorer,
                call=self._call,
                channel=BATCH_CHANNEL,
                time=self._time,
                names=names,
                samples=samples,
                outputs=scored,
                first_row=self.sample_count,
            )
            self.sample_count += len(names)
            self.flagged_count += int(scored["is_anomaly"].sum())
            self.refused_count += int(np.count_nonzero(scored["flags"] & REFUSED))
        if self.refused_count == self.sample_count:
            self._detector.require_scored(scored["flags"])  # of the last block, which tell why as well as the first
        require_unchanged_file(self._file)


def score_blocks(file: InboxFile, detector: Detector) -> Iterator[tuple[list[str], np.ndarray, dict[str, np.ndarray]]]:
    """Yield names, samples (k, *shape) or texts (k,), and the detector's results for each block of a file.

    Raises:
        DataError: no samples, or some that the version does not accept.
        FileChangedError: the file has changed since it was listed.
    """
    samples = read_inbox_samples(file, detector)
    total, folder = len(samples.names), file.name.rpartition("/")[0]
    if total == 0:
        raise DataError("it holds no samples; expected one or more")
    block_size = samples_per_block(samples.values) if total > 1 else 1
    for start in range(0, total, block_size):
        stop = min(start + block_size, total)
        block = samples.values[start:stop] if total > 1 else samples.values  # one sample may come without its batch
        scored = detector.score(block, code=True)
        block = detector.data_kind.stored_form(block, detector.spec, is_json=False)
        names = list(samples.names[start:stop])
        if folder:
            names = [f"{folder}/{name}" for name in names]
        yield names, block, scored


def read_inbox_samples(file: InboxFile, detector: Detector) -> "FileSamples":
    """Return the file's samples.

    Raises:
        DataError: the file does not hold such samples.
        FileChangedError: the file is gone or has changed since it was listed.
    """
    require_unchanged_file(file)
    try:
        return detector.read_file(file.path)
    except UsageError:
        require_unchanged_file(file)  # the file is gone
        raise


def require_unchanged_file(file: InboxFile) -> None:
    """Check that the file is as it was listed.

    Raises:
        FileChangedError: it is gone or has changed.
    """
    try:
        fingerprint = read_fingerprint(file.path)
    except FileNotFoundError:
        raise FileChangedError from None
    if fingerprint != file.fingerprint:
        raise FileChangedError


def samples_per_block(values: np.ndarray) -> int:
    """Return how many samples of (n, *shape) are scored at once."""
    return max(1, min(BLOCK_SAMPLES, BLOCK_VALUES // max(1, int(np.prod(values.shape[1:])))))
