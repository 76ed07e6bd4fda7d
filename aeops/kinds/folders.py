"""The files below a folder that people fill. Standard library only."""

import os
from dataclasses import dataclass, field
from pathlib import Path

MAX_LINKED_FILES = 100_000  # behind one symbolic link


@dataclass
class FolderListing:
    """The files below a folder.

    Attributes:
        files: regular files, also those that links lead to, sorted by their paths.
        problems: paths relative to the folder, with slashes, of what could not be listed -> the reason.
    """

    files: list[Path] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def list_files(folder: Path) -> FolderListing:
    """List a folder with its subfolders, those behind symbolic links too; hidden files and folders are left out.

    Each real folder is listed once, by its own path where there is one, however many links lead to it; so links may go round in a
    circle. Nothing is listed behind a link to a folder that holds this one, such as `/` or a home, nor behind one with more than
    `MAX_LINKED_FILES` files: it leads elsewhere by mistake, and would be walked each time.
    """
    listing = FolderListing()
    listed_folders: dict[str, str] = {}
    pending_folders = [folder]
    while pending_folders:
        pending_folders += _list_real_folders(folder, pending_folders.pop(0), listing, listed_folders)
    listing.files.sort()
    return listing


def _list_real_folders(root: Path, start: Path, listing: FolderListing, listed_folders: dict[str, str]) -> list[Path]:
    """Add what lies below `start` to the listing; return the folders that links lead to."""

    def add_problem(error: OSError) -> None:
        listing.problems[_relative_name(root, Path(error.filename))] = f"the folder cannot be listed ({error.strerror})"

    start_target = Path(os.path.realpath(start))
    if start_target in Path(os.path.realpath(root)).parents:
        listing.problems[_relative_name(root, start)] = f"a link to {start_target}, which holds this folder; remove the link"
        return []
    linked_folders, file_count, folders_before = [], 0, set(listed_folders)
    first_file = len(listing.files)
    for path_text, folder_names, file_names in os.walk(start, onerror=add_problem):
        path = Path(path_text)
        first_name = listed_folders.setdefault(os.path.realpath(path), _relative_name(root, path))
        if first_name != _relative_name(root, path):
            listing.problems[_relative_name(root, path)] = f"a link to the folder {first_name}, which is listed already"
            folder_names.clear()
            continue
        folder_names[:] = sorted(name for name in folder_names if not name.startswith("."))
        linked_folders += [path / name for name in folder_names if (path / name).is_symlink()]
        file_count += len(file_names)
        if start != root and file_count > MAX_LINKED_FILES:
            del listing.files[first_file:]
            for target in listed_folders.keys() - folders_before:
                del listed_folders[target]
            reason = f"more than {MAX_LINKED_FILES:,} files lie behind this link; link to a smaller folder"
            listing.problems[_relative_name(root, start)] = reason
            return []
        for name in file_names:
            if name.startswith("."):
                continue
            if os.path.isfile(path / name):
                listing.files.append(path / name)
            else:
                listing.problems[_relative_name(root, path / name)] = "no regular file, or a link to none"
    return linked_folders


def _relative_name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
