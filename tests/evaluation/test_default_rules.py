"""Rules that hold without being asked for, how a recipe switches one off, and where that is said."""

import html
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from digits_recipe import single_model_recipe

from ae_models.spec import ARRAY_KINDS
from aeops.cli.run import show_summary
from aeops.errors import UsageError
from aeops.evaluation.measures import MEASURE_FUNCTIONS
from aeops.evaluation.study import EvaluationContext
from aeops.gate.flattening import flatten
from aeops.gate.rules import RuleInputs, evaluate_rules
from aeops.kinds import KIND_INFOS
from aeops.kinds.interface import load_kind
from aeops.project import find_project
from aeops.recipe.default_rules import DEFAULT_RULES, PURPOSES, default_rules, unchecked_warnings
from aeops.recipe.metric_names import metric_names
from aeops.recipe.reader import read_recipe
from aeops.report.headline import verdict_sentence
from aeops.report.model_card import model_card
from aeops.report.report_page import write_report
from aeops.report.summary import verdict_markdown
from aeops.stages.compare import Champion, compare
from aeops.stages.evaluate import build_context, measure_metrics, score_detectors, training_metrics
from aeops.stages.gate import gate

ROOT = Path(__file__).parents[2]
DETECTION = {"keeps_its_promise", "not_worse_than_champion", "beats_pca_and_knn", "catches_the_novelty"}
SERVED = {"served": {"check": "served"}}


@pytest.fixture
def read(writers, tmp_path):
    """Reads the digits recipe with whole sections replaced; a section that is None is left out."""

    def reading(**changes):
        recipe = writers.recipe(tmp_path / "digits.yaml") | {"gate": SERVED} | changes
        left = {name: section for name, section in recipe.items() if section is not None}
        (tmp_path / "digits.yaml").write_text(yaml.safe_dump(left, sort_keys=False), encoding="utf-8")
        return read_recipe(tmp_path / "digits.yaml")

    return reading


def mistakes(read, **changes) -> list[str]:
    with pytest.raises(UsageError) as error:
        read(**changes)
    return str(error.value).splitlines()


def data_without_novelty() -> dict:
    recipe = single_model_recipe()
    return recipe["data"] | {"novelty": []}


# ---------------------------------------------------------------- which rules hold


def test_a_recipe_has_to_say_what_it_is_for(read):
    [line] = mistakes(read, purpose=None)
    assert "purpose: expected detect, reconstruct, transform or embed, got nothing" in line
    [line] = mistakes(read, purpose="detekt")
    assert line.endswith("got 'detekt': did you mean detect?")


def test_a_detector_with_novelty_has_every_rule_though_it_asks_for_none(read):
    recipe = read(gate=None)
    assert set(recipe.gate) == DETECTION
    assert recipe.unchecked == {}


@pytest.mark.parametrize("purpose", [purpose for purpose in PURPOSES if purpose != "detect"])
def test_every_other_purpose_keeps_its_promise_and_up_with_the_champion(read, purpose):
    recipe = read(gate=None, purpose=purpose)
    assert set(recipe.gate) == {"keeps_its_promise", "not_worse_than_champion"}
    assert recipe.gate["not_worse_than_champion"].champion == "error"


def test_a_detector_without_novelty_is_judged_by_injected_faults_and_warned_of_what_needs_labels(read):
    recipe = read(gate=None, data=data_without_novelty())
    assert set(recipe.gate) == {
        *("keeps_its_promise", "not_worse_than_champion", "catches_injected_faults", "ranks_injected_faults"),
        "not_below_baselines",
    }
    assert recipe.gate["not_worse_than_champion"].champion == "power"
    warnings = list(unchecked_warnings("detect", recipe.unchecked))
    assert len(warnings) == 2
    assert all("data.novelty names no labels" in warning for warning in warnings)


def test_a_rule_of_the_recipes_own_that_asks_for_as_much_is_not_doubled(read):
    own = {
        "my_promise": {"interval": "false_alarms.interval_with_calibration", "covers": "false_alarms.requested"},
        "my_lead": {"metric": "detection.lead_lower_bound", "at_least": 0.02},
        "my_ranking": {"champion": "auroc", "margin": 0.02},
    }
    assert set(read(gate=own).gate) == {*own, "catches_the_novelty"}


@pytest.mark.parametrize("ranking", [{"champion": "auroc"}, {"champion": "auroc", "margin": 0.04}])
def test_a_rule_without_a_margin_or_with_the_default_one_takes_the_default_rules_place(read, ranking):
    gate = read(gate={"mine": ranking}).gate
    assert "not_worse_than_champion" not in gate
    assert gate["mine"].margin == ranking.get("margin")


