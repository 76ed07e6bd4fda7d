"""Atomic writes: a file or folder is whole or not there, also after a power cut.

It is written beside its place, synced to disk, then renamed.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_folder", "atomic_path", "json_text", "write_text_atomically"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends well, and is removed when it does not.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "notes.txt") as tmp_path:
    ...         _ = tmp_path.write_text("whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['notes.txt']
    """
    tmp_path = _temporary_path(path)
    try:
        yield tmp_path
        _sync(tmp_path)
        os.replace(tmp_path, path)
        _sync(path.parent)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` when the block ends well, and is removed when it does not.

    The remains of a killed process are removed first, so only one process may write a folder at a time.
    """
    tmp_path = _temporary_path(folder)
    new, old = tmp_path / "new", tmp_path / "old"
    if tmp_path.exists():
        shutil.rmtree(tmp_path)
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            _sync(path)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(tmp_path)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file as a whole, in UTF-8."""
    with atomic_path(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8")


def json_text(document: Any) -> str:
    r"""Return two-space JSON in declared order with a final newline; NaN and infinity are refused.

    >>> json_text({"rows": 3})
    '{\n  "rows": 3\n}\n'
    """
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.aside")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
