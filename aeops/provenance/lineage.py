"""Lineage of a version: code, data, environment and machine, by which it can be rebuilt.

A version's tags on MLflow's page are those that a person looks for. All of them stand in rebuild/lineage.json among the files of
its run, whose SHA-256 is a tag; versions that are older than that file have them all as tags.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from aeops.data.dataset import content_sha256
from aeops.data.dvc import dataset_hash, dvc_lock
from aeops.errors import DataError
from aeops.files import atomic_folder, data_sha256, file_sha256, write_json
from aeops.machine.git import GitError, git_text, run_git
from aeops.machine.lock import PROJECT_FILES_LOCK, file_lock
from aeops.machine.platform_info import platform_facts
from aeops.machine.scratch import ScratchFolder
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.provenance import rebuild_entry
from aeops.provenance.code_archive import code_facts
from aeops.recipe.reader import Recipe
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

RECORDED_FILES = ("dvc.lock", "dvc.yaml", "params.yaml", "data.dvc", "requirements.lock")  # besides the recipe
REWRITTEN_FILES = ("dvc.lock", "data.dvc", "params.yaml", "prefect.yaml", "dvc.yaml", ".dvc/stage")  # by a run
CODE_FOLDERS = ("ae_models", "aeops", "flows")  # folders whose files a run executes, also those that git does not know yet
# A patch that `git apply` takes whatever the user's own git is set to.
DIFF_OPTIONS = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
MAX_REASON_LENGTH = 300  # of a tag that says why the code is not known
NO_COMMIT = "the repository has no commit yet: type `git add --all && git commit`"
LINEAGE_PATH = "rebuild/lineage.json"  # among the files of a version's run
LINEAGE_TAG = "lineage.sha256"  # of a version: the SHA-256 of that file
# What a person looks for on MLflow's page, or a command of every version without a look at its files.
SHOWN_NAMES = (
    *("git.commit", "git.dirty", "git.unknown", "code.version", "code.sha256"),
    *("data.dataset", "data.content_sha256", "data.dvc_md5", "bundle_sha256"),
)


def recorded_folder(project: Project, recipe: str) -> Path:
    """Return the folder of the copies that `recorded_files` makes."""
    return project.reports(recipe) / "recorded"


def recorded_files(project: Project, recipe: str) -> Path:
    """Copy `RECORDED_FILES` as they are at one moment, while no DVC writes; return the folder.

    A run of another recipe may change them before this one has stored them.
    """
    with dvc_lock(project), file_lock(project, PROJECT_FILES_LOCK), atomic_folder(recorded_folder(project, recipe)) as folder:
        for name in RECORDED_FILES:
            if (project.root / name).is_file():
                shutil.copyfile(project.root / name, folder / name)
    return recorded_folder(project, recipe)


def collect_lineage(project: Project, recipe: Recipe, recorded: Path | None = None) -> dict[str, str]:
    """Return everything that a rebuild needs to find: names are lower case with dots, values are text.

    Args:
        recorded: what `recorded_files` returned; None: of a run that has no version yet.
    """
    tags = git_facts(project) | code_facts(project) | platform_facts()
    tags["rebuild.entry"] = rebuild_entry.ENTRY_NAME
    tags["recipe"] = recipe.name
    tags["recipe.sha256"] = file_sha256(project.recipe_file(recipe.name))
    tags["seed"] = str(recipe.fit.train.seed)
    tags["data.dataset"] = recipe.data.dataset
    tags["data.content_sha256"] = content_sha256(project.dataset(recipe.data.dataset))
    tags["data.dvc_md5"] = dataset_hash(project, recipe.data.dataset)
    files = recorded_files(project, recipe.name) if recorded is None else recorded
    tags |= {f"file.{file.name}": file_sha256(file) for file in sorted(files.iterdir())}
    checksum_file = project.artifacts(recipe.name) / "bundle" / "SHA256SUMS"
    if checksum_file.is_file():
        tags["bundle_sha256"] = file_sha256(checksum_file)
    return tags


def shown_tags(lineage: Mapping[str, str]) -> dict[str, str]:
    """Return the part of a lineage that is shown as tags."""
    return {name: lineage[name] for name in SHOWN_NAMES if name in lineage}


def write_lineage(file: Path, lineage: Mapping[str, str]) -> dict[str, str]:
    """Write lineage.json, and return the tags of its version: those that are shown, and the file's SHA-256."""
    write_json(file, dict(sorted(lineage.items())))
    return {**shown_tags(lineage), LINEAGE_TAG: file_sha256(file)}


