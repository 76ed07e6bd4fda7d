"""Score a large file in shards: commands side by side, here or on a cluster, whose results are files named by content.

    <home>/scoring/<recipe>/shards/<key>/0-65536.npz     the results of rows, until the whole file is recorded
    <home>/scoring/<recipe>/shards/<key>/call.json       the name and the time of the call that will record them

`ae status` counts what is unfinished, and `ae prune` deletes what nobody has gone on with.

The key is a hash of the model, the file's content, the code and the rows of a shard. So a shard is scored once, whatever is
killed: the same command goes on with those that are missing, and records all rows under the name that the killed one has chosen.
Shards end where the model's own blocks do, so each score is that of one process, bit for bit.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ae_models.checksums import json_sha256
from aeops.bundle.detector import Detector
from aeops.data.stage_code import EXEMPT_MODULES
from aeops.data.stage_runs import StageCommand
from aeops.errors import DataError, UsageError
from aeops.files import file_sha256, make_folder, write_json
from aeops.kinds.samples import FileSamples
from aeops.machine.access import may_write
from aeops.machine.lock import file_lock
from aeops.machine.source_files import source_hashes
from aeops.machine.stored_json import read_json_if_whole
from aeops.machine.terminal import print_progress
from aeops.places.open_place import open_place
from aeops.places.pool import Job, run_jobs
from aeops.predictions.prediction_store import CallName, new_call
from aeops.predictions.unfinished_scoring import shards_folder, shards_lock
from aeops.project import Project
from aeops.recipe.run_place import RunPlace
from aeops.scoring.score_shard import ShardRequest, file_stamp

SHARD_MODULE = "aeops.scoring.score_shard"
SHARD_SAMPLES = 65_536  # of a shard, at most: many seconds of work, where a process takes one or two to start
SHARD_VALUES = 2**26  # and at most so many values
FEWEST_SHARDS = 3  # a smaller file is scored by the command itself
KEY_DIGITS = 32


@dataclass(frozen=True)
class ShardedFile:
    """A file that is scored in shards.

    Attributes:
        detector: the model.
        path: the file.
        total: number of its samples.
        rows: of each shard; the last one may have fewer.
        stamp: size and time of the file.
        folder: of the results.
    """

    detector: Detector
    path: Path
    total: int
    rows: int
    stamp: str
    folder: Path

    def requests(self) -> list[ShardRequest]:
        """Return the shards in the order of the file."""
        requests = []
        for first in range(0, self.total, self.rows):
            last = min(first + self.rows, self.total)
            out = self.folder / f"{first}-{last}.npz"
            requests.append(ShardRequest(self.detector.folder, self.detector.sha256, self.path, self.stamp, first, last, out))
        return requests


def may_be_sharded(path: Path, samples: FileSamples) -> bool:
    """Return whether a file's samples can be read from any row on: those of a .npy file with two and more."""
    return path.suffix == ".npy" and samples.series is None and len(samples.names) == len(samples.values) > 1


def plan_shards(
    project: Project,
    recipe: str,
    detector: Detector,
    path: Path,
    samples: FileSamples,
    requested: int | None,
    is_sent_away: bool = False,
) -> ShardedFile | None:
    """Return how to score a file in shards; None for one that is scored at once.

    Args:
        requested: number of shards; None: as many as a large file needs.
        is_sent_away: whether the command names another place for the file, however small it is.

    Raises:
        UsageError: shards are asked for of a file that has none.
    """
    if requested is not None and not (requested >= 1 and may_be_sharded(path, samples)):
        raise UsageError(f"--shards: expected 1 or more, of a .npy file with two or more samples, got {requested} of {path}")
    if not may_be_sharded(path, samples):
        if is_sent_away:
            raise UsageError(f"--on: expected a .npy file with two or more samples, got {path}: leave --on out to score it here")
        return None
    is_asked_for = requested is not None or is_sent_away
    if not is_asked_for and not may_write(project.home / "scoring"):  # who may only record scores
        return None
    total, values = len(samples.values), max(1, int(np.prod(samples.values.shape[1:])))
    block = detector.data_kind.rows_at_once(values)
    most = min(SHARD_SAMPLES, SHARD_VALUES // values)
    if not is_asked_for and total <= (FEWEST_SHARDS - 1) * max(block, most):
        return None
    wanted = most if requested is None else -(-total // requested)
    rows = max(1, -(-wanted // block)) * block
    stamp = file_stamp(path)
    key = json_sha256(
        {
            "bundle": detector.sha256,
            "content": file_sha256(path),
            "code": source_hashes(project.root, [SHARD_MODULE], exempt=EXEMPT_MODULES),
            "rows": rows,
        }
    )
    folder = shards_folder(project, recipe, key[:KEY_DIGITS])
    return ShardedFile(detector, path.absolute(), total, rows, stamp, folder)


@contextmanager
def scored_shards(project: Project, place: RunPlace, file: ShardedFile) -> Iterator[tuple[dict[str, np.ndarray], CallName]]:
    """Score what is not scored yet, and yield the whole file's results; when the block ends well, they are recorded and removed.

    Yields:
        What `Detector.score(samples, code=True)` returns, and the name of the call to record it by: that of a command before,
        where that was killed.

    Raises:
        DataError: a shard's samples do not fit the model.
        AeError: as `run_jobs`, or the place; the shards that are scored stay.
    """
    make_folder(file.folder)
    with file_lock(project, shards_lock(file.folder)):
        call = _call_of(project, file.folder)
        _score_missing(project, place, file)
        yield _join(file), call
        shutil.rmtree(file.folder)


def _call_of(project: Project, folder: Path) -> CallName:
    document = read_json_if_whole(folder / "call.json", "call", "time")
    if document is None:
        document = {"call": new_call(project), "time": datetime.now(UTC).isoformat()}
        make_folder(folder)
        write_json(folder / "call.json", document)
    return CallName(document["call"], datetime.fromisoformat(document["time"]))


def _score_missing(project: Project, place: RunPlace, file: ShardedFile) -> None:
    requests = file.requests()
    missing = []
    for request in requests:
        if not request.out.is_file():
            missing.append(request)
    if not missing:
        return
    jobs = []
    for request in missing:
        log = project.logs / "shards" / f"{file.folder.name}-{request.first}.log"
        jobs.append(Job(str(request.out), (StageCommand(request.arguments(), project.root, project.home, log),)))
    with open_place(project, place) as opened:
        workers = min(opened.cores, len(jobs))
        print_progress(f"{len(missing)} of {len(requests)} shards of up to {file.rows:,} samples, {workers} at a time")
        failures = run_jobs(jobs, opened.start, workers, deadline=None).failures
    for reason in failures.values():
        raise DataError(reason)


def _join(file: ShardedFile) -> dict[str, np.ndarray]:
    """Return the results of all shards as one.

    Raises:
        DataError: one of them is damaged.
    """
    parts: list[dict[str, np.ndarray]] = []
    for request in file.requests():
        try:
            with np.load(request.out, allow_pickle=False) as stored:
                part = dict(stored)
        except (ValueError, OSError, EOFError, BadZipFile) as error:
            request.out.unlink(missing_ok=True)
            raise DataError(f"{request.out} is damaged ({error}), and was removed: type the same command again") from error
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
