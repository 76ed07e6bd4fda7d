"""Margins out of a record of seeds: which of three holds, when a record is stale, and how many equal models are refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from digits_recipe import single_model_recipe

from aeops.errors import DataError
from aeops.evaluation.before_training import require_whole_seed_record
from aeops.files import file_sha256
from aeops.gate.comparison import LEVEL, NOT_WORSE, estimate_auroc_difference, p_value
from aeops.gate.documents import SeedEvidence
from aeops.gate.margins import MARGIN_FACTOR, resolve_margins
from aeops.gate.seed_record import METRIC_SECTIONS, SeedSpread, load_seed_spread, read_seed_record, seed_settings_sha256
from aeops.project import Project
from aeops.recipe.gate_rules import DEFAULT_MARGINS, Rule
from aeops.recipe.reader import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
CONTENT = "c" * 64
RULES = {
    "error": Rule(champion="error"),
    "ranking": Rule(champion="auroc"),
    "each": Rule(champion="error", by="label"),
    "own": Rule(champion="auroc", margin=0.3),
    "served": Rule(check="served"),
}


def seeds_of(**spread: float) -> SeedSpread:
    evidence: SeedEvidence = {"state": "used", "reason": "5 seeds", "sha256": "e" * 64, "seeds": [0, 1, 2, 3, 4]}
    return SeedSpread(evidence, {name.replace("_", " "): {"sd": sd, "slice": "all"} for name, sd in spread.items()})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with the recipe digits and a record of its seeds."""
    project = Project(tmp_path, tmp_path / ".ae")
    project.recipes.mkdir()
    change_recipe(project)
    write_record(project)
    return project


def change_recipe(project: Project, **sections: dict) -> None:
    recipe = single_model_recipe()
    for section, keys in sections.items():
        recipe[section] |= keys
    project.recipe_file("digits").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def write_record(project: Project, **changes: object) -> None:
    record = {
        "format": 1,
        "recipe": "digits",
        "seeds": [0, 1, 2],
        "settings_sha256": seed_settings_sha256(project.recipe_file("digits")),
        "measured_sha256": seed_settings_sha256(project.recipe_file("digits"), METRIC_SECTIONS),
        "content_sha256": CONTENT,
        "metrics": {},
        "spread": {"error": {"sd": 0.02, "slice": "all"}},
    }
    file = project.seed_record("digits")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record | changes), encoding="utf-8")


def loaded(project: Project, content_sha256: str = CONTENT) -> SeedSpread:
    return load_seed_spread(project.seed_record("digits"), project.recipe_file("digits"), content_sha256)


# ---------------------------------------------------------------- which margin holds


def test_the_recipes_margin_comes_before_the_measured_one_and_that_before_the_default():
    margins = resolve_margins(RULES, seeds_of(error=0.02, auroc=0.01))
    assert set(margins) == {"error", "ranking", "each", "own"}
    assert (margins["own"].value, margins["own"].source, margins["own"].description) == (0.3, "recipe", "")
    assert (margins["error"].value, margins["error"].source) == (pytest.approx(0.02 * 8**0.5), "seeds")
    assert (margins["ranking"].value, margins["ranking"].source) == (pytest.approx(0.01 * 8**0.5), "seeds")
    assert (margins["each"].value, margins["each"].source) == (DEFAULT_MARGINS["error", "label"], "default")
    assert margins["each"].description == "the margin is the default, as the record of seeds has no error by label"


@pytest.mark.parametrize("sd", [0.0, 0.18, 5.0])
def test_a_spread_that_makes_no_margin_leaves_the_default_and_says_why(sd: float):
    margin = resolve_margins(RULES, seeds_of(auroc=sd))["ranking"]
    assert (margin.value, margin.source) == (0.04, "default")
    assert f"twice the standard deviation between seeds is {MARGIN_FACTOR * sd:.4g}, expected more than 0" in margin.description


# ---------------------------------------------------------------- when a record counts


