"""Finding the files that a source names. Standard library only."""

from pathlib import Path

from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe import Recipe


def source_file(recipe: Recipe, project: Project, path: str, key: str) -> Path:
    """The file that data.source.<key> names.

    Raises:
        DataError: none of the folders that sources are looked for in holds it.
    """
    again = f"put it there or correct data.source.{key} in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
    try:
        place = project.find_source(path)
    except DataError as error:
        raise DataError(f"{error}: {again}") from error
    if not place.is_file():
        raise DataError(f"{place}: a folder given; a file allowed: {again}")
    return place
