"""Compare a rebuilt version with the registered one: tensor by tensor, file by file, and by every number of the gate."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from safetensors.numpy import load_file

from ae_models.checksums import read_checksums, tensor_sha256, tensors_sha256
from aeops.gate.flattening import flatten
from aeops.machine.stored_json import read_json
from aeops.provenance.rebuild.record import Record
from aeops.recipe.gate_rules import AUROC, DEFAULT_MARGINS

TENSOR_FILES = ("weights.safetensors", "scorer.safetensors")
DEFAULT_MARGIN = 0.01  # of a metric whose rule has none: a share of the larger of the recorded value and the rule's bound
MAX_NAMED = 3  # tensors that a message names
HASH_DIGITS = 12

Verdict = Literal["identical", "equivalent", "different"]
GateRule = Mapping[str, Any]  # a rule of a recipe's section `gate`


@dataclass(frozen=True)
class ComparedItem:
    """A recorded item with its rebuilt counterpart, as text."""

    name: str
    recorded_text: str
    rebuilt_text: str
    is_same: bool


@dataclass(frozen=True)
class RebuildComparison:
    """Result of a comparison.

    Attributes:
        verdict: identical: every tensor and every other file of the bundle has the same bytes. Equivalent: every figure that
            the gate looked at is within its rule's margin. Different: the rest.
        items: the compared items.
        reasons: of the verdict, as sentences.
    """

    verdict: Verdict
    items: list[ComparedItem]
    reasons: list[str]


def compare_rebuild(
    record: Record, bundle: Path, rebuilt_bundle: Path, artifacts: Path, platform_differences: Mapping[str, tuple[str, str]]
) -> RebuildComparison:
    """Compare a rebuilt version with the registered one.

    Args:
        record: of the version in the registry.
        bundle: the registered one.
        rebuilt_bundle: made from the record.
        artifacts: the rebuilt training/, report/ and verdict.json.
        platform_differences: the platform tags in which this machine is another: recorded value, present value.
    """
    file_items = _compare_files(bundle, rebuilt_bundle)
    gate_items = _compare_gate(record, artifacts)
    if _all_same(file_items):
        return RebuildComparison("identical", [*file_items, *gate_items], [])
    platform_reasons = _describe_platform(platform_differences)
    divergence = describe_divergence(record.weight_log, artifacts / "training" / "trail.csv")
    model_reasons = [divergence, *_describe_tensor_differences(bundle, rebuilt_bundle)]
    if _all_same(gate_items):
        return RebuildComparison("equivalent", [*file_items, *gate_items], [*platform_reasons, *model_reasons])
    names = ", ".join(item.name for item in gate_items if not item.is_same)
    reasons = [f"outside its margin: {names}", *model_reasons, *platform_reasons]
    return RebuildComparison("different", [*file_items, *gate_items], reasons)


def _all_same(items: Iterable[ComparedItem]) -> bool:
    return all(item.is_same for item in items)


# ---------------------------------------------------------------- the bundle


def _compare_files(bundle: Path, rebuilt_bundle: Path) -> list[ComparedItem]:
    """Compare the tensors by their canonical bytes, every other file by its SHA-256."""
    items = [_compare_tensors(name, bundle / name, rebuilt_bundle / name) for name in TENSOR_FILES]
    recorded_checksums, rebuilt_checksums = read_checksums(bundle), read_checksums(rebuilt_bundle)
    for name in sorted((recorded_checksums.keys() | rebuilt_checksums.keys()) - {*TENSOR_FILES}):
        items.append(_compare_hashes(name, recorded_checksums.get(name, "missing"), rebuilt_checksums.get(name, "missing")))
    return items


def _compare_hashes(name: str, recorded_sha256: str, rebuilt_sha256: str) -> ComparedItem:
    is_same = recorded_sha256 == rebuilt_sha256
    return ComparedItem(name, recorded_sha256[:HASH_DIGITS], rebuilt_sha256[:HASH_DIGITS], is_same)


def _compare_tensors(name: str, file: Path, rebuilt_file: Path) -> ComparedItem:
    tensors, rebuilt_tensors = load_file(file), load_file(rebuilt_file)
    counts = str(len(tensors))
    if len(rebuilt_tensors) != len(tensors):
        counts += f" and {len(rebuilt_tensors)}"
    title = f"{name.partition('.')[0]}, tensors: {counts}"
    return _compare_hashes(title, tensors_sha256(tensors), tensors_sha256(rebuilt_tensors))


def _describe_tensor_differences(bundle: Path, rebuilt_bundle: Path) -> Iterator[str]:
    """Yield a sentence about the tensors of each file that are not the same."""
    for file in TENSOR_FILES:
        tensors, rebuilt_tensors = load_file(bundle / file), load_file(rebuilt_bundle / file)
        names = sorted(tensors.keys() | rebuilt_tensors.keys())
        descriptions = []
        for name in names:
            if not _is_same_tensor(name, tensors, rebuilt_tensors):
                descriptions.append(f"{name} ({_describe_distance(tensors.get(name), rebuilt_tensors.get(name))})")
        if descriptions:
            sentence = f"{len(descriptions)} of {len(names)} tensors of {file} differ: {', '.join(descriptions[:MAX_NAMED])}"
            if len(descriptions) > MAX_NAMED:
                sentence += f" and {len(descriptions) - MAX_NAMED} more"
            yield sentence


def _is_same_tensor(name: str, tensors: Mapping[str, np.ndarray], rebuilt_tensors: Mapping[str, np.ndarray]) -> bool:
    if name not in tensors or name not in rebuilt_tensors:
        return False
    return tensor_sha256(name, tensors[name]) == tensor_sha256(name, rebuilt_tensors[name])


def _describe_distance(tensor: np.ndarray | None, rebuilt_tensor: np.ndarray | None) -> str:
    if tensor is None:
        return "only rebuilt"
    if rebuilt_tensor is None:
        return "only recorded"
    if tensor.shape != rebuilt_tensor.shape or tensor.dtype != rebuilt_tensor.dtype:
        return f"{tensor.dtype} {tensor.shape} recorded, {rebuilt_tensor.dtype} {rebuilt_tensor.shape} rebuilt"
    if tensor.size == 0:
        return "no values"
    return f"by at most {np.abs(tensor.astype(np.float64) - rebuilt_tensor.astype(np.float64)).max():.3g}"


# ---------------------------------------------------------------- the log of the weights' hashes


def describe_divergence(recorded_log: Path | None, rebuilt_log: Path) -> str:
    """Return a sentence about the first step at which two trainings have different weights.

    Args:
        recorded_log: trail.csv of the registered version; None where the version is older than such logs.
        rebuilt_log: trail.csv of the rebuilt training, which may not exist.
    """
    if recorded_log is None:
        return "no trail was recorded, as the version is older than trails: no step can be named"
    if not rebuilt_log.is_file():
        return "the rebuilt training left no trail: no step can be named"
    recorded_hashes, rebuilt_hashes = _read_weight_log(recorded_log), _read_weight_log(rebuilt_log)
    common_steps = sorted(recorded_hashes.keys() & rebuilt_hashes.keys())
    previous_step = None
    for step in common_steps:
        if recorded_hashes[step] != rebuilt_hashes[step]:
            prior_steps = "no earlier one was recorded"
            if previous_step is not None:
                prior_steps = f"up to step {previous_step} the weights are the same"
            return f"the first step at which the weights differ is {step} of {max(recorded_hashes)} ({prior_steps})"
        previous_step = step
    if previous_step is None:
        return "the two trails have no step in common"
    sentence = f"the weights are the same at every recorded step up to {previous_step}"
    if recorded_hashes.keys() != rebuilt_hashes.keys():
        ends = f"to step {max(recorded_hashes)} recorded, to step {max(rebuilt_hashes)} rebuilt"
        return f"{sentence}; the trails then differ in length: {ends}"
    return f"{sentence}, the last: what differs came after the training"


def _read_weight_log(file: Path) -> dict[int, str]:
    """Return the hash of the weights by step."""
    with file.open(encoding="utf-8", newline="") as stream:
        return {int(row["step"]): row["sha256"] for row in csv.DictReader(stream)}


# ---------------------------------------------------------------- the gate


def _compare_gate(record: Record, artifacts: Path) -> list[ComparedItem]:
    """Compare the figure or the result of each rule of the recorded gate."""
    metrics = flatten(record.result("metrics.json"))
    rebuilt_metrics = flatten(read_json(artifacts / "report" / "metrics.json"))
    verdict = record.result("verdict.json")
    rules, results = _recorded_rules(record, verdict), _results_by_rule(verdict)
    rebuilt_results = _results_by_rule(read_json(artifacts / "verdict.json"))
    items = []
    for name, rule in rules.items():
        if "metric" in rule or "champion" in rule:
            items.append(_compare_figure(rule, metrics, rebuilt_metrics))
        else:
            result, rebuilt_result = results.get(name, "not judged"), rebuilt_results.get(name, "not judged")
            items.append(ComparedItem(name, result, rebuilt_result, result == rebuilt_result))
    return list(dict.fromkeys(items))  # two rules on one metric are one item


def _recorded_rules(record: Record, verdict: Mapping[str, Any]) -> Mapping[str, GateRule]:
    """Return the rules of the recorded gate by name; where its verdict is older than the default rules, those of the recipe."""
    if "gate" in verdict:
        return dict(verdict["gate"])
    return dict(yaml.safe_load(record.recipe_file.read_text(encoding="utf-8"))["gate"])


def _results_by_rule(verdict: Mapping[str, Any]) -> dict[str, str]:
    results = {}
    for rule in verdict["rules"]:
        results[rule["name"]] = "not passed"
        if rule["passed"]:
            results[rule["name"]] = "passed"
    return results


def _compare_figure(rule: GateRule, metrics: Mapping[str, Any], rebuilt_metrics: Mapping[str, Any]) -> ComparedItem:
    """Compare the figure that a rule looks at, by the rule's margin."""
    if rule.get("champion") == "error":
        name = "error of normal samples"
        figure, rebuilt_figure = _reconstruction_error(metrics), _reconstruction_error(rebuilt_metrics)
    else:
        name = str(rule.get("metric", "detection.model.auroc"))
        figure, rebuilt_figure = metrics.get(name), rebuilt_metrics.get(name)
    is_same = is_within_margin(rule, figure, rebuilt_figure)
    return ComparedItem(name, _format_figure(figure), _format_figure(rebuilt_figure), is_same)


