import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aeops.errors import UsageError
from aeops.gate.flattening import flatten
from aeops.gate.rules import RuleInputs, build_verdict, evaluate_rules
from aeops.recipe.gate_rules import Rule
from aeops.stages.gate import gate

ROOT = Path(__file__).parents[2]
METRICS = {
    "detection": {"model": {"auroc": 0.93, "auroc_interval": [0.91, 0.94]}, "knn": {"auroc": None}},
    "false_alarms": {"requested": 0.01, "interval_with_calibration": [0.004, 0.02]},
}


def outcome(rule: Rule, metrics: dict = METRICS, bundle: Path = Path()):
    [found] = evaluate_rules({"rule": rule}, RuleInputs(flatten(metrics), bundle), "recipes/digits.yaml")
    return found


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [
        ({"at_least": 0.93}, True),
        ({"at_least": 0.94}, False),
        ({"at_most": 0.93}, True),
        ({"at_most": 0.92}, False),
        ({"at_least": 0.9, "at_most": 0.95}, True),
        ({"at_least": 0.9, "at_most": 0.92}, False),
    ],
)
def test_a_metric_passes_within_its_bounds_ends_included(bounds, passed):
    assert outcome(Rule(metric="detection.model.auroc", **bounds)).passed is passed


@pytest.mark.parametrize("value", [math.nan, math.inf, None, True])
def test_what_is_no_finite_number_never_passes(value):
    metrics = {"detection": {"model": {"auroc": value}}}
    for bounds in ({"at_least": -1e9}, {"at_most": 1e9}):
        assert not outcome(Rule(metric="detection.model.auroc", **bounds), metrics).passed


@pytest.mark.parametrize(
    ("requested", "passed"), [(0.004, True), (0.02, True), (0.0039, False), (0.0201, False), (math.nan, False)]
)
def test_an_interval_passes_where_it_covers_the_value(requested, passed):
    metrics = {"false_alarms": {"requested": requested, "interval": [0.004, 0.02]}}
    assert outcome(Rule(interval="false_alarms.interval", covers="false_alarms.requested"), metrics).passed is passed


def test_an_interval_that_is_not_defined_does_not_pass():
    metrics = {"interval": None, "value": 0.5}
    assert not outcome(Rule(interval="interval", covers="value"), metrics).passed


@pytest.mark.parametrize(("low", "passed"), [(0.011, True), (0.01, False), (0.0, False), (math.nan, False)])
def test_an_interval_passes_where_all_of_it_lies_above_the_value(low, passed):
    metrics = {"requested": 0.01, "interval": [low, 0.5]}
    found = outcome(Rule(interval="interval", above="requested"), metrics)
    assert found.passed is passed
    assert found.message.endswith("it has to lie above requested, which is 0.01")


def test_every_unknown_metric_is_named_at_once_with_its_near_match():
    rules = {
        "floor": Rule(metric="detection.modle.auroc", at_least=0.9),
        "group": Rule(metric="detection.model", at_least=0.9),
        "promise": Rule(interval="false_alarms.intervl_with_calibration", covers="false_alarms.request"),
    }
    with pytest.raises(UsageError) as error:
        evaluate_rules(rules, RuleInputs(flatten(METRICS), Path()), "recipes/digits.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("recipes/digits.yaml: gate.floor.metric: no metric 'detection.modle.auroc' in metrics.json")
    assert lines[0].endswith(": did you mean detection.model.auroc?")
    assert "did you mean false_alarms.interval_with_calibration?" in lines[2]


def test_a_bundle_is_served_by_a_fresh_process_without_torch(evaluated):
    found = outcome(Rule(check="served"), bundle=evaluated.bundle)
    assert found.passed, found.message


def test_an_altered_bundle_is_not_served_and_the_reason_says_which_file(evaluated, tmp_path):
    shutil.copytree(evaluated.bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"something else")
    found = outcome(Rule(check="served"), bundle=tmp_path / "bundle")
    assert not found.passed
    assert "model.onnx was altered" in found.message


def test_a_model_that_onnxruntime_cannot_read_is_refused_and_not_a_crash(evaluated, writers, tmp_path):
    shutil.copytree(evaluated.bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"something else")
    writers.sums(tmp_path / "bundle")
    found = outcome(Rule(check="served"), bundle=tmp_path / "bundle")
    assert not found.passed
    assert "fails: " in found.message


def test_a_bundle_whose_answers_are_no_numbers_is_refused(evaluated, writers, tmp_path):
    shutil.copytree(evaluated.bundle, tmp_path / "bundle")
    writers.model(tmp_path / "bundle" / "model.onnx", np.full(784, np.nan), np.zeros((24, 784)), np.zeros(9), 0.0)
    writers.sums(tmp_path / "bundle")
    found = outcome(Rule(check="served"), bundle=tmp_path / "bundle")
    assert not found.passed
    assert "answers with a score that is not finite" in found.message


def test_a_refusal_tells_every_reason_and_judges_every_rule():
    rules = {
        "low": Rule(metric="detection.model.auroc", at_least=0.99),
        "fine": Rule(metric="detection.model.auroc", at_least=0.5),
        "undefined": Rule(metric="detection.knn.auroc", at_least=0.5),
    }
    outcomes = evaluate_rules(rules, RuleInputs(flatten(METRICS), Path()), "digits.yaml")
    found = build_verdict("digits", rules, outcomes, {}, [])
    assert found["gate"]["fine"] == {"metric": "detection.model.auroc", "at_least": 0.5}
    assert found["verdict"] == "refused"
    assert [rule["passed"] for rule in found["rules"]] == [False, True, False]
    assert found["reasons"] == [
        "detection.model.auroc is 0.93; at least 0.99 is needed",
        "detection.knn.auroc is not a number; at least 0.5 is needed",
    ]


def test_the_verdict_of_the_same_evidence_is_the_same_file(evaluated, tmp_path):
    for name in ("one.json", "two.json"):
        gate(evaluated.recipe, evaluated.bundle, evaluated.report, tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_verdict_names_its_evidence_by_hash(evaluated, verdict):
    assert verdict["verdict"] == "accepted", verdict["reasons"]
    metrics = (evaluated.report / "metrics.json").read_bytes()
    assert verdict["evidence"]["metrics_sha256"] == hashlib.sha256(metrics).hexdigest()
    assert verdict["evidence"]["content_sha256"] == "d" * 64


def run_stage(recipe: Path, evaluated, out: Path) -> subprocess.CompletedProcess:
    places = {"recipe": recipe, "bundle": evaluated.bundle, "report": evaluated.report, "out": out}
    arguments = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    command = [sys.executable, "-m", "aeops.stages.gate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


def test_a_refusal_is_a_result_and_exits_with_0(evaluated, writers, tmp_path):
    writers.recipe(tmp_path / "digits.yaml", gate={"too_much": {"metric": "detection.model.auroc", "at_least": 1.0}})
    done = run_stage(tmp_path / "digits.yaml", evaluated, tmp_path / "verdict.json")
    assert done.returncode == 0
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "refused"
    assert "at least 1 is needed" in done.stdout


def test_an_unknown_metric_exits_as_a_usage_error_and_writes_no_verdict(evaluated, writers, tmp_path):
    writers.recipe(tmp_path / "digits.yaml", gate={"typo": {"metric": "detection.model.aurok", "at_least": 0.5}})
    done = run_stage(tmp_path / "digits.yaml", evaluated, tmp_path / "verdict.json")
    assert done.returncode == UsageError.exit_code
    assert "did you mean detection.model.auroc?" in done.stderr
    assert not (tmp_path / "verdict.json").exists()
