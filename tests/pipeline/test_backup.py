"""What docs/state.md says to type brings a project back at another path, whole, after the first one is gone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT, Checkout, copy_checkout, restore_from_backup

from aeops.data.dvc import find_foreign_remote, keep_state_in_home
from aeops.errors import UsageError
from aeops.project import Project, find_project


@pytest.mark.slow
def test_a_restored_project_is_whole_and_its_next_run_has_nothing_to_do(ran: Checkout, tmp_path: Path) -> None:
    original = copy_checkout(ran, tmp_path / "first")
    restored = restore_from_backup(original, tmp_path / "a second place")
    verified = restored.ae_in_forks("ledger", "verify", "small")
    assert (verified.returncode, verified.stdout) == (0, "small: whole, 1 line, champion 1\n")
    assert f"the state folder was {original.home} and is {restored.home}: repaired" in verified.stderr
    again = restored.ae_in_process("run", "small")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing changed" in again.stdout
    assert f"report     {restored.home}" in again.stdout
    for file in set((restored.root / "recipes").glob("*.yaml")) - {restored.root / "recipes" / "small.yaml"}:
        file.unlink()  # params.yaml does not name them, which is a fault of its own
    looked = restored.ae_in_process("doctor")
    assert "fault" not in looked.stdout, looked.stdout
    assert not original.root.exists()


@pytest.mark.slow
def test_a_copied_dvc_configuration_sends_nothing_to_the_original(bare: Checkout, tmp_path: Path) -> None:
    state = bare.root / "state"  # AE_HOME in the checkout
    keep_state_in_home(Project(bare.root, state))
    copy = Path(shutil.copytree(bare.root, tmp_path / "copy"))
    assert find_foreign_remote(Project(copy, copy / "state")) is None  # the path is relative
    outside = tmp_path / "outside"
    keep_state_in_home(Project(bare.root, outside))
    shutil.copy(bare.root / ".dvc" / "config.local", copy / ".dvc")
    project = Project(copy, copy / ".ae")
    assert find_foreign_remote(project) == str(outside / "dvc-remote")
    keep_state_in_home(project)
    assert find_foreign_remote(project) is None
    assert str(copy / ".ae" / "dvc-remote") in Checkout(copy).dvc("remote", "list").stdout


@pytest.mark.parametrize("is_copied", [True, False])
def test_a_copied_environment_is_made_again(tmp_path: Path, is_copied: bool) -> None:
    root = tmp_path / "checkout"
    (root / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    made_in = tmp_path / "original" if is_copied else root
    (root / ".venv" / "bin" / "ae").write_text(f"#!{made_in}/.venv/bin/python\nimport sys\n")
    (root / ".venv" / ".ready").touch()
    (root / ".tools" / "bin").mkdir(parents=True)
    (root / ".tools" / "bin" / "uv").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", "env"], cwd=root, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert ("rm -rf .venv" in done.stdout) == is_copied
    assert ("Nothing to be done" in done.stdout) != is_copied


def test_the_code_of_another_checkout_is_not_run(tmp_path: Path) -> None:
    for name in ("recipes", "aeops", ".venv"):
        (tmp_path / name).mkdir()
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(UsageError, match=rf"runs the code of {ROOT} in the checkout {tmp_path}.* `make -C {tmp_path} env`"):
        find_project(tmp_path)
