"""Stage validate: an incoming dataset -> data/<dataset> with its receipt, or a refusal that leaves data/ as it was.

    python -m aeops.stages.validate --recipe recipes/digits.yaml --incoming .ae/incoming/digits

Samples that fail an expectation go to quarantine, within the recipe's budget; a set that fails one of its expectations is
refused as a whole. validation.json and the Data Docs are written either way.
"""

import argparse
import math
import shutil
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from ae_models.spec import InputSpec
from aeops.data.array_files import write_parquet
from aeops.data.data_docs import publish_pages
from aeops.data.dataset import (
    FORMAT,
    RECEIPT_FILE,
    content_sha256,
    read_index,
    read_shards,
    recover_dataset,
    replace_dataset,
    require_receipt,
    staging_folder,
)
from aeops.data.dataset_validation import DatasetValidation
from aeops.data.judged_samples import decide, relabel, without_dropped
from aeops.data.judgements import judgements_digest, read_standings
from aeops.data.quarantine import write_quarantine
from aeops.data.set_aside import count_reasons, read_set_aside
from aeops.data.shards import describe_input, read_input, shard_stem, write_block
from aeops.data.validation import (
    ROW_KEY,
    DataValidator,
    ExpectationResult,
    drift_means,
    quarantine_reasons,
    read_rows,
    validate_drift,
    validate_row_drift,
    validate_row_set,
    validate_rows,
    validate_samples,
    validate_set,
)
from aeops.errors import DataError
from aeops.files import file_sha256, make_folder, write_json
from aeops.machine.entry_point import run_main
from aeops.machine.lock import file_lock
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import ROW, SET, WARNING

MAX_NAMED_SAMPLES = 20  # of validation.json; the quarantine's rows.parquet names every quarantined sample
MAX_BROKEN_VALUES = 1000  # of an expectation with bounds, in validation.json
MAX_NAMED_REASONS = 3  # of a refusal


def validate(recipe: Recipe, project: Project, incoming: Path) -> None:
    """Accept the incoming dataset into data/<dataset>, without its bad samples.

    Raises:
        DataError: the incoming dataset is incomplete, more samples are bad than the budget allows, or the set fails an
            expectation; data/ is as it was.
    """
    dataset = project.dataset(recipe.data.dataset)
    recover_dataset(dataset)
    description = require_incoming(incoming, recipe)
    validation = validate_dataset(recipe, project, incoming, description)
    quarantine = quarantine_samples(validation, recipe, project, incoming)
    try:
        if not validation.is_accepted:
            write_validation(validation, recipe, project, quarantine, None)
            raise DataError(describe_refusal(validation, recipe, project, quarantine))
        new_dataset = build_dataset(validation, incoming, description, staging_folder(dataset))
        write_validation(validation, recipe, project, quarantine, content_sha256(new_dataset))
        if not is_same_dataset(new_dataset, dataset):
            replace_dataset(new_dataset, dataset)
    finally:
        recover_dataset(dataset)


def require_incoming(incoming: Path, recipe: Recipe) -> dict[str, Any]:
    """Return dataset.json of an incoming dataset.

    Raises:
        DataError: the dataset is incomplete or altered, or it belongs to another recipe.
    """
    next_step = f"type ae run {recipe.name} to ingest it again"
    if not (incoming / "dataset.json").is_file():
        raise DataError(f"no incoming dataset in {incoming}: {next_step}")
    keys = ("dataset", "kind", "shape", "low", "high", "shards")
    description: dict[str, Any] = read_json(incoming / "dataset.json", *keys, repair=next_step)
    spec = recipe.fit.input
    expected_values = {"dataset": recipe.data.dataset, **describe_input(spec)}
    for key, value in expected_values.items():
        if description.get(key) != value:
            raise DataError(f"{incoming}: expected {key} {value}, as the recipe says, got {description.get(key)}: {next_step}")
    for shard in description["shards"]:
        file = incoming / shard["file"]
        if not file.is_file() or file_sha256(file) != shard["sha256"]:
            raise DataError(f"{file}: missing or altered after it was ingested: {next_step}")
    return description


# ---------------------------------------------------------------- expectations


