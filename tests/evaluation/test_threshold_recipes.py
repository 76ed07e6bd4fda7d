"""What a recipe's kind of threshold asks of its data and its gate, and what card, report and monitoring say of each kind."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from digits_recipe import single_model_recipe

from ae_models.thresholds import read_threshold
from aeops.data.fit_samples import open_fit_samples
from aeops.errors import DataError, UsageError
from aeops.evaluation.before_training import require_enough_samples, require_named_files
from aeops.evaluation.false_alarms import measure_false_alarms
from aeops.evaluation.reference import CalibrationReference
from aeops.files import file_sha256
from aeops.monitoring.signals import _unknown_reason
from aeops.project import Project, find_project
from aeops.recipe.metric_names import metric_names
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import CalibrationSamplesSpec
from aeops.report.model_card import describe_threshold
from aeops.report.report_page import metric_tiles
from aeops.report.summary import false_alarm_line

RECIPES = Path(__file__).parents[2] / "recipes"
PROJECT = find_project(Path(__file__))
STORED: dict[str, dict[str, Any]] = {
    "confident": {"false_alarm_rate": 0.01, "confidence": 0.95, "rank": 299},
    "alarm-budget": {"alarms_per_day": 5, "samples_per_day": 500, "rank": 297},
    "quantile": {"false_alarm_rate": 0.02, "confidence": 0.9, "low": 1.0, "high": 1.5},
    "peaks-over-threshold": {
        "false_alarm_rate": 0.0001,
        "tail": 0.1,
        "start": 0.8,
        "scale": 0.1,
        "shape": 0.1,
        "excesses": 30,
    },
    "mad": {"deviations": 3.5, "median": 0.5, "mad": 0.1},
    "best-f1": {"f1": 0.8, "alarm_share": 0.01, "catch_share": 0.7, "normals": 180, "anomalies": 20},
    "per-group": {
        "false_alarm_rate": 0.05,
        "groups": ["0", "1"],
        "group_rows": [150, 149],
        "group_ranks": [144, 143],
        "group_values": [1.25, 1.0],
    },
}


def recipe_with(tmp_path: Path, threshold: Mapping[str, Any], gate: Mapping[str, Any] | None = None, **data: Any) -> Path:
    """The recipe digits with another threshold, further rules and other keys of the section data."""
    document = single_model_recipe()
    document["threshold"] = dict(threshold)
    document["data"] |= data
    document["gate"] |= gate or {}
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def mistakes(file: Path) -> str:
    with pytest.raises(UsageError) as error:
        read_recipe(file)
    return str(error.value)


# ---------------------------------------------------------------- the recipe


def test_every_mistake_about_labels_is_said_when_the_recipe_is_read(tmp_path: Path) -> None:
    found = mistakes(recipe_with(tmp_path, {"kind": "best-f1"}))
    assert "data.novelty_in_validation: expected true, since threshold.kind best-f1 is chosen by them, got false" in found
    found = mistakes(recipe_with(tmp_path, {"kind": "mad"}, novelty_in_validation=True))
    assert "data.novelty_in_validation: expected false, since threshold.kind mad reads no anomalies" in found
    both = recipe_with(tmp_path, {"kind": "alarm-budget", "alarms_per_day": 60, "samples_per_day": 100}, novelty=[11])
    found = mistakes(both)
    assert "threshold: alarms_per_day: expected at most 50, half of samples_per_day, got 60" in found
    assert "novelty names [11]" in found
    tail = recipe_with(tmp_path, {"kind": "peaks-over-threshold", "false_alarm_rate": 0.05, "tail": 0.02})
    assert "false_alarm_rate: expected less than tail, 0.02, the share of scores that the law is fitted to, got 0.05" in mistakes(
        tail
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "split-conformal", "samples": "x.npy"}, "threshold: the key samples_sha256 is missing"),
        ({"kind": "mad", "samples": "x.npy", "samples_sha256": "abc"}, "samples_sha256: expected 64 digits of a SHA-256"),
    ],
)
def test_samples_of_its_own_need_their_hash(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    assert message in mistakes(recipe_with(tmp_path, section))


@pytest.mark.parametrize("kind", ["mad", "peaks-over-threshold"])
def test_a_threshold_without_a_promise_is_not_judged_by_one_and_every_verdict_says_so(tmp_path: Path, kind: str) -> None:
    recipe = read_recipe(recipe_with(tmp_path, {"kind": kind}))
    assert "keeps_its_promise" not in recipe.gate
    assert (
        recipe.unchecked["keeps_its_promise"]
        == f"a threshold of kind {kind} promises no rate of false alarms that could be judged"
    )
    compared_with = {"mad": "false_alarms.measured", "peaks-over-threshold": "false_alarms.requested"}
    assert recipe.gate["catches_the_novelty"].above == compared_with[kind]


def test_a_rule_about_a_rate_that_the_threshold_does_not_name_is_a_mistake(tmp_path: Path) -> None:
    gate = {"mine": {"interval": "false_alarms.interval", "covers": "false_alarms.requested"}}
    assert "a threshold of kind mad names no rate" in mistakes(recipe_with(tmp_path, {"kind": "mad"}, gate))
    gate = {"mine": {"interval": "false_alarms.promise_interval", "above": "false_alarms.measured"}}
    assert "a threshold of kind mad has no law of its false alarms" in mistakes(recipe_with(tmp_path, {"kind": "mad"}, gate))


def test_the_gate_judges_at_99_9_per_cent_and_a_rule_at_95_is_stricter(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / "digits.yaml")
    assert recipe.gate["keeps_its_promise"].interval == "false_alarms.promise_interval"
    stricter = {"mine": {"interval": "false_alarms.interval_with_calibration", "covers": "false_alarms.requested"}}
    recipe = read_recipe(recipe_with(tmp_path, {"kind": "split-conformal"}, stricter))
    assert "keeps_its_promise" not in recipe.gate


# ---------------------------------------------------------------- before a training


def with_threshold(recipe: Recipe, tmp_path: Path, section: Mapping[str, Any]) -> Recipe:
    other = read_recipe(recipe_with(tmp_path, section, novelty_in_validation=section["kind"] == "best-f1"))
    return replace(recipe, fit=replace(recipe.fit, threshold=other.fit.threshold))


def test_groups_with_too_few_samples_are_refused_with_all_else_that_is_missing(evaluated: Any, tmp_path: Path) -> None:
    recipe = with_threshold(read_recipe(evaluated.recipe), tmp_path, {"kind": "per-group", "false_alarm_rate": 0.05})
    recipe = replace(recipe, evaluate=replace(recipe.evaluate, neighbours=900))
    prepared = shutil.copytree(evaluated.prepared, tmp_path / "prepared")
    rows = len(np.load(prepared / "train.npy"))
    np.save(prepared / "train_labels.npy", np.arange(rows) % 40)
    with pytest.raises(UsageError) as error:
        require_enough_samples(recipe, PROJECT, prepared)
    assert "needs 19 calibration samples or more of each group, got" in str(error.value)
    assert "evaluate.neighbours: expected at most" in str(error.value)


def test_labels_of_one_class_are_refused_before_a_training(evaluated: Any, tmp_path: Path) -> None:
    recipe = with_threshold(read_recipe(evaluated.recipe), tmp_path, {"kind": "best-f1"})
    prepared = shutil.copytree(evaluated.prepared, tmp_path / "prepared")
    np.save(prepared / "validation_novelty.npy", np.load(prepared / "test.npy")[:3])
    with pytest.raises(UsageError, match="needs 5 labelled anomalies or more beside the validation samples, got 3"):
        require_enough_samples(recipe, PROJECT, prepared)


def test_what_a_kind_reads_beside_the_samples_is_opened_for_it_alone(evaluated: Any, tmp_path: Path) -> None:
    recipe = replace(read_recipe(evaluated.recipe), label_names=("zero", "one"))
    prepared = shutil.copytree(evaluated.prepared, tmp_path / "prepared")
    np.save(prepared / "train_labels.npy", np.zeros(len(np.load(prepared / "train.npy")), np.int64))
    np.save(prepared / "validation_novelty.npy", np.load(prepared / "test.npy")[:7])
    extras = open_fit_samples(prepared, recipe, PROJECT).extras
    assert (extras.train_labels, extras.novelty) == (None, None)
    grouped = open_fit_samples(prepared, with_threshold(recipe, tmp_path, {"kind": "per-group"}), PROJECT).extras
    assert grouped.train_labels is not None
    assert grouped.label_names == {0: "zero", 1: "one"}
    labelled = open_fit_samples(prepared, with_threshold(recipe, tmp_path, {"kind": "best-f1"}), PROJECT).extras
    assert labelled.novelty is not None
    assert labelled.novelty.shape[0] == 7
    (prepared / "validation_novelty.npy").unlink()
    with pytest.raises(DataError, match="type `dvc repro prepare@"):
        open_fit_samples(prepared, with_threshold(recipe, tmp_path, {"kind": "best-f1"}), PROJECT)


def test_calibration_samples_of_a_file_are_read_if_they_are_those_that_the_recipe_names(evaluated: Any, tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    file = project.home / "sources" / "calibration" / "normal.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.load(evaluated.prepared / "calibration.npy")[:50])
    samples = CalibrationSamplesSpec("calibration/normal.npy", file_sha256(file))
    recipe = replace(read_recipe(evaluated.recipe), calibration_samples=samples)
    require_named_files(recipe, project)
    assert open_fit_samples(evaluated.prepared, recipe, project).roles.calibration.shape[0] == 50
    with pytest.raises(UsageError, match="calibration samples or more, got 50"):
        require_enough_samples(with_rate(recipe, 0.001), project, evaluated.prepared)
    np.save(file, np.zeros((50, 1, 28, 28), np.uint8))
    with pytest.raises(DataError, match=r"correct threshold\.samples in recipes/"):
        require_named_files(recipe, project)
    with pytest.raises(DataError, match=r"type `ae recalibrate .* --on DATA` again"):
        open_fit_samples(evaluated.prepared, recipe, project)


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    return replace(recipe, fit=replace(recipe.fit, threshold=replace(recipe.fit.threshold, false_alarm_rate=rate)))


# ---------------------------------------------------------------- report, card and monitoring


@pytest.mark.parametrize("kind", STORED)
def test_card_and_summary_describe_each_kind_by_its_interface(tmp_path: Path, kind: str) -> None:
    section = {"kind": kind, **STORED[kind], "value": 1.25, "calibration_rows": 299}
    threshold = read_threshold(json.loads(json.dumps(section)))
    alarms = measure_false_alarms(7, 300, threshold)
    rates = {"requested": threshold.method.requested_rate, "threshold": threshold.value}
    metrics = {"false_alarms": rates | vars(alarms), "novelty_flagged": 0.25}
    recipe = {"threshold": {key: value for key, value in section.items() if key not in ("value", "calibration_rows")}}
    card, line = describe_threshold(recipe, metrics), false_alarm_line(metrics)
    assert threshold.method.describe_promise() in card
    assert "2.33 %" in card
    assert "2.33 %" in line
    assert ("without a promised rate" in line) == (threshold.method.requested_rate is None)
    assert (", not promised" in line) == (kind == "peaks-over-threshold")


def test_the_metrics_that_rules_may_name_are_those_of_the_kind(tmp_path: Path) -> None:
    for kind in ("mad", "peaks-over-threshold", "confident"):
        recipe = read_recipe(recipe_with(tmp_path, {"kind": kind}))
        names = metric_names(recipe.fit, recipe.data, recipe.evaluate)
        assert ("false_alarms.requested" in names.numbers) == recipe.fit.threshold.has_rate
        assert ("false_alarms.promise_interval" in names.intervals) == recipe.fit.threshold.has_law


def test_monitoring_says_why_a_threshold_that_is_no_calibration_score_has_no_alarm_rate_to_test() -> None:
    method = read_threshold({"kind": "mad", **STORED["mad"], "value": 1.25}).method
    reference = CalibrationReference(np.arange(300.0), np.zeros(300), np.zeros(300), np.zeros((300, 2)), method, "0" * 64)
    assert reference.rank is None
    reason = _unknown_reason(ALARM_RATE_SIGNAL, reference, None, {})  # type: ignore[arg-type]
    assert "the threshold is no calibration score, so its alarms follow no law that could be tested" in reason


def test_the_reports_tile_of_false_alarms_has_no_bar_for_a_rate_that_nobody_asked_for() -> None:
    alarms = {"measured": 0.02, "alarms": 6, "normals": 300, "interval": (0.01, 0.04)}
    sections = {"reconstruction": {"model": {"mse": 0.01, "psnr_db": 20.0, "ssim": 0.9}}, "novelty_flagged": None}
    for requested, bars in ((0.01, ["measured", "requested"]), (None, ["measured"])):
        tiles = metric_tiles(sections | {"false_alarms": alarms | {"requested": requested}})
        [tile] = [tile for tile in tiles if tile["title"] == "False alarms"]
        assert [bar["name"] for bar in tile["bars"]] == bars
