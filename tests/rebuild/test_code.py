"""The recorded commit and changes give the very same code again, and the user's repository is only read."""

import hashlib
from pathlib import Path

import pytest

from aeops.errors import DataError
from aeops.project import Project
from aeops.provenance.lineage import git_diff, git_facts
from aeops.provenance.rebuild.code import clone_code, put_recorded


def contents(root: Path) -> dict[str, bytes]:
    files = [file for file in root.rglob("*") if file.is_file() and ".git" not in file.relative_to(root).parts]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def dirty(project: Project) -> None:
    """Every kind of change: of text with blank lines around, line ends, bytes; a file that is gone; code git does not know."""
    (project.root / "ae_models" / "text.py").write_text("first\n\n\nchanged\n\n")
    (project.root / "ae_models" / "windows.py").write_bytes(b"one\r\nthree\r\n")
    (project.root / "ae_models" / "gone.py").unlink()
    (project.root / "aeops" / "weights.bin").write_bytes(bytes(reversed(range(256))))
    (project.root / "aeops" / "new in täst.py").write_text("new\n")
    (project.root / "aeops" / "new.bin").write_bytes(b"\0\1\2" * 100)


def test_a_clone_of_commit_and_changes_is_the_worktree_byte_by_byte(repository: Project, record_of, tmp_path: Path) -> None:
    dirty(repository)
    facts, patch = git_facts(repository), git_diff(repository)
    assert facts["git.dirty"] == "true"
    assert facts["git.diff_sha256"] == hashlib.sha256(patch).hexdigest()
    record = record_of(facts, {"rebuild/worktree.diff": patch})
    assert contents(clone_code(repository, record, tmp_path / "clone")) == contents(repository.root)


def test_files_that_a_run_rewrites_and_records_whole_are_no_change(repository: Project, git) -> None:
    (repository.root / "params.yaml").write_text("code: {train: old}\n")
    git(repository.root, "add", "params.yaml")
    git(repository.root, "commit", "-qm", "two")
    (repository.root / "params.yaml").write_text("code: {train: new}\n")
    assert git_facts(repository)["git.dirty"] == "false"


def test_settings_of_the_users_own_git_change_no_patch(repository: Project, record_of, tmp_path: Path, git) -> None:
    for name, value in (
        ("diff.noprefix", "true"),
        ("color.ui", "always"),
        ("diff.external", "false"),
        ("apply.whitespace", "fix"),
    ):
        git(repository.root, "config", name, value)
    (repository.root / "ae_models" / "text.py").write_text("first \n\n\nlast\t\n\n")
    record = record_of(git_facts(repository), {"rebuild/worktree.diff": git_diff(repository)})
    assert contents(clone_code(repository, record, tmp_path / "clone")) == contents(repository.root)


def test_a_commit_that_no_branch_holds_any_more_is_found_and_the_repository_stays_as_it_was(
    repository: Project, record_of, tmp_path: Path, git
) -> None:
    (repository.root / "recipes" / "small.yaml").write_text("seed: 1\n")
    git(repository.root, "commit", "-qam", "two")
    record = record_of(git_facts(repository))
    git(repository.root, "reset", "-q", "--hard", "HEAD^")
    before = everything(repository, git)
    root = clone_code(repository, record, tmp_path / "clone")
    assert (root / "recipes" / "small.yaml").read_text() == "seed: 1\n"
    assert everything(repository, git) == before


def everything(project: Project, git) -> tuple[object, ...]:
    """All that a worktree, a branch or an index would leave a mark on."""
    marks = [git(project.root, *words) for words in (("worktree", "list"), ("for-each-ref",), ("rev-parse", "HEAD"))]
    folder = project.root.parent / ".git"
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return marks, files, contents(project.root)


def test_no_hook_of_the_users_runs_in_the_clone(repository: Project, record_of, tmp_path: Path, git) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n")
    (hooks / "post-checkout").chmod(0o755)
    git(repository.root, "config", "core.hooksPath", str(hooks))
    clone_code(repository, record_of(git_facts(repository)), tmp_path / "clone")
    assert not (tmp_path / "hook-ran").exists()


def test_files_recorded_whole_take_the_place_of_the_commits(repository: Project, record_of, tmp_path: Path) -> None:
    facts = git_facts(repository) | {"file.data.dvc": "0" * 64}
    record = record_of(facts, {"rebuild/small.yaml": b"seed: 2\n", "rebuild/data.dvc": b"outs: []\n"})
    root = clone_code(repository, record, tmp_path / "clone")
    put_recorded(record, root)
    assert (root / "recipes" / "small.yaml").read_text() == "seed: 2\n"
    assert (root / "data.dvc").read_text() == "outs: []\n"


def test_a_commit_that_is_gone_and_changes_that_do_not_fit_are_told(repository: Project, record_of, tmp_path: Path) -> None:
    facts = git_facts(repository)
    with pytest.raises(DataError, match=f"the commit {'0' * 40} is gone from .*: fetch it"):
        clone_code(repository, record_of(facts | {"git.commit": "0" * 40}), tmp_path / "one")
    patch = b"diff --git a/below/none.py b/below/none.py\n--- a/below/none.py\n+++ b/below/none.py\n@@ -1 +1 @@\n-x\n+y\n"
    record = record_of(facts | {"git.dirty": "true"}, {"rebuild/worktree.diff": patch})
    with pytest.raises(DataError, match=r"worktree\.diff, do not fit the commit .*none\.py"):
        clone_code(repository, record, tmp_path / "two")
    with pytest.raises(DataError, match="the run was not in a git repository"):
        clone_code(repository, record_of({"git.commit": "none"}), tmp_path / "three")
