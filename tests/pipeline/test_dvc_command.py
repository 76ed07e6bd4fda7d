"""DVC keeps its state where AE_HOME says, and a lock that a killed DVC left stops nobody."""

from pathlib import Path

import pytest
from checkout import Checkout

from aeops.data import dvc
from aeops.project import Project


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the door sets for DVC's processes ends with the test."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")


def test_the_remote_follows_the_state_folder_and_comes_back(bare: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "state"
    dvc.keep_state_in_home(Project(bare.root, elsewhere))
    assert str(elsewhere / "dvc-remote") in bare.dvc("remote", "list").stdout
    dvc.keep_state_in_home(Project(bare.root, bare.home))
    assert str(elsewhere) not in bare.dvc("remote", "list").stdout


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
