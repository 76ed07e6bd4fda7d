"""Texts with their labels: lines of JSON objects, rows of a file, or plain text files, as UTF-8 bytes filled up with zeros.

    {path: news.jsonl, text: body, labels: topic, id: url}     a JSON object a line
    {path: news.csv, text: body, dialect: {delimiter: ;}}      rows of any file that a source of kind table reads
    {path: letters, unit: file}                                 a folder of .txt files, each a text; by unit line, each line

A text that takes more bytes than input.shape is cut at the border of a character, and counted in the metadata. One without text,
with an unknown label or an id that came before is set aside by name, and so is a line that is no JSON object.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.mappings import map_values, values_at, without_zeros
from aeops.data.judged_samples import NamedLabels
from aeops.data.sources.files import fetched_path, links_beside, source_file, source_folder
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.table_sources import TableSource, TextsSource, table_format

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples
    from aeops.kinds.samples import FileSamples

JSON_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
MAX_LINE_BYTES = 16 * 2**20  # of a JSON object; more is no text of one sample
SHOWN_CHARACTERS = 60
BLOCK_ROWS = 1000


class TextsReader:
    """The source of kind texts."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the files by their names; raise DataError where there is none."""
        source: TextsSource = recipe.data.source
        if (fetched := fetched_path(recipe, project)) is not None:
            return list_text_files(fetched) if fetched.is_dir() else {fetched.name: fetched}
        if any(map(Path.is_dir, project.source_paths(source.path))):
            next_step = f"put it there or correct data.source.path in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
            folder = source_folder(project, source.path, next_step)
            if files := list_text_files(folder):
                return files
            raise DataError(f"{folder}: expected .txt files in the folder, got none: {next_step}")
        file = source_file(recipe, project, source.path, "path")
        return {file.name: file}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the texts as uint8 (n, bytes) on disk, with their labels, ids and groups.

        Raises:
            DataError: a file that cannot be read, a missing key or column, or no text at all.
        """
        from aeops.data.sources.samples import repair_hint

        source: TextsSource = recipe.data.source
        try:
            files = self.files(recipe, project)
            records = read_records(files, source)
        except DataError as error:
            raise DataError(f"{error}: {repair_hint(recipe)}") from error
        return _samples(records, files, recipe, project)

    def client_texts(self, recipe: Recipe, path: Path) -> "FileSamples | None":
        """Return the texts of a file of keys or columns to be scored; see `aeops.data.client_files`.

        Raises:
            DataError: it cannot be read, or holds no text.
        """
        source: TextsSource = recipe.data.source
        is_of_rows = table_format(path.name) not in (None, "array", "archive")
        is_text_file = path.name.lower().endswith(".txt") and source.dialect is None
        if source.is_plain or is_text_file or not (is_of_rows or path.name.lower().endswith(JSON_SUFFIXES)):
            return None
        return _client_texts(path, replace(source, labels=None, group=None, path=str(path)))


SOURCE = TextsReader()


def _client_texts(path: Path, source: TextsSource) -> "FileSamples":
    from aeops.kinds.samples import FileSamples
    from aeops.kinds.table_cells import cell_text
    from aeops.kinds.text import as_batch

    records = read_records({path.name: path}, source)
    problems = _text_problems(records, shortest=1)
    names, texts = [], []
    for row, text in enumerate(records.texts):
        if row not in problems and text is not None:
            names.append(cell_text(records.cells["id"][row]) or f"{path.name}: {records.names[row]}")
            texts.append(text.strip())
    refused = dict(records.set_aside)
    for row, reason in problems.items():
        refused[records.title(row)] = reason
    if not texts:
        raise DataError(f"{path}: expected texts, got none: {next(iter(refused.values()))}")
    return FileSamples(names, as_batch(texts), refused=refused)


class Records:
    """Texts as they were read.

    Attributes:
        names: of each: where it stands, or its file.
        texts: each text, or None where there is none.
        cells: of labels, id and group, by these keys.
        set_aside: what is no record -> the reason.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.texts: list[str | None] = []
        self.cells: dict[str, list[Any]] = {"labels": [], "id": [], "group": []}
        self.set_aside: dict[str, str] = {}

    def add(self, name: str, text: Any, record: dict[str, Any], source: TextsSource) -> None:
        """Add a text with its other cells."""
        self.names.append(name)
        self.texts.append(text if isinstance(text, str) else None if text is None or text != text else str(text))
        for key, cells in self.cells.items():
            column = getattr(source, key)
            cells.append(None if column is None else record.get(column))

    def title(self, row: int) -> str:
        """Return by what a text is called that is set aside: where it stands, with its id where it has one."""
        return _with_id(self.names[row], self.cells["id"][row])


