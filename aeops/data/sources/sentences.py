"""Sentences of texts in CSV files, as UTF-8 bytes filled up with zeros.

Each row of a file is a document, and a document is a group: its sentences share a split. Documents that repeat an earlier one
are left out, and so is a sentence that came before, in whichever document: news repeat stock phrases, and one
of them must not stand in training and test. How many were left out is among the facts. A sentence that takes more bytes than
input.shape is cut at the border of a character.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.data.sources.files import source_file
from aeops.data.sources.sentence_split import join_lines, split_sentences
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import SentencesSource, TextFile, text_name

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples

ROWS = 1000  # documents read at once


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The files by the names that documents are called by; raises DataError where one does not exist."""
    source: SentencesSource = recipe.data.source
    found = enumerate(source.files)
    return {text_name(file.path): source_file(recipe, project, file.path, f"files[{at}].path") for at, file in found}


def read(recipe: Recipe, project: Project) -> "SourceSamples":
    """The sentences as uint8 (n, bytes) on disk, in the order of files, rows and columns, with their documents as groups.

    A group is called by the file's name and the row, the first being 0, such as bbc:17.

    Raises:
        DataError: a file that is no CSV file in UTF-8, a missing column, or no sentence at all.
    """
    import numpy as np

    from aeops.data.sources.samples import SourceSamples, require_samples
    from aeops.data.sources.spool import spool_to_disk

    source: SentencesSource = recipe.data.source
    chosen = Chosen(recipe.fit.input.shape[0], source.shortest)
    rows = (row for file in source.files for row in documents(file, recipe, project))
    array = spool_to_disk(chosen.blocks(rows), recipe.fit.input.shape, np.dtype(np.uint8), project.home / "sources")
    names = [file.path for file in source.files]
    require_samples(len(array), recipe, ", ".join(names))
    return SourceSamples(array, None, ", ".join(names), groups=np.array(chosen.groups), facts=chosen.facts)


@dataclass
class Chosen:
    """Chooses sentences, and notes where each came from and how many were left out.

    Attributes:
        length: bytes of a sentence at most.
        shortest: characters of a sentence at least.
        groups: the document of each sentence chosen so far.
        facts: how many documents and sentences were left out, and how many sentences were cut.
    """

    length: int
    shortest: int
    groups: list[str] = field(default_factory=list)
    facts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("documents", "repeated_documents", "short_sentences", "repeated_sentences", "cut_sentences"), 0
        )
    )
    seen: set[bytes] = field(default_factory=set)

    def blocks(self, rows: "Iterator[tuple[str, list[str], bool]]") -> "Iterator[np.ndarray]":
        """The sentences that are chosen of (document, texts, whether to split them), a document at a time, (k, length)."""
        import numpy as np

        for group, texts, split in rows:
            self.facts["documents"] += 1
            if self.came_before("\0".join(texts)):
                self.facts["repeated_documents"] += 1
                continue
            found = [sentence for text in texts for sentence in (split_sentences(text) if split else [join_lines(text)])]
            chosen = [held for held in map(self.choose, found) if held is not None]
            self.groups += [group] * len(chosen)
            filled = b"".join(held.ljust(self.length, b"\0") for held in chosen)
            yield np.frombuffer(filled, np.uint8).reshape(-1, self.length)

    def choose(self, sentence: str) -> bytes | None:
        """The sentence's bytes, or None where it is left out."""
        if len(sentence) < self.shortest:
            self.facts["short_sentences"] += 1
            return None
        whole = sentence.encode()
        held = whole[: self.length].decode(errors="ignore").encode()
        if self.came_before(held):
            self.facts["repeated_sentences"] += 1
            return None
        self.facts["cut_sentences"] += len(held) < len(whole)
        return held

    def came_before(self, text: str | bytes) -> bool:
        """Whether this very document or sentence came before; notes that it came."""
        held = b"document " + text.encode() if isinstance(text, str) else b"sentence " + text
        total = hashlib.sha256(held).digest()  # 32 bytes to remember, however long the text
        before = total in self.seen
        self.seen.add(total)
        return before


def documents(file: TextFile, recipe: Recipe, project: Project) -> Iterator[tuple[str, list[str], bool]]:
    """Each row of the file: the document's name, its texts, and whether they are to be split.

    Raises:
        DataError: no CSV file in UTF-8, or a column is missing.
    """
    import pandas as pd

    from aeops.data.sources.samples import repair_hint

    name = text_name(file.path)
    place = files(recipe, project)[name]
    compression = "gzip" if place.suffix == ".gz" else None
    settings: dict[str, Any] = {
        "dtype": "str",
        "keep_default_na": False,
        "index_col": False,
        "encoding": "utf-8",
        "compression": compression,
    }
    try:
        columns = list(pd.read_csv(place, nrows=0, **settings).columns)
        missing = [column for column in file.columns if column not in columns]
        if missing:
            raise DataError(f"{file.path}: no column {', '.join(missing)}; {', '.join(columns)} in it: {repair_hint(recipe)}")
        with pd.read_csv(place, chunksize=ROWS, usecols=list(file.columns), **settings) as tables:
            for table in tables:
                texts = table[list(file.columns)].fillna("").to_numpy()
                for row, held in zip(table.index, texts, strict=True):
                    yield f"{name}:{row}", list(held), file.sentences == "split"
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError, EOFError, zlib.error, OSError) as error:
        says = " ".join(str(error).split())
        raise DataError(
            f"{file.path}: not readable as CSV ({says}); UTF-8 with a header line, or the same with gzip as .csv.gz, is allowed: "
            f"{repair_hint(recipe)}"
        ) from error
