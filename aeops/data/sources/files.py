"""Finding the files that a source names. Standard library only."""

from pathlib import Path

from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe


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


def source_folder(project: Project, path: str, again: str) -> Path:
    """A folder that grows: where sources are looked for, then below the state folder, where an inbox lies by default.

    Args:
        again: what to do where there is none.

    Raises:
        DataError: none of them is there.
    """
    places = [*project.source_paths(path), project.home / path]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(f"{path}: no such folder; looked for {', '.join(map(str, places))}: {again}")
