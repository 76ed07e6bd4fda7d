"""`ae seeds`: the record of a recipe's seeds, from the prepared samples to recipes/seeds/RECIPE.json."""

import sys
from collections.abc import Sequence

import pandas as pd

from ae_models.spec import spec_to_dict
from aeops.data import dvc
from aeops.errors import UsageError
from aeops.evaluation.before_training import require_enough_samples
from aeops.files import make_folder, write_json
from aeops.gate.documents import USED
from aeops.gate.evidence import holdout_sha256
from aeops.gate.margins import resolve_margins
from aeops.gate.seed_record import FORMAT, METRIC_SECTIONS, MeasureSpread, SeedRecord, SeedSpread, seed_settings_sha256
from aeops.machine.platform_info import platform_facts
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.reader import Recipe, read_unchanged, require_unchanged
from aeops.seeds.seed_runs import SeedResult, load_result, measure_run, plan_seed_runs, stage_hashes
from aeops.seeds.seed_spread import judge_equal_pairs, measure_spread, summarize_metrics

RECORDED_STAGES = ("prepare", "train", "calibrate", "evaluate")


def measure_seeds(project: Project, recipe: Recipe, seeds: list[int]) -> SeedRecord:
    """Train and measure the recipe with each seed, as far as that is not done, and write the record of seeds.

    Args:
        project: the caller holds its workspace.
        recipe: as its file is now.
        seeds: two or more, as `choose_seeds` returns them.

    Raises:
        UsageError: the recipe's data has not been accepted yet, or there are too few samples for the recipe.
        AeError: as a stage reports it; what is finished stays, and the next call goes on.
    """
    receipt = project.dataset(recipe.data.dataset) / "receipt.json"
    if not receipt.is_file():
        raise UsageError(f"{recipe.name} has no accepted data in data/{recipe.data.dataset}: type `ae run {recipe.name}` first")
    dvc.reproduce_stage(project, "prepare", recipe.name)
    prepared = project.artifacts(recipe.name) / "prepared"
    require_enough_samples(recipe, project, prepared)
    raw_recipe, content_sha256 = read_unchanged(project, recipe), str(read_json(receipt, "content_sha256")["content_sha256"])
    results = []
    for run in plan_seed_runs(project, raw_recipe, content_sha256, project.seed_runs(recipe.name), seeds):
        result = load_result(run)
        if result is None:
            result = measure_run(project, run, prepared)
        else:
            print(f"seed {run.seed}: measured before", file=sys.stderr, flush=True)
        results.append(result)
    require_unchanged(project, recipe)
    record = build_record(project, recipe, results)
    make_folder(project.seed_record(recipe.name).parent)
    write_json(project.seed_record(recipe.name), record)
    return record


def build_record(project: Project, recipe: Recipe, results: Sequence[SeedResult]) -> SeedRecord:
    """Return the record of these results, with the gate's verdicts on every pair of them at the margins that follow from it."""
    prepared = project.artifacts(recipe.name) / "prepared"
    spread = measure_spread(results)
    seeds = [result.seed for result in results]
    margins = resolve_margins(recipe.gate, spread_of_seeds(seeds, spread))
    group = pd.read_parquet(prepared / "test.parquet", columns=["group"])["group"].to_numpy(dtype=str)
    return {
        "format": FORMAT,
        "recipe": recipe.name,
        "seeds": seeds,
        "settings_sha256": seed_settings_sha256(project.recipe_file(recipe.name)),
        "measured_sha256": seed_settings_sha256(project.recipe_file(recipe.name), METRIC_SECTIONS),
        "content_sha256": str(read_json(prepared / "prepared.json", "content_sha256")["content_sha256"]),
        "holdout_sha256": holdout_sha256(prepared),
        "threshold": spec_to_dict(recipe.fit.threshold),
        "code": stage_hashes(project, RECORDED_STAGES),
        "versions": platform_facts(),
        "metrics": summarize_metrics(results),
        "spread": spread,
        "equal_pairs": judge_equal_pairs(results, recipe.gate, margins, group),
    }


def spread_of_seeds(seeds: list[int], spread: dict[str, MeasureSpread]) -> SeedSpread:
    """Return measured spreads as a comparison uses them."""
    return SeedSpread({"state": USED, "reason": f"{len(seeds)} seeds", "sha256": None, "seeds": seeds}, spread)
