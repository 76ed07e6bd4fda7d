"""Journal of a service's predictions: each is appended to a file before its answer is sent.

    <home>/predictions/<recipe>/journal/<call>.arrow     an Arrow IPC stream, one os.write a batch, locked with flock

`kill -9` of the process loses nothing that was answered. A journal that is large, old or of yesterday is closed; a separate
process (journal_roller.py) rolls it, and those that a dead process left, into <date>/<call>.parquet. The columns are those of
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

from aeops.files import make_folder, sync_folder
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.recorded_files import predictions_folder
from aeops.predictions.rows import Scorer, predictions_schema
from aeops.project import Project
from aeops.recipe.monitoring import SERVICE_CHANNEL

MAX_JOURNAL_BYTES = 32 * 2**20  # bytes: some 90,000 predictions
MAX_JOURNAL_AGE = timedelta(minutes=10)
PROBE_NAME = "probe"  # of the file that is written to see whether the disk takes one
PROBE_BYTES = 65_536  # as many as a batch takes
STOP_WITHIN = 3  # seconds that the last journal may take to become a file before it is left to the next start

logger = logging.getLogger("aeops.serving")


@dataclass
class OpenJournal:
    """A journal that is being written."""

    call: str
    file: Path
    descriptor: int
    started_at: datetime
    rows: int = 0
    size: int = 0
    synced_size: int = 0


class Journal:
    """The journal of one recipe's service. May be used from several threads.

    Attributes:
        bytes_written: since the start.
    """

    def __init__(self, project: Project, recipe: str) -> None:
        self.project, self.recipe = project, recipe
        self.bytes_written = 0
        self._lock = threading.Lock()
        self._current: OpenJournal | None = None
        self._schema = predictions_schema()
        self._roller: subprocess.Popen[bytes] | None = None
        self._is_failing = False  # the last write has failed
        self._has_leftovers = True  # there may be journals that no process writes: at the start, those of dead processes

    def append(
        self, scorer: Scorer, names: Sequence[str], samples: Sequence[str] | np.ndarray, outputs: Mapping[str, np.ndarray]
    ) -> tuple[str, int]:
        """Write predictions; see `arrow_rows.build_rows` for the arguments.

        Returns:
            Their call, and the row of the first one.

        Raises:
            InfrastructureError: they cannot be written and must not be answered with.
        """
        now = datetime.now(UTC)
        with self._lock:
            if self._current is not None and is_due(self._current, now):
                self._close_current()
            if self._current is None:
                self._current = self._start_journal(now)
            journal = self._current
            first_row = journal.rows
            batch = build_rows(
                scorer,
                call=journal.call,
                channel=SERVICE_CHANNEL,
                time=now,
                names=names,
                samples=samples,
                outputs=outputs,
                first_row=first_row,
            )
            self._append_bytes(journal, batch.serialize())
            journal.rows += len(names)
        return journal.call, first_row

    def require_writable(self) -> None:
        """Check that predictions can be recorded: by the last write, or where that failed or was none, by a probe file.

        Raises:
            InfrastructureError: they cannot.
        """
        with self._lock:
            if self._current is not None and not self._is_failing:
                return
            file = prediction_store.journal_file(self.project, self.recipe, PROBE_NAME)
            tmp_path = file.with_name(f".{PROBE_NAME}{prediction_store.UNNAMED_SUFFIX}")
            try:
                make_folder(file.parent)
                try:
                    tmp_path.write_bytes(bytes(PROBE_BYTES))
                finally:
                    tmp_path.unlink(missing_ok=True)
            except OSError as error:
                raise prediction_store.write_error(file, error) from error

    def maintain(self) -> None:
        """Close a journal that is due, sync the other, and start to roll closed ones into files. Called every few seconds."""
        with self._lock:
            if self._current is not None and is_due(self._current, datetime.now(UTC)):
                self._close_current()
        self._sync_current()
        if self._roller is not None and (code := self._roller.poll()) is not None:
            self._roller = None
            if code != 0:
                logger.error("a journal was not rolled (exit code %d), see %s: it is tried again", code, self._roller_log)
        if self._has_leftovers and self._roller is None:
            self._has_leftovers = False
            if self._has_closed_journals():
                self._roller = self._start_roller()

    def _sync_current(self) -> None:
        """Put on the disk what was written since the last time, without keeping a request waiting."""
        with self._lock:
            journal = self._current
            if journal is None or journal.size == journal.synced_size:
                return
            is_new, size = journal.synced_size == 0, journal.size
            descriptor = os.dup(journal.descriptor)  # meanwhile a request may close the journal
        try:
            os.fsync(descriptor)
            if is_new:
                sync_folder(journal.file.parent)
            journal.synced_size = size
        except OSError as error:
            logger.error("the journal %s cannot be synced (%s): a power failure would lose it", journal.file, error.strerror)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the journal for good and roll it into a file; where that takes long, the next start does it."""
        with self._lock:
            if self._current is not None:
                self._close_current()
        self.maintain()
        if self._roller is not None:
            try:
                self._roller.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._roller.kill()  # it may be killed at any line
                self._roller.wait()

    def _has_closed_journals(self) -> bool:
        """Return whether there are journals beside the current one; another service may still write them."""
        folder = predictions_folder(self.project, self.recipe) / prediction_store.JOURNAL
        calls = {file.stem for file in folder.glob("*.arrow")}
        if self._current is not None:
            calls.discard(self._current.call)
        return bool(calls)

    def _start_journal(self, now: datetime) -> OpenJournal:
        """Create a journal with its header; it gets its name only once it is locked, or it would look like a dead process's."""
        call = self._new_call()
        file = prediction_store.journal_file(self.project, self.recipe, call)
        tmp_path = file.with_name(f".{file.name}{prediction_store.UNNAMED_SUFFIX}")
        try:
            make_folder(file.parent)
            descriptor = os.open(tmp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        except OSError as error:
            raise prediction_store.write_error(file, error) from error
        journal = OpenJournal(call, file, descriptor, now)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append_bytes(journal, self._schema.serialize())
            tmp_path.replace(file)
        except OSError as error:
            raise prediction_store.write_error(file, error) from error
        finally:
            if tmp_path.exists():  # it was not renamed
                os.close(descriptor)
                tmp_path.unlink()
        return journal

    def _new_call(self) -> str:
        while True:
            call = secrets.token_hex(6)
            if not prediction_store.own_files(self.project, call):
                return call

    def _append_bytes(self, journal: OpenJournal, data: pa.Buffer) -> None:
        """Write all of the data or nothing: an incomplete write, as on a full disk, is undone."""
        try:
            byte_count = os.write(journal.descriptor, data)
            if byte_count != data.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(journal.file))
        except OSError as error:
            self._is_failing = True
            os.ftruncate(journal.descriptor, journal.size)
            raise prediction_store.write_error(journal.file, error) from error
        self._is_failing = False
        journal.size += byte_count
        self.bytes_written += byte_count

    def _close_current(self) -> None:
        assert self._current is not None
        os.close(self._current.descriptor)
        self._current, self._has_leftovers = None, True

    @property
    def _roller_log(self) -> Path:
        return self.project.logs / f"rolling-{self.recipe}.log"

    def _start_roller(self) -> subprocess.Popen[bytes]:
        make_folder(self.project.logs)
        with self._roller_log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "aeops.predictions.journal_roller", self.recipe],
                cwd=self.project.root,
                env=os.environ | {"AE_HOME": str(self.project.home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def is_due(journal: OpenJournal, now: datetime) -> bool:
    """Return whether a journal is large or old, or of another day, by which its file is called."""
    return (
        journal.size >= MAX_JOURNAL_BYTES
        or now - journal.started_at >= MAX_JOURNAL_AGE
        or now.date() != journal.started_at.date()
    )
