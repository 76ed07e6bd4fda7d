"""The entry point by which another version's code is rebuilt, and versions that record none."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from aeops.data.stage_code import STAGES, stage_sha256
from aeops.errors import DataError
from aeops.machine.child_process import child_environment, run_module
from aeops.project import Project
from aeops.provenance import rebuild_entry
from aeops.provenance.rebuild.plan import describe_clone, entry_module
from aeops.registry.versions import VersionInfo

MODULE = "aeops.provenance.rebuild_entry"


@pytest.fixture
def clone(tmp_path: Path) -> Project:
    """A project with a dvc.lock of the code here, whose stages print their arguments."""
    stages = {}
    for stage in STAGES:
        code = {"params.yaml": {f"code.{stage}": stage_sha256(tmp_path, stage)}}
        stages[f"{stage}@small"] = {"cmd": f"python -m say_{stage} --out 'two words'", "params": code}
        (tmp_path / f"say_{stage}.py").write_text("import sys\nprint(sys.argv[1:])\n")
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    return Project(root=tmp_path, home=tmp_path / ".ae")


def change_lock(clone: Project, stage: str, old: str, new: str) -> None:
    lock = yaml.safe_load((clone.root / "dvc.lock").read_text())
    name = f"{stage}@small"
    lock["stages"][name] = yaml.safe_load(yaml.safe_dump(lock["stages"][name]).replace(old, new))
    (clone.root / "dvc.lock").write_text(yaml.safe_dump(lock))


def test_the_recorded_name_is_that_of_a_module_that_runs() -> None:
    module, _, version = rebuild_entry.ENTRY_NAME.partition("/")
    assert (module, int(version)) == (rebuild_entry.__name__, rebuild_entry.ENTRY_VERSION)
    subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_it_describes_the_code_and_this_machine(clone: Project) -> None:
    described = describe_clone(clone, MODULE, "small", sys.executable)
    assert (described["version"], described["stages"], described["changed"]) == (1, list(STAGES), [])
    assert described["platform"]["platform.python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.slow
def test_stages_whose_code_is_another_are_named(clone: Project) -> None:
    change_lock(clone, "train", stage_sha256(clone.root, "train"), "0" * 64)
    with pytest.raises(DataError, match=r"as their hashes in dvc\.lock show: train$"):
        describe_clone(clone, MODULE, "small", sys.executable)


@pytest.mark.slow
def test_a_lock_without_a_stage_or_with_another_command_is_refused(clone: Project) -> None:
    with pytest.raises(DataError, match=r"expected a command `sh \.dvc/stage \.\.\.` for prepare@other in .*, got nothing"):
        describe_clone(clone, MODULE, "other", sys.executable)
    change_lock(clone, "gate", "python -m", "sh -c")
    with pytest.raises(DataError, match=r"for gate@small in the recorded dvc\.lock, got sh -c say_gate"):
        describe_clone(clone, MODULE, "small", sys.executable)


def test_it_runs_a_stage_as_the_lock_recorded_it(clone: Project) -> None:
    command = [sys.executable, "-m", MODULE, "run-stage", "evaluate", "small"]
    done = subprocess.run(command, cwd=clone.root, env=child_environment(clone.home), capture_output=True, text=True, check=True)
    assert done.stdout == "['--out', 'two words']\n"


def test_code_that_does_not_run_is_reported(clone: Project) -> None:
    with pytest.raises(DataError, match=f"the recorded code does not run under {sys.executable}: .*No module named aeops.none"):
        describe_clone(clone, "aeops.none", "small", sys.executable)


def test_a_module_of_another_version_is_run_without_any_module_of_this_one(tmp_path: Path) -> None:
    """The folder holds a package `aeops` that has nothing but the module that is asked for."""
    (tmp_path / "aeops").mkdir()
    (tmp_path / "aeops" / "__init__.py").touch()
    (tmp_path / "aeops" / "entry.py").write_text("import json, sys\nprint(json.dumps([sys.argv[1:], sorted(sys.modules)]))\n")
    output = run_module(["aeops.entry", "a"], root=tmp_path, home=tmp_path, log=tmp_path / "log", other_version=True)
    arguments, modules = json.loads(output)
    assert arguments == ["a"]
    assert [name for name in modules if name.startswith("aeops")] == ["aeops"]  # the other runs as __main__


def version_with(tags: dict[str, str]) -> VersionInfo:
    return VersionInfo("7", (), tags, datetime.now(UTC), "run", "")


def test_a_version_older_than_the_entry_point_says_how_to_rebuild_it(tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    with pytest.raises(DataError, match=r"small@7 is older .* `git worktree add \.\./small-7 abc`, .*ae rebuild small@7`"):
        entry_module(project, "small", version_with({"git.commit": "abc"}))


@pytest.mark.parametrize("tag", ["aeops.provenance.rebuild_entry/2", "-c/1", "no number"])
def test_an_entry_point_of_another_form_is_refused(tag: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a tag rebuild\.entry `MODULE/1`, got"):
        entry_module(Project(root=tmp_path, home=tmp_path), "small", version_with({"rebuild.entry": tag}))


def test_the_recorded_module_may_have_another_name(tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path)
    assert entry_module(project, "small", version_with({"rebuild.entry": "aeops.old.way_in/1"})) == "aeops.old.way_in"


def test_a_command_of_dvc_yaml_is_that_of_the_stages_module(tmp_path: Path) -> None:
    command = "sh .dvc/stage train:1a2b --recipe recipes/small.yaml --out 'two words'"
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train@small": {"cmd": command}}}))
    expected = ["aeops.stages.train", "--recipe", "recipes/small.yaml", "--out", "two words"]
    assert rebuild_entry.stage_command(tmp_path, "train", "small") == expected
