"""The sources by the `kind` that a recipe names. Standard library only until a source is read.

To add one: its dataclass in `aeops.recipe.sources`, and a module beside this, called by its kind with dashes as underscores,
with an object `SOURCE` that has `files` (which give the source's digest) and `read`.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from ae_models.own_parts import resolve_work
from ae_models.spec import join_names
from aeops.data.dataset import lines_sha256
from aeops.data.source_record import known_sha256, read_record
from aeops.errors import UsageError
from aeops.plugins import current_parts
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import SOURCE_SPECS

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import KnownSamples, SourceSamples


class Source(Protocol):
    """The object `SOURCE` of a module of this package."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the files that the source is made of, by their role."""

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return all samples; raise DataError where the recipe does not allow them."""


@runtime_checkable
class ReadsOnlyNew(Protocol):
    """A source of many files that can leave those unread that are as they were."""

    def read_new(self, recipe: Recipe, project: Project, known: "KnownSamples") -> "SourceSamples":
        """Return all samples, those of known files as `SourceSamples.unread`; raises as `Source.read`."""


SOURCE_MODULES = {name: f"{__package__}.{name.replace('-', '_')}" for name in SOURCE_SPECS}


def load_source(kind: str) -> Source:
    """Return the source that a recipe calls `kind`: one of this package, or the project's own.

    Raises:
        UsageError: there is none.
        SpecError: it cannot be loaded.
    """
    if kind in SOURCE_MODULES:
        return cast(Source, import_module(SOURCE_MODULES[kind]).SOURCE)
    for own in current_parts().sources:
        if own.spec.kind == kind:
            return cast(Source, resolve_work(own.work, kind))
    raise UsageError(f"expected a source out of {join_names(SOURCE_MODULES)}, got {kind!r}")


def read_source(recipe: Recipe, project: Project, known: "KnownSamples | None" = None) -> "SourceSamples":
    """Return the samples of the recipe's source.

    Args:
        recipe: whose source it is.
        project: where its files are looked for.
        known: what need not be read; a source that cannot read its files one by one reads all of them. None: all is read.

    Raises:
        DataError: the recipe does not allow them.
    """
    source = load_source(recipe.data.source.kind)
    if known is not None and isinstance(source, ReadsOnlyNew):
        return source.read_new(recipe, project, known)
    return source.read(recipe, project)


def read_masks(recipe: Recipe, project: Project, source_sha256: str, ids: Sequence[str]) -> "np.ndarray":
    """Return the masks of samples of a source that has masks, bool (k, h, w), by their ids.

    Args:
        recipe: whose source it is.
        project: where its files are looked for.
        source_sha256: of the source when the samples were ingested, as dataset.json holds it.
        ids: of the samples.

    Raises:
        DataError: the files are missing, or are others than the samples came from.
    """
    module = import_module(SOURCE_MODULES[recipe.data.source.kind])
    masks: np.ndarray = module.read_masks(recipe, project, source_sha256, ids)
    return masks


def source_digest(recipe: Recipe, project: Project) -> str:
    """Return the SHA-256 over the bytes of the source's files: the same digest, the same samples.

    Of a file that is as it was at the last accepted reading, the hash of then is taken.

    Raises:
        DataError: a file of the source is missing.
    """
    record, checksums = read_record(project, recipe.data.dataset), {}
    for role, path in load_source(recipe.data.source.kind).files(recipe, project).items():
        checksums[role] = known_sha256(record, role, path)
    return lines_sha256(checksums)
