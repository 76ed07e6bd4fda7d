"""Following a training from outside: the stage writes a line per epoch, the flow shows it and copies it to MLflow at once."""

import csv
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aeops.machine.step_report import format_seconds
from aeops.machine.terminal import is_quiet, raw_stream

COUNT_SECONDS = 0.2  # between two counts
EpochRow = dict[str, Any]  # a line of progress.jsonl: `epoch`, losses, `samples_per_second`


class ProgressFollower:
    """Return the rows of a progress file as they are written, each once.

    Rows that an earlier training left in the file are skipped; a training that resumes there returns its earlier
    epochs too, so that the curve is complete.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._started_ns = time.time_ns() - 20_000_000  # a file's time is read from a coarser clock
        self._returned_epochs: set[int] = set()

    def new_rows(self) -> list[EpochRow]:
        """Return the rows written since the last call; a line still being written waits for the next one."""
        if not self.file.is_file() or self.file.stat().st_mtime_ns < self._started_ns:
            return []
        text = self.file.read_text(encoding="utf-8")
        new_rows = []
        for line in text[: text.rfind("\n") + 1].splitlines():
            row = json.loads(line)
            if row["epoch"] not in self._returned_epochs:
                self._returned_epochs.add(row["epoch"])
                new_rows.append(row)
        return new_rows


@dataclass(frozen=True)
class BatchPlace:
    """Where a training is, as its process last wrote it.

    Attributes:
        epoch, batch: counted from 1.
        samples_per_second: over all members, since the process started to train.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    samples_per_second: float

    def describe(self) -> str:
        """Return the place with speed and time left, such as `epoch 3 of 50, batch 12 of 39, 5,600 samples/s`."""
        place = f"epoch {self.epoch} of {self.epochs}, batch {self.batch} of {self.batches}"
        return f"{place}, {self.samples_per_second:,.0f} samples/s"

    @property
    def share(self) -> float:
        """Share of all batches that are done, in (0, 1]."""
        return ((self.epoch - 1) * self.batches + self.batch) / (self.epochs * self.batches)


class BatchFollower:
    """Reads where a training is, from the file that its process writes again and again; a file of an earlier one is not read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._started_at = time.time()
        self._first: tuple[float, float] | None = None  # share and time of the first place that was read

    def describe(self) -> str:
        """Return the place with the time left; empty before the first one was written."""
        try:
            values = json.loads(self.file.read_bytes())
        except (FileNotFoundError, ValueError):
            return ""
        if values.pop("written_at", 0.0) < self._started_at:
            return ""
        place = BatchPlace(**values)
        share, now = place.share, time.time()
        if self._first is None:
            self._first = share, now
        first_share, first_time = self._first
        if share <= first_share:
            return place.describe()
        left = (now - first_time) * (1 - share) / (share - first_share)
        return f"{place.describe()}, {format_seconds(left)} left"


class ProgressBar:
    """A bar over the epochs with samples/s, where stderr is a terminal and progress is wanted. Use as a context manager."""

    def __init__(self, epochs: int) -> None:
        is_hidden = is_quiet() or None  # None: where stderr is no terminal
        self._bar = tqdm(file=raw_stream(sys.stderr), total=epochs, unit=" epochs", leave=False, disable=is_hidden)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, rows: list[EpochRow]) -> None:
        """Draw the rows of `ProgressFollower.new_rows`."""
        if rows:
            row = rows[-1]
            speed = f"{row['samples_per_second']:,.0f} samples/s"
            text = f"loss {row['train_loss']:.5f}, validation {row['validation_error']:.5f}, {speed}"
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(len(rows))


class CountWriter:
    """Writes how many samples of how many are done to a file, a few times a second, for `CountFollower`."""

    def __init__(self, file: Path, total: int) -> None:
        self.file, self.total = file, total
        self._written_at = 0.0
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)

    def write(self, done: int) -> None:
        """Note how many are done."""
        now = time.monotonic()
        if now - self._written_at >= COUNT_SECONDS or done == self.total:
            self._written_at = now
            self.file.write_text(json.dumps([done, self.total]))


class CountFollower:
    """Reads how many samples a stage has done, from the file of `CountWriter`; one of an earlier run is not read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._started_ns = time.time_ns()
        self._first: tuple[int, float] | None = None  # the first count that was read, and when

    def describe(self) -> str:
        """Return the count with speed and time left; empty before the first one was written."""
        try:
            if self.file.stat().st_mtime_ns < self._started_ns:
                return ""
            done, total = json.loads(self.file.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or one that is just being written
            return ""
        now = time.time()
        if self._first is None:
            self._first = done, now
        first_done, first_time = self._first
        place = f"{done:,} of {total:,} samples"
        if done <= first_done:
            return place
        speed = (done - first_done) / (now - first_time)
        return f"{place}, {speed:,.0f} samples/s, {format_seconds((total - done) / speed)} left"


def finished_rows(history: Path) -> list[dict[str, float]]:
    """Return the rows of a training that is not run again, from its history.csv; empty cells are left out."""
    rows = []
    with history.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            row = {}
            for name, value in cells.items():
                if value:
                    row[name] = float(value)
            rows.append(row)
    return rows
