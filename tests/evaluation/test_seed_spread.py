"""Values over seeds beside formulas written otherwise: intervals, spreads of the gate's measures, verdicts on equal models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from aeops.errors import UsageError
from aeops.gate.margins import Margin
from aeops.gate.seed_summary import summarize_values
from aeops.recipe.gate_rules import Rule
from aeops.recipe.reader import read_recipe
from aeops.seeds.seed_runs import SeedResult, choose_seeds
from aeops.seeds.seed_spread import judge_equal_pairs, measure_spread, summarize_metrics

RECIPE = read_recipe(Path(__file__).parents[2] / "recipes" / "digits.yaml")


def results(count: int, rows: int = 300) -> list[SeedResult]:
    """Trainings whose errors and scores differ; label 1 differs most, and the last label is the novelty."""
    generator = np.random.default_rng(5)
    label = np.arange(rows) % 4
    novelty = label == 3
    shared = generator.normal(size=rows) + 2 * novelty
    made = []
    for seed in range(count):
        error = generator.gamma(4, 1, rows) * (1 + 0.02 * seed + 0.2 * seed * (label == 1))
        score = shared + 0.5 * generator.normal(size=rows) + 0.1 * seed * novelty
        table = pd.DataFrame({"label": pd.array(label, "Int64"), "novelty": novelty, "score": score, "error": error})
        metrics = {
            "format": 1,
            "reconstruction": {"mse": error.mean(), "interval": [0.0, 1.0]},
            "rows": 7,
            "gap": [None, 1.0][seed % 2],
        }
        made.append(SeedResult(seed, metrics, table))
    return made


def test_the_interval_of_a_mean_is_students():
    values = [0.92, 0.95, 0.97, 0.93, 0.94]
    summary = summarize_values(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert summary["interval"] == pytest.approx([low, high], rel=1e-5)
    assert (summary["sd"], summary["min"], summary["max"]) == (pytest.approx(np.std(values, ddof=1), rel=1e-5), 0.92, 0.97)
    assert summary["values"] == values


def test_every_number_of_the_metrics_is_summarized_but_intervals_formats_and_what_a_seed_lacks():
    summaries = summarize_metrics(results(3))
    assert set(summaries) == {"reconstruction.mse", "rows"}
    assert summaries["rows"]["sd"] == 0


def test_spreads_are_those_of_errors_as_shares_and_of_aurocs_and_by_label_the_largest():
    trainings = results(4)
    spread = measure_spread(trainings)
    assert set(spread) == {"error", "error by label", "auroc", "auroc by label"}
    tables = [training.scores for training in trainings]
    errors = [table.error[~table.novelty].mean() for table in tables]
    assert spread["error"]["sd"] == pytest.approx(np.std(errors, ddof=1) / np.mean(errors), rel=1e-5)
    of_label = [table.error[table.label == 1].mean() for table in tables]
    assert spread["error by label"] == {
        "sd": pytest.approx(np.std(of_label, ddof=1) / np.mean(of_label), rel=1e-5),
        "slice": "label 1",
    }
    aurocs = [roc_auc_score(table.novelty, table.score) for table in tables]
    assert spread["auroc"]["sd"] == pytest.approx(np.std(aurocs, ddof=1), rel=1e-5)


def test_without_novelty_and_labels_only_errors_are_measured():
    bare = []
    for training in results(2):
        table = training.scores.assign(novelty=False, label=pd.array([None] * len(training.scores), "Int64"))
        bare.append(replace(training, scores=table))
    assert set(measure_spread(bare)) == {"error"}


@pytest.mark.parametrize(("margin", "refused"), [(0.9, 0), (0.01, 2)])
def test_each_training_is_judged_as_the_challenger_of_each_other_one(margin: float, refused: int):
    rules = {"error": Rule(champion="error"), "served": Rule(check="served")}
    group = np.arange(300).astype(str)
    pairs = judge_equal_pairs(results(2), rules, {"error": Margin(margin, "recipe")}, group)
    assert pairs == {"count": 2, "refused": refused, "refused_by_rule": {"error": refused}}
    assert judge_equal_pairs(results(2), {}, {}, group) == {"count": 0, "refused": 0, "refused_by_rule": {}}


def test_seeds_follow_each_other_and_one_is_too_few():
    members = RECIPE.fit.train.members
    assert choose_seeds(RECIPE, 3, 7) == [7, 7 + members, 7 + 2 * members]
    last = 2**31 - 1 - members
    assert choose_seeds(RECIPE, 2, last) == [last, last + members]
    for count, first_seed, message in (
        (1, 0, "-n: expected 2 or more"),
        (0, 0, "-n: expected 2"),
        (2, 2**31 - 1, "--first-seed: expected 0 to"),
    ):
        with pytest.raises(UsageError, match=message):
            choose_seeds(RECIPE, count, first_seed)