def test_a_record_of_these_settings_and_samples_is_used(project: Project):
    seeds = loaded(project)
    assert seeds.spread == {"error": {"sd": 0.02, "slice": "all"}}
    assert seeds.evidence == {
        "state": "used",
        "reason": "3 seeds",
        "sha256": file_sha256(project.seed_record("digits")),
        "seeds": [0, 1, 2],
    }


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"seed": 7}},
        {"threshold": {"false_alarm_rate": 0.05}},
        {"data": {"source": {"kind": "npy", "path": "elsewhere.npy", "labels": "labels.npy"}}},
        {"gate": {"mine": {"champion": "error", "margin": 0.5}}},
        {"evaluate": {"neighbours": 7}},
    ],
)
def test_what_decides_neither_errors_nor_scores_leaves_a_record_valid(project: Project, sections: dict):
    change_recipe(project, **sections)
    assert loaded(project).evidence["state"] == "used"


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"epochs": 61}},
        {"model": {"bottleneck": {"kind": "identity", "size": 8}}},
        {"score": {"blur": 2}},
        {"data": {"novelty": [4]}},
    ],
)
def test_a_record_of_other_settings_is_stale_and_its_spread_is_not_used(project: Project, sections: dict):
    change_recipe(project, **sections)
    seeds = loaded(project)
    assert (seeds.evidence["state"], seeds.spread) == ("stale", {})
    margin = resolve_margins(RULES, seeds)["error"]
    assert (margin.value, margin.source) == (0.1, "default")
    expected = "the record of seeds was measured with other settings of the recipe: `ae seeds digits` measures it again"
    assert margin.description == f"the margin is the default, as {expected}"


def test_a_record_of_other_data_is_stale_and_names_both(project: Project):
    reason = loaded(project, "d" * 64).evidence["reason"]
    assert "measured with other data (cccccccccccc, not dddddddddddd)" in reason
    project.seed_record("digits").unlink()
    missing = loaded(project).evidence
    assert (missing["state"], missing["sha256"]) == ("missing", None)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_record_is_an_error_before_the_training_that_says_what_to_type(project: Project, content: str):
    project.seed_record("digits").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="type `ae seeds digits` to measure it again"):
        require_whole_seed_record(load_recipe(project, "digits"), project)


def test_a_record_of_a_later_format_is_refused(project: Project):
    write_record(project, format=2)
    with pytest.raises(DataError, match="is of format 2, expected 1"):
        read_seed_record(project.seed_record("digits"))


# ---------------------------------------------------------------- equal models


def equal_models(generator: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (seeds, n) of models that differ in their seed alone, with AUROCs of 0.95 +- 0.02, and bool (n,) for the novelty."""
    novelty = np.repeat([False, True], [930, 500])
    shared = generator.normal(size=len(novelty))
    scores = []
    for _ in range(seeds):
        separation = 2.33 + 0.26 * generator.normal()
        scores.append(0.8 * shared + 0.6 * generator.normal(size=len(novelty)) + separation * novelty)
    return np.stack(scores), novelty


@pytest.mark.slow
def test_of_pairs_of_equal_models_few_are_refused_at_twice_the_deviation_and_many_at_half_of_it():
    generator = np.random.default_rng(0)
    refused = {1.0: 0, 0.5: 0}
    pairs = list(itertools.permutations(range(8), 2))
    deviations = []
    for _ in range(10):
        scores, novelty = equal_models(generator, seeds=8)
        groups = np.arange(len(novelty))
        estimates = [estimate_auroc_difference(scores[one], scores[other], novelty, groups) for one, other in pairs]
        sd = float(np.std([estimate.champion for estimate in estimates[::7]], ddof=1))  # each is the champion of seven
        deviations.append(sd)
        for share in refused:
            margin = share * MARGIN_FACTOR * sd
            refused[share] += sum(p_value(NOT_WORSE, estimate, margin) > LEVEL for estimate in estimates)
    assert np.mean(deviations) == pytest.approx(0.02, abs=0.006)
    assert refused[1.0] / (10 * len(pairs)) < 0.1  # 2.3 % by the seeds alone; the test samples' uncertainty comes on top
    assert refused[0.5] / (10 * len(pairs)) > 0.2
