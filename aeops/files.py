"""Atomic writes and SHA-256 of files and folders. Standard library only on import."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def file_sha256(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(place: Path) -> Any:
    return json.loads(place.read_text(encoding="utf-8"))


def write_json(place: Path, value: Any) -> None:
    """JSON in the order given, written aside and then renamed."""
    aside = place.with_name(f".{place.name}.aside")
    aside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(aside, place)


def write_npy(place: Path, shape: tuple[int, ...], dtype: "np.dtype", blocks: Iterable["np.ndarray"]) -> None:
    """One .npy file of `shape` from its blocks of rows, never more than one of them in memory.

    numpy's own writers hide why a write failed (ndarray.tofile) or die of it (a memory map on a full disk).
    """
    import numpy as np

    with place.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)


def write_parquet(place: Path, table: "pd.DataFrame") -> None:
    """A table as Parquet whose bytes depend on its rows and the library's version alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()  # in memory first: Python's own write says why the disk refused
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None), buffer, compression="zstd")
    place.write_bytes(buffer.getvalue())


def replace_folder(built: Path, place: Path) -> None:
    """Puts the folder `built` where `place` is; what `place` held is gone. For what can be made again."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        shutil.rmtree(place)
    os.rename(built, place)


@contextlib.contextmanager
def written_aside(place: Path) -> Iterator[Path]:
    """An empty folder beside `place` that takes its place once the block is done, and is gone where the block fails."""
    aside = place.with_name(f".{place.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        replace_folder(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, so that a file renamed in it is still there after a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_whole(file: Path, facts: dict[str, Any], mode: int = 0o644) -> None:
    """Writes JSON aside and renames it: whoever reads the file finds it whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}.aside")
    aside.touch(mode=mode)
    aside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    aside.replace(file)
