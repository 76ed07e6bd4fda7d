"""Decodes many image files in parallel processes, straight into one file on disk.

Each process reads files, checks what they are, makes samples of them and writes these to places of the file that nobody else
has; what comes back through a pipe is where they lie, and the checksums. So a set of any size needs little memory.
"""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from aeops.errors import DataError, TransientError
from aeops.files import file_sha256
from aeops.kinds.image_names import name_problem
from aeops.kinds.picture_samples import PictureRules, picture_samples, sample_dtype
from aeops.kinds.pictures import MAX_IMAGE_BYTES
from aeops.machine.parent_process import die_with_parent

CHUNK_FILES = 128  # that a process decodes between two reports
FILES_OF_A_PROCESS = 512  # fewer are decoded sooner than a process starts


@dataclass(frozen=True)
class FileResult:
    """What became of a file.

    Attributes:
        sha256: of its bytes.
        rows: places of its samples in the decoded file, in the order of its pages.
        problem: why it has none; None where it has some.
    """

    sha256: str
    rows: tuple[int, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class DecodedFiles:
    """Decoded samples and what became of each file.

    Attributes:
        array: samples in the places that `results` name, (places, channels, height, width), memory-mapped.
        results: one a file, in order.
    """

    array: np.ndarray
    results: list[FileResult] = field(default_factory=list)


class SelectedRows:
    """Some rows of an array in an order of their own, read a slice at a time.

    Attributes:
        shape, dtype: of the rows as one array.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self._array, self._rows = array, rows
        self.shape: tuple[int, ...] = (len(rows), *array.shape[1:])
        self.dtype: np.dtype = array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row_slice: slice) -> np.ndarray:
        rows = self._rows[row_slice]
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return self._array[rows[0] : rows[0] + len(rows)]
        return np.asarray(self._array[rows])


class _Decoder:
    """One process's view of the work: the folder, the rules, and the file that samples go to."""

    def __init__(self, folder: Path, rules: PictureRules, descriptor: int, next_row: Any) -> None:
        self.folder, self.rules, self.descriptor, self.next_row = str(folder), rules, descriptor, next_row
        self.row_bytes = math.prod(rules.shape) * sample_dtype(rules).itemsize

    def decode(self, names: Sequence[str]) -> list[FileResult]:
        """Decode files and write their samples, which lie side by side."""
        decoded = list(map(self._decode_file, names))
        blocks = [samples for samples, _, _ in decoded if samples is not None]
        count = sum(map(len, blocks))
        with self.next_row.get_lock():
            row = self.next_row.value
            self.next_row.value += count
        if blocks:
            content = np.concatenate(blocks).astype(sample_dtype(self.rules), copy=False).tobytes()
            _write_all(self.descriptor, content, row * self.row_bytes)
        results = []
        for samples, sha256, problem in decoded:
            rows = () if samples is None else tuple(range(row, row + len(samples)))
            row += len(rows)
            results.append(FileResult(sha256, rows, problem))
        return results

    def _decode_file(self, name: str) -> tuple[np.ndarray | None, str, str | None]:
        path = f"{self.folder}/{name}"
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_IMAGE_BYTES:
                    return None, file_sha256(Path(path)), f"it has {size:,} bytes, expected at most {MAX_IMAGE_BYTES:,}"
                content = file.readall()
        except OSError as error:
            raise TransientError(f"{path} cannot be read ({error.strerror or error}): it has gone meanwhile") from error
        sha256 = hashlib.sha256(content).hexdigest()
        if problem := name_problem(name, content):
            return None, sha256, problem
        try:
            return picture_samples(content, self.rules, "the file", self.rules.shape[0]), sha256, None
        except DataError as error:
            return None, sha256, str(error).removeprefix("the file").lstrip(": ")


_decoder: _Decoder | None = None  # of a process of the pool


def _start_process(folder: Path, rules: PictureRules, descriptor: int, next_row: Any) -> None:
    global _decoder
    die_with_parent()
    _decoder = _Decoder(folder, rules, descriptor, next_row)


def _decode_chunk(names: Sequence[str]) -> list[FileResult]:
    assert _decoder is not None, "the process was started by _start_process"
    return _decoder.decode(names)


def decode_files(
    folder: Path, names: Sequence[str], rules: PictureRules, scratch: Path, report: Callable[[int], None]
) -> DecodedFiles:
    """Decode image files.

    Args:
        folder: that holds them.
        names: of the files, below the folder.
        rules: the section input of the recipe.
        scratch: the folder for the decoded samples; their file has no name, and is gone with the array.
        report: called with the number of files done.

    Raises:
        TransientError: a process was killed, or a file went away.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    chunks = [names[start : start + CHUNK_FILES] for start in range(0, len(names), CHUNK_FILES)]
    processes = min(len(os.sched_getaffinity(0)), math.ceil(len(names) / FILES_OF_A_PROCESS))
    context = get_context("fork")
    next_row = context.Value("q", 0)
    results: list[FileResult] = []
    with tempfile.TemporaryFile(dir=scratch) as file:
        work = (folder, rules, file.fileno(), next_row)
        if processes <= 1:
            decoder = _Decoder(*work)
            for chunk in chunks:
                results += decoder.decode(chunk)
                report(len(results))
        else:
            try:
                with ProcessPoolExecutor(processes, context, _start_process, work) as pool:
                    for chunk_results in pool.map(_decode_chunk, chunks):
                        results += chunk_results
                        report(len(results))
            except BrokenProcessPool as error:
                raise TransientError("a process that decodes images was killed: is there enough memory?") from error
        shape = (int(next_row.value), *rules.shape)
        if not shape[0]:
            return DecodedFiles(np.empty(shape, sample_dtype(rules)), results)
        return DecodedFiles(np.memmap(file, sample_dtype(rules), "r", shape=shape), results)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
