"""Sentences of texts in CSV files, as UTF-8 bytes filled up with zeros.

Each row of a file is a document, and a document is a group: its sentences share a split. Documents that repeat an earlier one
are left out, and so is a sentence that came before, in whichever document: news repeat stock phrases, and one of them must
not be in training and test. The number of those left out is in the metadata. A sentence that takes more bytes than
input.shape is cut at the border of a character.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ae_models.names import names_not_in
from aeops.data.sources.files import source_file
from aeops.data.sources.sentence_split import join_lines, split_sentences
from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import SentencesSource, TextFile, text_name

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples

CHUNK_ROWS = 1000  # documents read at once
COUNT_NAMES = ("documents", "repeated_documents", "short_sentences", "repeated_sentences", "cut_sentences")


class SentencesReader:
    """The source of kind sentences."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the files by the names that their documents carry; raise DataError where one does not exist."""
        source: SentencesSource = recipe.data.source
        paths = {}
        for index, file in enumerate(source.files):
            paths[text_name(file.path)] = source_file(recipe, project, file.path, f"files[{index}].path")
        return paths

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the sentences as uint8 (n, bytes) on disk, in the order of files, rows and columns, with documents as groups.

        The name of a group is the file's name and the row, the first being 0, such as bbc:17.

        Raises:
            DataError: a file that is no CSV file in UTF-8, a missing column, or no sentence at all.
        """
        import numpy as np

        from aeops.data.sources.samples import SourceSamples, require_source_rows
        from aeops.data.sources.spool import spool_to_disk

        source: SentencesSource = recipe.data.source
        paths = self.files(recipe, project)
        sentence_selection = SentenceSelection(recipe.fit.input.shape[0], source.shortest)
        documents = itertools.chain.from_iterable(
            _read_documents(file, paths[text_name(file.path)], recipe) for file in source.files
        )
        blocks = sentence_selection.select_blocks(documents)
        array = spool_to_disk(blocks, recipe.fit.input.shape, np.dtype(np.uint8), project.home / "sources")
        source_name = ", ".join(file.path for file in source.files)
        require_source_rows(len(array), recipe, source_name)
        return SourceSamples(
            array, None, source_name, groups=np.array(sentence_selection.groups), metadata=sentence_selection.counts
        )


SOURCE = SentencesReader()


class TextDocument(NamedTuple):
    """One row of a file.

    Attributes:
        name: the file's name and the row.
        texts: the columns that the recipe names.
        is_split: whether the texts are split into sentences, or each is one.
    """

    name: str
    texts: list[str]
    is_split: bool

    def sentences(self) -> Iterator[str]:
        """Yield the sentences of the texts, each on one line."""
        for text in self.texts:
            if self.is_split:
                yield from split_sentences(text)
            else:
                yield join_lines(text)


@dataclass
class SentenceSelection:
    """Selects sentences, and records the document of each and how many were left out.

    Attributes:
        max_bytes: bytes of a sentence at most.
        min_characters: characters of a sentence at least.
        groups: the document of each sentence selected so far.
        counts: number of documents and sentences left out, and of sentences cut.
    """

    max_bytes: int
    min_characters: int
    groups: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNT_NAMES, 0))
    _text_hashes: set[bytes] = field(default_factory=set)

    def select_blocks(self, documents: Iterable[TextDocument]) -> "Iterator[np.ndarray]":
        """Yield the selected sentences, a document at a time, each block (k, max_bytes)."""
        import numpy as np

        for document in documents:
            self.counts["documents"] += 1
            if self._is_repeated(b"document " + "\0".join(document.texts).encode()):
                self.counts["repeated_documents"] += 1
                continue
            padded_sentences = []
            for sentence in document.sentences():
                if (content := self._encode_sentence(sentence)) is not None:
                    padded_sentences.append(content.ljust(self.max_bytes, b"\0"))
            self.groups += [document.name] * len(padded_sentences)
            yield np.frombuffer(b"".join(padded_sentences), np.uint8).reshape(-1, self.max_bytes)

    def _encode_sentence(self, sentence: str) -> bytes | None:
        """Return the sentence's bytes, or None where it is left out."""
        if len(sentence) < self.min_characters:
            self.counts["short_sentences"] += 1
            return None
        full_content = sentence.encode()
        content = full_content[: self.max_bytes].decode(errors="ignore").encode()
        if self._is_repeated(b"sentence " + content):
            self.counts["repeated_sentences"] += 1
            return None
        self.counts["cut_sentences"] += len(content) < len(full_content)
        return content

    def _is_repeated(self, content: bytes) -> bool:
        """Return whether this document or sentence came before, and record it."""
        text_hash = hashlib.sha256(content).digest()  # 32 bytes to remember, however long the text
        is_repeated = text_hash in self._text_hashes
        self._text_hashes.add(text_hash)
        return is_repeated


def _read_documents(file: TextFile, path: Path, recipe: Recipe) -> Iterator[TextDocument]:
    """Yield each row of the file.

    Raises:
        DataError: no CSV file in UTF-8, or a column is missing.
    """
    import pandas as pd

    from aeops.data.sources.samples import repair_hint

    compression = "gzip" if path.suffix == ".gz" else None
    settings: dict[str, Any] = {
        "dtype": "str",
        "keep_default_na": False,
        "index_col": False,
        "encoding": "utf-8",
        "compression": compression,
    }
    try:
        with decode_errors():
            columns = list(pd.read_csv(path, nrows=0, **settings).columns)
            missing_columns = names_not_in(file.columns, columns)
            if missing_columns:
                raise DataError(
                    f"{file.path}: expected a column {', '.join(missing_columns)}, got {', '.join(columns)}: "
                    f"{repair_hint(recipe)}"
                )
            with pd.read_csv(path, chunksize=CHUNK_ROWS, usecols=list(file.columns), **settings) as tables:
                for table in tables:
                    cells = table[list(file.columns)].fillna("").to_numpy()
                    for row, texts in zip(table.index, cells, strict=True):
                        yield TextDocument(f"{text_name(file.path)}:{row}", list(texts), file.sentences == "split")
    except DecodeError as error:
        raise DataError(
            f"{file.path}: not readable as CSV ({error}): expected UTF-8 with a header line, or the same with gzip as .csv.gz: "
            f"{repair_hint(recipe)}"
        ) from error
