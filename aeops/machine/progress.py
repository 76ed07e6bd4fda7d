"""Following a training from outside: the stage writes one line an epoch, the flow shows it and carries it to MLflow meanwhile."""

import csv
import json
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm


class ProgressFollower:
    """Hands out the rows of a progress file as they come, each once.

    What an earlier training left in the file is passed over; a training that resumes there hands out its earlier
    epochs too, so that the curve is whole.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._started = time.time_ns() - 20_000_000  # a file's time is read from a coarser clock
        self._given: set[int] = set()

    def new_rows(self) -> list[dict[str, Any]]:
        """The rows not handed out yet; a line still being written waits for the next call."""
        if not self.file.is_file() or self.file.stat().st_mtime_ns < self._started:
            return []
        text = self.file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = [json.loads(line) for line in whole.splitlines()]
        new = [row for row in rows if row["epoch"] not in self._given]
        self._given.update(row["epoch"] for row in new)
        return new


class ProgressBar:
    """A bar over the epochs with samples/s, where stderr is a terminal. Use as a context manager."""

    def __init__(self, epochs: int) -> None:
        self._bar = tqdm(total=epochs, unit=" epochs", leave=False, disable=None)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Draws what has come."""
        if rows:
            last = rows[-1]
            speed = f"{last['samples_per_second']:,.0f} samples/s"
            text = f"loss {last['train_loss']:.5f}, validation {last['validation_error']:.5f}, {speed}"
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(len(rows))


def finished_rows(history: Path) -> list[dict[str, float]]:
    """The rows of a training that is not run again, from its history.csv."""
    with history.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
