"""Lineage of a version: code, data, environment and machine, as flat tags by which it can be rebuilt."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from aeops.data.dataset import content_sha256
from aeops.data.dvc import data_hash
from aeops.files import data_sha256, file_sha256
from aeops.machine.platform_info import platform_facts
from aeops.project import Project
from aeops.provenance import rebuild_entry
from aeops.recipe.reader import Recipe

RECORDED_FILES = ("dvc.lock", "dvc.yaml", "params.yaml", "data.dvc", "requirements.lock")  # besides the recipe
REWRITTEN_FILES = ("dvc.lock", "data.dvc", "params.yaml")  # of these, by a run
CODE_FOLDERS = ("ae_models", "aeops", "flows")  # folders whose files a run executes, also those that git does not know yet
# A patch that `git apply` takes whatever the user's own git is set to.
DIFF_OPTIONS = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def collect_lineage(project: Project, recipe: Recipe) -> dict[str, str]:
    """Return everything that a rebuild needs to find, as tags: names are lower case with dots, values are text."""
    tags = git_facts(project) | platform_facts()
    tags["rebuild.entry"] = rebuild_entry.ENTRY_NAME
    tags["recipe"] = recipe.name
    tags["recipe.sha256"] = file_sha256(project.recipe_file(recipe.name))
    tags["seed"] = str(recipe.fit.train.seed)
    tags["data.dataset"] = recipe.data.dataset
    tags["data.content_sha256"] = content_sha256(project.dataset(recipe.data.dataset))
    tags["data.dvc_md5"] = data_hash(project)
    for name in RECORDED_FILES:
        if (project.root / name).is_file():
            tags[f"file.{name}"] = file_sha256(project.root / name)
    checksum_file = project.artifacts(recipe.name) / "bundle" / "SHA256SUMS"
    if checksum_file.is_file():
        tags["bundle_sha256"] = file_sha256(checksum_file)
    return tags


def git_output(project: Project, *arguments: str) -> str:
    """Run a git command and return its output, stripped; empty if this is no repository or git is absent."""
    return git_bytes(project.root, *arguments).decode("utf-8", errors="replace").strip()


def git_bytes(folder: Path, *arguments: str, allowed_codes: tuple[int, ...] = (0,)) -> bytes:
    """Run a git command and return its output; empty if its exit code is not in `allowed_codes`, or git is absent."""
    if shutil.which("git") is None:
        return b""
    process = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    if process.returncode not in allowed_codes:
        return b""
    return process.stdout


def git_facts(project: Project) -> dict[str, str]:
    """Return the commit and whether the worktree differs from it; files that DVC or a run rewrites do not count."""
    commit = git_output(project, "rev-parse", "HEAD")
    if not commit:
        return {"git.commit": "none", "git.dirty": "true"}
    diff = git_diff(project)
    tags = {"git.commit": commit, "git.dirty": str(bool(diff)).lower()}
    if diff:
        tags["git.diff_sha256"] = data_sha256(diff)
    return tags


def git_diff(project: Project) -> bytes:
    """Return the changes against the current commit as a patch, including code that git does not track yet.

    Without the files that a run rewrites: they are recorded whole.
    """
    exclude_patterns = [f":(exclude){name}" for name in REWRITTEN_FILES]
    tracked_diff = git_bytes(project.root, "diff", *DIFF_OPTIONS, "HEAD", "--", ".", *exclude_patterns)
    return tracked_diff + b"".join(_new_files(project))


def _new_files(project: Project) -> Iterator[bytes]:
    """Yield a patch for each file of code that git neither tracks nor ignores."""
    repository_root = git_output(project, "rev-parse", "--show-toplevel")
    names = git_bytes(project.root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", *CODE_FOLDERS)
    for name in filter(None, names.split(b"\0")):
        yield git_bytes(
            Path(repository_root), "diff", "--no-index", *DIFF_OPTIONS, "--", os.devnull, os.fsdecode(name), allowed_codes=(0, 1)
        )