def _with_id(name: str, identity: Any) -> str:
    from aeops.kinds.table_cells import cell_text

    text = cell_text(identity)
    return f"{name} ({text})" if text else name


def list_text_files(folder: Path) -> dict[str, Path]:
    """Return the .txt files below a folder by their paths below it; links and hidden files do not count."""
    found = {}
    for file in sorted(folder.rglob("*.txt")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not file.is_symlink() and not any(part.startswith(".") for part in name.split("/")):
            found[name] = file
    return found


def read_records(files: dict[str, Path], source: TextsSource) -> Records:
    """Read texts out of files.

    Raises:
        DataError: a file cannot be read, or lacks a key or column.
    """
    records = Records()
    for name, path in files.items():
        prefix = f"{name}: " if len(files) > 1 else ""
        if source.is_plain:
            _read_plain(path, name, source, records)
        elif path.name.lower().endswith(JSON_SUFFIXES):
            _read_json_lines(path, prefix, source, records)
        else:
            _read_rows(path, name, source, records)
    if not records.texts:
        from aeops.data.set_aside import first_reasons

        reasons = "; ".join(first_reasons(records.set_aside, 3))
        raise DataError(f"{source.path}: expected texts, got none{f': {reasons}' if reasons else ''}")
    return records


def _read_plain(path: Path, name: str, source: TextsSource, records: Records) -> None:
    from aeops.kinds.decoding import read_file_content

    try:
        text = read_file_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if source.unit == "file":
            records.set_aside[name] = f"no UTF-8: byte {error.start:,}"
            return
        raise DataError(f"{name}: expected UTF-8, got another byte at {error.start:,}: write it as UTF-8") from error
    if source.unit == "file":
        records.add(name, text.strip(), {}, source)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            records.add(f"{name}:{number}", line.strip(), {}, source)


def _read_json_lines(path: Path, prefix: str, source: TextsSource, records: Records) -> None:
    for number, line in _lines(path, prefix):
        title = f"{prefix}line {number}"
        if len(line) > MAX_LINE_BYTES:
            records.set_aside[title] = f"no text: the line has more than {MAX_LINE_BYTES:,} bytes"
            continue
        try:
            record = json.loads(line)
        except UnicodeDecodeError as error:
            records.set_aside[title] = f"no UTF-8: byte {error.start:,} of the line is {line[error.start]:#04x}"
            continue
        except (ValueError, RecursionError):
            records.set_aside[title] = f"no JSON: {line[:SHOWN_CHARACTERS].decode(errors='replace').rstrip()}"
            continue
        if isinstance(record, dict) and source.id is not None:
            title = _with_id(title, record.get(source.id))
        if not isinstance(record, dict) or source.text not in record:
            records.set_aside[title] = f"no object with the key {source.text}"
            continue
        if isinstance(record[source.text], list | dict | bool):
            records.set_aside[title] = f"no text: {source.text} holds {json.dumps(record[source.text])[:SHOWN_CHARACTERS]}"
            continue
        records.add(f"{prefix}line {number}", record[source.text], record, source)


def _lines(path: Path, prefix: str) -> Iterator[tuple[int, bytes]]:
    from aeops.kinds.decoding import DecodeError, decode_errors
    from aeops.kinds.unpacking import read_lines

    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with decode_errors(), opener(path, "rb") as stream:
            for number, line in enumerate(read_lines(stream, MAX_LINE_BYTES), 1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf")
    except DecodeError as error:
        raise DataError(f"{prefix or path.name}: not readable ({error}): is it whole?") from error
    except DataError as error:
        raise DataError(f"{prefix or path.name}: {error}") from error


def _read_rows(path: Path, name: str, source: TextsSource, records: Records) -> None:
    from ae_models.mappings import select_keys
    from aeops.data.sources.table_files import read_table_files

    table = read_table_files({name: path}, TableSource(source.path, text=source.dialect))
    for key in ("text", "labels", "id", "group"):
        column = getattr(source, key)
        if column is not None and column not in table.columns:
            raise DataError(f"{name}: expected a column {column} (data.source.{key}), got {', '.join(table.columns)}")
    columns = select_keys(table.columns, filter(None, (source.text, source.labels, source.id, source.group)))
    for row in range(len(table)):
        record = {column: cells[row] for column, cells in columns.items()}
        records.add(table.row_name(row), record[source.text or ""], record, source)
    records.set_aside |= table.set_aside


# ---------------------------------------------------------------- samples


def _samples(records: Records, files: dict[str, Path], recipe: Recipe, project: Project) -> "SourceSamples":
    import numpy as np

    from aeops.data.sources.row_values import id_problems, label_numbers, rows_that_stay
    from aeops.data.sources.samples import SourceSamples, require_source_rows
    from aeops.data.sources.spool import spool_to_disk
    from aeops.kinds.table_cells import cell_text

    source: TextsSource = recipe.data.source
    problems = _text_problems(records, source.shortest)
    labels = None
    if source.labels is not None:
        labels, found = label_numbers(list(map(cell_text, records.cells["labels"])), recipe)
        NamedLabels(project, recipe).apply(labels, found, records.title)
        problems = found | problems
    ids = records.names
    if source.id is not None:
        ids = list(map(cell_text, records.cells["id"]))
        problems |= id_problems(ids, problems, recipe.on_duplicate)
    set_aside = dict(records.set_aside) | (links_beside(files) if source.unit == "file" else {})
    for row, reason in sorted(problems.items()):
        set_aside[records.title(row)] = reason
    kept = rows_that_stay(len(records.texts), problems, ids)
    require_source_rows(len(kept), recipe, source.path)
    length, cut = recipe.fit.input.shape[0], 0
    rows = []
    for row in kept:
        content = (records.texts[row] or "").encode(errors="replace")
        cut += len(content) > length
        rows.append(content[:length].decode(errors="ignore").encode().ljust(length, b"\0"))
    counts = {"cut_texts": cut, "set_aside": len(set_aside)}
    groups = None
    if source.group is not None:
        groups = np.array(list(map(cell_text, values_at(records.cells["group"], kept))))
    return SourceSamples(
        spool_to_disk(_byte_blocks(rows, length), (length,), np.dtype(np.uint8), project.home / "sources"),
        None if labels is None else labels[kept],
        source.path,
        groups=groups,
        metadata=without_zeros(counts),
        ids=values_at(ids, kept),
        set_aside=set_aside,
        checksums=map_values(file_sha256, files),
    )


def _text_problems(records: Records, shortest: int) -> dict[int, str]:
    problems = {}
    for row, text in enumerate(records.texts):
        if text is None or not text.strip():
            problems[row] = "no text: it is empty"
        elif "\0" in text:
            problems[row] = "no text: it holds a zero byte"
        elif len(text.strip()) < shortest:
            problems[row] = f"fewer than {shortest} characters: {text.strip()!r}"
    return problems


def _byte_blocks(rows: list[bytes], length: int) -> "Iterator[np.ndarray]":
    """Yield samples, uint8 (n, length), of rows of bytes that are all as long."""
    import numpy as np

    for first in range(0, len(rows), BLOCK_ROWS):
        yield np.frombuffer(b"".join(rows[first : first + BLOCK_ROWS]), np.uint8).reshape(-1, length)
