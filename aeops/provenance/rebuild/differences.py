"""Is what was rebuilt what was registered? Tensor by tensor, file by file, and by every number that the gate looked at."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from safetensors.numpy import load_file

from ae_models.checksums import read_checksums, tensor_sha256, tensors_sha256
from aeops.files import read_json
from aeops.gate.flattening import flatten
from aeops.provenance.rebuild.record import Record

TENSORS = ("weights.safetensors", "scorer.safetensors")
MARGIN = 0.01  # of a metric whose rule has no margin: a share of the recorded value or of the rule's bound, whichever is larger
NAMED = 3  # things that a message names
SHOWN = 12  # digits of a hash

Verdict = Literal["identical", "equivalent", "different"]


@dataclass(frozen=True)
class Row:
    """One thing beside its rebuilt self."""

    what: str
    recorded: str
    rebuilt: str
    same: bool


@dataclass(frozen=True)
class Likeness:
    """How like two versions are.

    Attributes:
        verdict: identical: every tensor and every other file of the bundle has the same bytes. Equivalent: every figure that
            the gate looked at is within its rule's margin. Different: the rest.
        rows: what was compared.
        says: why, in sentences.
    """

    verdict: Verdict
    rows: list[Row]
    says: list[str]


def compare(
    record: Record, bundle: Path, rebuilt_bundle: Path, artifacts: Path, differing: Mapping[str, tuple[str, str]]
) -> Likeness:
    """Compares a rebuilt version with the registered one.

    Args:
        record: what the registry holds of it.
        bundle: the registered one.
        rebuilt_bundle: made from its record.
        artifacts: the rebuilt training/, report/ and verdict.json.
        differing: the platform tags in which this machine is another: recorded, here.
    """
    files = file_rows(bundle, rebuilt_bundle)
    figures = figure_rows(record, artifacts)
    diverged = divergence(record.trail, artifacts / "training" / "trail.csv")
    if all(row.same for row in files):
        return Likeness("identical", [*files, *figures], [])
    told = [diverged, *tensor_differences(bundle, rebuilt_bundle)]
    if all(row.same for row in figures):
        return Likeness("equivalent", [*files, *figures], [*platform_says(differing), *told])
    outside = ", ".join(row.what for row in figures if not row.same)
    return Likeness("different", [*files, *figures], [f"outside its margin: {outside}", *told, *platform_says(differing)])


# ---------------------------------------------------------------- the bundle


def file_rows(bundle: Path, rebuilt: Path) -> list[Row]:
    """The tensors by their canonical bytes, every other file by its SHA-256."""
    rows = [tensor_row(name, bundle / name, rebuilt / name) for name in TENSORS]
    ours, theirs = read_checksums(bundle), read_checksums(rebuilt)
    for name in sorted((ours.keys() | theirs.keys()) - {*TENSORS}):
        recorded_sum, rebuilt_sum = ours.get(name, "missing"), theirs.get(name, "missing")
        rows.append(Row(name, recorded_sum[:SHOWN], rebuilt_sum[:SHOWN], recorded_sum == rebuilt_sum))
    return rows


def tensor_row(name: str, recorded: Path, rebuilt: Path) -> Row:
    tensors = [load_file(file) for file in (recorded, rebuilt)]
    ours, theirs = (tensors_sha256(found) for found in tensors)
    counts = " and ".join(dict.fromkeys(str(len(found)) for found in tensors))
    return Row(f"{name.partition('.')[0]}, tensors: {counts}", ours[:SHOWN], theirs[:SHOWN], ours == theirs)


def tensor_differences(bundle: Path, rebuilt: Path) -> Iterator[str]:
    """One sentence on the tensors of each file that are not the same."""
    for file in TENSORS:
        ours, theirs = load_file(bundle / file), load_file(rebuilt / file)
        names = sorted(ours.keys() | theirs.keys())
        other = [name for name in names if not same_tensor(name, ours, theirs)]
        if other:
            told = ", ".join(f"{name} ({how_far(ours.get(name), theirs.get(name))})" for name in other[:NAMED])
            more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
            yield f"{len(other)} of {len(names)} tensors of {file} differ: {told}{more}"


def same_tensor(name: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    both = name in ours and name in theirs
    return both and tensor_sha256(name, ours[name]) == tensor_sha256(name, theirs[name])


def how_far(ours: np.ndarray | None, theirs: np.ndarray | None) -> str:
    if ours is None or theirs is None:
        return "only recorded" if theirs is None else "only rebuilt"
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{ours.dtype} {ours.shape} recorded, {theirs.dtype} {theirs.shape} rebuilt"
    if ours.size == 0:
        return "no values"
    return f"by at most {np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max():.3g}"


# ---------------------------------------------------------------- the trail


def divergence(recorded: Path | None, rebuilt: Path) -> str:
    """Where two trainings part, by their trails."""
    if recorded is None:
        return "no trail was recorded, as the version is older than trails: no step can be named"
    if not rebuilt.is_file():
        return "the rebuilt training left no trail: no step can be named"
    ours, theirs = read_trail(recorded), read_trail(rebuilt)
    common = sorted(ours.keys() & theirs.keys())
    first = next((step for step in common if ours[step] != theirs[step]), None)
    if first is not None:
        before = [step for step in common if step < first]
        since = f"up to step {before[-1]} the weights are the same" if before else "no earlier one was recorded"
        return f"the first step at which the weights differ is {first} of {max(ours)} ({since})"
    if not common:
        return "the two trails have no step in common"
    same = f"the weights are the same at every recorded step up to {common[-1]}"
    if ours.keys() != theirs.keys():
        return f"{same}; the trails then differ in length: to step {max(ours)} recorded, to step {max(theirs)} rebuilt"
    return f"{same}, the last: what differs came after the training"


def read_trail(file: Path) -> dict[int, str]:
    """The hash of the weights by step."""
    with file.open(encoding="utf-8", newline="") as stream:
        return {int(row["step"]): row["sha256"] for row in csv.DictReader(stream)}


# ---------------------------------------------------------------- what the gate looked at


def figure_rows(record: Record, artifacts: Path) -> list[Row]:
    """A row for each rule of the recorded recipe's gate."""
    rules = yaml.safe_load(record.recipe_file.read_text(encoding="utf-8"))["gate"]
    metrics = [flatten(found) for found in (record.result("metrics.json"), read_json(artifacts / "report" / "metrics.json"))]
    verdicts = [outcomes(found) for found in (record.result("verdict.json"), read_json(artifacts / "verdict.json"))]
    rows = []
    for name, rule in rules.items():
        if "metric" in rule or "champion" in rule:
            what, recorded, rebuilt = figure(rule, metrics)
            rows.append(Row(what, shown(recorded), shown(rebuilt), within(rule, recorded, rebuilt)))
        else:
            before, now = (found.get(name, "not judged") for found in verdicts)
            rows.append(Row(name, before, now, before == now))
    return list(dict.fromkeys(rows))  # two rules on one metric are one row


