"""`ae sweep`: trials of a recipe in folders of their own, on validation samples alone, and the best one in the recipe's file."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkout import Checkout, copy_checkout, wait_for
from fork_server import run_in_fork

from aeops.machine.progress import finished_rows
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.sweeps.power_measurement import measure_validation_power
from aeops.sweeps.trial_runs import link_samples

RATES = "train.learning_rate=0.0001,0.02"  # 0.006 in the recipe
SWEEP = ("sweep", "small", "--over", RATES, "--by", "error", "--threads", "1")
# A sweep over samples in another folder, everything trained anew, one at a time.
SWEEP_OVER = """
import json, sys
from pathlib import Path
from aeops.data.stage_runs import StageCommand
from aeops.project import find_project
from aeops.recipe.reader import load_recipe
from aeops.sweeps.axes import parse_axes
from aeops.sweeps.outcome import to_document
from aeops.sweeps.plan import SweepOptions, plan_sweep
from aeops.sweeps.run_sweep import Pool, run_sweep
from aeops.sweeps.trial_runs import SweepFolder, link_samples
prepared, over = Path(sys.argv[1]), sys.argv[2]
project = find_project()
recipe = load_recipe(project, "small")
link_samples(prepared, project.home / "other" / "samples")
folder = SweepFolder(project, project.home / "other", project.home / "other" / "samples", "0" * 64)
plan = plan_sweep(project, recipe, parse_axes([over]), SweepOptions(metric="error", threads=1))
print(json.dumps(to_document(run_sweep(folder, plan, Pool(StageCommand.start, workers=1)))))
"""


@pytest.fixture
def copy(ran: Checkout, tmp_path: Path) -> Checkout:
    copied = copy_checkout(ran, tmp_path / "copy")
    copied.edit_recipe({"train.epochs": 1})
    return copied


def swept(checkout: Checkout, *options: str) -> dict[str, Any]:
    done = checkout.ae_in_forks(*SWEEP, *options, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def everything_registered(checkout: Checkout) -> tuple[Any, ...]:
    return checkout.versions(), (checkout.home / "ledger" / "small.jsonl").read_bytes()


@pytest.mark.slow
def test_the_best_trial_is_written_to_the_recipe_and_no_test_sample_counts(copy: Checkout, tmp_path: Path) -> None:
    before, old_text = everything_registered(copy), (copy.root / "recipes" / "small.yaml").read_text()
    poisoned = tmp_path / "poisoned"
    shutil.copytree(copy.root / "artifacts" / "small" / "prepared", poisoned)
    (poisoned / "test.npy").write_bytes(b"no samples")
    (poisoned / "test.parquet").unlink()
    arguments = (SWEEP_OVER, str(poisoned), RATES)
    blind = run_in_fork("code", *arguments, cwd=copy.root, env=copy.environment())
    assert blind.returncode == 0, blind.stderr

    document = swept(copy)
    assert {trial["state"] for trial in document["trials"]} == {"best", "trained"}
    expected = json.loads(blind.stdout.splitlines()[-1])
    assert {name: document[name] for name in expected} == expected
    trials = {trial["number"]: trial for trial in document["trials"]}
    assert [trials[number]["settings"]["train.learning_rate"] for number in range(3)] == [0.006, 0.0001, 0.02]
    assert document["best"] == min(trials, key=lambda number: trials[number]["values"][-1]) == document["trials"][0]["number"]
    histories = sorted(finished_rows(file)[-1]["validation_error"] for file in (copy.home / "sweeps").rglob("result/history.csv"))
    assert histories == [trial["values"][-1] for trial in document["trials"]]
    assert not list((copy.home / "sweeps").rglob("test.*"))

    best = trials[document["best"]]["settings"]["train.learning_rate"]
    new_text = (copy.root / "recipes" / "small.yaml").read_text()
    assert document["best"] == 2
    assert new_text == old_text.replace("learning_rate: 0.006", f"learning_rate: {best}")
    assert document["diff"][2:] == ["-  learning_rate: 0.006", f"+  learning_rate: {best}"]
    assert everything_registered(copy) == before
    require_nested_runs(copy, document)


def require_nested_runs(checkout: Checkout, document: dict[str, Any]) -> None:
    client = checkout.store().client
    parent = client.get_run(document["mlflow_run"])
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"sweep.json", "sweep.svg"}
    runs = client.search_runs([parent.info.experiment_id])
    children = {run.data.tags["trial"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert len(runs) == 1 + len(children) == 4
    for trial in document["trials"]:
        child = children[str(trial["number"])]
        assert child.data.params == {"train.learning_rate": str(trial["settings"]["train.learning_rate"])}
        assert child.data.metrics["error"] == pytest.approx(trial["values"][-1])


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_trial_that_fails_stays_in_the_table_and_what_a_limit_leaves_out_is_trained_by_the_same_command(copy: Checkout) -> None:
    over = ("sweep", "small", "--over", "train.accelerator=cpu,gpu", "--by", "error", "--threads", "1")
    text = (copy.root / "recipes" / "small.yaml").read_text()
    none = copy.ae_in_forks(*over, "--minutes", "0.000001")
    assert none.returncode == 0, none.stderr
    assert "missing    trials 0, 1, 2 of this round: the recipe stays as it is; type the same command to go on" in none.stdout
    done = copy.ae_in_forks(*over)
    assert done.returncode == 0, done.stderr
    [failed] = [line for line in done.stdout.splitlines() if "failed: " in line]
    assert "gpu" in failed
    assert "best       the recipe as it is: recipes/small.yaml stays as it was" in done.stdout  # the same as on the CPU
    assert (copy.root / "recipes" / "small.yaml").read_text() == text


@pytest.mark.slow
def test_what_cannot_be_swept_is_said_before_anything_starts_and_a_dry_run_writes_nothing(copy: Checkout) -> None:
    def printed(code: int, *options: str) -> str:
        done = copy.ae_in_process("sweep", *options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "no recipe 'smal'" in printed(2, "smal", "--over", RATES)
    assert "expected --over KEY=VALUE,VALUE,..." in printed(2, "small")
    assert "--minutes: expected more than 0, got 0" in printed(2, "small", "--over", RATES, "--minutes", "0")
    text = (copy.root / "recipes" / "small.yaml").read_bytes()
    plan = printed(0, "small", "--over", RATES, "--threads", "1", "--dry-run", "--trials", "2")
    assert "trial 2    train.learning_rate=0.02" in plan
    shutil.rmtree(copy.root / "data" / "small")
    assert "small has no accepted data in data/small: type `ae run small` first" in printed(2, "small", "--over", RATES)
    assert not (copy.home / "sweeps").exists()
    assert (copy.root / "recipes" / "small.yaml").read_bytes() == text


def test_the_power_of_a_trial_is_that_of_faults_in_validation_samples(ran: Checkout, tmp_path: Path) -> None:
    artifacts = ran.root / "artifacts" / "small"
    link_samples(artifacts / "prepared", tmp_path / "samples")
    project = Project(ran.root, ran.home)
    recipe = load_recipe(project, "small")
    measured = measure_validation_power(recipe, project, tmp_path / "samples", artifacts / "bundle", rate=0.5)
    stricter = measure_validation_power(recipe, project, tmp_path / "samples", artifacts / "bundle", rate=0.01)
    assert measured["samples"] == len(np.load(artifacts / "prepared" / "validation.npy"))
    assert measured["separation"] == stricter["separation"]
    assert 0 <= stricter["power"] < measured["power"] <= 1  # type: ignore[operator]
    faults = [share for share in measured["faults"].values() if share is not None]  # type: ignore[attr-defined]
    assert measured["power"] == pytest.approx(sum(faults) / len(faults))


# ---------------------------------------------------------------- kills


def child_pids(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def training_pids(pid: int) -> list[int]:
    return [child for child in child_pids(pid) if b"aeops.stages.train" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.long
@pytest.mark.parametrize("metric", ["error", "separation"])
def test_a_sweep_that_is_killed_twice_ends_with_the_table_of_an_undisturbed_one(
    metric: str, ran: Checkout, tmp_path: Path, stopping: list[subprocess.Popen[bytes]]
) -> None:
    over = ("--over", "train.learning_rate=0.002,0.02", "--over", "model.bottleneck.size=4,16", "--halving", "--threads", "1")
    undisturbed, disturbed = (copy_checkout(ran, tmp_path / name) for name in ("undisturbed", "disturbed"))
    done = undisturbed.ae_in_forks("sweep", "small", *over, "--by", metric, "--workers", "1")
    assert done.returncode == 0, done.stderr

    first = disturbed.start("sweep", "small", *over, "--by", metric)
    stopping.append(first)
    trials = disturbed.home / "sweeps" / "small" / "trials"
    wait_for(lambda: list(trials.rglob("training/small/progress.jsonl")))
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=20)
    second = disturbed.start("sweep", "small", *over, "--by", metric)
    stopping.append(second)
    [trained, *_] = wait_for(lambda: training_pids(second.pid))
    os.kill(trained, signal.SIGKILL)  # a trial's process: the sweep starts it again by itself
    wait_for(lambda: list(trials.rglob("result/weights.safetensors")))
    weights = {file: file.stat().st_mtime_ns for file in trials.rglob("result/weights.safetensors")}
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=60) == 130
    assert "type the same command to continue" in (disturbed.root / "started.log").read_text()
    done = disturbed.ae_in_forks("sweep", "small", *over, "--by", metric)
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in weights} == weights

    [expected], [table] = (
        list((copy.home / "sweeps" / "small" / "tables").rglob("sweep.json")) for copy in (undisturbed, disturbed)
    )
    assert table.read_bytes() == expected.read_bytes()
    recipes = [yaml.safe_load((copy.root / "recipes" / "small.yaml").read_text()) for copy in (undisturbed, disturbed)]
    assert recipes[0] == recipes[1]
