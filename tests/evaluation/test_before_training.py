"""What can be known before a training is told before it, as an error of its kind."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from aeops.errors import DataError, UsageError
from aeops.evaluation import sampling
from aeops.evaluation.before_training import require_enough_samples, require_named_files
from aeops.files import data_sha256
from aeops.project import Project, find_project
from aeops.recipe.gate_rules import Rule
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import SentencesStudy

RECIPES = Path(__file__).parents[2] / "recipes"
PROJECT = find_project(Path(__file__))


def changed_recipe(tmp_path: Path, name: str, **changes: dict) -> Path:
    """A shipped recipe whose sections have these keys laid over theirs."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    for section, keys in changes.items():
        recipe[section] |= keys
    file = tmp_path / f"{name}.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        (
            "digits",
            {"data": {"split": {"validation": 0, "calibration": 0.2, "test": 0.2}}},
            "data.split.validation: expected 0.001 to 0.5, got 0",
        ),
        (
            "digits",
            {"validate": {"class_share": {"min": 5, "max": 20}}},
            "validate: class_share: expected a range that meets 0 to 1, where every class_share lies, got 5 to 20",
        ),
        ("digits", {"data": {"novelty": list(range(10))}}, "no normal sample is left to train on"),
        (
            "digits",
            {"evaluate": {"pca_components": 785}},
            "evaluate.pca_components: expected at most 784, the values of a sample",
        ),
        (
            "news-text",
            {"data": {"source": {"kind": "npy", "path": "texts.npy"}}},
            "evaluate.studies.sentences: documents: expected a file of data.source",
        ),
        (
            "documents-denoise",
            {"data": {"source": {"kind": "npy", "path": "tiles.npy", "labels": "labels.npy"}}},
            "evaluate.studies.documents: it joins tiles to pages: expected a data.source of kind scans, got npy",
        ),
    ],
)
def test_a_recipe_that_cannot_be_trained_or_evaluated_is_refused_when_it_is_read(tmp_path, name, changes, says):
    with pytest.raises(UsageError) as error:
        read_recipe(changed_recipe(tmp_path, name, **changes))
    assert says in str(error.value)


@pytest.mark.slow
def test_what_the_samples_are_too_few_for_is_told_all_at_once(evaluated):
    recipe = read_recipe(evaluated.recipe)
    gate = {"each": Rule(champion="error", margin=0.1, by="label"), "ranks": Rule(champion="auroc", margin=0.1)}
    threshold = replace(recipe.fit.threshold, false_alarm_rate=0.001)
    asked = replace(
        recipe,
        gate=gate,
        fit=replace(recipe.fit, threshold=threshold),
        evaluate=replace(recipe.evaluate, pca_components=701, neighbours=900),
    )
    with pytest.raises(UsageError) as error:
        require_enough_samples(asked, PROJECT, evaluated.prepared)
    for text in (
        "0.001 needs 999 calibration samples or more, got 199",
        "evaluate.pca_components: expected at most 700, the number of training samples, got 701",
        "evaluate.neighbours: expected at most 700, the number of training samples, got 900",
    ):
        assert text in str(error.value)
    assert "gate.ranks" not in str(error.value)


def test_samples_that_no_comparison_can_be_made_on_are_told_by_rule_and_class(evaluated, tmp_path):
    prepared = tmp_path / "prepared"
    shutil.copytree(evaluated.prepared, prepared)
    table = pd.read_parquet(prepared / "test.parquet")
    few = table.assign(group=[f"page-{row % 19}" for row in range(len(table))])
    few.loc[few["novelty"], "group"] = "one page"
    few.to_parquet(prepared / "test.parquet")
    recipe = replace(read_recipe(evaluated.recipe), gate={"ranks": Rule(champion="auroc", margin=0.1)})
    with pytest.raises(UsageError) as error:
        require_enough_samples(recipe, PROJECT, prepared)
    normals, novelty = str(error.value).splitlines()
    assert "recipes/digits.yaml: gate.ranks: expected 20 or more groups of normals" in normals
    assert "got 19" in normals
    assert "groups of novelty among the test samples to compare with a champion, got 1" in novelty


def test_a_lead_over_baselines_needs_groups_of_both_kinds(evaluated, tmp_path):
    prepared = tmp_path / "prepared"
    shutil.copytree(evaluated.prepared, prepared)
    table = pd.read_parquet(prepared / "test.parquet")
    table.loc[table["novelty"], "group"] = "one page"
    table.to_parquet(prepared / "test.parquet")
    gate = {"ahead": Rule(metric="detection.lead_lower_bound", at_least=0.0)}
    with pytest.raises(UsageError) as error:
        require_enough_samples(replace(read_recipe(evaluated.recipe), gate=gate), PROJECT, prepared)
    [line] = str(error.value).splitlines()
    assert "gate.ahead: expected 20 or more groups of novelty among the test samples to compare with baselines, got 1" in line


def test_baselines_that_need_more_than_the_subsample_are_told_its_size(evaluated, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_BASELINE_ROWS", 300)
    recipe = read_recipe(evaluated.recipe)
    asked = replace(recipe, evaluate=replace(recipe.evaluate, neighbours=301))
    with pytest.raises(UsageError) as error:
        require_enough_samples(asked, PROJECT, evaluated.prepared)
    assert (
        "evaluate.neighbours: expected at most 300, the number of training samples that baselines are fitted to, of 700"
        in str(error.value)
    )


def test_enough_samples_are_no_problem(evaluated):
    require_enough_samples(read_recipe(evaluated.recipe), PROJECT, evaluated.prepared)


def test_files_of_a_study_that_are_missing_or_others_are_told_before_anything_starts(tmp_path):
    project = Project(tmp_path, tmp_path / ".ae")
    (tmp_path / "pairs.csv").write_text("other", encoding="utf-8")
    recipe = read_recipe(RECIPES / "news-text.yaml")
    study = SentencesStudy(pairs="pairs.csv", pairs_sha256="0" * 64, documents="gone.csv", documents_sha256="0" * 64)
    asked = replace(recipe, evaluate=replace(recipe.evaluate, studies={"sentences": study}))
    with pytest.raises(DataError) as error:
        require_named_files(asked, project)
    first, second = str(error.value).splitlines()
    assert first.startswith("pairs.csv: expected SHA-256 000000000000... (pairs_sha256), got ")
    assert "correct evaluate.studies.sentences.pairs in recipes/news-text.yaml" in first
    assert second.startswith("gone.csv: no such file; looked for ")
    (tmp_path / "gone.csv").write_text("", encoding="utf-8")
    right = replace(study, pairs_sha256=data_sha256(b"other"), documents_sha256=data_sha256(b""))
    require_named_files(replace(asked, evaluate=replace(recipe.evaluate, studies={"sentences": right})), project)
