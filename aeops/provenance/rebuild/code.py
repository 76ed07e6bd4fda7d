"""The code of a version in a clone: the recorded commit, the recorded changes to it, the files that were recorded whole.

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
LOCAL = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
)
PLAIN = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")  # no hook of the user's runs in a clone


def git(folder: Path, *arguments: str) -> str:
    """What a git command prints, stripped.

    Raises:
        DataError: it failed, or there is no git; with what git says.
    """
    if shutil.which("git") is None:
        raise DataError("git is not installed: without it no recorded commit can be had")
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL}
    command = ["git", *PLAIN, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        raise DataError(f"git {arguments[0]}: {'; '.join(said[:3])}")
    return done.stdout.strip()


def clone_code(project: Project, record: Record, place: Path) -> Path:
    """Clones the repository to the new folder `place` at the record's commit with its changes; returns the project there.

    The clone borrows the objects of the user's repository, so a commit that no branch holds any more is found as well.

    Raises:
        DataError: the commit is gone, or the changes do not fit it.
    """
    commit = record.tags["git.commit"]
    if commit == "none":
        raise DataError("the code is unknown: the run was not in a git repository")
    objects = git(project.root, "rev-parse", "--path-format=absolute", "--git-common-dir")
    below = git(project.root, "rev-parse", "--show-prefix")
    try:
        git(project.root, "cat-file", "-e", f"{commit}^{{commit}}")
    except DataError as error:
        raise DataError(f"the commit {commit} is gone from {objects}: fetch it from where it was pushed to") from error
    git(project.root, "clone", "--quiet", "--shared", "--no-checkout", objects, str(place))
    git(place, "checkout", "--quiet", "--detach", commit)
    if record.patch is not None and record.patch.is_file():
        apply(record.patch, place, commit)
    return place / below


def apply(patch: Path, clone: Path, commit: str) -> None:
    try:
        git(clone, "apply", "--whitespace=nowarn", str(patch))
    except DataError as error:
        raise DataError(f"the recorded changes, {patch.name}, do not fit the commit {commit[:12]} ({error})") from error


def put_recorded(record: Record, root: Path) -> None:
    """Puts the files that the run recorded whole in their places; what the record lacks is left as the commit has it."""
    for name, file in record.recorded().items():
        if file.is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, root / name)
