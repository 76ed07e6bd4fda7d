"""Every prediction of the service, on its way: appended to a file before its answer goes out.

    <home>/predictions/<recipe>/journal/<call>.arrow     an Arrow IPC stream, one os.write a batch, held by flock

`kill -9` of the process loses nothing that was answered. A journal that is large, old or of yesterday is closed; a separate
process (journal_roller.py) turns it, and those that a dead process left, into <date>/<call>.parquet. The columns are those of
rows.py.
"""

import errno
import fcntl
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from aeops.errors import InfrastructureError, as_ae_error
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.rows import Scorer, schema
from aeops.project import Project
from aeops.recipe.monitoring import SERVICE

LARGEST = 32 * 2**20  # bytes: some 90,000 predictions
OLDEST = timedelta(minutes=10)
STOP_WITHIN = 3  # seconds that the last journal may take to become a file before it is left to the next start

log = logging.getLogger("aeops.serving")


@dataclass
class Opened:
    """The journal that is being written."""

    call: str
    file: Path
    descriptor: int
    since: datetime
    rows: int = 0
    size: int = 0


class Journal:
    """The journal of one recipe's service. May be used from several threads.

    Attributes:
        written: bytes since the start.
    """

    def __init__(self, project: Project, recipe: str) -> None:
        self.project, self.recipe = project, recipe
        self.written = 0
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._schema = schema()
        self._rolling: subprocess.Popen[bytes] | None = None
        self._left = True  # whether there may be journals that nobody holds: at the start, those of the dead

    def append(
        self, scorer: Scorer, names: Sequence[str], samples: Sequence[str] | np.ndarray, scored: Mapping[str, np.ndarray]
    ) -> tuple[str, int]:
        """Writes predictions down; see `arrow_rows.build_rows` for the arguments.

        Returns:
            Their call and the row of the first of them.

        Raises:
            InfrastructureError: they could not be written; nobody may be told them.
        """
        now = datetime.now(UTC)
        with self._lock:
            if self._opened is not None and is_due(self._opened, now):
                self._close()
            opened = self._opened = self._opened or self._begin(now)
            first = opened.rows
            call = opened.call
            batch = build_rows(
                scorer, call=call, channel=SERVICE, time=now, names=names, samples=samples, scored=scored, first=first
            )
            self._write(opened, batch.serialize())
            opened.rows += len(names)
        return opened.call, first

    def tend(self) -> None:
        """Closes a journal that is due, and sees to it that closed ones become files. Called every few seconds."""
        with self._lock:
            if self._opened is not None and is_due(self._opened, datetime.now(UTC)):
                self._close()
        if self._rolling is not None and (code := self._rolling.poll()) is not None:
            self._rolling = None
            if code != 0:
                log.error("a journal was not made a file (exit code %d): %s has the reason; tried again later", code, self._log)
        if self._left and self._rolling is None:
            self._left = False
            if self._closed_ones():
                self._rolling = self._roll()

    def close(self) -> None:
        """Closes the journal for good and makes it a file; where that takes long, the next start does it."""
        with self._lock:
            if self._opened is not None:
                self._close()
        self.tend()
        if self._rolling is not None:
            try:
                self._rolling.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._rolling.kill()  # it may be killed at any line
                self._rolling.wait()

    def _closed_ones(self) -> bool:
        """Whether there are journals beside the one that is being written; another service may hold them."""
        own = self._opened.call if self._opened else None
        return any(
            file.stem != own for file in prediction_store.journal_file(self.project, self.recipe, "x").parent.glob("*.arrow")
        )

    def _begin(self, now: datetime) -> Opened:
        """A new journal with its head written; it has its name only when it is held, so that nobody takes it for a dead one."""
        call = self._new_call()
        file = prediction_store.journal_file(self.project, self.recipe, call)
        aside = file.with_name(f".{file.name}.aside")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            raise unwritable(file, error) from error
        opened = Opened(call, file, descriptor, now)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(opened, self._schema.serialize())
            aside.replace(file)
        except OSError as error:
            raise unwritable(file, error) from error
        finally:
            if aside.exists():  # it did not come to its name
                os.close(descriptor)
                aside.unlink()
        return opened

    def _new_call(self) -> str:
        while True:
            call = secrets.token_hex(6)
            if not prediction_store.files_of(self.project, call):
                return call

    def _write(self, opened: Opened, data: pa.Buffer) -> None:
        """All of it or nothing: what was cut short, as by a full disk, is taken back."""
        try:
            written = os.write(opened.descriptor, data)
            if written != data.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(opened.file))
        except OSError as error:
            os.ftruncate(opened.descriptor, opened.size)
            raise unwritable(opened.file, error) from error
        opened.size += written
        self.written += written

    def _close(self) -> None:
        assert self._opened is not None
        os.close(self._opened.descriptor)
        self._opened, self._left = None, True

    @property
    def _log(self) -> Path:
        return self.project.logs / f"rolling-{self.recipe}.log"

    def _roll(self) -> subprocess.Popen[bytes]:
        self.project.logs.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "aeops.predictions.journal_roller", self.recipe],
                cwd=self.project.root,
                env=os.environ | {"AE_HOME": str(self.project.home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def is_due(opened: Opened, now: datetime) -> bool:
    """Whether a journal has become large or old, or is of another day, by which its file is called."""
    return opened.size >= LARGEST or now - opened.since >= OLDEST or now.date() != opened.since.date()


def unwritable(file: Path, error: OSError) -> InfrastructureError:
    known = as_ae_error(error)
    if isinstance(known, InfrastructureError):
        return known
    return InfrastructureError(
        f"the predictions cannot be recorded in {file.parent} ({error.strerror}): make it yours to write, or set AE_HOME to a "
        "folder that is; no score is told that could not be asked for later"
    )
