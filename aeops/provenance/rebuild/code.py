"""Check out the code of a version: the recorded commit, its recorded changes, and the files that were recorded whole.

The user's repository is only read: no worktree, branch, index or reference of it changes.
"""

import os
import shutil
import subprocess
from pathlib import Path

from aeops.errors import DataError
from aeops.project import Project
from aeops.provenance.rebuild.record import Record

# Set inside git's own hooks: they would point every command here at another repository.
GIT_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
)
GIT_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")  # no hook of the user's runs in a clone


def run_git(folder: Path, *arguments: str) -> str:
    """Run a git command and return its output, stripped.

    Raises:
        DataError: it failed, with its message; or git is not installed.
    """
    if shutil.which("git") is None:
        raise DataError("git is not installed, so the recorded commit cannot be cloned: install git")
    environment = dict(os.environ)
    for name in GIT_VARIABLES:
        environment.pop(name, None)
    command = ["git", *GIT_OPTIONS, *arguments]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if process.returncode != 0:
        message_lines = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()
        raise DataError(f"git {arguments[0]}: {'; '.join(message_lines[:3])}")
    return process.stdout.strip()


def clone_code(project: Project, record: Record, place: Path) -> Path:
    """Clone the repository to the new folder `place` at the record's commit with its changes; return the project there.

    The clone borrows the objects of the user's repository, so a commit that no branch holds any more is found as well.

    Raises:
        DataError: the commit is gone, or the changes do not fit it.
    """
    commit = record.tags["git.commit"]
    if commit == "none":
        raise DataError("the code is unknown: the run was not in a git repository")
    objects = run_git(project.root, "rev-parse", "--path-format=absolute", "--git-common-dir")
    prefix = run_git(project.root, "rev-parse", "--show-prefix")
    try:
        run_git(project.root, "cat-file", "-e", f"{commit}^{{commit}}")
    except DataError as error:
        raise DataError(f"the commit {commit} is gone from {objects}: fetch it from where it was pushed to") from error
    run_git(project.root, "clone", "--quiet", "--shared", "--no-checkout", objects, str(place))
    run_git(place, "checkout", "--quiet", "--detach", commit)
    if record.patch is not None and record.patch.is_file():
        _apply_patch(record.patch, place, commit)
    return place / prefix


def _apply_patch(patch: Path, clone: Path, commit: str) -> None:
    try:
        run_git(clone, "apply", "--whitespace=nowarn", str(patch))
    except DataError as error:
        raise DataError(f"the recorded changes, {patch.name}, do not fit the commit {commit[:12]} ({error})") from error


def put_recorded(record: Record, root: Path) -> None:
    """Copy the files that the run recorded whole to their places; others stay as the commit has them."""
    for name, file in record.recorded_files().items():
        if file.is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, root / name)
