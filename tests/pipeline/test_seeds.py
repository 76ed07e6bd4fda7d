"""`ae seeds`: several trainings of a recipe, a record of what differs between them, and the gate's margins out of it."""

import io
import json
import os
import shutil
import signal
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import Checkout, copy_checkout, wait_for
from rich.console import Console
from scipy.stats import t as student_t

from aeops.cli.seeds import metrics_table
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.provenance.last_run import unchanged_summary
from aeops.seeds.seed_runs import SeedRun, load_result, plan_seed_runs


@pytest.fixture
def copy(ran: Checkout, tmp_path: Path) -> Checkout:
    return copy_checkout(ran, tmp_path / "copy")


def record_of(checkout: Checkout) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((checkout.root / "recipes" / "seeds" / "small.json").read_text())
    return record


def planned(checkout: Checkout, seeds: list[int]) -> list[SeedRun]:
    project = Project(checkout.root, checkout.home)
    raw_recipe = yaml.safe_load(project.recipe_file("small").read_text())
    content = read_json(project.dataset("small") / "receipt.json")["content_sha256"]
    return plan_seed_runs(project, raw_recipe, content, project.seed_runs("small"), seeds)


def everything_registered(checkout: Checkout) -> tuple[Any, ...]:
    return checkout.versions(), (checkout.home / "ledger" / "small.jsonl").read_bytes(), (checkout.root / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_only_seeds_without_a_result_are_trained_and_the_record_is_a_change_that_the_next_run_sees(copy: Checkout) -> None:
    own, _ = planned(copy, [0, 1])  # seed 0 is that of the run that went through here
    artifacts = copy.root / "artifacts" / "small"
    shutil.copytree(artifacts / "report", own.results)
    (copy.root / "recipes" / "seeds").mkdir()
    (copy.root / "recipes" / "seeds" / "small.json").write_text("{")  # damaged, and written anew
    refused = copy.ae_in_process("run", "small")
    assert refused.returncode == 3
    assert "recipes/seeds/small.json is damaged" in refused.stderr
    before = everything_registered(copy)
    done = copy.ae_in_forks("seeds", "small", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 0: measured before\nseed 1: train ...\nseed 1: calibrate ...\nseed 1: evaluate ...\n" in done.stderr
    assert everything_registered(copy) == before

    record = record_of(copy)
    summary = record["metrics"]["reconstruction.model.mse"]
    run_metrics = json.loads((artifacts / "report" / "metrics.json").read_text())
    assert summary["values"][0] == pytest.approx(run_metrics["reconstruction"]["model"]["mse"], rel=1e-5)
    assert summary["values"][0] != summary["values"][1]
    assert summary["sd"] == pytest.approx(statistics.stdev(summary["values"]), rel=1e-3)
    half_width = student_t.ppf(0.975, 1) * summary["sd"] / 2**0.5
    assert summary["interval"] == pytest.approx([summary["mean"] - half_width, summary["mean"] + half_width], rel=1e-3)
    assert record["metrics"]["detection.knn.auroc"]["sd"] == 0
    assert record["spread"]["error"]["sd"] == pytest.approx(summary["sd"] / summary["mean"], rel=1e-3)
    assert record["equal_pairs"]["count"] == 2
    assert set(record["equal_pairs"]["refused_by_rule"]) == {"keeps_the_champions_error", "keeps_the_champions_ranking"}
    assert "reconstruction.model.mse" in done.stdout
    assert "keeps_the_champions_ranking: 0.4500, as the recipe says; measured" in done.stdout

    project = Project(copy.root, copy.home)
    with copy.entered():
        assert unchanged_summary(project, "small") is None
        project.seed_record("small").unlink()
        assert unchanged_summary(project, "small") is not None  # the record is all that has changed


def test_what_cannot_be_measured_is_said_before_anything_starts(copy: Checkout) -> None:
    def refused(*options: str) -> str:
        done = copy.ae_in_process("seeds", *options)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    assert "-n: expected 2 or more seeds, as one training has no standard deviation, got 1" in refused("small", "-n", "1")
    assert "no recipe 'smal'" in refused("smal")
    assert "--first-seed: expected 0 to 2147483643 for 5 seeds, got -1" in refused("small", "--first-seed", "-1")
    shutil.rmtree(copy.root / "data" / "small")
    assert "small has no accepted data in data/small: type `ae run small` first" in refused("small")
    assert not (copy.home / "seeds").exists()


@pytest.mark.slow
def test_another_threshold_measures_again_and_trains_nothing_and_other_settings_train(copy: Checkout) -> None:
    [first] = planned(copy, [3])
    copy.edit_recipe({"threshold.false_alarm_rate": 0.05})
    [other_threshold] = planned(copy, [3])
    copy.edit_recipe({"train.epochs": 4})
    [other_training] = planned(copy, [3])
    assert first.work == other_threshold.work != other_training.work
    assert len({first.results, other_threshold.results, other_training.results}) == 3
    assert load_result(first) is None


@pytest.mark.long
def test_seeds_that_were_killed_go_on_with_what_is_missing(copy: Checkout, stopping: list[subprocess.Popen[bytes]]) -> None:
    first, second = planned(copy, [3, 4])
    killed = copy.start("seeds", "small", "-n", "2", "--first-seed", "3")
    stopping.append(killed)
    wait_for((first.training / "weights.safetensors").is_file)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=20)
    weights = (first.training / "weights.safetensors").stat().st_mtime_ns
    assert not first.results.exists()
    done = copy.ae("seeds", "small", "-n", "2", "--first-seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3: train" not in done.stderr
    assert (first.training / "weights.safetensors").stat().st_mtime_ns == weights
    record = record_of(copy)
    assert record["seeds"] == [3, 4]

    (second.training / "weights.safetensors").write_bytes(b"damaged")
    shutil.rmtree(second.results)
    mended = copy.ae("seeds", "small", "-n", "2", "--first-seed", "3")
    assert "seed 3: measured before" in mended.stderr
    assert "it is trained again" in mended.stderr
    assert record_of(copy) == record


def test_metrics_are_named_whole_at_80_columns_and_have_their_extremes_at_200() -> None:
    summary = {"mean": 0.0228, "sd": 0.0001, "min": 0.0227, "max": 0.0229, "interval": [0.0217, 0.0239]}
    record: Any = {"recipe": "small", "seeds": [0, 1], "metrics": {"detection.model.false_alarms.at_10_percent": summary}}
    printed = {}
    for width in (80, 200):
        console = Console(width=width, file=io.StringIO())
        console.print(metrics_table(record, console))
        printed[width] = console.file.getvalue()
        assert "…" not in printed[width]
    assert "0.0217 to 0.0239" in printed[80]
    assert "max" not in printed[80]
    assert "at_10_percent" in printed[200]
    assert "max" in printed[200]