def validate_dataset(recipe: Recipe, project: Project, incoming: Path, description: dict[str, Any]) -> DatasetValidation:
    """Validate each sample, then the accepted ones as a set, and publish the pages."""
    judgements_sha256 = judgements_digest(project, recipe.data.dataset)  # before they are read: others may be recorded meanwhile
    standings = read_standings(project, recipe.data.dataset)
    index, relabelled = relabel(read_index(incoming), standings, recipe)
    validator = DataValidator()
    sample_results = validate_samples(validator, recipe, index, description["dtype"])
    rows = read_rows(incoming, index, recipe.fit.input)
    sample_results += validate_rows(validator, recipe, rows)
    set_aside, dropped_names = without_dropped(read_set_aside(incoming), standings)
    required = frozenset(result.check.name for result in sample_results if result.check.is_required)
    judging = [result for result in sample_results if result.check.severity != WARNING]
    decided = decide(quarantine_reasons(judging, index), index, standings, required)
    decided = replace(decided, relabelled=relabelled, dropped_names=dropped_names)
    budget = math.floor(recipe.validate.quarantine_budget * (len(index) + len(set_aside) + len(dropped_names)) + 1e-9)
    validation = DatasetValidation(index, decided.undecided, budget, sample_results, [], [], None, set_aside, decided)
    validation = replace(validation, judgements_sha256=judgements_sha256)
    if not validation.over_budget:
        accepted_index = validation.accepted_index
        set_results = validate_set(validator, recipe, accepted_index)
        last_means, drift_skipped = read_last_means(recipe, project)
        drift_results = []
        if last_means:
            drift_results = validate_drift(validator, recipe, accepted_index, last_means)
        if rows is not None:
            rows = rows[rows[ROW_KEY].isin(accepted_index["id"])]
            set_results += validate_row_set(validator, recipe, rows)
            last_rows = None if drift_skipped else read_last_rows(recipe, project)
            drift_results += validate_row_drift(validator, recipe, rows, last_rows)
        validation = replace(validation, set_results=set_results, drift_results=drift_results, drift_skipped=drift_skipped)
    staged_site = project.data_docs / f".{recipe.data.dataset}.aside"
    shutil.rmtree(staged_site, ignore_errors=True)
    validator.write_pages(staged_site)
    outcome = "refused"
    if validation.is_accepted:
        outcome = "accepted"
    summary = summary_text(validation)
    with file_lock(project, "data-docs"):  # whose index names every dataset
        publish_pages(staged_site, project.data_docs, recipe.data.dataset, outcome, summary, validator.suites)
    return validation


def read_last_means(recipe: Recipe, project: Project) -> tuple[dict[str, float] | None, str | None]:
    """Return the means of the last accepted version and None, or None and the reason why there are none."""
    dataset = project.dataset(recipe.data.dataset)
    if not dataset.is_dir():
        return None, "no version has been accepted yet"
    try:
        require_receipt(dataset, recipe.name)
    except DataError as error:  # the files were altered after they were accepted, so they are no measure of drift
        return None, str(error)
    last, spec = read_input(read_json(dataset / "dataset.json")), recipe.fit.input
    if last.kind != spec.kind:
        return None, f"the last accepted version has samples of kind {last.kind}, not {spec.kind}"
    if bool(last.channels) != bool(spec.channels):
        return None, "the last accepted version is stored in windows and this one in steps, or the other way round"
    return drift_means(read_index(dataset), spec), None


def read_last_rows(recipe: Recipe, project: Project) -> pd.DataFrame | None:
    """Return the rows of the last accepted version, which matches its receipt; None where its samples are no rows."""
    dataset = project.dataset(recipe.data.dataset)
    return read_rows(dataset, read_index(dataset), read_input(read_json(dataset / "dataset.json")))


def quarantine_samples(validation: DatasetValidation, recipe: Recipe, project: Project, incoming: Path) -> Path | None:
    """Write the bad samples to a quarantine folder and return its path; None if there are none."""
    if not validation.bad_count:
        return None
    folder = project.quarantine(recipe.data.dataset) / content_sha256(incoming)[:12]
    write_quarantine(folder, incoming, validation.index, validation.reasons, validation.set_aside)
    return folder


# ---------------------------------------------------------------- the report


def write_validation(
    validation: DatasetValidation, recipe: Recipe, project: Project, quarantine: Path | None, content_digest: str | None
) -> None:
    """Write validation.json; its paths are relative to the state folder.

    Args:
        validation: the result.
        recipe: names the dataset.
        project: has the state folder.
        quarantine: the folder of bad samples, or None.
        content_digest: the SHA-256 of the accepted dataset; None if it was refused.
    """
    dataset = recipe.data.dataset
    expectations = []
    for result in validation.results:
        added = {"applicable": True, "level": result.check.level, "range": result.observed_range}
        expectations.append(result.to_dict() | added | broken_values(result, validation.index))
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
    }
    folder = project.validation(dataset)
    make_folder(folder)
    write_json(folder / "validation.json", document)


