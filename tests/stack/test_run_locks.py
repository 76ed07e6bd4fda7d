"""Runs hold what they use: their recipe, their dataset, a share of the workspace. So two that share nothing work at once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from forked import Fork

from aeops.data.dvc import dvc_lock, free_stale_lock
from aeops.data.listed_recipes import list_recipe, listed_recipes
from aeops.data.stage_code import write_code_hashes
from aeops.errors import InfrastructureError
from aeops.machine.lock import RunUse, clear_killed_holder, run_lock, runs_in_progress, was_holder_killed, would_wait
from aeops.project import Project
from aeops.recipe.reader import load_recipe

ROOT = Path(__file__).parents[2]
SHOES, HATS, BOOTS = RunUse("shoes", "shoes"), RunUse("hats", "hats"), RunUse("boots", "shoes")  # boots reads the shoes, too


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "recipes").mkdir()
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    return Project(tmp_path, tmp_path / ".ae")


@contextmanager
def held(project: Project, use: RunUse | None, purpose: str) -> Iterator[Fork]:
    """Another process that holds what a run uses, until the block ends or it is killed."""
    reading, writing = os.pipe()

    def hold() -> None:
        with run_lock(project, purpose, use):
            os.write(writing, b"held")
            signal.pause()

    holder = Fork(hold, cwd=project.root, env=os.environ)
    try:
        assert os.read(reading, 4) == b"held"
        yield holder
    finally:
        holder.kill()
        holder.wait(timeout=20)
        os.close(reading)
        os.close(writing)


def refused(project: Project, use: RunUse | None, match: str) -> None:
    with pytest.raises(InfrastructureError, match=match), run_lock(project, "ae run late", use):
        pytest.fail("it was let in")


def test_two_recipes_that_share_nothing_work_at_once_and_each_is_named(project: Project) -> None:
    with held(project, SHOES, "ae run shoes"):
        assert not would_wait(project, HATS)
        with run_lock(project, "ae run hats", HATS), run_lock(project, "ae run hats", HATS):
            assert [run.get("purpose") for run in runs_in_progress(project)] == ["ae run shoes"], "one's own is left out"
        with held(project, HATS, "ae run hats"):
            assert {run.get("purpose") for run in runs_in_progress(project)} == {"ae run shoes", "ae run hats"}
    assert runs_in_progress(project) == []


def test_one_recipe_or_one_dataset_is_used_by_one_run_at_a_time(project: Project) -> None:
    with held(project, SHOES, "ae run shoes") as holder:
        assert would_wait(project, SHOES)
        assert would_wait(project, BOOTS)
        refused(
            project,
            SHOES,
            rf"another run holds the recipe shoes: `ae run shoes`, process {holder.pid}, since .*kill {holder.pid}",
        )
        refused(project, BOOTS, rf"another run holds data/shoes: `ae run shoes`, process {holder.pid}")
    with run_lock(project, "ae run boots", BOOTS):
        pass


def test_the_whole_workspace_is_held_by_nobody_beside_runs(project: Project) -> None:
    with held(project, HATS, "ae run hats"):
        refused(project, None, "another run holds this workspace: `ae run hats`")
    with held(project, None, "ae prune"):
        refused(project, HATS, "another run holds this workspace: `ae prune`")
        assert would_wait(project, HATS)


def test_a_run_waits_for_its_dataset_alone(project: Project) -> None:
    told: list[str] = []
    with held(project, SHOES, "ae run shoes") as holder:
        with run_lock(project, "train hats", HATS, wait=60, notify=told.append):
            assert told == []
        holder.kill()
        with run_lock(project, "train boots", BOOTS, wait=60, notify=told.append):
            assert was_holder_killed(project)
            clear_killed_holder(project)
            assert not was_holder_killed(project)


def together(project: Project, *works: Callable[[], None]) -> None:
    """Call functions in processes of their own at the same time."""
    forks = [Fork(work, cwd=project.root, env=os.environ) for work in works]
    assert [fork.wait(timeout=120) for fork in forks] == [0] * len(forks)


@pytest.mark.slow
def test_two_first_runs_at_once_lose_no_line_of_params_yaml(project: Project) -> None:
    names = [f"digits{number}" for number in range(12)]
    text = (ROOT / "recipes" / "digits.yaml").read_text()
    for name in names:
        recipe = yaml.safe_load(text) | {"recipe": name}
        (project.recipes / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    (project.root / "params.yaml").write_text("recipes: {}\n")

    def first_runs(chosen: list[str]) -> Callable[[], None]:
        def work() -> None:
            for name in chosen:
                list_recipe(project, load_recipe(project, name))
                write_code_hashes(project)

        return work

    together(project, first_runs(names[::2]), first_runs(names[1::2]))
    assert set(listed_recipes(project)) == set(names)
    assert "train:" in (project.root / "params.yaml").read_text()


def test_dvcs_lock_is_the_one_that_dvc_takes(project: Project) -> None:
    import zc.lockfile

    file = str(project.root / ".dvc" / "tmp" / "lock")
    with dvc_lock(project), dvc_lock(project), pytest.raises(zc.lockfile.LockError):
        zc.lockfile.LockFile(file)
    zc.lockfile.LockFile(file).close()


def test_claims_of_a_dvc_at_work_stay_and_those_of_a_killed_one_go(project: Project) -> None:
    file = project.root / ".dvc" / "tmp" / "rwlock"
    gone = {"pid": os.getpid(), "cmd": "dvc repro"}  # this process has got the number of a DVC that ended
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "dvc", "add"]) as at_work:
        living = {"pid": at_work.pid, "cmd": "dvc add"}
        file.write_text(json.dumps({"write": {"a": gone, "c": living}, "read": {"b": [gone, living], "d": [gone]}}))
        free_stale_lock(project)
        assert json.loads(file.read_text()) == {"write": {"c": living}, "read": {"b": [living]}}
        at_work.kill()
    free_stale_lock(project)
    assert not file.exists()
    file.write_text('{"write": {"a": {"pid": ')
    free_stale_lock(project)
    assert not file.exists(), "cut by a kill"
