"""Train and measure a recipe with several seeds, by the processes of a run: train, calibrate, evaluate. Nothing is registered.

Each training and each measurement has a folder named by a hash of all that decides it, in .ae/seeds/RECIPE, so that none is made
twice: `ae seeds` that was killed goes on with what is missing, and another threshold trains nothing again. Delete a recipe's
folder to start over.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ae_models.checksums import json_sha256
from aeops.data.stage_code import stage_sha256
from aeops.data.stage_runs import KEY_DIGITS, StageStarter, is_trained, training_key, write_recipe
from aeops.errors import UsageError
from aeops.files import atomic_folder, make_folder
from aeops.gate.seed_record import MIN_SEEDS
from aeops.machine.progress import ProgressBar, ProgressFollower
from aeops.machine.stored_json import read_json_if_whole
from aeops.machine.terminal import print_progress
from aeops.project import Project
from aeops.recipe.reader import Recipe, read_recipe

MAX_SEED = 2**31 - 1  # as in ae_models.spec.training
RESULT_FILES = ("metrics.json", "scores.parquet")  # of a report, that are kept


@dataclass(frozen=True)
class SeedRun:
    """One training of a recipe, and its measurement.

    Attributes:
        seed: of the training.
        raw_recipe: the recipe's sections with that seed, as its file would hold them.
        work: the folder of the training, which is the state folder of its processes, too: checkpoints of an `ae run` stay.
        results: the folder of RESULT_FILES, once the training has been measured.
    """

    seed: int
    raw_recipe: Mapping[str, Any]
    work: Path
    results: Path

    @property
    def recipe_name(self) -> str:
        return str(self.raw_recipe["recipe"])

    @property
    def training(self) -> Path:
        """Return the folder that the stage train writes."""
        return self.work / "result"


@dataclass(frozen=True)
class SeedResult:
    """What was measured of one training.

    Attributes:
        seed: of the training.
        metrics: metrics.json of its report.
        scores: scores.parquet of its report, one row a test sample.
    """

    seed: int
    metrics: Mapping[str, Any]
    scores: pd.DataFrame


def choose_seeds(recipe: Recipe, count: int, first_seed: int) -> list[int]:
    """Return the seeds of so many trainings; those of an ensemble share no member, which have one seed after another.

    Raises:
        UsageError: fewer than 2 trainings, or a seed that a recipe may not have.
    """
    if count < MIN_SEEDS:
        raise UsageError(f"-n: expected {MIN_SEEDS} or more seeds, as one training has no standard deviation, got {count}")
    step = recipe.fit.train.members
    seeds = [first_seed + step * index for index in range(count)]
    if first_seed < 0 or seeds[-1] > MAX_SEED:
        raise UsageError(f"--first-seed: expected 0 to {MAX_SEED - step * (count - 1)} for {count} seeds, got {first_seed}")
    return seeds


def stage_hashes(project: Project, stages: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the code of each of these stages."""
    return {stage: stage_sha256(project.root, stage) for stage in stages}


def _sections(raw_recipe: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return some sections of a recipe by name, None for what it lacks."""
    return {name: raw_recipe.get(name) for name in names}


def plan_seed_runs(
    project: Project, raw_recipe: Mapping[str, Any], content_sha256: str, folder: Path, seeds: list[int]
) -> list[SeedRun]:
    """Return the trainings with these seeds, each with the folders that its settings name.

    Args:
        project: whose code trains and measures.
        raw_recipe: the recipe's sections as its file holds them, without mistakes.
        content_sha256: of the dataset that the samples are prepared from.
        folder: where the folders of trainings and results are.
        seeds: of the trainings.
    """
    runs = []
    for seed in seeds:
        seeded = {**raw_recipe, "train": {**raw_recipe["train"], "seed": seed}}
        weights = _sections(seeded, "input", "model", "train")
        key = training_key(project, seeded["data"], weights, content_sha256)
        result_key = json_sha256(
            {
                "training": key,
                "settings": _sections(seeded, "score", "threshold", "validate", "evaluate"),
                "code": stage_hashes(project, ("calibrate", "evaluate")),
            }
        )
        work = folder / "trainings" / key[:KEY_DIGITS]
        runs.append(SeedRun(seed, seeded, work, folder / "results" / result_key[:KEY_DIGITS]))
    return runs


def load_result(run: SeedRun) -> SeedResult | None:
    """Return what was measured of a run; None where that is still to be done."""
    metrics = read_json_if_whole(run.results / "metrics.json", "reconstruction")
    if metrics is None or not (run.results / "scores.parquet").is_file():
        return None
    return SeedResult(run.seed, metrics, pd.read_parquet(run.results / "scores.parquet"))


def measure_run(project: Project, run: SeedRun, prepared: Path) -> SeedResult:
    """Train with the run's seed unless that is done, and measure the result.

    Args:
        project: whose code trains and measures, and where sources are looked for.
        run: the training.
        prepared: the folder of the stage prepare.

    Raises:
        AeError: as a stage reports it; what is finished stays.
    """
    text = yaml.safe_dump(dict(run.raw_recipe), sort_keys=False, allow_unicode=True)
    recipe_file = run.work / "recipes" / f"{run.recipe_name}.yaml"
    write_recipe(project, run.work, recipe_file, text)
    bundle, report = run.work / "bundle", run.work / "report"
    stage = StageStarter(project, run.work, recipe_file, prepared)
    if not is_trained(run.training):
        _say(run, "train")
        follower = ProgressFollower(run.work / "training" / run.recipe_name / "progress.jsonl")
        with ProgressBar(read_recipe(recipe_file).fit.train.total_epochs) as bar:
            stage.run("train", out=run.training, on_poll=lambda: bar.show(follower.new_rows()))
    _say(run, "calibrate")
    stage.run("calibrate", "--training", str(run.training), out=bundle)
    _say(run, "evaluate")
    stage.run("evaluate", "--bundle", str(bundle), "--history", str(run.training), out=report)
    make_folder(run.results.parent)
    with atomic_folder(run.results) as folder:
        for name in RESULT_FILES:
            shutil.copy(report / name, folder)
    for made_again in (bundle, report):
        shutil.rmtree(made_again)
    result = load_result(run)
    assert result is not None, "it was written above"
    return result


def _say(run: SeedRun, stage: str) -> None:
    print_progress(f"seed {run.seed}: {stage}")
