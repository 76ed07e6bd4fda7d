"""The lock of a project of one's own: what is installed where its last run ran, as a rebuild needs it. No addresses stand in it.

A checkout's requirements.lock, by which its environment is made, is another one: nothing here writes it.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from packaging.utils import canonicalize_name

from aeops.files import atomic_write
from aeops.project import Project
from aeops.project_files.templates import LOCK_FILE, OWN_MARK, is_own_file

PACKAGE = "ae-pipeline"


def environment_lock_text() -> str:
    """Return a line `name==version` for every installed package, by name.

    Of a local build, such as torch 2.13.0+cpu, the public version: which build it is, is the machine's choice. A package that was
    installed from a folder is in no registry, and its line a comment.
    """
    lines = [f"{OWN_MARK} {version(PACKAGE)}: what was installed where the last run ran; `ae rebuild` needs it."]
    for name, (package_version, is_from_folder) in sorted(_installed_packages().items()):
        line = f"{name}=={package_version.partition('+')[0]}"
        lines.append(f"# {line} was installed from a folder" if is_from_folder else line)
    return "\n".join(lines) + "\n"


def write_environment_lock(project: Project) -> bool:
    """Bring the lock of a project of one's own up to date; return whether the file has changed."""
    file = project.root / LOCK_FILE
    if project.holds_code or (file.exists() and not is_own_file(file)):
        return False
    text = environment_lock_text()
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    atomic_write(file, text)
    return True


def _installed_packages() -> dict[str, tuple[str, bool]]:
    """Return name -> version, and whether it was installed from a folder; without this package, whose code a record holds.

    By the names of folders: reading the metadata of every package takes half a second.
    """
    packages: dict[str, tuple[str, bool]] = {}
    for folder in _metadata_folders():
        name, _, package_version = folder.name.removesuffix(".dist-info").partition("-")
        name = canonicalize_name(name)
        if name != PACKAGE and package_version:
            packages.setdefault(name, (package_version, _is_from_folder(folder)))  # the first on the path is the one imported
    return packages


def _metadata_folders() -> Iterator[Path]:
    for entry in sys.path:
        if entry and Path(entry).is_dir():
            yield from Path(entry).glob("*.dist-info")


def _is_from_folder(folder: Path) -> bool:
    record = folder / "direct_url.json"
    return record.is_file() and "dir_info" in json.loads(record.read_text(encoding="utf-8"))
