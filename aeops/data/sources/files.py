"""Finds the files that a source names. Standard library only."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.addresses import is_address
from aeops.recipe.reader import Recipe

LINK_REASON = "a link: links are not followed; put the file itself there"


def fetched_path(recipe: Recipe, project: Project) -> Path | None:
    """Fetch what data.source.path names by an address; return the local file or folder, or None where it is a path.

    Raises:
        AeError: as `aeops.data.sources.remote.fetch_address` does.
    """
    source = recipe.data.source
    if not is_address(source.path):
        return None
    from aeops.data.sources.remote import fetch_address

    return fetch_address(source.path, project.home, getattr(source, "table", None), getattr(source, "query", None))


def source_file(recipe: Recipe, project: Project, path: str, key: str) -> Path:
    """Return the file that data.source.<key> names by `path`.

    Raises:
        DataError: none of the folders that sources are looked for in holds it.
    """
    next_step = f"put it there or correct data.source.{key} in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
    try:
        file = project.find_source(path)
    except DataError as error:
        raise DataError(f"{error}: {next_step}") from error
    if not file.is_file():
        raise DataError(f"{file}: expected a file, got a folder: {next_step}")
    return file


def links_beside(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the links below the folder that files were listed in, which are left out -> the reason.

    Args:
        files: path below the folder -> file.
    """
    if not files:
        return {}
    name, file = next(iter(files.items()))
    folder = file.parents[len(PurePosixPath(name).parts) - 1]
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for one in (*folders, *names):
            path = Path(place, one)
            if path.is_symlink() and not one.startswith("."):
                found[path.relative_to(folder).as_posix()] = LINK_REASON
    return dict(sorted(found.items()))


def source_folder(project: Project, path: str, next_step: str) -> Path:
    """Return a folder that grows: where sources are looked for, then below the state folder, where an inbox lies by default.

    Args:
        project: whose folders are searched.
        path: of the folder, relative to those.
        next_step: what a person should do if there is none.

    Raises:
        DataError: there is none.
    """
    candidate_paths = list(
        dict.fromkeys([*project.source_paths(path), project.home / path])
    )  # an absolute path is the same in each
    for candidate_path in candidate_paths:
        if candidate_path.is_dir():
            return candidate_path
    raise DataError(f"{path}: no such folder; looked for {', '.join(map(str, candidate_paths))}: {next_step}")
