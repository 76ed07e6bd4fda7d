"""`ae sweep` of shipped recipes with shorter trainings: killed twice, the table is that of an undisturbed sweep."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT, Checkout, copy_checkout, make_checkout, wait_for

from aeops.errors import DataError
from aeops.project import find_project

pytestmark = pytest.mark.long

TIMEOUT = 1500  # seconds of a sweep
RECIPES = {  # recipe -> a file that it needs, what makes its trainings shorter, and what the sweep tries
    "digits": (None, {"train.epochs": 6, "train.members": 2}, "train.learning_rate=0.002,0.012"),
    "news-text": ("text/bbc_news_summary.csv.gz", {"train.epochs": 1}, "train.learning_rate=0.001,0.009"),
}


def sources_with(name: str) -> Path | None:
    """Return the folder that has a file of the sources; None where it is not at hand."""
    try:
        return find_project(ROOT).find_source(name).parents[name.count("/")]
    except DataError:
        return None


def table_of(checkout: Checkout, recipe: str) -> bytes:
    [table] = (checkout.home / "sweeps" / recipe / "tables").rglob("sweep.json")
    return table.read_bytes()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_shipped_recipe_s_sweep_that_is_killed_twice_ends_with_the_table_of_an_undisturbed_one(
    recipe: str, tmp_path: Path, stopping: list[subprocess.Popen[bytes]]
) -> None:
    needed, changes, over = RECIPES[recipe]
    settings = {}
    if needed is not None:
        sources = sources_with(needed)
        if sources is None:
            pytest.skip(f"{needed} is not at hand: see docs/quick-start.md, the shipped recipes")
        settings["AE_SOURCES"] = str(sources)
    undisturbed = make_checkout(tmp_path / "undisturbed")
    undisturbed.edit_recipe(changes, recipe)
    sweep = ("sweep", recipe, "--over", over, "--threads", "1")
    ran = undisturbed.ae("run", recipe, timeout=TIMEOUT, **settings)
    assert ran.returncode in (0, 4), ran.stderr  # 4: so short a training may be refused; its data are accepted
    disturbed = copy_checkout(undisturbed, tmp_path / "disturbed")
    done = undisturbed.ae(*sweep, timeout=TIMEOUT, **settings)
    assert done.returncode == 0, done.stderr

    trials = disturbed.home / "sweeps" / recipe / "trials"
    for evidence in (f"training/{recipe}/progress.jsonl", "result/weights.safetensors"):
        started = disturbed.start(*sweep, **settings)
        stopping.append(started)
        wait_for(lambda evidence=evidence: list(trials.rglob(evidence)), TIMEOUT)
        os.kill(started.pid, signal.SIGKILL)
        started.wait(timeout=20)
    weights = {file: file.stat().st_mtime_ns for file in trials.rglob("result/weights.safetensors")}
    assert weights
    done = disturbed.ae(*sweep, timeout=TIMEOUT, **settings)
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in weights} == weights, "a finished trial was trained again"
    assert table_of(disturbed, recipe) == table_of(undisturbed, recipe)
    assert written_rate(disturbed, recipe) == written_rate(undisturbed, recipe)


def written_rate(checkout: Checkout, recipe: str) -> Any:
    return yaml.safe_load((checkout.root / "recipes" / f"{recipe}.yaml").read_text())["train"]["learning_rate"]
