"""Lay out the code of a version: the recorded commit with its changes, or the recorded archive, and the files recorded whole.

The user's repository is only read: no worktree, branch, index or reference of it changes.
"""

import os
import shutil
from pathlib import Path

from aeops.errors import DataError
from aeops.machine.git import GitError, git_text, run_git
from aeops.project import Project
from aeops.provenance.code_archive import unpack_code
from aeops.provenance.rebuild.record import Record


def lay_out_code(project: Project, record: Record, folder: Path) -> Path:
    """Lay out the code in a new folder, from a commit where the project is a checkout of this package; return the project there.

    Raises:
        DataError: the archive is damaged or altered; or as `clone_code` does.
    """
    archive = record.code_archive
    if "code.version" in record.tags and archive is not None:
        folder.mkdir()
        root = folder
    else:
        root = clone_code(project, record, folder)
    if archive is not None and archive.is_file():
        unpack_code(archive, root, record.tags["code.sha256"])
    return root


def clone_code(project: Project, record: Record, folder: Path) -> Path:
    """Clone the repository to a new folder at the record's commit with its changes; return the project there.

    The clone borrows the objects of the user's repository, so a commit that no branch holds any more is found as well.

    Raises:
        DataError: the commit is gone, the changes do not fit it, or git is absent or cannot read the repository.
    """
    commit = record.tags["git.commit"]
    if commit == "none":
        raise DataError(f"the code is unknown: {record.tags.get('git.unknown', 'the run was not in a git repository')}")
    repository = Path(git_text(project.root, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    prefix = git_text(project.root, "rev-parse", "--show-prefix")
    try:
        run_git(project.root, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitError as error:
        raise DataError(f"the commit {commit} is gone from {repository}: fetch it from where it was pushed to") from error
    object_format = git_text(project.root, "rev-parse", "--show-object-format")
    folder.mkdir()
    # `git clone --shared` writes paths with line ends unquoted, and refuses another user's repository.
    run_git(folder, "init", "--quiet", "--template=", f"--object-format={object_format}")
    _borrow_objects(folder, repository / "objects")
    run_git(folder, "checkout", "--quiet", "--detach", commit)
    if record.patch is not None and record.patch.is_file():
        _apply_patch(record.patch, folder, commit)
    return folder / prefix


def _borrow_objects(clone: Path, objects: Path) -> None:
    """Let a repository read the objects of another one, by a path quoted as in C: it may hold any character."""
    quoted_path = os.fsencode(objects).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    alternates = clone / ".git" / "objects" / "info" / "alternates"
    alternates.parent.mkdir(parents=True, exist_ok=True)
    alternates.write_bytes(b'"' + quoted_path + b'"\n')


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
