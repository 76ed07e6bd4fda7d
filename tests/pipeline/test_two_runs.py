"""Two recipes run at once in one project: both get champions, a killed one harms the other in nothing, a dataset is one run's."""

import json
import signal
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from checkout import Checkout, make_checkout, wait_for
from checkout_processes import assert_no_process_left

from aeops.files import file_sha256
from aeops.machine.lock import runs_in_progress
from aeops.project import Project

pytestmark = pytest.mark.long


def make_two(root: Path) -> Checkout:
    """A checkout with the recipes `small` and `other`, of two datasets, and `third`, of the first one's."""
    checkout = make_checkout(root)
    recipe = yaml.safe_load((checkout.root / "recipes" / "small.yaml").read_text())
    for name, dataset in (("other", "other"), ("third", "small")):
        copy = recipe | {"recipe": name, "data": recipe["data"] | {"dataset": dataset}}
        (checkout.root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(copy, sort_keys=False))
    checkout.edit_recipe({"train.seed": 1}, "other")
    return checkout


class Together:
    """Runs of recipes in threads of their own; notes how many of them were at work at once."""

    def __init__(self, checkout: Checkout, *recipes: str) -> None:
        self.project = Project(checkout.root, checkout.home)
        self.most, self._is_over = 0, threading.Event()
        self._pool = ThreadPoolExecutor()
        self.runs: dict[str, Future[subprocess.CompletedProcess[str]]] = {
            name: self._pool.submit(checkout.ae_in_forks, "run", name) for name in recipes
        }
        self._pool.submit(self._count)

    def _count(self) -> None:
        while not self._is_over.is_set():
            self.most = max(self.most, len(runs_in_progress(self.project)))
            time.sleep(0.2)

    def require_success(self) -> None:
        for name, run in self.runs.items():
            done = run.result(timeout=600)
            assert done.returncode == 0, f"{name}: {done.stdout}\n{done.stderr}"
        self._is_over.set()
        self._pool.shutdown()


def assert_whole(checkout: Checkout, *recipes: str) -> None:
    """Each recipe has a champion whose record is whole, an entry in data.dvc and its stages in dvc.lock."""
    entries = {entry["path"] for entry in yaml.safe_load((checkout.root / "data.dvc").read_text())["outs"] if "md5" in entry}
    stages = yaml.safe_load((checkout.root / "dvc.lock").read_text())["stages"]
    records = {file_sha256(file): file for file in checkout.home.glob("mlflow/**/rebuild/lineage.json")}
    for name in recipes:
        assert f"data/{name}" in entries
        assert {f"{stage}@{name}" for stage in ("prepare", "train", "calibrate", "evaluate", "gate")} <= set(stages)
        [(version, aliases, tags)] = checkout.versions(name)
        assert (version, aliases) == ("1", ("challenger", "champion"))
        record = records[tags["lineage.sha256"]]
        lineage = json.loads(record.read_text())
        for file in ("dvc.lock", "data.dvc", "params.yaml"):
            assert lineage[f"file.{file}"] == file_sha256(record.with_name(file)), "what was stored was hashed"


def test_two_first_runs_at_once_make_two_champions_and_a_dataset_is_used_by_one(tmp_path: Path) -> None:
    checkout = make_two(tmp_path / "checkout")
    both = Together(checkout, "small", "other")
    wait_for(lambda: both.most == 2)
    refused = checkout.ae_in_process("run", "third")
    assert refused.returncode == 5
    assert "another run holds data/small: `ae run small`" in refused.stderr
    both.require_success()
    assert_whole(checkout, "small", "other")
    assert_no_process_left(checkout)
    again = Together(checkout, "small", "other")  # nothing has changed for either
    again.require_success()
    assert all("nothing changed" in run.result().stdout for run in again.runs.values())


def test_kill_9_of_one_run_harms_the_other_in_nothing_and_it_is_made_good(tmp_path: Path) -> None:
    checkout = make_two(tmp_path / "checkout")
    checkout.edit_recipe({"train.epochs": 60}, "other")
    killed = checkout.start("run", "other")
    wait_for(lambda: training_has_begun(checkout))
    other = Together(checkout, "small")
    wait_for(lambda: other.most == 2)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=20)
    other.require_success()
    assert_whole(checkout, "small")
    done = checkout.ae_in_forks("run", "other")
    assert done.returncode == 0, done.stderr
    assert_whole(checkout, "small", "other")
    assert_no_process_left(checkout)


def training_has_begun(checkout: Checkout) -> bool:
    progress = checkout.home / "training" / "other" / "progress.jsonl"
    return progress.is_file() and progress.stat().st_size > 0