@pytest.mark.parametrize(
    "weaker",
    [
        {"champion": "auroc", "margin": 0.45},
        {"champion": "auroc", "margin": 0.02, "by": "label"},
        {"champion": "error", "margin": 0.02},
        {"metric": "detection.lead_lower_bound", "at_least": -1.0},
        {"metric": "detection.lead_lower_bound", "at_most": 0.5},
        {"metric": "detection.lead", "at_least": 0.02},
        {"interval": "false_alarms.interval", "covers": "false_alarms.requested"},
    ],
)
def test_one_that_asks_for_less_does_not_take_a_default_rules_place(read, weaker):
    assert set(read(gate={"mine": weaker}).gate) == {"mine", *DETECTION}


def test_a_default_rules_name_is_for_it_or_for_a_stricter_one(read):
    [line] = mistakes(read, gate={"beats_pca_and_knn": {"metric": "detection.lead_lower_bound", "at_least": -1.0}})
    assert "gate.beats_pca_and_knn: expected {metric: detection.lead_lower_bound, at_least: 0} or a stricter rule" in line
    assert "or {switched_off: REASON} to switch it off" in line
    stricter = {"metric": "detection.lead_lower_bound", "at_least": 0.1}
    assert read(gate={"beats_pca_and_knn": stricter}).gate["beats_pca_and_knn"].at_least == 0.1


def test_only_a_default_rule_of_the_purpose_is_switched_off_and_only_with_a_reason(read):
    [line] = mistakes(read, gate=SERVED | {"beats_pca": {"switched_off": "no need"}})
    assert line.endswith("did you mean beats_pca_and_knn?")
    [line] = mistakes(read, gate=SERVED | {"catches_the_novelty": {"switched_off": "no need"}}, purpose="embed")
    assert "which always hold with purpose embed" in line
    [line] = mistakes(read, gate=SERVED | {"beats_pca_and_knn": {"switched_off": " "}})
    assert "expected the reason why this rule is not to hold" in line
    [line] = mistakes(read, gate=SERVED | {"beats_pca_and_knn": {"switched_off": "no need", "at_least": 0}})
    assert "unexpected key 'at_least'" in line
    [line] = mistakes(read, gate={name: {"switched_off": "no need"} for name in DETECTION})
    assert "a gate without rules blocks nothing" in line


def test_the_baselines_that_a_rule_needs_have_to_be_measured(read):
    first, second = mistakes(read, evaluate={})
    assert "evaluate.neighbours: expected a number, such as 5" in first
    assert "evaluate.pca_components: expected a number, such as 16" in second
    assert "gate: {beats_pca_and_knn: {switched_off: REASON}}" in first
    assert read(evaluate={}, gate=SERVED | {"beats_pca_and_knn": {"switched_off": "no need"}}).evaluate.neighbours is None
    assert read(evaluate={}, purpose="reconstruct").evaluate.neighbours is None


def test_docs_list_every_default_rule():
    text = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
    for rule in DEFAULT_RULES:
        assert f"| `{rule.name}` |" in text


# ---------------------------------------------------------------- what they refuse


METRICS = {
    "detection": {"lead_lower_bound": -0.4},
    "false_alarms": {"requested": 0.01, "promise_interval": [0.0, 0.02]},
    "novelty_flagged_interval": [0.0, 0.007],
}


def refused_by(read, metrics: dict) -> set[str]:
    rules = read(gate=None).gate
    return {outcome.name for outcome in evaluate_rules(rules, RuleInputs(flatten(metrics), Path()), "x") if not outcome.passed}


def test_a_detector_that_ranks_at_random_and_flags_nothing_is_refused_unasked(read):
    assert refused_by(read, METRICS) == {"beats_pca_and_knn", "catches_the_novelty"}


def test_a_lead_that_chance_explains_is_refused_and_so_is_one_that_nothing_is_known_of(read):
    good = METRICS | {"novelty_flagged_interval": [0.2, 0.3]}
    assert refused_by(read, good | {"detection": {"lead": 0.02, "lead_lower_bound": -0.001}}) == {"beats_pca_and_knn"}
    assert refused_by(read, good | {"detection": {"lead": 0.02, "lead_lower_bound": None}}) == {"beats_pca_and_knn"}
    assert refused_by(read, good | {"detection": {"lead": 0.02, "lead_lower_bound": 0.001}}) == set()


