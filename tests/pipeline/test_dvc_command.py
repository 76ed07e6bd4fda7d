"""DVC keeps its state where AE_HOME says, and a lock that a killed DVC left stops nobody."""

import subprocess
from pathlib import Path

import pytest
import yaml
from any_name import ANY_NAME
from checkout import Checkout, make_checkout

from aeops.data import dvc
from aeops.project import Project


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the door sets for DVC's processes ends with the test."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")


@pytest.mark.slow
def test_the_remote_follows_the_state_folder_and_comes_back(bare: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "state"
    dvc.keep_state_in_home(Project(bare.root, elsewhere))
    assert str(elsewhere / "dvc-remote") in bare.dvc("remote", "list").stdout
    dvc.keep_state_in_home(Project(bare.root, bare.home))
    assert str(elsewhere) not in bare.dvc("remote", "list").stdout


@pytest.mark.slow
def test_the_committed_configuration_is_enough_for_the_default_state_folder(bare: Checkout) -> None:
    dvc.keep_state_in_home(Project(bare.root, bare.home))
    assert not (bare.root / ".dvc" / "config.local").exists()
    assert ".ae/dvc-remote" in bare.dvc("remote", "list").stdout


def test_a_stale_lock_is_taken_away(bare: Checkout) -> None:
    lock = bare.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text('{"data.dvc": {"write": {"pid": 1, "cmd": "dvc add data"}}}')
    dvc.free_stale_lock(Project(bare.root, bare.home))
    assert not lock.exists()


@pytest.mark.slow
def test_settings_of_the_users_git_and_dvc_reach_no_run(bare: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What git ignores, that DVC stages files in git, links instead of copies, and another cache or remote."""
    home = tmp_path / "user"
    for file, text in {
        ".config/git/ignore": "*.dvc\ndvc.lock\n",
        ".gitconfig": "[core]\n    excludesFile = ~/.config/git/ignore\n",
        ".config/dvc/config": f"[core]\nautostage = true\nremote = mine\n[cache]\ntype = symlink\ndir = {tmp_path}/mine\n",
    }.items():
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    (bare.root / "data" / "set").mkdir(parents=True)
    (bare.root / "data" / "set" / "a.txt").write_text("a")
    dvc.add_dataset(Project(bare.root, bare.home), "set")
    assert (bare.root / "data.dvc").is_file()
    assert not (bare.root / "data" / "set" / "a.txt").is_symlink()
    assert len([file for file in (bare.home / "dvc-remote").rglob("*") if file.is_file()]) == 2
    assert not (tmp_path / "mine").exists()
    monkeypatch.delenv("GIT_DIR")
    staged = subprocess.run(["git", "diff", "--cached", "--name-only"], cwd=bare.root, capture_output=True, text=True, check=True)
    assert staged.stdout == ""


def add_files(checkout: Checkout, **datasets: str) -> Project:
    """Give datasets one file each, with this text."""
    for dataset, text in datasets.items():
        folder = checkout.root / "data" / dataset
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_text(text)
    return Project(checkout.root, checkout.home)


def entries(checkout: Checkout) -> dict[str, str | None]:
    """Path and hash of each entry of data.dvc, in their order."""
    return {entry["path"]: entry.get("md5") for entry in yaml.safe_load((checkout.root / "data.dvc").read_text())["outs"]}


@pytest.mark.slow
def test_a_dataset_that_is_added_leaves_the_entries_of_others_alone(bare: Checkout) -> None:
    project = add_files(bare, one="1", two="2")
    first = dvc.add_dataset(project, "one")
    second = dvc.add_dataset(project, "two")
    assert entries(bare) == {"data/one": first, "data/two": second}
    (bare.root / "data" / "two" / "a.txt").write_text("changed, and not accepted")
    add_files(bare, one="another")
    changed = dvc.add_dataset(project, "one")
    assert changed != first
    assert entries(bare) == {"data/one": changed, "data/two": second}
    assert dvc.dataset_hash(project, "two") == second


@pytest.mark.slow
def test_one_entry_for_all_data_becomes_one_for_each_dataset(bare: Checkout) -> None:
    project = add_files(bare, one="1", two="2")
    assert bare.dvc("add", "data").returncode == 0
    assert list(entries(bare)) == ["data"]
    first = dvc.add_dataset(project, "one")
    assert list(entries(bare)) == ["data/one", "data/two"]
    assert first == dvc.dataset_hash(project, "one") != dvc.dataset_hash(project, "two")


@pytest.mark.slow
def test_a_run_that_was_killed_before_dvc_filled_an_entry_in_is_no_obstacle(bare: Checkout) -> None:
    project = add_files(bare, one="1")
    (bare.root / "data.dvc").write_text("outs:\n- path: data/one\n")
    assert entries(bare) == {"data/one": None}
    assert dvc.add_dataset(project, "one") == entries(bare)["data/one"]


@pytest.mark.slow
def test_the_remote_lies_in_a_state_folder_of_any_name(bare: Checkout, tmp_path: Path) -> None:
    require_stored_data(Project(bare.root, tmp_path / ANY_NAME))


@pytest.mark.slow
def test_data_is_stored_in_a_checkout_of_any_name(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / ANY_NAME.replace("{HOME}", "HOME"))
    require_stored_data(Project(checkout.root, checkout.home))


@pytest.mark.slow
def test_a_checkout_in_which_dvc_fails_is_refused_before_anything_runs(bare: Checkout, tmp_path: Path) -> None:
    root = bare.root.rename(tmp_path / "${HOME}")
    done = Checkout(root).ae_in_process("run", "small")
    assert done.returncode == 2
    assert f"expected a checkout whose path has neither {{ nor }}, got {root}" in done.stderr
    assert not (root / ".ae" / "incoming").exists()


def require_stored_data(project: Project) -> None:
    (project.root / "data" / "set").mkdir(parents=True)
    (project.root / "data" / "set" / "a.txt").write_text("a")
    dvc.add_dataset(project, "set")
    assert len([file for file in (project.home / "dvc-remote").rglob("*") if file.is_file()]) == 2
    assert dvc.find_foreign_remote(project) is None
    folder = project.root.parent
    assert {path.name for path in folder.iterdir()} <= {project.root.name, project.home.name}
