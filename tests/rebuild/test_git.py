"""The record of a run's code is right, or says what it does not know: whatever hooks, users' settings and owners there are."""

import os
import shutil
from pathlib import Path

import pytest

from aeops.errors import DataError
from aeops.machine.git import run_git
from aeops.project import Project
from aeops.provenance.lineage import git_diff, git_facts, unknown_code_message
from aeops.provenance.rebuild.code import clone_code


@pytest.fixture
def other_repository(tmp_path: Path, git) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "dvc.yaml").write_text("of another project\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "other")
    return folder


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_COUNT", "GIT_NAMESPACE"])
def test_what_a_hook_sets_leads_to_no_other_repository(
    repository: Project, other_repository: Path, record_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    expected = git_facts(repository)
    paths = {"GIT_INDEX_FILE": ".git/index", "GIT_OBJECT_DIRECTORY": ".git/objects", "GIT_DIR": ".git"}
    monkeypatch.setenv(variable, str(other_repository / paths[variable]) if variable in paths else "1")
    assert git_facts(repository) == expected
    assert expected["git.dirty"] == "false"
    assert (clone_code(repository, record_of(expected), tmp_path / "clone") / "ae_models" / "text.py").is_file()


def test_a_users_own_settings_hide_no_code_and_change_no_patch(
    repository: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.root / "aeops" / "new.py").write_text("new\n")
    (repository.root / "ae_models" / "text.py").write_text("changed\n")
    expected = git_diff(repository)
    assert b"new.py" in expected
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.py\n*.dvc\n")
    (home / ".config" / "git" / "attributes").write_text("*.py binary\n")
    (home / ".gitconfig").write_text("[diff]\ncontext = 0\norderFile = /none\n[core]\nautocrlf = true\nquotePath = false\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    assert git_diff(repository) == expected


def test_without_git_the_record_says_so_and_what_it_means(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_code_message(repository) is None
    monkeypatch.setenv("PATH", str(repository.root))
    facts = git_facts(repository)
    assert (facts["git.commit"], facts["git.unknown"]) == ("none", "git is not installed, or not in PATH")
    message = unknown_code_message(repository)
    assert message is not None
    assert "`ae rebuild` cannot rebuild it" in message


def test_the_commit_of_a_repository_around_a_copy_is_not_the_copys(repository: Project, other_repository: Path) -> None:
    """A home folder may be a repository of its own."""
    copy = shutil.copytree(repository.root, other_repository / "unpacked" / "project")
    facts = git_facts(Project(copy, copy / ".ae"))
    assert facts["git.commit"] == "none"
    assert facts["git.unknown"] == f"the last commit of the repository {other_repository} does not have {copy / 'dvc.yaml'}"


def test_a_folder_without_a_repository_and_one_without_a_commit_are_told(repository: Project, tmp_path: Path, git) -> None:
    copy = shutil.copytree(repository.root, tmp_path / "copy")
    project = Project(copy, copy / ".ae")
    assert "not a git repository" in git_facts(project)["git.unknown"]
    git(copy, "init", "-q")
    assert "does not have" in git_facts(project)["git.unknown"]


def test_a_project_of_ones_own_without_a_commit_says_what_to_type(tmp_path: Path, git) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    git(tmp_path, "init", "-q")
    project = Project(tmp_path, tmp_path / ".ae")
    assert not project.holds_code
    message = "the repository has no commit yet: type `git add --all && git commit`"
    assert git_facts(project) == {"git.commit": "none", "git.unknown": message}
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    assert list(git_facts(project)) == ["git.commit"]
    assert len(git_facts(project)["git.commit"]) == 40


def test_a_damaged_index_is_no_clean_worktree(repository: Project) -> None:
    (repository.root.parent / ".git" / "index").write_bytes(b"damaged")
    facts = git_facts(repository)
    assert (facts["git.commit"], facts["git.dirty"]) == ("none", "true")
    assert "index" in facts["git.unknown"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_another_owners_checkout_has_its_lineage_and_can_be_rebuilt(repository: Project, record_of, tmp_path: Path) -> None:
    (repository.root / "ae_models" / "text.py").write_text("changed\n")
    expected, patch = git_facts(repository), git_diff(repository)
    give_away(repository.root.parent, 12345)
    assert git_facts(repository) == expected
    clone = clone_code(repository, record_of(expected, {"rebuild/worktree.diff": patch}), tmp_path / "clone")
    assert (clone / "ae_models" / "text.py").read_text() == "changed\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_third_users_repository_around_the_checkout_is_read_only_where_the_user_calls_it_safe(
    repository: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = git_facts(repository)
    give_away(repository.root.parent, 12345)
    give_away(repository.root, 54321)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "dubious ownership" in git_facts(repository)["git.unknown"]
    (tmp_path / ".gitconfig").write_text(f"[safe]\n    directory = {repository.root.parent}\n")
    assert git_facts(repository) == expected


def give_away(folder: Path, user: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)


@pytest.mark.parametrize("name", ['a "quoted" \\ name', "line\nbreak", "#hash ?query %41 :colon", "täst 日本"])
def test_code_is_cloned_from_a_checkout_of_any_name(repository: Project, record_of, tmp_path: Path, name: str) -> None:
    root = repository.root.parent.rename(tmp_path / name) / "below"
    (root / "ae_models" / "text.py").write_text("changed\n")
    project = Project(root, root / ".ae")
    record = record_of(git_facts(project), {"rebuild/worktree.diff": git_diff(project)})
    assert (clone_code(project, record, tmp_path / "clone") / "ae_models" / "text.py").read_text() == "changed\n"


def test_a_command_that_fails_is_an_error_with_gits_own_words(repository: Project) -> None:
    with pytest.raises(DataError, match=r"git cat-file ended with exit code 128: .*Not a valid object"):
        run_git(repository.root, "cat-file", "-e", "nothing")
