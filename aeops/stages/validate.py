"""Stage validate: an incoming dataset -> data/<dataset> with its receipt, or a refusal that leaves data/ as it was.

    python -m aeops.stages.validate --recipe recipes/digits.yaml --incoming .ae/incoming/digits

Samples that fail an expectation go to quarantine, within the recipe's budget; a set that fails one of its expectations is
refused as a whole. validation.json and the Data Docs are written either way.
"""

import argparse
import math
import shutil
from dataclasses import replace
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
    index_columns,
    read_index,
    read_shards,
    recover_dataset,
    replace_dataset,
    require_receipt,
    staging_folder,
)
from aeops.data.dataset_validation import DatasetValidation
from aeops.data.forgotten import FORGOTTEN_FILE
from aeops.data.growth import JUDGEMENTS_KEY, KEPT_FILE, NEXT_NUMBER, first_free_number
from aeops.data.joined_shards import join_small_shards
from aeops.data.judged_samples import decide, relabel, without_dropped
from aeops.data.judgements import read_standings
from aeops.data.kept_shards import keep_shards
from aeops.data.near_copies import NearCopies, find_near_copies, read_rows_of
from aeops.data.quarantine import write_quarantine
from aeops.data.rejudging import judged_among
from aeops.data.retention import FIRST_DAYS_FILE
from aeops.data.set_aside import read_set_aside
from aeops.data.shards import describe_input, read_input, shard_stem, write_block
from aeops.data.source_record import accept_incoming
from aeops.data.validation import (
    ROW_KEY,
    DataValidator,
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
from aeops.data.validation_record import describe_refusal, summary_text, write_validation
from aeops.errors import DataError
from aeops.files import file_sha256, write_json
from aeops.machine.entry_point import run_main
from aeops.machine.lock import file_lock
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import IGNORE, WARNING


def validate(recipe: Recipe, project: Project, incoming: Path) -> None:
    """Accept the incoming dataset into data/<dataset>, without its bad samples.

    Raises:
        DataError: the incoming dataset is incomplete, more samples are bad than the budget allows, or the set fails an
            expectation; data/ is as it was.
    """
    dataset = project.dataset(recipe.data.dataset)
    recover_dataset(dataset)
    description = require_incoming(incoming, recipe, project)
    validation = validate_dataset(recipe, project, incoming, description)
    quarantine = quarantine_samples(validation, recipe, project, incoming)
    try:
        if not validation.is_accepted:
            write_validation(validation, recipe, project, quarantine, None)
            raise DataError(describe_refusal(validation, recipe, project, quarantine))
        new_dataset = build_dataset(validation, incoming, description, staging_folder(dataset), dataset)
        content = content_sha256(new_dataset)
        copies = near_copies(recipe, project, new_dataset)
        write_validation(validation, recipe, project, quarantine, content, copies)
        accepted_ids = set(validation.accepted_index["id"])
        if not is_same_dataset(new_dataset, dataset, goes_on=len(validation.kept) > 0):
            replace_dataset(new_dataset, dataset)
        accept_incoming(project, recipe.data.dataset, content, accepted_ids)
    finally:
        recover_dataset(dataset)


def require_incoming(incoming: Path, recipe: Recipe, project: Project) -> dict[str, Any]:
    """Return dataset.json of an incoming dataset.

    Raises:
        DataError: the dataset is incomplete or altered, belongs to another recipe, or goes on from another accepted version.
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
    if (incoming / KEPT_FILE).is_file():
        dataset, expected_sha256 = project.dataset(recipe.data.dataset), description["growth"]["base"]
        if not dataset.is_dir() or content_sha256(dataset) != expected_sha256:
            raise DataError(f"{incoming}: {dataset} is no longer the version that it goes on from: {next_step}")
    return description


# ---------------------------------------------------------------- expectations


def validate_dataset(recipe: Recipe, project: Project, incoming: Path, description: dict[str, Any]) -> DatasetValidation:
    """Validate each sample, then the accepted ones as a set, and publish the pages."""
    standings = read_standings(project, recipe.data.dataset)
    kept = read_kept(incoming)
    index, relabelled = relabel(read_index(incoming), standings, recipe)
    validator = DataValidator()
    sample_results = validate_samples(validator, recipe, index, description["dtype"])
    rows = read_rows(incoming, index, recipe.fit.input) if len(index) else None
    sample_results += validate_rows(validator, recipe, rows)
    set_aside, dropped_names = without_dropped(read_set_aside(incoming), standings)
    required = frozenset(result.check.name for result in sample_results if result.check.is_required)
    judging = [result for result in sample_results if result.check.severity != WARNING]
    decided = decide(quarantine_reasons(judging, index), index, standings, required)
    kept_released, kept_relabelled = judged_among(kept, standings, recipe)
    released, relabelled = (*kept_released, *decided.released), (*kept_relabelled, *relabelled)
    decided = replace(decided, released=released, relabelled=relabelled, dropped_names=dropped_names)
    given = len(kept) + len(index) + len(set_aside) + len(dropped_names)
    budget = math.floor(recipe.validate.quarantine_budget * given + 1e-9)
    validation = DatasetValidation(index, decided.undecided, budget, sample_results, [], [], None, set_aside, decided)
    # As the ingest knew it: what people have decided since about samples that stay is seen by the next one.
    validation = replace(validation, judgements_sha256=description.get(JUDGEMENTS_KEY), kept=kept)
    if not validation.over_budget:
        accepted_index = validation.accepted_index
        set_results = validate_set(validator, recipe, accepted_index)
        last_means, drift_skipped = read_last_means(recipe, project)
        drift_results = []
        if last_means:
            drift_results = validate_drift(validator, recipe, accepted_index, last_means)
        rows = _all_rows(rows, accepted_index, kept, recipe, project)
        if rows is not None:
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


def read_kept(incoming: Path) -> pd.DataFrame:
    """Return the rows of the accepted dataset's index that stay; none where an incoming dataset begins anew."""
    if not (incoming / KEPT_FILE).is_file():
        return pd.DataFrame()
    columns = index_columns(read_input(read_json(incoming / "dataset.json", "kind")))
    return pd.read_parquet(incoming / KEPT_FILE)[list(columns)].astype(columns)


def _all_rows(
    new_rows: pd.DataFrame | None, accepted_index: pd.DataFrame, kept: pd.DataFrame, recipe: Recipe, project: Project
) -> pd.DataFrame | None:
    """Return the rows of a table that stay and the new ones that are good; None where samples are no rows."""
    kept_rows = read_rows(project.dataset(recipe.data.dataset), kept, recipe.fit.input) if len(kept) else None
    if new_rows is None:
        return kept_rows
    good_rows = new_rows[new_rows[ROW_KEY].isin(accepted_index["id"])]
    return good_rows if kept_rows is None else pd.concat([kept_rows, good_rows], ignore_index=True)


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


# ---------------------------------------------------------------- the accepted dataset


def near_copies(recipe: Recipe, project: Project, dataset: Path) -> NearCopies | None:
    """Return the near copies in different splits of a dataset; None where the recipe ignores them, or such samples have none."""
    if recipe.data.near_copies == IGNORE:
        return None
    index = read_index(dataset)
    cache = project.image_hashes(recipe.data.dataset)
    return find_near_copies(index, recipe.fit.input, read_rows_of([(dataset, index)]), cache)


def build_dataset(
    validation: DatasetValidation, incoming: Path, description: dict[str, Any], staging_path: Path, dataset: Path
) -> Path:
    """Write the accepted dataset with its receipt to a folder beside the one that it replaces; return the folder.

    Args:
        validation: what is accepted.
        incoming: the incoming dataset.
        description: its dataset.json.
        staging_path: the folder to write in.
        dataset: the one that was accepted last, from which samples may stay.
    """
    folder, spec = staging_path / "new", read_input(description)
    (folder / "shards").mkdir(parents=True)
    kept_index, kept_shards = keep_shards(validation.kept, dataset, folder, spec)
    first = max((int(Path(shard["file"]).stem) + 1 for shard in kept_shards), default=0)
    index, shards = write_accepted(validation.new_index, incoming, folder, spec, first)
    index = pd.concat([kept_index, index], ignore_index=True) if len(kept_index) else index
    if shards:  # with nothing new, the version before stays as it is
        index, shards = join_small_shards(index, [*kept_shards, *shards], folder, spec)
    else:
        shards = kept_shards
    write_parquet(folder / "index.parquet", index)
    for name in (FIRST_DAYS_FILE, FORGOTTEN_FILE):
        if (incoming / name).is_file():
            shutil.copyfile(incoming / name, folder / name)
    write_json(folder / "dataset.json", accepted_description(description, index, shards))
    receipt = {
        "format": FORMAT,
        "dataset": description["dataset"],
        "suite": [result.to_dict() for result in validation.sample_results + validation.set_results],
        "rows": validation.row_counts,
        "content_sha256": content_sha256(folder),
    }
    write_json(folder / RECEIPT_FILE, receipt)
    return folder


def accepted_description(description: dict[str, Any], index: pd.DataFrame, shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the dataset.json of the accepted dataset."""
    accepted = description | {"rows": len(index), "shards": shards}
    accepted.pop(JUDGEMENTS_KEY, None)
    growth = accepted.pop("growth", None)
    if growth is not None and growth["next_number"] > first_free_number(index["id"], description["dataset"]):
        accepted[NEXT_NUMBER] = growth["next_number"]
    return accepted


def write_accepted(
    new_index: pd.DataFrame, incoming: Path, folder: Path, spec: InputSpec, first: int = 0
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Write the shards of the new samples, with one of them in memory at a time.

    A shard that lost no sample keeps its bytes; one that lost all of them is left out.

    Args:
        new_index: their rows of the incoming index.
        incoming: the incoming dataset.
        folder: the dataset to write.
        spec: the section input.
        first: the number of the first shard.

    Returns:
        The index of the new shards, and for each shard its file, number of rows and SHA-256.
    """
    index_parts, shards = [], []
    for number, (rows, block) in enumerate(read_shards(incoming, new_index), first):
        file = write_block(folder, shard_stem(number), block, spec)
        index_parts.append(rows.assign(shard=number, row=range(len(rows))))
        shards.append({"file": file, "rows": len(rows), "sha256": file_sha256(folder / file)})
    return pd.concat([new_index.iloc[:0], *index_parts], ignore_index=True), shards


def is_same_dataset(new_dataset: Path, dataset: Path, goes_on: bool) -> bool:
    """Return whether two datasets have the same bytes, so that nothing needs to be replaced.

    Where one goes on from the other with nothing new, the receipt of those that stay remains.
    """
    if goes_on:
        return content_sha256(dataset) == content_sha256(new_dataset)
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
