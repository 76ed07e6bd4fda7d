"""Sources and studies that a recipe may name: those of this package, and the project's own."""

from collections.abc import Container, Iterable, Iterator
from typing import Any

from aeops.errors import UsageError
from aeops.plugins import current_parts
from aeops.recipe.source_spec import SourceSpec
from aeops.recipe.sources import SOURCE_SPECS
from aeops.recipe.studies import STUDIES


def source_specs() -> dict[str, type[SourceSpec]]:
    """Return the sources by their kind; raises UsageError as `aeops.plugins.own_parts` does."""
    return {**current_parts().source_specs, **SOURCE_SPECS}


def study_specs() -> dict[str, Any]:
    """Return the settings of each study by its name; raises UsageError as `aeops.plugins.own_parts` does."""
    return {**current_parts().study_specs, **STUDIES}


def require_free_names() -> None:
    """Require that no own source or study has the name of one of this package's.

    Raises:
        UsageError: some have, or as `aeops.plugins.own_parts` does.
    """
    own = current_parts()
    mistakes = [*_taken_names("source", own.source_specs, SOURCE_SPECS), *_taken_names("study", own.study_specs, STUDIES)]
    if mistakes:
        raise UsageError("\n".join(mistakes))


def _taken_names(what: str, names: Iterable[str], shipped: Container[str]) -> Iterator[str]:
    for name in names:
        if name in shipped:
            yield f"plugins: the {what} {name!r} is one of ae-pipeline's own: choose another name"
