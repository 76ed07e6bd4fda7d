"""`ae init` makes a project of a folder: whole, with nothing of this package's code in it, and in nobody's way."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from aeops.cli.main import main
from aeops.data import new_project
from aeops.data.dvc import dvc
from aeops.data.new_project import create_project
from aeops.data.stage_code import code_hashes
from aeops.errors import DataError, UsageError
from aeops.machine.environment_lock import environment_lock_text, write_environment_lock
from aeops.machine.git import run_git
from aeops.project import Project, find_project
from aeops.project_files.templates import is_own_file
from aeops.provenance.packages import installation_differences, lock_differences
from aeops.provenance.run_plan import plan_run
from aeops.recipe.reader import load_recipe
from aeops.recipe.yaml_reader import read_yaml

NOBODY = 65534


def contents(root: Path) -> dict[str, bytes]:
    files = [file for file in root.rglob("*") if file.is_file() and ".git" not in file.relative_to(root).parts]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def listed(root: Path) -> set[str]:
    names = run_git(root, "ls-files", "--others", "--exclude-standard").decode().split()
    return {name.partition("/")[0] if name.startswith("recipes") else name for name in names}


def test_an_empty_folder_becomes_a_project_in_a_repository_without_code_of_ours(tmp_path: Path) -> None:
    create_project(tmp_path)
    assert find_project(tmp_path).root == tmp_path
    assert listed(tmp_path) == {
        *(".dvc/.gitignore", ".dvc/config", ".dvc/stage", ".dvcignore", ".gitignore", "README.md", "ae.yaml", "data.dvc"),
        *("dvc.yaml", "params.yaml", "prefect.yaml", "requirements.lock"),
    }
    assert (tmp_path / "recipes").is_dir()
    assert not Project(tmp_path, tmp_path / ".ae").holds_code
    assert read_yaml(tmp_path / "params.yaml") == {"recipes": {}, "code": code_hashes(ROOT)}


def test_a_folder_that_cannot_be_made_is_an_error_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "/proc/shoes"]) == 2  # even root makes no folder there
    message = "the folder /proc/shoes cannot be made (No such file or directory): choose another one"
    assert capsys.readouterr().err == f"ae: usage error: {message}\n"


def test_no_file_of_it_names_this_machine_and_two_projects_are_alike(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    create_project(one)
    create_project(other)
    committed = {name: content for name, content in contents(one).items() if not name.startswith(".dvc/tmp")}
    assert committed == {name: content for name, content in contents(other).items() if not name.startswith(".dvc/tmp")}
    for name, content in committed.items():
        for path in (str(tmp_path), str(ROOT), sys.prefix, "://"):
            assert path.encode() not in content, name


def test_a_second_time_nothing_changes_and_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert "wrote      .git, " in capsys.readouterr().out
    (tmp_path / "README.md").write_text("my own words\n")
    (tmp_path / "ae.yaml").write_text("run: {on: here}\n")
    before = contents(tmp_path)
    assert main(["init", str(tmp_path)]) == 0
    assert f"{tmp_path} is a project already: nothing was changed" in capsys.readouterr().out
    assert contents(tmp_path) == before


def test_a_users_repository_keeps_its_files_and_its_history(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.log")
    (tmp_path / "README.md").write_text("shoes\n")
    create_project(tmp_path)
    assert (tmp_path / "README.md").read_text() == "shoes\n"
    lines = (tmp_path / ".gitignore").read_text().splitlines()
    assert lines[0] == "*.log"
    assert "/.ae/" in lines
    below = tmp_path.parent / "other" / "models"
    run_git(tmp_path.parent, "init", "-q", "other")
    create_project(below)
    assert not (below / ".git").exists()


@pytest.mark.slow
def test_dvc_finds_nothing_to_do_in_a_new_project_and_plan_says_what_a_run_would_do(tmp_path: Path) -> None:
    create_project(tmp_path)
    project = Project(tmp_path, tmp_path / ".ae")
    assert "up to date" in dvc(project, "repro")
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    recipe = load_recipe(project, "digits")
    plans = plan_run(project, "digits", read_yaml(project.recipe_file("digits")), recipe.data.dataset)
    assert {plan.stage: plan.reasons[0] for plan in plans} == dict.fromkeys(code_hashes(ROOT), "it has not run here")


# ---------------------------------------------------------------- what is in the way


def test_everything_in_the_way_is_named_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml", "prefect.yaml", "requirements.lock", "recipes", "statistics.py"):
        (tmp_path / name).write_text("mine\n")
    (tmp_path / "flows").mkdir()
    (tmp_path / "ae.yaml").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UsageError) as refused:
        create_project(tmp_path)
    for name in (*before, "flows", "ae.yaml"):
        assert f"- {name} " in str(refused.value)
    assert contents(tmp_path) == before
    assert not (tmp_path / ".git").exists()


def test_a_mistake_in_the_settings_is_told(tmp_path: Path) -> None:
    (tmp_path / "ae.yaml").write_text("run: {on: ray}\nplugin: [x]\n")
    with pytest.raises(UsageError) as refused:
        create_project(tmp_path)
    assert str(refused.value) == (
        "ae.yaml: project: unexpected key 'plugin', expected plugins, run or notify: did you mean plugins?\n"
        "ae.yaml: run: on: expected here, ray:local or ray://HOST:PORT, got 'ray'"
    )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".git/inside", "it lies in a folder .git"),
        ("file", r"file is a file: choose another folder"),
        ("file/below", r"file is a file: choose another folder"),
        ("project/below", r"it lies in the project .*project: choose a folder outside"),
        ("checkout", "it is a checkout of ae-pipeline, and a project already"),
    ],
)
def test_a_folder_that_cannot_be_a_project_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "checkout" / "aeops").mkdir(parents=True)
    (tmp_path / "project" / "recipes").mkdir(parents=True)
    (tmp_path / "project" / "dvc.yaml").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        create_project(tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def another_user() -> Iterator[None]:
    """Let this process have no more rights than anybody, as root has all."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    yield
    if os.getuid() == 0:
        os.seteuid(0)


