"""Decodes many image files in parallel processes, straight into one file on disk.

Each process opens and reads a file once, hashes and checks these bytes, makes samples of them, and writes those of many files to
a place that nobody else has. What comes back through a pipe is where they lie, in columns. So a set of any size needs little
memory, and a small image little more time than Pillow takes to decode it.
"""

import hashlib
import math
import os
import tempfile
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aeops.data.source_record import STAMP_TYPE, Stamp, status_stamp
from aeops.data.sources.image_files import UNREADABLE_REASON
from aeops.data.statistics import sample_sha256
from aeops.errors import DataError, TransientError
from aeops.files import file_sha256
from aeops.kinds.image_names import name_problem
from aeops.kinds.picture_samples import PictureRules, sample_dtype, sample_mode, sample_pictures
from aeops.kinds.pictures import MAX_IMAGE_BYTES
from aeops.machine.parent_process import die_with_parent

if TYPE_CHECKING:
    from PIL import Image

CHUNK_FILES = 512  # at most, that a process decodes between two reports
CHUNK_BYTES = 4 * 2**20  # of files, about, between two reports
CHUNK_SAMPLE_BYTES = 64 * 2**20  # of their samples, where each file has one
SIZED_FILES = 16  # of which the size of the others is guessed
FILES_OF_A_PROCESS = 512  # fewer are decoded sooner than a process starts
SHEET_BYTES = 4 * 2**20  # of samples that are taken out of Pillow at once


@dataclass
class DecodedFiles:
    """Decoded samples and what became of each file, in columns.

    Attributes:
        names: of the files, (files,).
        samples: in the places that `rows` name, (places, channels, height, width), memory-mapped.
        stamps: of the files as they were opened, four numbers each; see `aeops.data.source_record.file_stamp`.
        sha256: of the files' bytes, (files,); empty where a file may not be read.
        counts: of each file's samples, (files,).
        problems: file -> why it has none, where it has none.
        rows: places of the samples, file by file and in the order of their pages, int64 (samples,).
        sample_sha256: of the samples' contents, (samples,).
    """

    names: Sequence[str]
    samples: np.ndarray
    stamps: "array[int]" = field(default_factory=lambda: array(STAMP_TYPE))
    sha256: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    sample_sha256: list[str] = field(default_factory=list)


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


# ---------------------------------------------------------------- one process


