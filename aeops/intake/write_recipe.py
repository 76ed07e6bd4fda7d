"""Writes a proposed recipe to recipes/NAME.yaml, once its text is read without a mistake."""

import re
from pathlib import Path

from aeops.errors import InternalError, UsageError
from aeops.files import atomic_write
from aeops.intake.proposal import Proposal
from aeops.intake.recipe_text import Entry, flow_text, printable, render
from aeops.machine.scratch import ScratchFolder
from aeops.project import Project, is_recipe_name
from aeops.recipe.reader import read_recipe


def recipe_text(name: str, proposal: Proposal, about: str | None) -> str:
    """Return the whole text of the recipe."""
    opening = [
        f"# Needs: {printable(proposal.needs)}. Proposed by `ae new`: every choice is yours to change.",
        f"# Run: ae run {name}",
        "# The pages that comments name, such as docs/gates.md: ae docs gates",
    ]
    head = [f"recipe: {name}", f"about: {flow_text(about or proposal.about)}"]
    purpose = Entry("purpose", "detect", "what does not look like the training samples is flagged")
    return "\n".join([*opening, *head, "", render([purpose, *proposal.entries])])


def require_new_name(project: Project, name: str, force: bool) -> None:
    """Raise UsageError where a recipe cannot be written under this name."""
    if not is_recipe_name(name):
        raise UsageError(f"expected a name of letters, digits, -, _ and ., got {name!r}")
    if project.recipe_file(name).exists() and not force:
        raise UsageError(
            f"recipes/{name}.yaml is there already: choose another name, or type the same with --force to replace it"
        )


def dataset_name(recipe: str) -> str:
    """Return the dataset's name for a recipe: lower-case letters, digits, - and _.

    >>> dataset_name("Line-2.b")
    'line-2-b'
    """
    return re.sub(r"[^a-z0-9_-]", "-", recipe.lower()).strip("-_") or "data"


def write_recipe(project: Project, name: str, text: str) -> Path:
    """Write the recipe once it was read; return its path.

    Raises:
        InternalError: the proposal is no recipe.
    """
    with ScratchFolder() as scratch:
        draft = Path(scratch) / f"{name}.yaml"
        draft.write_text(text, encoding="utf-8")
        try:
            read_recipe(draft)
        except UsageError as error:
            raise InternalError(f"the proposed recipe has mistakes, please report them:\n{error}\n\n{text}") from error
    file = project.recipe_file(name)
    atomic_write(file, text)
    return file