def with_lineage(store: Store, recipe: str, version: VersionInfo) -> VersionInfo:
    """Return a version whose tags are its whole lineage; one that is older than lineage.json as it is.

    What the file says goes before a tag of its name: that was set by older code, and is of an earlier run of the same bundle.

    Raises:
        DataError: the file is gone or altered.
    """
    if LINEAGE_TAG not in version.tags:
        return version
    name, folder_name = f"{recipe}@{version.version}", LINEAGE_PATH.partition("/")[0]
    if LINEAGE_PATH not in store.files(version.run_id, folder_name):
        raise DataError(
            f"{LINEAGE_PATH} of {name} is not among the files of its run {version.run_id}: restore MLflow from a backup"
        )
    with ScratchFolder() as folder:
        file = store.download_file(version.run_id, LINEAGE_PATH, Path(folder))
        if file_sha256(file) != version.tags[LINEAGE_TAG]:
            raise DataError(
                f"{LINEAGE_PATH} of {name} is altered: SHA-256 {file_sha256(file)[:12]}, {version.tags[LINEAGE_TAG][:12]} is "
                "recorded in its tags: restore MLflow from a backup"
            )
        lineage = dict(read_json(file))
    return replace(version, tags={**version.tags, **{key: value for key, value in lineage.items() if key not in SHOWN_NAMES}})


def git_facts(project: Project) -> dict[str, str]:
    """Return the commit and whether the worktree differs from it; files that DVC or a run rewrites do not count.

    Where git cannot say, `git.commit` is `none` and `git.unknown` has the reason. Of a project of one's own the commit alone is
    recorded: its code is recorded by `code_facts`, and what else lies in the user's repository is no part of a version.
    """
    if not project.holds_code:
        return _own_commit(project)
    try:
        require_own_repository(project)
        commit = git_text(project.root, "rev-parse", "HEAD")
        diff = git_diff(project)
    except GitError as error:
        return {"git.commit": "none", "git.dirty": "true", "git.unknown": " ".join(str(error).split())[:MAX_REASON_LENGTH]}
    tags = {"git.commit": commit, "git.dirty": str(bool(diff)).lower()}
    if diff:
        tags["git.diff_sha256"] = data_sha256(diff)
    return tags


def _own_commit(project: Project) -> dict[str, str]:
    try:
        if not git_text(project.root, "rev-list", "--max-count=1", "--all"):  # as after `ae init`
            return {"git.commit": "none", "git.unknown": NO_COMMIT}
        return {"git.commit": git_text(project.root, "rev-parse", "HEAD")}
    except GitError as error:
        return {"git.commit": "none", "git.unknown": " ".join(str(error).split())[:MAX_REASON_LENGTH]}


def unknown_code_message(project: Project) -> str | None:
    """Return what a run cannot record about its code, and what to type; None where it is all known."""
    if not project.holds_code:
        return None
    reason = git_facts(project).get("git.unknown")
    if reason is None:
        return None
    return (
        f"the code of this run is not recorded: {reason}. Its version will have no commit, and `ae rebuild` cannot rebuild it. "
        "To record the code, run a recipe in a git clone of the project, with git in PATH"
    )


def require_own_repository(project: Project) -> None:
    """Require that the project's files belong to the repository around it.

    Raises:
        GitError: there is none or it cannot be read; it has no commit; or it is about other files, as that of a home folder.
    """
    repository = git_text(project.root, "rev-parse", "--show-toplevel")
    try:
        run_git(project.root, "cat-file", "-e", "HEAD:./dvc.yaml")
    except GitError as error:
        raise GitError(f"the last commit of the repository {repository} does not have {project.root / 'dvc.yaml'}") from error


def git_diff(project: Project) -> bytes:
    """Return the changes against the current commit as a patch, including code that git does not track yet.

    Without the files that a run rewrites: they are recorded whole.

    Raises:
        GitError: git is absent, or cannot say.
    """
    exclude_patterns = [f":(exclude){name}" for name in REWRITTEN_FILES]
    tracked_diff = run_git(project.root, "diff", *DIFF_OPTIONS, "HEAD", "--", ".", *exclude_patterns)
    return tracked_diff + b"".join(_new_files(project))


def _new_files(project: Project) -> Iterator[bytes]:
    """Yield a patch for each file of code that git does not track and the project's own .gitignore files do not name."""
    repository_root = Path(git_text(project.root, "rev-parse", "--show-toplevel"))
    listing = ("ls-files", "--others", "--exclude-per-directory=.gitignore", "--full-name", "-z", "--")
    names = run_git(project.root, *listing, *CODE_FOLDERS)
    for name in filter(None, names.split(b"\0")):
        comparison = ("diff", "--no-index", *DIFF_OPTIONS, "--", os.devnull, os.fsdecode(name))
        yield run_git(repository_root, *comparison, allowed_codes=(0, 1))