def broken_values(result: ExpectationResult, index: pd.DataFrame) -> dict[str, Any]:
    """Return the samples that break an expectation with bounds, and their values, by which the bounds may be widened."""
    if result.check.level != ROW or not result.check.setting or not result.unexpected_items:
        return {}
    items = result.unexpected_items[:MAX_BROKEN_VALUES]
    ids = list(map(result.item_key, items))
    contents = index.set_index("id")["sha256"].reindex(ids).to_dict()
    broken = []
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
    bad_count, row_count = validation.bad_count, validation.given_count
    text = f"{bad_count} of {row_count} samples are bad; at most {validation.budget} may be quarantined."
    if counts := validation.decided.counts:
        judged = ", ".join(f"{count} {name}" for name, count in counts.items())
        text = f"{text} By people's judgement: {judged}."
    if validation.warnings:
        text = f"{text} Only told: {'; '.join(validation.warnings)}."
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
        failures = "; ".join(result.message() for result in validation.strict_results)
        return (
            f"{dataset}: samples break what refuses the whole set (severity {SET}): {failures}; they are in {quarantine}: "
            f"`ae quarantine {name}` lists them and takes your judgement; {next_step}"
        )
    if validation.over_budget:
        return (
            f"{dataset}: {validation.bad_count} of {validation.given_count} samples are bad, expected at most "
            f"{validation.budget} (quarantine_budget {recipe.validate.quarantine_budget:g}); most frequent: "
            f"{frequent_failures(validation)}; they are in {quarantine} with their reasons, and "
            f"`ae quarantine {name}` lists them and takes your judgement; {next_step}"
        )
    failures = "; ".join(result.message() for result in validation.failed_results)
    return f"{dataset}: the set does not meet the recipe's expectations: {failures}; {next_step}"


def frequent_failures(validation: DatasetValidation) -> str:
    """Return the expectations that most samples fail, such as `blank (40 samples)`, and why most others were set aside."""
    counts: Counter[str] = Counter(count_reasons(validation.set_aside))
    for result in validation.sample_results:
        if result.unexpected_items and result.check.severity != WARNING:
            counts[result.check.name] = len(result.unexpected_items)
    return ", ".join(f"{name} ({count} samples)" for name, count in counts.most_common(MAX_NAMED_REASONS))


# ---------------------------------------------------------------- the accepted dataset


def build_dataset(validation: DatasetValidation, incoming: Path, description: dict[str, Any], staging_path: Path) -> Path:
    """Write the accepted dataset with its receipt to a folder beside the one that it replaces; return the folder."""
    folder = staging_path / "new"
    (folder / "shards").mkdir(parents=True)
    index, shards = write_accepted(validation.accepted_index, incoming, folder, read_input(description))
    write_parquet(folder / "index.parquet", index)
    write_json(folder / "dataset.json", description | {"rows": len(index), "shards": shards})
    receipt = {
        "format": FORMAT,
        "dataset": description["dataset"],
        "suite": [result.to_dict() for result in validation.sample_results + validation.set_results],
        "rows": validation.row_counts,
        "content_sha256": content_sha256(folder),
    }
    write_json(folder / RECEIPT_FILE, receipt)
    return folder


def write_accepted(
    accepted_index: pd.DataFrame, incoming: Path, folder: Path, spec: InputSpec
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Write the shards of the accepted samples, with one of them in memory at a time.

    A shard that lost no sample keeps its bytes; one that lost all of them is left out.

    Returns:
        The index of the new shards, and for each shard its file, number of rows and SHA-256.
    """
    index_parts, shards = [], []
    for number, (rows, block) in enumerate(read_shards(incoming, accepted_index)):
        file = write_block(folder, shard_stem(number), block, spec)
        index_parts.append(rows.assign(shard=number, row=range(len(rows))))
        shards.append({"file": file, "rows": len(rows), "sha256": file_sha256(folder / file)})
    return pd.concat(index_parts, ignore_index=True), shards


def is_same_dataset(new_dataset: Path, dataset: Path) -> bool:
    """Return whether two datasets have the same bytes, so that nothing needs to be replaced."""
    receipt = dataset / RECEIPT_FILE
    same_receipt = receipt.is_file() and receipt.read_bytes() == (new_dataset / RECEIPT_FILE).read_bytes()
    return same_receipt and content_sha256(dataset) == content_sha256(new_dataset)


def main() -> None:
    """Parse the command line and validate."""
    parser = argparse.ArgumentParser(description="Incoming dataset -> data/<dataset> with its receipt.")
    parser.add_argument("--recipe", type=Path, required=True, help="the recipe's YAML file")
    parser.add_argument("--incoming", type=Path, required=True, help="the folder that stage ingest wrote")
    arguments = parser.parse_args()
    run_main(lambda: validate(read_recipe(arguments.recipe), find_project(), arguments.incoming))


if __name__ == "__main__":
    main()