def outcomes(verdict: Mapping[str, Any]) -> dict[str, str]:
    return {rule["name"]: "passed" if rule["passed"] else "not passed" for rule in verdict["rules"]}


def figure(rule: Mapping[str, Any], metrics: list[dict[str, Any]]) -> tuple[str, Any, Any]:
    """What the figure of a rule is called, and it as recorded and as rebuilt; None where it was not measured."""
    recorded, rebuilt = metrics
    if rule.get("champion") == "error":
        return "error of normal samples", error_of(recorded), error_of(rebuilt)
    path = str(rule.get("metric", "detection.model.auroc"))
    return path, recorded.get(path), rebuilt.get(path)


def error_of(metrics: Mapping[str, Any]) -> float | None:
    """Of normal test samples: the mean squared error, or the share of a text's tokens that are wrong."""
    right = metrics.get("reconstruction.model.token_accuracy")
    return metrics.get("reconstruction.model.mse") if right is None else 1 - right


def within(rule: Mapping[str, Any], recorded: Any, rebuilt: Any) -> bool:
    """Whether a rebuilt figure is as good as the recorded one, by the rule's own margin where it has one."""
    if recorded is None or rebuilt is None:
        return recorded is None and rebuilt is None
    if not (math.isfinite(recorded) and math.isfinite(rebuilt)):
        return False
    return bool(abs(recorded - rebuilt) <= allowed(rule, recorded))


def allowed(rule: Mapping[str, Any], recorded: float) -> float:
    """How far a figure may be off."""
    if "champion" in rule:
        margin = float(rule.get("margin", MARGIN))
        return margin if rule["champion"] == "auroc" else margin * abs(recorded)
    bounds = [abs(float(rule[key])) for key in ("at_least", "at_most") if rule.get(key) is not None]
    return MARGIN * max(abs(recorded), *bounds, 0.0)


def shown(value: Any) -> str:
    return "not measured" if value is None else f"{value:.6g}"


def platform_says(differing: Mapping[str, tuple[str, str]]) -> list[str]:
    """One sentence a platform tag that differs, or that none does."""
    if not differing:
        return ["no platform.* tag differs: the machine is as recorded"]
    return [f"{name} differs: {recorded} recorded, {here} here" for name, (recorded, here) in differing.items()]
