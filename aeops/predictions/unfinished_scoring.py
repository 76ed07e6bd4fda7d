"""Files that `ae score` began to score in shards and has not recorded: where the results lie, and who works on them.

<home>/scoring/<recipe>/shards/<key>/     results of rows, until the whole file is recorded
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aeops.machine.lock import is_file_locked
from aeops.project import Project


@dataclass(frozen=True)
class UnfinishedScoring:
    """A file that is half scored.

    Attributes:
        recipe: whose model scores it.
        folder: of the results.
        shard_count: scored so far.
        size_bytes: of the results.
        written_at: when the last result was written, with a time zone.
        is_in_use: whether a command works on it at this moment.
    """

    recipe: str
    folder: Path
    shard_count: int
    size_bytes: int
    written_at: datetime
    is_in_use: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {
            "recipe": self.recipe,
            "folder": str(self.folder),
            "shards": self.shard_count,
            "bytes": self.size_bytes,
            "at": self.written_at.isoformat(timespec="seconds"),
            "in_use": self.is_in_use,
        }


def shards_folder(project: Project, recipe: str, key: str) -> Path:
    """Return the folder of the results of one file."""
    return project.home / "scoring" / recipe / "shards" / key


def shards_lock(folder: Path) -> str:
    """Return the name of the lock that a command holds for as long as it works on the results in a folder."""
    return f"shards-{folder.name}"


def find_unfinished_scoring(project: Project) -> Iterator[UnfinishedScoring]:
    """Yield the files that are half scored, by recipe and key."""
    for folder in sorted(project.home.glob("scoring/*/shards/*")):
        shard_count = size_bytes = 0
        written_at = 0.0
        try:
            for file in [folder, *folder.iterdir()]:
                status = file.stat()
                written_at = max(written_at, status.st_mtime)
                size_bytes += status.st_size if file != folder else 0
                shard_count += file.suffix == ".npz"
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # recorded meanwhile, or somebody else's
            continue
        moment, is_in_use = datetime.fromtimestamp(written_at, UTC), is_file_locked(project, shards_lock(folder))
        yield UnfinishedScoring(folder.parents[1].name, folder, shard_count, size_bytes, moment, is_in_use)
