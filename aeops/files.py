"""Atomic writes and SHA-256 of files and folders: those of `ae_models`, and what the pipeline needs beside them.

Standard library only on import.
"""

import hashlib
from pathlib import Path
from typing import Any

from ae_models.atomic_files import (
    CLOCK_RESOLUTION,
    append_synced,
    atomic_folder,
    atomic_path,
    atomic_write,
    json_text,
    make_folder,
    recover_folder,
    replace_file,
    replace_folder,
    set_default_modes,
    sync_file,
    sync_folder,
    sync_tree,
    temporary_path,
)
from ae_models.checksums import file_sha256

__all__ = [
    "CLOCK_RESOLUTION",
    "append_synced",
    "atomic_folder",
    "atomic_path",
    "atomic_write",
    "data_sha256",
    "file_sha256",
    "make_folder",
    "recover_folder",
    "replace_file",
    "replace_folder",
    "set_default_modes",
    "sync_file",
    "sync_folder",
    "sync_tree",
    "temporary_path",
    "write_json",
]


def data_sha256(data: bytes | str) -> str:
    """Return the SHA-256 of bytes, or of a text in UTF-8, in hexadecimal.

    >>> data_sha256("")[:8]
    'e3b0c442'
    """
    content = data.encode() if isinstance(data, str) else data
    return hashlib.sha256(content).hexdigest()


def write_json(path: Path, value: Any, mode: int = 0o666) -> None:
    """Write a value as `json_text` formats it. See `atomic_write`."""
    atomic_write(path, json_text(value), mode)
