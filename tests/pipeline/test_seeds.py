"""`ae seeds`: several trainings of a recipe, a record of what differs between them, and the gate's margins out of it."""

import json
import os
import shutil
import signal
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout, copy_checkout, wait_for
from scipy.stats import t as student_t

from aeops.project import Project
from aeops.provenance.last_run import last_run_file, unchanged_summary
from aeops.registry import ledger


@pytest.fixture
def copy(ran: Checkout, tmp_path: Path) -> Checkout:
    checkout = copy_checkout(ran, tmp_path / "copy")
    checkout.edit_recipe({"train.epochs": 1, "gate.keeps_the_champions_error": {"champion": "error"}})
    return checkout


def record_of(checkout: Checkout) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((checkout.root / "recipes" / "seeds" / "small.json").read_text())
    return record


def trained_at(checkout: Checkout) -> dict[str, int]:
    folder = checkout.home / "seeds" / "small"
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.glob("*/*/result/weights.safetensors")}


def test_seeds_that_were_killed_go_on_with_what_is_missing_and_leave_run_registry_and_ledger_alone(
    copy: Checkout, stopping: list[subprocess.Popen[bytes]]
) -> None:
    artifacts = {file: file.read_bytes() for file in (copy.root / "artifacts").rglob("*.safetensors")}
    versions, entries = copy.versions(), ledger.read_entries(Project(copy.root, copy.home), "small")
    killed = copy.start("seeds", "small", "-n", "2", "--first-seed", "3")
    stopping.append(killed)
    wait_for(lambda: trained_at(copy))
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=20)
    first = trained_at(copy)
    assert len(first) == 1
    assert not (copy.root / "recipes" / "seeds").exists()

    done = copy.ae("seeds", "small", "-n", "2", "--first-seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3: train" not in done.stderr
    assert "seed 4: train ..." in done.stderr
    assert first.items() < trained_at(copy).items()
    assert {file: file.read_bytes() for file in artifacts} == artifacts
    assert copy.versions() == versions
    assert ledger.read_entries(Project(copy.root, copy.home), "small") == entries

    record = record_of(copy)
    assert record["seeds"] == [3, 4]
    summary = record["metrics"]["reconstruction.model.mse"]
    assert summary["sd"] == pytest.approx(statistics.stdev(summary["values"]), rel=1e-4)
    half_width = student_t.ppf(0.975, 1) * summary["sd"] / 2**0.5
    assert summary["interval"] == pytest.approx([summary["mean"] - half_width, summary["mean"] + half_width], rel=1e-4)
    assert record["metrics"]["detection.knn.auroc"]["sd"] == 0
    assert record["spread"]["error"]["sd"] == pytest.approx(summary["sd"] / summary["mean"], rel=1e-3)
    assert record["equal_pairs"]["count"] == 2
    assert set(record["equal_pairs"]["refused_by_rule"]) == {"keeps_the_champions_error", "keeps_the_champions_ranking"}
    assert "reconstruction.model.mse" in done.stdout
    assert "keeps_the_champions_ranking: 0.4500, as the recipe says; measured" in done.stdout

    again = copy.ae_in_process("seeds", "small", "-n", "2", "--first-seed", "3")
    assert "seed 4: measured before" in again.stderr
    assert record_of(copy) == record


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


def test_a_new_record_of_seeds_is_a_change_that_the_next_run_sees(ran: Checkout, tmp_path: Path) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    project = Project(copy.root, copy.home)
    with copy.entered():
        fingerprint = json.loads(last_run_file(project, "small").read_text())["fingerprint"]
        assert fingerprint
        assert unchanged_summary(project, "small") is not None
        project.seed_record("small").parent.mkdir()
        project.seed_record("small").write_text("{}")
        assert unchanged_summary(project, "small") is None
