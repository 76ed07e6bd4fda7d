"""Sources and studies that a recipe may name: those of this package, and the project's own."""

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
    mistakes = [f"the source {kind!r} is one of ae-pipeline's own" for kind in own.source_specs if kind in SOURCE_SPECS]
    mistakes += [f"the study {name!r} is one of ae-pipeline's own" for name in own.study_specs if name in STUDIES]
    if mistakes:
        raise UsageError("\n".join(f"plugins: {mistake}: choose another name" for mistake in mistakes))