class _Sheet:
    """Images of one size and mode below each other in a large one: taking the pixels out of each costs more than the copy."""

    def __init__(self, rules: PictureRules, length: int) -> None:
        self._mode, self._dtype = sample_mode(rules), sample_dtype(rules)
        self._channels, self._height, self._width = rules.shape
        self._length = min(length, max(1, SHEET_BYTES // _sample_bytes(rules)))
        self._blocks: list[np.ndarray] = []
        self._begin()

    def add(self, image: "Image.Image") -> None:
        """Add a sample."""
        if self._count == self._length:
            self._take_out()
            self._begin()
        # `Image.paste` checks what it is given for longer than a small image takes to copy; here it has this mode and size.
        top = self._height * self._count
        self._image.im.paste(image.im, (0, top, self._width, top + self._height))
        self._count += 1

    def samples(self) -> np.ndarray:
        """Return all samples, (n, channels, height, width)."""
        self._take_out()
        return np.ascontiguousarray(np.concatenate(self._blocks))

    def _begin(self) -> None:
        from PIL import Image

        self._image, self._count = Image.new(self._mode, (self._width, self._height * self._length)), 0

    def _take_out(self) -> None:
        shape = (self._length, self._height, self._width, self._channels)
        values = np.frombuffer(self._image.tobytes(), self._dtype).reshape(shape)[: self._count]
        self._blocks.append(values.transpose(0, 3, 1, 2))


class _Chunk(NamedTuple):
    """What became of some files; see `DecodedFiles`. Their samples lie side by side from `first_row` on."""

    stamps: "array[int]"
    sha256: list[str]
    counts: list[int]
    problems: dict[str, str]
    first_row: int
    sample_sha256: list[str]


class _Decoder:
    """One process's view of the work: the files, the rules, and the file that samples go to.

    A file's number is the place of its sample, so that samples lie in order; those of files with several come behind all others.
    """

    def __init__(self, folder: Path, names: Sequence[str], rules: PictureRules, descriptor: int, next_row: Any) -> None:
        self.folder, self.names, self.rules, self.descriptor, self.next_row = str(folder), names, rules, descriptor, next_row
        self.row_bytes = _sample_bytes(rules)

    def decode(self, files: slice) -> _Chunk:
        """Decode some of the files and write their samples, which lie side by side."""
        stamps, sheet = array(STAMP_TYPE), None
        checksums: list[str] = []
        counts: list[int] = []
        problems: dict[str, str] = {}
        for name in self.names[files]:
            pictures, stamp, sha256, problem = self._decode_file(name)
            stamps.extend(stamp)
            checksums.append(sha256)
            counts.append(len(pictures))
            if problem is not None:
                problems[name] = problem
            for picture in pictures:
                sheet = sheet or _Sheet(self.rules, CHUNK_FILES)
                sheet.add(picture)
        if sheet is None:
            return _Chunk(stamps, checksums, counts, problems, 0, [])
        samples = sheet.samples()
        first_row = files.start
        if len(samples) > len(counts):  # some files have several
            with self.next_row.get_lock():
                first_row = self.next_row.value
                self.next_row.value += len(samples)
        _write_all(self.descriptor, samples, first_row * self.row_bytes)
        return _Chunk(stamps, checksums, counts, problems, first_row, sample_sha256(samples))

    def _decode_file(self, name: str) -> "tuple[Sequence[Image.Image], Stamp, str, str | None]":
        """Return a file's samples, its stamp and SHA-256, and why it has no samples."""
        path = f"{self.folder}/{name}"
        try:
            content, status = _read_file(path)
        except PermissionError:
            return (), (0, 0, 0, 0), "", UNREADABLE_REASON
        except OSError as error:
            raise TransientError(f"{path} cannot be read ({error.strerror or error}): it has gone meanwhile") from error
        stamp = status_stamp(status)
        if content is None:
            problem = f"it has {status.st_size:,} bytes, expected at most {MAX_IMAGE_BYTES:,}"
            return (), stamp, file_sha256(Path(path)), problem
        sha256 = hashlib.sha256(content).hexdigest()
        if (name_is_wrong := name_problem(name, content)) is not None:
            return (), stamp, sha256, name_is_wrong
        try:
            return sample_pictures(content, self.rules, "the file", self.rules.shape[0]), stamp, sha256, None
        except DataError as error:
            return (), stamp, sha256, str(error).removeprefix("the file").lstrip(": ")


def _read_file(path: str) -> tuple[bytes | None, os.stat_result]:
    """Return the bytes of a file and what it was when it was opened; None for the bytes of one that is too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_size > MAX_IMAGE_BYTES:
            return None, status
        content = os.read(descriptor, status.st_size + 1)
        if len(content) == status.st_size:  # the usual case: one read
            return content, status
        parts = [content]
        while parts[-1]:
            parts.append(os.read(descriptor, CHUNK_BYTES))
        return b"".join(parts), status
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, samples: np.ndarray, offset: int) -> None:
    view = samples.data.cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


_decoder: _Decoder | None = None  # of a process of the pool


def _start_process(decoder: _Decoder) -> None:
    global _decoder
    die_with_parent()
    _decoder = decoder


def _decode_chunk(files: slice) -> _Chunk:
    assert _decoder is not None, "the process was started by _start_process"
    return _decoder.decode(files)


# ---------------------------------------------------------------- all of them


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
    chunk_files = _files_of_a_chunk(folder, names, rules)
    chunks = [slice(start, start + chunk_files) for start in range(0, len(names), chunk_files)]
    processes = min(len(os.sched_getaffinity(0)), math.ceil(len(names) / FILES_OF_A_PROCESS))
    context = get_context("fork")
    next_row = context.Value("q", len(names))
    done: list[_Chunk] = []
    with tempfile.TemporaryFile(dir=scratch) as file:
        decoder = _Decoder(folder, names, rules, file.fileno(), next_row)
        if processes <= 1:
            for chunk in chunks:
                done.append(decoder.decode(chunk))
                report(min(chunk.stop, len(names)))
        else:
            try:
                with ProcessPoolExecutor(processes, context, _start_process, (decoder,)) as pool:
                    for chunk, result in zip(chunks, pool.map(_decode_chunk, chunks), strict=True):
                        done.append(result)
                        report(min(chunk.stop, len(names)))
            except BrokenProcessPool as error:
                raise TransientError("a process that decodes images was killed: is there enough memory?") from error
        shape = (int(next_row.value), *rules.shape)
        if not any(chunk.sample_sha256 for chunk in done):
            return _join_chunks(names, np.empty((0, *rules.shape), sample_dtype(rules)), done)
        file.truncate(shape[0] * _sample_bytes(rules))  # files without samples leave places empty
        return _join_chunks(names, np.memmap(file, sample_dtype(rules), "r", shape=shape), done)


def _files_of_a_chunk(folder: Path, names: Sequence[str], rules: PictureRules) -> int:
    """Return how many files a process decodes between two reports: fewer of larger ones, by the sizes of some."""
    sizes = []
    for name in names[:: max(1, len(names) // SIZED_FILES)]:
        try:
            sizes.append(os.stat(f"{folder}/{name}").st_size)
        except OSError:  # whoever opens it says so
            continue
    mean_size = max(1, sum(sizes) // max(1, len(sizes)))
    return max(1, min(CHUNK_FILES, CHUNK_BYTES // mean_size, CHUNK_SAMPLE_BYTES // _sample_bytes(rules)))


def _sample_bytes(rules: PictureRules) -> int:
    return math.prod(rules.shape) * sample_dtype(rules).itemsize


def _join_chunks(names: Sequence[str], samples: np.ndarray, chunks: Sequence[_Chunk]) -> DecodedFiles:
    decoded, rows = DecodedFiles(names, samples), [np.empty(0, np.int64)]
    for chunk in chunks:
        decoded.stamps.extend(chunk.stamps)
        decoded.sha256.extend(chunk.sha256)
        decoded.counts.extend(chunk.counts)
        decoded.problems.update(chunk.problems)
        decoded.sample_sha256.extend(chunk.sample_sha256)
        rows.append(np.arange(chunk.first_row, chunk.first_row + len(chunk.sample_sha256)))
    decoded.rows = np.concatenate(rows)
    return decoded
