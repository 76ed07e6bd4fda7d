"""The study `power` beside its baselines, the gate's rules on it, and the comparison of two powers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ae_models.faults import inject, standard_faults
from ae_models.power import FAULT_SEED, Power
from aeops.errors import UsageError
from aeops.evaluation.studies.power import measure_power_lead, run_power_study
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.gate.flattening import flatten
from aeops.gate.rules import RuleInputs, evaluate_rules
from aeops.project import find_project
from aeops.recipe.metric_names import metric_names
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import PowerStudy
from aeops.stages.compare import Champion, compare
from aeops.stages.evaluate import build_context
from aeops.stages.gate import gate

ROOT = Path(__file__).parents[2]
SAMPLES = 60
RULES = ("catches_injected_faults", "ranks_injected_faults", "not_below_baselines")


@pytest.fixture(scope="module")
def recipe_file(writers, tmp_path_factory) -> Path:
    """The digits recipe without labels of a novelty, and without rules of its own."""
    file = tmp_path_factory.mktemp("unlabelled") / "digits.yaml"
    recipe = writers.recipe(file)
    recipe |= {"gate": {}, "data": recipe["data"] | {"novelty": []}}
    recipe["evaluate"] = recipe["evaluate"] | {"studies": {"power": {"samples": SAMPLES}}}
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def context(evaluated, recipe_file) -> EvaluationContext:
    paths = (evaluated.prepared, evaluated.bundle, evaluated.training)
    return build_context(read_recipe(recipe_file), find_project(ROOT), *paths)


@pytest.fixture(scope="module")
def study(context, tmp_path_factory) -> tuple[StudyResult, Path]:
    figures = tmp_path_factory.mktemp("figures")
    return run_power_study(context.recipe.evaluate.studies["power"], context, figures), figures


class ConstantDetector:
    """The bundle with a score that is the same for every sample."""

    def __init__(self, detector) -> None:
        self.detector = detector

    def __getattr__(self, name: str):
        return getattr(self.detector, name)

    def score(self, samples, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        predictions = self.detector.score(samples, reconstruction, code)
        count = len(predictions["score"])
        return predictions | {"score": np.full(count, 0.5, np.float32), "is_anomaly": np.zeros(count, dtype=bool)}


class InvertedDetector(ConstantDetector):
    """The bundle with its score upside down, at the same rate of false alarms."""

    def score(self, samples, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        predictions = self.detector.score(samples, reconstruction, code)
        return predictions | {"score": -predictions["score"], "is_anomaly": predictions["p_value"] > 0.95}


# ---------------------------------------------------------------- the study


@pytest.mark.slow
def test_a_share_is_what_the_served_model_flags_of_the_injected_samples(context, study):
    result, _ = study
    normals = np.flatnonzero(context.is_normal)
    rows = normals[np.linspace(0, len(normals) - 1, SAMPLES).round().astype(int)]
    [occlusion] = [fault for fault in standard_faults("image") if fault.name == "occlusion"]
    shares = []
    for strength in occlusion.strengths:
        damaged = inject(occlusion, strength, context.data.test[rows], FAULT_SEED, context.recipe.fit.input)
        shares.append(context.detector.score(damaged)["is_anomaly"].mean())
    assert result.metrics["faults"]["occlusion"] == pytest.approx(np.mean(shares))
    assert result.metrics["settings"] == {"samples": SAMPLES, "rate": 0.05}


def test_a_trained_bundle_catches_more_than_its_false_alarms_and_stands_beside_every_baseline(study):
    metrics = study[0].metrics
    low, high = metrics["mean_caught_interval"]
    assert 0.05 < low < metrics["mean_caught"] < high < 1
    assert 0.5 < metrics["mean_separation"] < 1
    assert set(metrics["baselines"]) == {"pca_residual", "knn", "local_hull_10", "local_hull_20", "isolation_forest"}
    best = max(baseline["mean_caught"] for baseline in metrics["baselines"].values())
    assert metrics["lead"] == pytest.approx(metrics["mean_caught"] - best)
    assert metrics["lead_lower_bound"] == metrics["lead_interval"][0] <= metrics["lead"] <= metrics["lead_interval"][1]


def test_the_table_has_a_row_a_fault_and_the_mean_below(study):
    result, figures = study
    assert [row[0] for row in result.rows] == [
        *("cut and paste", "scratch", "blur", "occlusion", "foreign patch", "brightness", "rotation"),
        "mean power",
    ]
    assert all(len(row) == len(result.head) for row in result.rows)
    assert result.rows[0][1] == "0.01 to 0.3 of the image's area"
    assert {file.name for file in figures.iterdir()} == {name for name, _ in result.figures}
    curves = (figures / "power_curves.svg").read_text(encoding="utf-8")
    assert ">rotation<" in curves
    assert ">degrees<" in curves


@pytest.mark.slow
def test_the_same_samples_give_the_same_bytes(context, tmp_path):
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        results.append(run_power_study(PowerStudy(20), context, tmp_path / name))
    assert results[0] == results[1]
    for file in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()


def test_the_metrics_known_beforehand_are_those_that_are_measured(context, study):
    measured = flatten({"power": json.loads(json.dumps(study[0].metrics))})
    names = metric_names(context.recipe.fit, context.recipe.data, context.recipe.evaluate)
    known_numbers = {name for name in names.numbers if name.startswith("power.")}
    known_intervals = {name for name in names.intervals if name.startswith("power.")}
    assert known_numbers == {name for name in measured if not isinstance(measured[name], list)} - {
        name for name in measured if name.startswith("power.baselines.")
    }
    assert known_intervals == {name for name in measured if isinstance(measured[name], list)}


@pytest.mark.slow
def test_without_baselines_there_is_no_lead(context, tmp_path):
    alone = replace(context, recipe=replace(context.recipe, evaluate=replace(context.recipe.evaluate, pca_components=None)))
    alone = replace(alone, recipe=replace(alone.recipe, evaluate=replace(alone.recipe.evaluate, neighbours=None)))
    result = run_power_study(PowerStudy(20), alone, tmp_path)
    assert (result.metrics["lead"], result.metrics["lead_interval"], result.metrics["baselines"]) == (None, None, {})
    assert "best baseline" not in result.lead


def test_the_lead_is_over_the_best_baseline_and_its_low_end_over_each_of_them():
    generator = np.random.default_rng(0)
    by_sample = {name: generator.random(400) * width for name, width in (("model", 1.0), ("pca_residual", 0.6), ("knn", 0.9))}
    powers = {}
    for name, values in by_sample.items():
        powers[name] = FixedPower((), values)
    lead = measure_power_lead(powers, np.arange(400))
    assert lead.margin == pytest.approx(by_sample["model"].mean() - by_sample["knn"].mean())
    differences = by_sample["model"] - by_sample["knn"]
    half_width = 1.959964 * differences.std(ddof=1) / 20
    assert lead.interval == pytest.approx((lead.margin - half_width, lead.margin + half_width), rel=1e-6)
    assert measure_power_lead(powers, np.zeros(400)).interval is None
    assert measure_power_lead({"model": powers["model"]}, np.arange(400)) is None


class FixedPower(Power):
    """A power without cells: its mean is that of its samples."""

    @property
    def mean(self) -> float | None:
        return float(self.by_sample.mean())


# ---------------------------------------------------------------- which recipes have it, and what their gates ask for


def test_every_recipe_that_detects_has_the_study_and_may_set_it(writers, tmp_path):
    def read(**changes):
        writers.recipe(tmp_path / "digits.yaml", **changes)
        return read_recipe(tmp_path / "digits.yaml")

    assert read(evaluate={"pca_components": 16, "neighbours": 5}).evaluate.studies == {"power": PowerStudy()}
    asked = {"pca_components": 16, "neighbours": 5, "studies": {"power": {"samples": 30}, "codes": {}}}
    assert read(evaluate=asked).evaluate.studies["power"] == PowerStudy(30)
    rules = {"beats_pca_reconstruction": {"metric": "reconstruction.gain_over_pca", "at_least": 0.05}}
    assert read(purpose="reconstruct", gate=rules, evaluate={"pca_components": 16}).evaluate.studies == {}
    with pytest.raises(UsageError, match=r"evaluate\.studies\.power\.samples: expected 20 to 100000, got 5"):
        read(evaluate=asked | {"studies": {"power": {"samples": 5}}})


def test_a_rule_on_a_fault_is_checked_when_the_recipe_is_read(writers, tmp_path):
    rules = {"sees_scratches": {"metric": "power.faults.scratch", "at_least": 0.3}}
    writers.recipe(tmp_path / "digits.yaml", gate=rules)
    assert "sees_scratches" in read_recipe(tmp_path / "digits.yaml").gate
    writers.recipe(tmp_path / "digits.yaml", gate={"sees_scratches": {"metric": "power.faults.scrach", "at_least": 0.3}})
    with pytest.raises(UsageError, match=r"got 'power\.faults\.scrach': did you mean power\.faults\.scratch\?"):
        read_recipe(tmp_path / "digits.yaml")


def test_without_labels_the_gate_asks_for_power_and_with_them_for_the_novelty(recipe_file, writers, tmp_path):
    unlabelled = read_recipe(recipe_file)
    assert set(RULES) < set(unlabelled.gate)
    assert unlabelled.gate["not_worse_than_champion"].champion == "power"
    assert "catches_injected_faults" not in unlabelled.unchecked
    recipe = yaml.safe_load(recipe_file.read_text(encoding="utf-8"))
    data = yaml.safe_load((ROOT / "recipes" / "digits.yaml").read_text(encoding="utf-8"))["data"]
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe | {"data": data}), encoding="utf-8")
    labelled = read_recipe(tmp_path / "digits.yaml")
    assert not set(RULES) & (set(labelled.gate) | set(labelled.unchecked))
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe | {"evaluate": {}}), encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"evaluate\.neighbours: expected a number, such as 5, since with purpose detect the rule not_below"
    ):
        read_recipe(tmp_path / "digits.yaml")


def outcomes_of(recipe, metrics: dict) -> dict[str, bool]:
    alarms = {"requested": 0.05, "measured": 0.04, "promise_interval": [0.01, 0.09]}
    inputs = RuleInputs(flatten({"power": metrics, "false_alarms": alarms}), Path())
    return {outcome.name: outcome.passed for outcome in evaluate_rules(recipe.gate, inputs, "x")}


@pytest.mark.slow
def test_without_a_label_the_gate_refuses_a_constant_score_and_a_pca_that_catches_less_than_a_hull(context, study, tmp_path):
    pca = outcomes_of(context.recipe, json.loads(json.dumps(study[0].metrics)))
    assert [pca[name] for name in RULES] == [True, True, False]
    constant = replace(context, detector=ConstantDetector(context.detector))
    result = run_power_study(PowerStudy(20), constant, tmp_path)
    assert (result.metrics["mean_caught"], result.metrics["mean_separation"]) == (0, 0.5)
    blind = outcomes_of(context.recipe, json.loads(json.dumps(result.metrics)))
    assert [blind[name] for name in RULES] == [False, True, False]


@pytest.mark.slow
def test_a_detector_that_is_upside_down_is_refused_though_it_catches_blurred_samples(context, tmp_path):
    result = run_power_study(PowerStudy(20), replace(context, detector=InvertedDetector(context.detector)), tmp_path)
    assert result.metrics["faults"]["blur"] > 0.2
    outcomes = outcomes_of(context.recipe, json.loads(json.dumps(result.metrics)))
    assert not outcomes["ranks_injected_faults"]


def test_a_detector_behind_the_best_baseline_or_one_that_ranks_faults_below_normals_is_refused(context, study):
    metrics = json.loads(json.dumps(study[0].metrics))
    for lower_bound, passed in ((-0.079, True), (-0.081, False), (None, False)):
        assert outcomes_of(context.recipe, metrics | {"lead_lower_bound": lower_bound})["not_below_baselines"] == passed
    for separation, passed in ((0.5, True), (0.44, False), (None, False)):
        assert outcomes_of(context.recipe, metrics | {"mean_separation": separation})["ranks_injected_faults"] == passed
    for interval, passed in (([0.051, 0.2], True), ([0.05, 0.2], False), (None, False)):
        assert outcomes_of(context.recipe, metrics | {"mean_caught_interval": interval})["catches_injected_faults"] == passed


# ---------------------------------------------------------------- the champion


@pytest.mark.slow
def test_a_challenger_that_catches_less_is_refused_and_one_that_catches_as_much_is_accepted(
    recipe_file, evaluated, blind, tmp_path
):
    recipe = read_recipe(recipe_file)
    worse = compare(recipe, evaluated.prepared, blind, Champion("3", evaluated.bundle), 1, tmp_path / "worse.json")
    assert not worse["accepted"]
    [rule] = worse["rules"]
    assert (rule["name"], rule["metric"], rule["margin"]) == ("not_worse_than_champion", "power", 0.08)
    assert "not_worse_than_champion: mean power is" in worse["reasons"][0]
    assert rule["difference"] == pytest.approx(rule["challenger"] - rule["champion"])
    assert rule["difference"] < -0.08
    better = compare(recipe, evaluated.prepared, evaluated.bundle, Champion("3", blind), 1, tmp_path / "better.json")
    assert better["accepted"]
    assert better["rules"][0]["difference"] == pytest.approx(-rule["difference"])


def test_the_champions_power_is_measured_at_the_challengers_rate(recipe_file, evaluated, writers, study, tmp_path):
    """By its own threshold, which flags everything, the champion would catch every fault."""
    eager = tmp_path / "eager"
    shutil.copytree(evaluated.bundle, eager)
    document = json.loads((eager / "bundle.json").read_text(encoding="utf-8"))
    document["threshold"] |= {"false_alarm_rate": 0.5, "value": -100.0}
    (eager / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    writers.sums(eager)
    recipe = read_recipe(recipe_file)
    found = compare(recipe, evaluated.prepared, evaluated.bundle, Champion("3", eager), 1, tmp_path / "comparison.json")
    [rule] = found["rules"]
    assert rule["challenger"] == pytest.approx(study[0].metrics["mean_caught"])
    assert (rule["champion"], rule["verdict"]) == (rule["challenger"], "not worse")


def test_the_verdict_of_an_unlabelled_recipe_warns_of_the_rules_that_need_labels(
    recipe_file, evaluated, context, study, tmp_path
):
    report = tmp_path / "report"
    report.mkdir()
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    (report / "metrics.json").write_text(json.dumps(metrics | {"power": study[0].metrics}), encoding="utf-8")
    verdict = gate(recipe_file, evaluated.bundle, report, tmp_path / "verdict.json")
    assert {rule["name"] for rule in verdict["rules"]} == {"keeps_its_promise", *RULES}
    assert len(verdict["warnings"]) == 2
