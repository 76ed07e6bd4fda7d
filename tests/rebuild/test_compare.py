"""Identical, equivalent or different: by every byte of the bundle, by the gate's own margins, and by the step where they part."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ae_models.checksums import write_checksums
from aeops.provenance.rebuild.differences import RebuildComparison, compare_rebuild, describe_divergence, is_within_margin

RECIPE = b"""
gate:
  ranks: {metric: detection.model.auroc, at_least: 0.8}
  promise: {interval: false_alarms.interval, covers: false_alarms.requested}
  keeps: {champion: error, margin: 0.05}
  answers: {check: served}
"""
METRICS = {"detection": {"model": {"auroc": 0.9}}, "reconstruction": {"model": {"mse": 0.01}}}
TRAIL = "step,sha256\n1,a\n2,b\n4,c\n5,d\n"
CPU = {"platform.cpu": ("old", "new")}


def verdict(**passed: bool) -> dict[str, Any]:
    return {"rules": [{"name": name, "passed": passed.get(name, True)} for name in ("ranks", "promise", "answers")]}


def write_bundle(place: Path, weights: np.ndarray, document: str = "{}") -> Path:
    place.mkdir(parents=True)
    save_file({"encode.w": weights, "decode.b": np.zeros(2, np.float32)}, place / "weights.safetensors")
    save_file({"calibration_scores": np.arange(4, dtype=np.float32)}, place / "scorer.safetensors")
    (place / "bundle.json").write_text(document)
    (place / "model.onnx").write_bytes(b"graph")
    write_checksums(place)
    return place


@pytest.fixture
def likeness(tmp_path: Path, record_of) -> Callable[..., RebuildComparison]:
    """Compares a recorded version with one that differs from it as told."""

    def make(
        weights: float = 1.0,
        document: str = "{}",
        metrics: Any = METRICS,
        rules: Any = None,
        recorded: Any = None,
        trail: str = TRAIL,
        record: str | None = TRAIL,
    ) -> RebuildComparison:
        ours = write_bundle(tmp_path / "ours", np.ones((2, 3), np.float32))
        theirs = write_bundle(tmp_path / "theirs", np.full((2, 3), weights, np.float32), document)
        artifacts = tmp_path / "artifacts"
        for name, text in (("report/metrics.json", json.dumps(metrics)), ("training/trail.csv", trail)):
            (artifacts / name).parent.mkdir(parents=True)
            (artifacts / name).write_text(text)
        (artifacts / "verdict.json").write_text(json.dumps(rules or verdict()))
        files = {
            "rebuild/small.yaml": RECIPE,
            "metrics.json": json.dumps(METRICS).encode(),
            "verdict.json": json.dumps(recorded or verdict()).encode(),
        }
        if record is not None:
            files["rebuild/trail.csv"] = record.encode()
        return compare_rebuild(record_of({}, files), ours, theirs, artifacts, CPU)

    return make


def test_the_same_bytes_are_identical_and_need_no_words(likeness) -> None:
    found = likeness()
    assert (found.verdict, found.reasons) == ("identical", [])
    assert all(item.is_same for item in found.items)


def test_one_bit_of_one_tensor_is_equivalent_at_best_and_names_tensor_step_and_machine(likeness) -> None:
    found = likeness(
        weights=float(np.nextafter(np.float32(1), np.float32(2))), trail=TRAIL.replace("4,c", "4,x").replace("5,d", "5,y")
    )
    assert found.verdict == "equivalent"
    told = " | ".join(found.reasons)
    assert "platform.cpu differs: old recorded, new here" in told
    assert "the first step at which the weights differ is 4 of 5 (up to step 2 the weights are the same)" in told
    assert "1 of 2 tensors of weights.safetensors differ: encode.w (by at most 1.19e-07)" in told


def test_the_same_tensors_with_another_document_are_not_identical(likeness) -> None:
    found = likeness(document='{"threshold": 2}')
    assert found.verdict == "equivalent"
    assert [item.name for item in found.items if not item.is_same] == ["bundle.json"]
    assert any("every recorded step up to 5, the last: what differs came after the training" in said for said in found.reasons)


@pytest.mark.parametrize(
    ("change", "outside"),
    [
        ({"metrics": METRICS | {"detection": {"model": {"auroc": 0.88}}}}, "detection.model.auroc"),
        ({"metrics": METRICS | {"reconstruction": {"model": {"mse": 0.0106}}}}, "error of normal samples"),
        ({"metrics": METRICS | {"detection": {"model": {"auroc": None}}}}, "detection.model.auroc"),
        ({"rules": verdict(promise=False)}, "promise"),
        ({"rules": verdict(answers=False)}, "answers"),
    ],
)
def test_a_figure_outside_its_margin_or_a_rule_that_comes_out_otherwise_is_different(likeness, change: Any, outside: str) -> None:
    found = likeness(weights=1.5, **change)
    assert found.verdict == "different"
    assert found.reasons[0] == f"outside its margin: {outside}"


def test_rules_that_no_recipe_names_are_compared_as_the_verdict_recorded_them(likeness) -> None:
    gate = {"answers": {"check": "served"}, "ranks_well": {"champion": "auroc", "margin": 0.04}}
    recorded = verdict() | {"gate": gate}
    found = likeness(weights=1.5, recorded=recorded, metrics=METRICS | {"detection": {"model": {"auroc": 0.85}}})
    assert found.reasons[0] == "outside its margin: detection.model.auroc"
    assert not {"error of normal samples", "promise"} & {item.name for item in found.items}


def test_figures_inside_their_margins_are_equivalent(likeness) -> None:
    metrics = {"detection": {"model": {"auroc": 0.892}}, "reconstruction": {"model": {"mse": 0.0104}}}
    assert likeness(weights=1.5, metrics=metrics).verdict == "equivalent"


@pytest.mark.parametrize(
    ("rule", "recorded", "edge"),
    [
        ({"metric": "m", "at_least": 0.5}, 0.9, 0.009),  # a share of the value
        ({"metric": "m", "at_most": 1e-4}, 1e-6, 1e-6),  # or of the bound, where the value is far below it
        ({"metric": "m", "at_least": 0.0}, 0.02, 0.0002),
        ({"champion": "error", "margin": 0.1}, 0.02, 0.002),  # relative
        ({"champion": "auroc", "margin": 0.1}, 0.9, 0.1),  # absolute
        ({"champion": "error"}, 0.02, 0.002),  # the default one
        ({"champion": "error", "by": "label"}, 0.02, 0.005),
    ],
)
def test_a_margin_is_the_rules_own_or_the_default_or_a_hundredth(rule: dict[str, Any], recorded: float, edge: float) -> None:
    assert is_within_margin(rule, recorded, recorded + 0.99 * edge)
    assert not is_within_margin(rule, recorded, recorded + 1.01 * edge)
    assert not is_within_margin(rule, recorded, float("nan"))


def test_where_trainings_part_is_told_for_every_pair_of_trails(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    ours.write_text(TRAIL)
    assert "no trail was recorded" in describe_divergence(None, ours)
    assert "left no trail" in describe_divergence(ours, theirs)
    theirs.write_text(TRAIL.replace("1,a", "1,x"))
    assert "differ is 1 of 5 (no earlier one was recorded)" in describe_divergence(ours, theirs)
    theirs.write_text("step,sha256\n1,a\n2,b\n4,c\n")
    assert "step up to 4; the trails then differ in length: to step 5 recorded, to step 4 rebuilt" in describe_divergence(
        ours, theirs
    )
    theirs.write_text("step,sha256\n3,a\n")
    assert "no step in common" in describe_divergence(ours, theirs)