@pytest.mark.usefixtures("another_user")
def test_a_folder_that_this_user_may_not_write_is_refused() -> None:
    with pytest.raises(UsageError, match=r"/usr cannot be written by this user: choose another folder"):
        create_project(Path("/usr/shoes"))


def test_without_git_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="git is not installed, or not in PATH: install it"):
        create_project(tmp_path / "shoes")


def test_a_git_without_a_name_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    [note] = create_project(tmp_path).notes
    assert note.startswith("git does not know your name: before you commit, type `git config user.name NAME`")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "t")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "t@example.org")
    assert create_project(tmp_path).notes == []


# ---------------------------------------------------------------- kills

KILLED = """
import os, signal, sys
from pathlib import Path
from aeops.data import new_project
writes = 0
def kill(function):
    def killing(*arguments, **options):
        global writes
        if writes == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        writes += 1
        return function(*arguments, **options)
    return killing
os.replace, os.rename = kill(os.replace), kill(os.rename)
new_project.create_project(Path(sys.argv[1]))
"""


def test_killed_before_any_of_its_renames_it_leaves_whole_files_and_is_completed_by_the_next(
    tmp_path: Path, kill_step: int
) -> None:
    create_project(tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    for write in list(range(len(whole)))[::kill_step][:: 1 if kill_step == 1 else 2]:
        root = tmp_path / f"killed-{write}"
        done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(write)], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        left = {name: content for name, content in contents(root).items() if not name.endswith(".tmp")}
        assert all(whole[name] == content for name, content in left.items())
        assert "dvc.yaml" not in left or write == len(whole) - 1
        create_project(root)
        assert contents(root) == whole
        assert run_git(root, "rev-parse", "--is-inside-work-tree") == b"true\n"


# ---------------------------------------------------------------- the lock of the environment


def test_the_lock_is_what_is_installed_without_addresses_and_is_kept_up_to_date(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path / ".ae")
    assert write_environment_lock(project)
    lock = tmp_path / "requirements.lock"
    assert is_own_file(lock)
    assert lock_differences(lock) == []
    text = lock.read_text()
    assert "torch==2.13.0\n" in text
    assert "ae-pipeline==" not in text
    assert not write_environment_lock(project)
    lock.write_text(f"{text}more==1\n")
    assert write_environment_lock(project)
    assert lock.read_text() == environment_lock_text()
    lock.write_text("torch==2.13.0\n")
    assert not write_environment_lock(project), "a lock of another's hand stays"


def test_an_installation_is_compared_with_the_lock_that_it_brings(tmp_path: Path) -> None:
    assert installation_differences(ROOT / "requirements.lock") == []
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==1.0.0\nonly-for-tests==3\n")
    [difference] = installation_differences(lock)
    assert difference.startswith("numpy 2")


def test_the_settings_that_a_project_begins_with_are_the_defaults(tmp_path: Path) -> None:
    create_project(tmp_path)
    document = yaml.safe_load((tmp_path / "ae.yaml").read_text())
    assert document["plugins"] == []
    assert new_project.read_project_settings(tmp_path) == new_project.read_project_settings(tmp_path / "nowhere")
