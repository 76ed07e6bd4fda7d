"""Following a training from outside: the stage writes one line an epoch, the flow carries it to MLflow meanwhile."""

import csv
import json
import time
from pathlib import Path
from typing import Any


class ProgressFollower:
    """Hands out the rows of a progress file as they come, each once.

    What an earlier training left in the file is passed over; a training that resumes there hands out its earlier
    epochs too, so that the curve is whole.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._started = time.time_ns()
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

    def finished_rows(self, history: Path) -> list[dict[str, float]]:
        """The rows of a training that is not run again, from its history.csv."""
        with history.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
