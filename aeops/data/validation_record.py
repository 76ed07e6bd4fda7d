"""What a validation has found, as validation.json, the Data Docs and a refusal say it."""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from aeops.data.dataset import FORMAT
from aeops.data.dataset_validation import DatasetValidation
from aeops.data.near_copies import NearCopies
from aeops.data.set_aside import REPLACED, count_reasons
from aeops.data.validation import ExpectationResult, messages_of
from aeops.drawing.words import format_count
from aeops.files import make_folder, write_json
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import ROW, SET, WARNING

MAX_NAMED_SAMPLES = 20  # of validation.json; the quarantine's rows.parquet names every quarantined sample
MAX_BROKEN_VALUES = 1000  # of an expectation with bounds, in validation.json
MAX_NAMED_REASONS = 3  # of a refusal


def write_validation(
    validation: DatasetValidation,
    recipe: Recipe,
    project: Project,
    quarantine: Path | None,
    content_digest: str | None,
    copies: NearCopies | None = None,
) -> None:
    """Write validation.json; its paths are relative to the state folder.

    Args:
        validation: the result.
        recipe: names the dataset.
        project: has the state folder.
        quarantine: the folder of bad samples, or None.
        content_digest: the SHA-256 of the accepted dataset; None if it was refused.
        copies: near copies in different splits; None where they were not looked for.
    """
    dataset = recipe.data.dataset
    earlier = _broken_before(project.validation(dataset) / "validation.json", validation.kept)
    expectations = []
    for result in validation.results:
        added = {"applicable": True, "level": result.check.level, "range": result.observed_range}
        expectations.append(result.to_dict() | added | broken_values(result, validation.index, earlier))
    if validation.drift_skipped:
        expectations.append({"name": "drift", "applicable": False, "success": True, "why": validation.drift_skipped})
    named_samples = []
    bad_samples = {name: [reason] for name, reason in validation.set_aside.items()} | validation.reasons
    for sample_id, reasons in islice(bad_samples.items(), MAX_NAMED_SAMPLES):
        named_samples.append({"id": sample_id, "reasons": reasons})
    quarantine_path = None
    if quarantine is not None:
        quarantine_path = quarantine.relative_to(project.home).as_posix()
    document = {
        "format": FORMAT,
        "dataset": dataset,
        "passed": validation.is_accepted,
        "expectations": expectations,
        "warnings": validation.warnings,
        "rows": validation.row_counts,
        "copies": validation.copy_count,
        "reasons": validation.reason_counts,
        "judgements_sha256": validation.judgements_sha256,
        "budget": validation.budget,
        "quarantined": named_samples,
        "set_aside": count_reasons(validation.set_aside),
        "quarantine": quarantine_path,
        "data_docs": (project.data_docs / dataset / "index.html").relative_to(project.home).as_posix(),
        "content_sha256": content_digest,
        "near_copies": None if copies is None else copies.to_dict(),
    }
    folder = project.validation(dataset)
    make_folder(folder)
    write_json(folder / "validation.json", document)


def _broken_before(file: Path, kept: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return what the last validation.json says of samples that stay, which were released and are not judged again.

    Returns:
        Expectation's name -> the samples that break it, and their values.
    """
    last = read_json_if_whole(file, "expectations") if len(kept) else None
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in [] if last is None else last["expectations"]:
        for item in entry.get("broken", ()):
            found.setdefault(entry["name"], []).append(item)
    if not found:
        return {}
    contents = dict(zip(kept["id"], kept["sha256"], strict=True))
    stays: dict[str, list[dict[str, Any]]] = {}
    for name, items in found.items():
        for item in items:
            if contents.get(item["id"]) == item["sha256"]:
                stays.setdefault(name, []).append(item)
    return stays


def broken_values(result: ExpectationResult, index: pd.DataFrame, earlier: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the samples that break an expectation with bounds, and their values, by which the bounds may be widened.

    Args:
        result: of the expectation.
        index: of the incoming dataset.
        earlier: what was known of samples that stay: expectation's name -> the same.
    """
    broken = list(earlier.get(result.check.name, ()))
    if result.check.level != ROW or not result.check.setting or not (result.unexpected_items or broken):
        return {}
    items = result.unexpected_items[: max(0, MAX_BROKEN_VALUES - len(broken))]
    ids = list(map(result.item_key, items))
    contents = index.set_index("id")["sha256"].reindex(ids).to_dict()
    for identity, item in zip(ids, items, strict=True):
        broken.append({"id": identity, "sha256": contents[identity], "value": plain_value(item[result.check.column])})
    return {"broken": broken}


def plain_value(value: Any) -> int | float | str | None:
    """Return a value as JSON holds it; None for one that is no finite number and no text."""
    if isinstance(value, str | int):
        return value
    return float(value) if isinstance(value, float) and math.isfinite(value) else None


def summary_text(validation: DatasetValidation) -> str:
    """Return the sentences that the page shows above its tables."""
    fault_count, row_count = validation.fault_count, validation.given_count
    text = f"{fault_count} of {row_count} samples are bad; at most {validation.budget} may be quarantined."
    if counts := validation.decided.counts:
        judged = ", ".join(f"{count} {name}" for name, count in counts.items())
        text = f"{text} By people's judgement: {judged}."
    if validation.warnings:
        text = f"{text} Only reported: {'; '.join(validation.warnings)}."
    if validation.over_budget:
        return f"{text} The set was not validated, as too few samples are left."
    if validation.drift_skipped:
        return f"{text} Drift was not checked: {validation.drift_skipped}."
    return text


def describe_refusal(validation: DatasetValidation, recipe: Recipe, project: Project, quarantine: Path | None) -> str:
    """Return why the dataset was refused and what to do, in one line."""
    name, dataset = recipe.name, recipe.data.dataset
    next_step = (
        f"look at {project.data_docs / dataset / 'index.html'}; data/{dataset} is as it was; repair the source, or the bounds "
        f"(validate) in recipes/{name}.yaml, then type ae run {name}"
    )
    if validation.strict_results:
        failures = "; ".join(messages_of(validation.strict_results))
        return (
            f"{dataset}: samples break what refuses the whole set (severity {SET}): {failures}; they are in {quarantine}: "
            f"`ae quarantine {name}` lists them and takes your judgement; {next_step}"
        )
    if validation.over_budget:
        return (
            f"{dataset}: {validation.fault_count} of {validation.given_count} samples are bad, expected at most "
            f"{validation.budget} (quarantine_budget {recipe.validate.quarantine_budget:g}); most frequent: "
            f"{frequent_failures(validation)}; they are in {quarantine} with their reasons, and "
            f"`ae quarantine {name}` lists them and takes your judgement; {next_step}"
        )
    failures = "; ".join(messages_of(validation.failed_results))
    return f"{dataset}: the set does not meet the recipe's expectations: {failures}; {next_step}"


def frequent_failures(validation: DatasetValidation) -> str:
    """Return the expectations that most samples fail, such as `blank (40 samples)`, and why most others were set aside."""
    counts: Counter[str] = Counter(count_reasons(validation.set_aside))
    del counts[REPLACED]  # which is no fault
    for result in validation.sample_results:
        if result.unexpected_items and result.check.severity != WARNING:
            counts[result.check.name] = len(result.unexpected_items)
    return ", ".join(f"{name} ({format_count(count, 'sample')})" for name, count in counts.most_common(MAX_NAMED_REASONS))