def _reconstruction_error(metrics: Mapping[str, Any]) -> float | None:
    """Return the error of normal test samples: the mean squared error, or the share of a text's tokens that are wrong."""
    accuracy = metrics.get("reconstruction.model.token_accuracy")
    if accuracy is None:
        return metrics.get("reconstruction.model.mse")
    return float(1 - accuracy)


def is_within_margin(rule: GateRule, figure: float | None, rebuilt_figure: float | None) -> bool:
    """Return True if a rebuilt figure is as good as the recorded one.

    Args:
        rule: of the gate; its own margin counts where it has one, else the default one of its kind.
        figure: as recorded; None where it was not measured.
        rebuilt_figure: the same of the rebuilt version.
    """
    if figure is None or rebuilt_figure is None:
        return figure is None and rebuilt_figure is None
    if not (math.isfinite(figure) and math.isfinite(rebuilt_figure)):
        return False
    return bool(abs(figure - rebuilt_figure) <= _allowed_difference(rule, figure))


def _allowed_difference(rule: GateRule, figure: float) -> float:
    if "champion" in rule:
        margin = float(rule.get("margin", DEFAULT_MARGINS[rule["champion"], rule.get("by")]))
        if rule["champion"] == AUROC:
            return margin
        return margin * abs(figure)
    largest_value = abs(figure)
    for key in ("at_least", "at_most"):
        if rule.get(key) is not None:
            largest_value = max(largest_value, abs(float(rule[key])))
    return DEFAULT_MARGIN * largest_value


def _format_figure(figure: float | None) -> str:
    if figure is None:
        return "not measured"
    return f"{figure:.6g}"


def _describe_platform(platform_differences: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return a sentence about each platform tag that differs, or one that none does."""
    if not platform_differences:
        return ["no platform.* tag differs: the machine is as recorded"]
    sentences = []
    for name, (recorded_value, value) in platform_differences.items():
        sentences.append(f"{name} differs: {recorded_value} recorded, {value} here")
    return sentences
