"""How far trainings of one recipe lie apart: each metric over seeds, the gate's measures, and its verdicts on equal models."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from aeops.evaluation.detection import measure_ranking
from aeops.gate.comparison import HoldoutSamples, ModelScores, combine_results, compare_models, plan_comparisons
from aeops.gate.flattening import is_finite_number, iter_leaves
from aeops.gate.margins import Margin
from aeops.gate.seed_record import EqualPairs, MeasureSpread, MetricSummary, measure_key
from aeops.gate.seed_summary import round_number, summarize_values
from aeops.recipe.gate_rules import AUROC, BY_LABEL, ERROR, Rule
from aeops.seeds.seed_runs import SeedResult

MAX_PAIRED = 8  # trainings of which every pair is compared: 56 pairs take a minute
ALL_SAMPLES = "all"


def summarize_metrics(results: Sequence[SeedResult]) -> dict[str, MetricSummary]:
    """Return each number of metrics.json over seeds by its dotted path; one that a training lacks is left out."""
    tables = []
    for result in results:
        tables.append({path: value for path, value in iter_leaves(result.metrics) if is_finite_number(value)})
    summaries = {}
    for path in tables[0]:
        if path != "format" and all(path in table for table in tables):
            summaries[path] = summarize_values([float(table[path]) for table in tables])
    return summaries


# ---------------------------------------------------------------- the measures of the gate


def measure_spread(results: Sequence[SeedResult]) -> dict[str, MeasureSpread]:
    """Return how far errors and AUROCs on the test samples lie apart, over all samples and for the label that differs most."""
    measures = [ERROR]
    if results[0].scores["novelty"].any():
        measures.append(AUROC)
    spread = {}
    for measure in measures:
        for by in (None, BY_LABEL):
            slices = dict(_slice_rows(results[0].scores, by))
            if slices:
                spread[measure_key(measure, by)] = _largest_spread(results, measure, slices)
    return spread


def _slice_rows(scores: pd.DataFrame, by: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the normal test samples, bool (n,), of each slice that a rule compares."""
    normal = ~scores["novelty"].to_numpy(dtype=bool)
    if by is None:
        yield ALL_SAMPLES, normal
        return
    labels = scores["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    for label in np.unique(labels[normal & (labels >= 0)]):
        yield f"label {label}", normal & (labels == label)


def _largest_spread(results: Sequence[SeedResult], measure: str, slices: Mapping[str, np.ndarray]) -> MeasureSpread:
    largest: MeasureSpread = {"sd": 0.0, "slice": next(iter(slices))}
    for name, rows in slices.items():
        values = np.array([_measure(result.scores, measure, rows) for result in results])
        sd = float(values.std(ddof=1))
        if measure == ERROR and values.any():
            sd /= float(values.mean())
        if sd > largest["sd"]:
            largest = {"sd": round_number(sd), "slice": name}
    return largest


def _measure(scores: pd.DataFrame, measure: str, normal_rows: np.ndarray) -> float:
    """Return the mean error of some normal samples, or the AUROC of the novelty beside them."""
    if measure == ERROR:
        return float(scores["error"].to_numpy(dtype=np.float64)[normal_rows].mean())
    novelty = scores["novelty"].to_numpy(dtype=bool)
    rows = novelty | normal_rows
    return measure_ranking(scores["score"].to_numpy()[rows], novelty[rows]).auroc


# ---------------------------------------------------------------- the gate's verdicts on equal models


def judge_equal_pairs(
    results: Sequence[SeedResult], rules: Mapping[str, Rule], margins: Mapping[str, Margin], group: np.ndarray
) -> EqualPairs:
    """Let the rules against the champion judge every ordered pair of the first MAX_PAIRED trainings.

    Args:
        results: of two or more seeds, on the same test samples.
        rules: the recipe's gate.
        margins: of its rules against the champion.
        group: of each test sample, (n,).
    """
    scores = results[0].scores
    labels = scores["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    holdout = HoldoutSamples(scores["novelty"].to_numpy(dtype=bool), labels, group)
    specs = plan_comparisons(rules, holdout, margins)
    refused_by_rule = dict.fromkeys(margins, 0)
    models = [_model_scores(result.scores) for result in results[:MAX_PAIRED]]
    pair_count = refused_count = 0
    for champion in models:
        for challenger in models:
            if challenger is champion or not specs:
                continue
            comparisons = compare_models(specs, holdout, champion, challenger)
            pair_count += 1
            refused_count += not combine_results(comparisons).accepted
            for name in {comparison.name for comparison in comparisons if not comparison.passed}:
                refused_by_rule[name] += 1
    return {"count": pair_count, "refused": refused_count, "refused_by_rule": refused_by_rule}


def _model_scores(scores: pd.DataFrame) -> ModelScores:
    return ModelScores(scores["error"].to_numpy(dtype=np.float64), scores["score"].to_numpy(dtype=np.float64))
