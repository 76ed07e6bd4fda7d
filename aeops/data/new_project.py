"""Make a project of a folder, as `ae init` does: every file that the other commands need, and none of this package's code.

Each file is written whole or not at all, and dvc.yaml, by which a project is known, comes last: after a kill the same command
completes what is missing.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aeops.data.pipeline_files import record_python, write_pipeline_files
from aeops.data.stage_code import code_hashes, with_code_hashes
from aeops.errors import DataError, UsageError
from aeops.files import atomic_write, make_folder
from aeops.machine.access import may_write
from aeops.machine.environment_lock import environment_lock_text
from aeops.machine.git import GitError, git_text, has_identity, run_git
from aeops.project import Project
from aeops.project_files.templates import LOCK_FILE, PIPELINE_FILES, is_own_file, read_template
from aeops.recipe.project_settings import read_project_settings

# Path in the project -> template. What a person may have written already, and goes on changing, is left as it is.
STARTING_FILES = {
    ".dvc/config": "dvc-config",
    ".dvc/.gitignore": "dvc-gitignore",
    ".dvcignore": "dvcignore",
    "ae.yaml": "ae.yaml",
    "README.md": "README.md",
    "data.dvc": "data.dvc",
}
GENERATED_FILES = ("params.yaml", "prefect.yaml", LOCK_FILE, *PIPELINE_FILES)  # of another's hand, they are in the way
IGNORE_FILE, IGNORE_MARK = ".gitignore", "# Written by ae-pipeline"
FOLDERS = ("recipes", ".dvc")
OWN_PACKAGES = ("aeops", "ae_models", "flows")
SCRATCH_FOLDER = ".ae-init.tmp"  # in which git makes a repository that is then moved to its place


@dataclass
class NewProject:
    """What was done to a folder.

    Attributes:
        root: the folder.
        written: the paths that were written, in order; empty: it was a whole project already.
        notes: sentences for the person, such as that git does not know their name.
    """

    root: Path
    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def create_project(root: Path) -> NewProject:
    """Make a project of a folder, which is made where it does not exist; complete one that is incomplete.

    Raises:
        UsageError: something is in the way; names all of it, and nothing was written.
        DataError: git is not installed, or cannot make a repository.
    """
    root = root.absolute()
    if problems := list(_find_obstacles(root)):
        raise UsageError(f"cannot make a project of {root}:\n- " + "\n- ".join(problems))
    made = NewProject(root)
    try:
        make_folder(root)
    except OSError as error:
        raise UsageError(f"the folder {root} cannot be made ({error.strerror}): choose another one") from error
    _make_repository(made)
    for name in FOLDERS:
        make_folder(root / name)
    for name, template in STARTING_FILES.items():
        if not (root / name).exists():
            _write(made, name, read_template(template))
    read_project_settings(root)
    _extend_ignored(made)
    for name, text in _generated_texts(root):
        _write(made, name, text)
    project = Project(root, root / ".ae")
    made.written += write_pipeline_files(project)
    record_python(project)
    made.notes += _identity_notes(root)
    return made


def _write(made: NewProject, name: str, text: str) -> None:
    atomic_write(made.root / name, text)
    made.written.append(name)


def _generated_texts(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the generated files that are missing, but those of `write_pipeline_files`; a run keeps them up to date."""
    if not (root / "params.yaml").exists():
        yield "params.yaml", with_code_hashes(read_template("params.yaml"), code_hashes(root))
    if not (root / "prefect.yaml").exists():
        yield "prefect.yaml", read_template("prefect.yaml")
    if not (root / LOCK_FILE).exists():
        yield LOCK_FILE, environment_lock_text()


def _extend_ignored(made: NewProject) -> None:
    """Have git ignore state, data and results, beside what it ignores already."""
    file = made.root / IGNORE_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if IGNORE_MARK not in text:
        separator = "" if not text or text.endswith("\n") else "\n"
        _write(made, IGNORE_FILE, f"{text}{separator}{read_template('gitignore')}")


# ---------------------------------------------------------------- what is in the way


def _find_obstacles(root: Path) -> Iterator[str]:
    """Yield every reason why the folder cannot become a project."""
    if ".git" in root.parts:
        yield "it lies in a folder .git, which git keeps for itself: choose another folder"
        return
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not existing.is_dir():
        yield f"{existing} is a file: choose another folder"
        return
    if not may_write(existing):
        yield f"{existing} cannot be written by this user: choose another folder, or have its owner give you the right"
        return
    if Project(root, root).holds_code:
        yield "it is a checkout of ae-pipeline, and a project already"
        return
    for folder in root.parents:
        if (folder / "dvc.yaml").is_file() and (folder / "recipes").is_dir():
            yield f"it lies in the project {folder}: choose a folder outside of it"
    yield from _files_in_the_way(root)


def _files_in_the_way(root: Path) -> Iterator[str]:
    for name in GENERATED_FILES:
        file = root / name
        if file.exists() and not is_own_file(file):
            yield f"{name} is there, and ae-pipeline writes a file of that name: move it, or choose another folder"
    for name in FOLDERS:
        if (root / name).exists() and not (root / name).is_dir():
            yield f"{name} is a file, and a project has a folder of that name: move it"
    for name in (*STARTING_FILES, IGNORE_FILE):
        if (root / name).is_dir():
            yield f"{name} is a folder, and a project has a file of that name: move it"
    for name in _hidden_modules(root):
        yield f"{name} would be imported in the place of the module of that name that ae-pipeline needs: rename it"


def _hidden_modules(root: Path) -> Iterator[str]:
    """Yield files and folders at the top that Python would import before the standard library or this package."""
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        is_module = path.suffix == ".py" and path.is_file()
        is_package = (path / "__init__.py").is_file()
        if (
            (is_module and path.stem in sys.stdlib_module_names)
            or (is_package and path.name in sys.stdlib_module_names)
            or (is_module and path.stem in OWN_PACKAGES)
            or (path.is_dir() and path.name in OWN_PACKAGES)
        ):
            yield path.name


# ---------------------------------------------------------------- git


def _make_repository(made: NewProject) -> None:
    """Make a git repository unless the folder lies in one; it appears whole.

    Raises:
        DataError: git is not installed, or cannot make it.
    """
    try:
        git_text(made.root, "rev-parse", "--show-toplevel")
        return
    except GitError as error:
        if shutil.which("git") is None:
            raise DataError("git is not installed, or not in PATH: install it, then type the same command again") from error
        if (made.root / ".git").exists():
            raise DataError(f"{made.root / '.git'} is there and git cannot read it: {error}") from error
    scratch = made.root / SCRATCH_FOLDER
    shutil.rmtree(scratch, ignore_errors=True)  # of an `ae init` that was killed
    scratch.mkdir()
    try:
        run_git(scratch, "init", "--quiet", "--initial-branch=main")
        os.rename(scratch / ".git", made.root / ".git")
    finally:
        shutil.rmtree(scratch)
    made.written.append(".git")


def _identity_notes(root: Path) -> Iterator[str]:
    """Yield a note where git does not know whose name to write on a commit: `ae` makes none, and the first one would fail."""
    if not has_identity(root):
        commands = "`git config user.name NAME` and `git config user.email ADDRESS`"
        yield f"git does not know your name: before you commit, type {commands}"
