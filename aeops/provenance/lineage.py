"""The lineage of a version: code, data, environment and machine, as flat tags by which it can be rebuilt."""

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

RECORDED_FILES = ("dvc.lock", "dvc.yaml", "params.yaml", "data.dvc", "requirements.lock")  # beside the recipe's own
REWRITTEN_FILES = ("dvc.lock", "data.dvc", "params.yaml")  # of these, by a run
CODE = ("ae_models", "aeops", "flows")  # folders whose files a run executes, also those that git does not know yet
# A patch that `git apply` takes whatever the user's own git is set to.
PATCH = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def lineage(project: Project, recipe: Recipe) -> dict[str, str]:
    """Return everything that a rebuild needs to find, as tags: names are lower case with dots, values are text."""
    facts = git_facts(project) | platform_facts()
    facts["rebuild.entry"] = rebuild_entry.NAME
    facts["recipe"] = recipe.name
    facts["recipe.sha256"] = file_sha256(project.recipe_file(recipe.name))
    facts["seed"] = str(recipe.fit.train.seed)
    facts["data.dataset"] = recipe.data.dataset
    facts["data.content_sha256"] = content_sha256(project.dataset(recipe.data.dataset))
    facts["data.dvc_md5"] = data_hash(project)
    for name in RECORDED_FILES:
        if (project.root / name).is_file():
            facts[f"file.{name}"] = file_sha256(project.root / name)
    sums = project.artifacts(recipe.name) / "bundle" / "SHA256SUMS"
    if sums.is_file():
        facts["bundle_sha256"] = file_sha256(sums)
    return facts


def git(project: Project, *arguments: str) -> str:
    """Run a git command and return its output, stripped; empty if this is no repository or git is absent."""
    return git_bytes(project.root, *arguments).decode("utf-8", errors="replace").strip()


def git_bytes(folder: Path, *arguments: str, allowed_codes: tuple[int, ...] = (0,)) -> bytes:
    """Run a git command and return its output; empty if its exit code is not in `allowed_codes`, or git is absent."""
    if shutil.which("git") is None:
        return b""
    process = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    return process.stdout if process.returncode in allowed_codes else b""


def git_facts(project: Project) -> dict[str, str]:
    """Return the commit and whether the worktree differs from it; files that DVC or a run rewrites do not count."""
    commit = git(project, "rev-parse", "HEAD")
    if not commit:
        return {"git.commit": "none", "git.dirty": "true"}
    diff = git_diff(project)
    facts = {"git.commit": commit, "git.dirty": str(bool(diff)).lower()}
    if diff:
        facts["git.diff_sha256"] = data_sha256(diff)
    return facts


def git_diff(project: Project) -> bytes:
    """Return the changes against the current commit as a patch, including code that git does not track yet.

    Without the files that a run rewrites: they are recorded whole.
    """
    excluded = [f":(exclude){name}" for name in REWRITTEN_FILES]
    tracked = git_bytes(project.root, "diff", *PATCH, "HEAD", "--", ".", *excluded)
    return tracked + b"".join(_new_files(project))


def _new_files(project: Project) -> Iterator[bytes]:
    """Yield a patch for each file of code that git neither tracks nor ignores."""
    repository = git(project, "rev-parse", "--show-toplevel")
    names = git_bytes(project.root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", *CODE)
    for name in filter(None, names.split(b"\0")):
        yield git_bytes(Path(repository), "diff", "--no-index", *PATCH, "--", os.devnull, os.fsdecode(name), allowed_codes=(0, 1))