def test_what_is_caught_has_to_exceed_the_false_alarms_beyond_chance(read):
    good = METRICS | {"detection": {"lead_lower_bound": 0.1}}
    assert refused_by(read, good | {"novelty_flagged_interval": [0.0101, 0.2]}) == set()
    assert refused_by(read, good | {"novelty_flagged_interval": [0.01, 0.2]}) == {"catches_the_novelty"}
    assert refused_by(read, good | {"novelty_flagged_interval": None}) == {"catches_the_novelty"}


def test_a_broken_promise_is_refused_unasked(read):
    alarms = {"requested": 0.01, "promise_interval": [0.02, 0.05]}
    caught = {"detection": {"lead_lower_bound": 0.1}, "novelty_flagged_interval": [0.2, 0.3]}
    assert refused_by(read, METRICS | caught | {"false_alarms": alarms}) == {"keeps_its_promise"}


@pytest.fixture(scope="module")
def poor(evaluated, writers, tmp_path_factory) -> Path:
    """A bundle that saw 40 samples, and rebuilds the others the worse for it."""
    folder = tmp_path_factory.mktemp("poor") / "bundle"
    train, calibration = (np.load(evaluated.prepared / f"{name}.npy") for name in ("train", "calibration"))
    writers.bundle(folder, train[:40], calibration)
    return folder


@pytest.mark.parametrize("purpose", ["detect", "reconstruct"])
def test_a_worse_version_never_replaces_a_better_one_unasked(read, evaluated, poor, blind, tmp_path, purpose):
    evaluation = {"pca_components": 16, "neighbours": 5} | {"studies": {"power": {"samples": 60}}}
    recipe = read(gate=None, purpose=purpose, data=data_without_novelty(), evaluate=evaluation)
    champion, challenger = Champion("3", evaluated.bundle), {"detect": blind, "reconstruct": poor}[purpose]
    found = compare(recipe, evaluated.prepared, challenger, champion, 1, tmp_path / "comparison.json")
    assert not found["accepted"]
    assert found["reasons"][0].startswith("not_worse_than_champion: ")


# ---------------------------------------------------------------- where it is said


@pytest.fixture
def warned(evaluated, verdict, tmp_path) -> dict:
    """The verdict of the evaluated bundle, whose recipe switches two rules off."""
    assert verdict == gate(evaluated.recipe, evaluated.bundle, evaluated.report, tmp_path / "verdict.json")
    assert [warning.partition(" (")[0] for warning in verdict["warnings"]] == [
        "the gate does not check beats_pca_and_knn",
        "the gate does not check catches_the_novelty",
    ]
    return verdict


@pytest.mark.slow
def test_the_card_the_report_and_the_approvals_page_repeat_every_warning(warned, evaluated, comparison, validation, tmp_path):
    raw_recipe = yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8"))
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    paths = {"report": evaluated.report, "bundle": evaluated.bundle, "training": evaluated.training}
    documents = {"verdict": warned, "comparison": comparison, "validation": validation}
    page = write_report(tmp_path / "report.html", recipe=raw_recipe, **paths, **documents, lineage={}, timings=None)
    card = model_card(raw_recipe, metrics, {}, warned, comparison, {})
    assert "## Not checked" in card
    for warning in warned["warnings"]:
        assert warning in html.unescape(page.read_text(encoding="utf-8"))
        assert f"- **Warning**: {warning}" in card
        assert f"- **Warning**: {warning}" in verdict_markdown(warned)


def test_where_everything_was_checked_nothing_is_said(warned, evaluated, comparison):
    raw_recipe = yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8"))
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    older = {name: value for name, value in warned.items() if name != "warnings"}
    for checked in (older, warned | {"warnings": []}):
        assert "Not checked" not in model_card(raw_recipe, metrics, {}, checked, comparison, {})
        assert "Warning" not in verdict_markdown(checked)


def test_the_terminal_repeats_every_warning(warned, evaluated, comparison, capsys):
    summary = {
        "changed": True,
        "recipe": "digits",
        "data": {"dataset": "digits", "content_sha256": "d" * 64, "dvc_md5": "e" * 32},
        "metrics": json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8")),
        "verdict": "accepted",
        "reasons": [],
        "warnings": warned["warnings"],
        "comparison": comparison,
        "version": "1",
        "aliases": ["champion"],
        "state": "champion",
        "report": "report.html",
        "seconds": [],
    }
    show_summary(summary, 1.0)
    printed = capsys.readouterr().out
    assert printed.startswith(f"digits 1  {verdict_sentence(summary['metrics'], comparison, [])}")
    assert "warning    not checked: 2 of the rules that always hold" in printed
    for warning in warned["warnings"]:
        assert warning in printed
    del summary["warnings"]  # as in a summary of an older version
    show_summary(summary, 1.0)
    assert "warning" not in capsys.readouterr().out


