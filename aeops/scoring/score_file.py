"""One file of the inbox, scored and recorded once: what it holds decides, not what it is called or when it came.

A call's name is made of the recipe and the content, so a second try of the same content finds the first one's file. The
file appears whole, by a rename, or not at all: whoever is killed before it has done nothing, and after it everything.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.predictions import prediction_store
from aeops.predictions.prediction_store import JOURNAL
from aeops.predictions.rows import Scorer, build_rows
from aeops.project import Project
from aeops.recipe.monitoring import BATCH
from aeops.scoring.inbox import Found, printable, stamp_of

if TYPE_CHECKING:
    import pyarrow as pa

    from aeops.kinds.samples import FileSamples

DIGITS = 16  # of a call's name
BLOCK = 16_384  # samples at once, so many at most
BLOCK_VALUES = 2**24  # and values: fewer samples where they are large
SOURCE, SHA256, RUN = "ae.source", "ae.source_sha256", "ae.run"  # what a file of predictions says of where they come from


class MovedError(Exception):
    """The file was written to while it was read."""


@dataclass(frozen=True)
class Taken:
    """A file whose samples are recorded.

    Attributes:
        name: of the file in the inbox.
        file: where its predictions are.
    """

    name: str
    sha256: str
    file: Path
    version: str
    samples: int
    flagged: int

    @property
    def call(self) -> str:
        return self.file.stem


def call_of(recipe: str, sha256: str, attempt: int) -> str:
    """The name of the call for a content; `attempt` counts those that another content has taken already."""
    return hashlib.sha256(f"{recipe} {sha256} {attempt}".encode()).hexdigest()[:DIGITS]


class Calls:
    """The calls that are recorded, of every recipe and channel."""

    def __init__(self, project: Project) -> None:
        places = project.home / "predictions"
        self._files: dict[str, list[Path]] = {}
        for file in (*places.glob("*/*/*.parquet"), *places.glob(f"*/{JOURNAL}/*.arrow")):
            self.add(file)

    def add(self, file: Path) -> None:
        self._files.setdefault(file.stem, []).append(file)

    def __contains__(self, call: str | None) -> bool:
        return call in self._files

    def of(self, recipe: str, sha256: str) -> tuple[str, Path | None]:
        """The call of a content, and its file where it is recorded; a call that is another content's is passed over."""
        attempt = 0
        while files := self._files.get(call := call_of(recipe, sha256, attempt)):
            for file in files:
                if source_of(file).get(SHA256) == sha256:
                    return call, file
            attempt += 1
        return call, None


def is_batch(file: Path) -> bool:
    """Whether a file of predictions may be of a batch, by its name; those of other channels may be so named, too."""
    return len(file.stem) == DIGITS


def source_of(file: Path) -> dict[str, str]:
    """What a file of predictions says of where they come from; nothing where it is not of a batch."""
    if file.suffix != ".parquet":
        return {}
    try:
        told = pq.read_metadata(file).metadata or {}
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read ({str(error).splitlines()[0]}): put back a copy of it, or remove it") from error
    return {name.decode(): value.decode() for name, value in told.items() if name.startswith(b"ae.")}


def take(
    project: Project, run: str, time: datetime, found: Found, sha256: str, call: str, detector: Detector, scorer: Scorer
) -> Taken:
    """Scores the file block by block and records it.

    Raises:
        DataError: it holds no samples that the version takes; nothing is recorded.
        MovedError: it was written to meanwhile; nothing is recorded.
    """
    for left in prediction_store.folder_of(project, scorer.recipe).glob(f"*/.{call}.parquet.aside"):
        left.unlink()  # of a run that was killed on another day
    file = prediction_store.call_file(project, scorer.recipe, time, call)
    counted = Counted(found, detector, scorer, call, time)
    about = {SOURCE: printable(found.name), SHA256: sha256, RUN: run}
    prediction_store.write(file, counted.batches(), about)
    return Taken(printable(found.name), sha256, file, scorer.version, counted.samples, counted.flagged)


def taken_before(file: Path) -> Taken:
    """What an earlier try of the same run has recorded."""
    about = source_of(file)
    held = pq.read_table(file, columns=["is_anomaly", "version"])
    flagged = int(np.asarray(held["is_anomaly"]).sum())
    return Taken(about[SOURCE], about[SHA256], file, held["version"][0].as_py(), held.num_rows, flagged)


class Counted:
    """The predictions of a file, made one block at a time.

    Attributes:
        samples, flagged: how many there were, once `batches` has come to its end.
    """

    def __init__(self, found: Found, detector: Detector, scorer: Scorer, call: str, time: datetime) -> None:
        self._found, self._detector, self._scorer, self._call, self._time = found, detector, scorer, call, time
        self.samples = self.flagged = 0

    def batches(self) -> "Iterator[pa.RecordBatch]":
        for names, samples, scored in scored_blocks(self._found, self._detector):
            yield build_rows(
                self._scorer,
                call=self._call,
                channel=BATCH,
                time=self._time,
                names=names,
                samples=samples,
                scored=scored,
                first=self.samples,
            )
            self.samples += len(names)
            self.flagged += int(scored["is_anomaly"].sum())
        require_unmoved(self._found)


def scored_blocks(found: Found, detector: Detector) -> Iterator[tuple[list[str], np.ndarray, dict[str, np.ndarray]]]:
    """Names, samples (k, *shape) or texts (k,), and what the detector says of them.

    Raises:
        DataError: no samples, or some that the version does not take.
        MovedError: the file is not as it was found.
    """
    samples = samples_in(found, detector)
    total, above = len(samples.names), found.name.rpartition("/")[0]
    if total == 0:
        raise DataError("it holds no samples; one or more are allowed")
    rows = block_rows(samples.values) if total > 1 else 1
    for first in range(0, total, rows):
        last = min(first + rows, total)
        block = samples.values[first:last] if total > 1 else samples.values  # one sample may come without its batch
        try:
            scored = detector.score(block, code=True)
        except DataError as error:
            raise DataError(f"samples {first} to {last - 1}: {error}" if rows < total else str(error)) from error
        block = detector.data_kind.stored_form(block, detector.spec, is_json=False)
        names = samples.names[first:last]
        yield [f"{above}/{name}" if above else name for name in names], block, scored


def samples_in(found: Found, detector: Detector) -> "FileSamples":
    """The file's samples; raises MovedError where it is gone, DataError where it cannot be what it should be."""
    require_unmoved(found)
    return detector.read_file(found.place)


def require_unmoved(found: Found) -> None:
    try:
        same = stamp_of(found.place) == found.stamp
    except FileNotFoundError:
        same = False
    if not same:
        raise MovedError


def block_rows(values: np.ndarray) -> int:
    return max(1, min(BLOCK, BLOCK_VALUES // max(1, int(np.prod(values.shape[1:])))))
