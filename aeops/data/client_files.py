"""Reads a file that a client has as the recipe's source reads its own.

The recipe says in which dialect, with which marks of missing values and formats of dates the data was written that the model was
trained on; a file to be scored comes from the same place. What the kind of data itself reads is read so where the source has no
say: images, arrays, plain texts.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from aeops.data.sources.catalogue import load_source
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    from aeops.bundle.detector import Detector
    from aeops.data.sources.client_columns import ClientColumns
    from aeops.kinds.samples import FileSamples

__all__ = ["ReadsClientFiles", "ReadsClientTexts", "read_client_file"]


@runtime_checkable
class ReadsClientFiles(Protocol):
    """A source of rows by name that reads such a file by the recipe, too."""

    def client_columns(self, recipe: Recipe, path: Path) -> "ClientColumns | None":
        """Return the columns of a file; None where the recipe says no more of it than its kind of data does."""


@runtime_checkable
class ReadsClientTexts(Protocol):
    """A source of texts that reads such a file by the recipe, too."""

    def client_texts(self, recipe: Recipe, path: Path) -> "FileSamples | None":
        """Return the texts of a file by their names; None where the recipe says no more of it than its kind of data does."""


def read_client_file(recipe: Recipe, detector: "Detector", path: Path) -> "FileSamples":
    """Return the samples of a file or folder to be scored.

    Raises:
        UsageError: there is no such file.
        DataError: it holds no samples that the model takes.
    """
    source = load_source(recipe.data.source.kind)
    if path.is_file() and isinstance(source, ReadsClientFiles):
        found = source.client_columns(recipe, path)
        if found is not None:
            return detector.data_kind.read_columns(found.columns, found.from_text, path, detector.spec)
    if path.is_file() and isinstance(source, ReadsClientTexts):
        texts = source.client_texts(recipe, path)
        if texts is not None:
            return texts
    return detector.read_file(path)