# ---------------------------------------------------------------- names of metrics


@pytest.mark.parametrize(
    "evaluation", [{"pca_components": 16, "neighbours": 5}, {"neighbours": 5}, {"pca_components": 16}, {}], ids=str
)
@pytest.mark.parametrize("novelty", [[4], []], ids=["novelty", "none"])
def test_the_metrics_known_beforehand_are_those_that_are_measured(evaluated, contexts, read, evaluation, novelty):
    data = data_without_novelty() | {"novelty": novelty}
    recipe = read(data=data, evaluate=evaluation, purpose="reconstruct")
    context = replace(contexts[bool(novelty)], recipe=recipe)
    metrics = measure_metrics(context, score_detectors(context))
    metrics |= training_metrics(pd.read_csv(evaluated.training / "history.csv"), context.detector)
    measured = flatten(json.loads(json.dumps(metrics)))
    names = metric_names(recipe.fit, recipe.data, recipe.evaluate)
    assert sorted([*names.numbers, *names.intervals]) == sorted(measured)
    assert all(measured[name] is None or isinstance(measured[name], list) for name in names.intervals)
    assert not any(isinstance(measured[name], list) for name in names.numbers)


@pytest.fixture(scope="module")
def contexts(evaluated, digits, writers, tmp_path_factory) -> dict[bool, EvaluationContext]:
    """The evaluated bundle with test samples with novelty, and without."""
    prepared = tmp_path_factory.mktemp("normals") / "prepared"
    writers.prepared(prepared, *digits, novelty=None)
    recipe, project = read_recipe(evaluated.recipe), find_project(ROOT)
    places = (evaluated.bundle, evaluated.training)
    return {
        True: build_context(recipe, project, evaluated.prepared, *places),
        False: build_context(recipe, project, prepared, *places),
    }


def test_the_measures_of_texts_known_beforehand_are_those_that_are_measured():
    tokens = np.array([[1, 2, 0]])
    assert tuple(MEASURE_FUNCTIONS["tokens"](tokens, tokens, np.array(["a"]))) == KIND_INFOS["text"].measures
    assert load_kind("text").MEASURED_AS == "tokens"
    assert {load_kind(kind).MEASURED_AS for kind in ARRAY_KINDS} == {"values"}


def test_a_rule_on_what_is_not_measured_is_told_when_the_recipe_is_read(read):
    rules = {
        "typo": {"metric": "reconstruction.model.msee", "at_most": 1},
        "ranked": {"metric": "detection.model.auroc", "at_least": 0.9},
        "linear": {"metric": "reconstruction.gain_over_pca", "at_least": 0.1},
        "number": {"interval": "false_alarms.measured", "covers": "false_alarms.requested"},
        "wrong": {"interval": "false_alarms.interval", "above": "nothing"},
    }
    found = mistakes(read, gate=rules, evaluate={}, data=data_without_novelty(), purpose="reconstruct")
    assert len(found) == len(rules)
    assert found[0].endswith("did you mean reconstruction.model.mse?")
    assert found[1].endswith("got 'detection.model.auroc': set data.novelty, evaluate.neighbours")
    assert found[2].endswith("got 'reconstruction.gain_over_pca': set evaluate.pca_components")
    assert "gate.number.interval: expected an interval that is measured of this recipe" in found[3]
    assert "gate.wrong.above: expected a metric that is measured of this recipe, got 'nothing'" in found[4]


@pytest.mark.parametrize("margin", [-0.1, 0, 1, 1.5, float("inf")])
def test_a_margin_out_of_its_range_is_told_in_the_same_words_whatever_it_is(read, margin):
    [line] = mistakes(read, gate={"mine": {"champion": "error", "margin": margin}})
    assert line.endswith(f"margin: expected more than 0 and less than 1, a share of the champion's error, got {margin:g}")
    [line] = mistakes(read, gate={"mine": {"champion": "auroc", "margin": margin}})
    assert line.endswith(f"margin: expected more than 0 and less than 0.5, a difference of two AUROCs, got {margin:g}")


def test_every_rule_that_always_holds_can_be_written_by_hand(read):
    for name, default in default_rules("detect").items():
        rule = default.with_novelty or default.without_novelty
        assert read(gate={name: rule.to_dict()}).gate[name] == rule
