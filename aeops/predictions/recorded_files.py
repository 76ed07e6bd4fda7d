"""Which file of a recipe's predictions holds a call: its own, or the day file that the small calls of a day were joined into.

`aeops.predictions.day_files` joins them. Standard library only on import.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from aeops.errors import DataError
from aeops.project import Project

DAY_PREFIX = "day-"  # of a day file's name, which no call has
CALLS_KEY = "joined_calls"  # metadata of a day file: the metadata of each of its calls, by the call's name, as JSON
_STORAGE_KEY = "ARROW:schema"  # metadata that Arrow writes itself

Metadata = Mapping[str, str]


def predictions_folder(project: Project, recipe: str) -> Path:
    return project.home / "predictions" / recipe


def list_day_folders(project: Project, recipe: str) -> list[Path]:
    """Return the folders of days, from the first day to the last."""
    return sorted(predictions_folder(project, recipe).glob("*-*-*/"))


def is_day_file(file: Path) -> bool:
    return file.name.startswith(DAY_PREFIX)


def list_recorded(folder: Path) -> list[Path]:
    """Return the files of a day's predictions, sorted by name; a call that is in a day file has no other."""
    files = sorted(folder.glob("[!.]*.parquet"))
    day_files = list(filter(is_day_file, files))
    if not day_files or len(day_files) == len(files):
        return files
    joined: set[str] = set()
    for day_file in day_files:
        joined.update(joined_calls(day_file))
    return [file for file in files if file.stem not in joined]


def joined_calls(day_file: Path) -> Mapping[str, Metadata]:
    """Return the calls of a day file by their names, each with the metadata of the file that it had.

    Raises:
        DataError: the file cannot be read.
    """
    status = day_file.stat()
    return _joined_calls(day_file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=512)
def _joined_calls(day_file: Path, changed_at: int, size: int) -> Mapping[str, Metadata]:
    calls: dict[str, dict[str, str]] = json.loads(read_metadata(day_file).get(CALLS_KEY, "{}"))
    return calls


def read_metadata(file: Path) -> Metadata:
    """Return what is stored in a file of predictions beside its rows.

    Raises:
        DataError: the file cannot be read.
    """
    import pyarrow.parquet as pq

    try:
        stored = pq.read_metadata(file).metadata or {}
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read ({str(error).splitlines()[0]}): put back a copy of it, or remove it") from error
    metadata = {}
    for name, value in stored.items():
        metadata[name.decode()] = value.decode()
    metadata.pop(_STORAGE_KEY, None)
    return metadata
