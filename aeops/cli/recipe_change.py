"""Settings of a recipe that are changed on the command line: written to its file, and taken back where nothing came of them."""

import difflib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.machine.scratch import ScratchFolder
from aeops.project import Project

if TYPE_CHECKING:
    from aeops.recipe.reader import Recipe


class RecipeChange:
    """A change of a recipe's file that is taken back unless it is kept."""

    def __init__(self) -> None:
        self.is_kept = False

    def keep(self) -> None:
        """Keep the change."""
        self.is_kept = True


@contextmanager
def changed_recipe(project: Project, recipe: "Recipe", settings: Mapping[str, Any]) -> Iterator[RecipeChange]:
    """Write settings to the recipe's file while the block runs, and for good where the block keeps them.

    A run that Ctrl-C or another signal ends takes the change back, too. A process that is killed at once leaves the file
    changed: the recipe then asks for what the next run carries out.

    Args:
        settings: path of a key -> its value; none: the file stays as it is.

    Raises:
        UsageError: the file cannot be changed safely, or was changed since it was read, or the recipe with them has mistakes.
    """
    from aeops.files import atomic_write
    from aeops.machine.run_watch import closing_step
    from aeops.recipe.reader import require_unchanged

    file, change = project.recipe_file(recipe.name), RecipeChange()
    require_unchanged(project, recipe)
    old_text = file.read_text(encoding="utf-8")
    new_text = changed_text(recipe.name, old_text, settings)

    def take_back() -> None:
        if not change.is_kept and new_text != old_text and file.read_text(encoding="utf-8") == new_text:
            atomic_write(file, old_text, file.stat().st_mode & 0o777)
            over_progress = "\r\x1b[K" if sys.stderr.isatty() else ""
            print(f"{over_progress}recipes/{file.name} is as it was before", file=sys.stderr)

    with closing_step(take_back):
        try:
            if new_text != old_text:
                print("\n".join(diff_lines(recipe.name, old_text, new_text)), file=sys.stderr)
                atomic_write(file, new_text, file.stat().st_mode & 0o777)
            yield change
        finally:
            take_back()


def changed_text(name: str, text: str, settings: Mapping[str, Any]) -> str:
    """Return the text of a recipe with these settings.

    Raises:
        UsageError: it cannot be changed safely, or the recipe with them has mistakes: every one of them.
    """
    from aeops.recipe.edit import with_settings
    from aeops.recipe.reader import read_recipe

    if not settings:
        return text
    new_text = with_settings(text, settings, f"{name}.yaml")
    with ScratchFolder() as folder:
        file = Path(folder) / f"{name}.yaml"
        file.write_text(new_text, encoding="utf-8")
        read_recipe(file)
    return new_text


def diff_lines(name: str, old_text: str, new_text: str) -> list[str]:
    """Return the changed lines of a recipe, as `diff -u` shows them without what surrounds them."""
    file = f"recipes/{name}.yaml"
    lines = difflib.unified_diff(old_text.splitlines(), new_text.splitlines(), f"{file} (before)", file, n=0, lineterm="")
    return [line for line in lines if not line.startswith("@@")]
