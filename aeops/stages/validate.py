"""Stage validate: an incoming dataset -> data/<dataset> with its receipt, or a refusal that leaves data/ as it was.

    python -m aeops.stages.validate --recipe recipes/digits.yaml --incoming .ae/incoming/digits

Samples that fail an expectation go to quarantine, within the recipe's budget; a set that fails one of its expectations is
refused as a whole. validation.json and the Data Docs are written either way.
"""

import argparse
import math
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
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
    index_columns,
    read_index,
    read_shards,
    recover_dataset,
    replace_dataset,
    require_receipt,
    staging_folder,
)
from aeops.data.forgotten import FORGOTTEN_FILE
from aeops.data.growth import KEPT_FILE, NEXT_NUMBER, first_free_number
from aeops.data.kept_shards import keep_shards
from aeops.data.near_copies import NearCopies, find_near_copies, read_rows_of
from aeops.data.quarantine import write_quarantine
from aeops.data.retention import FIRST_DAYS_FILE
from aeops.data.set_aside import count_reasons, read_set_aside
from aeops.data.shards import describe_input, read_input, shard_stem, write_block
from aeops.data.source_record import accept_incoming
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
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import IGNORE

MAX_NAMED_SAMPLES = 20  # of validation.json; the quarantine's rows.parquet names every quarantined sample
MAX_NAMED_REASONS = 3  # of a refusal


@dataclass(frozen=True)
class DatasetValidation:
    """The result of a validation.

    Attributes:
        index: the incoming dataset's index: what is new.
        reasons: for each bad sample: its id -> the expectations that it fails.
        budget: number of bad samples that may be quarantined.
        sample_results: the results of the expectations of single samples.
        set_results: those of all accepted samples; empty if the budget is exceeded, as there is no accepted set then.
        drift_results: those of the accepted samples and the last accepted version; empty if the budget is exceeded.
        drift_skipped: the reason why drift was not checked; None if it was.
        set_aside: what the source held and could not become a sample: its name -> the reason; counts in the budget.
        kept: rows of the accepted dataset's index that stay; empty where it begins anew.
    """

    index: pd.DataFrame
    reasons: dict[str, list[str]]
    budget: int
    sample_results: list[ExpectationResult]
    set_results: list[ExpectationResult]
    drift_results: list[ExpectationResult]
    drift_skipped: str | None
    set_aside: dict[str, str] = field(default_factory=dict)
    kept: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def bad_count(self) -> int:
        """Number of bad samples and of what could not become one."""
        return len(self.reasons) + len(self.set_aside)

    @property
    def given_count(self) -> int:
        """Number of all that the source has now: what stays and what came in."""
        return len(self.kept) + len(self.index) + len(self.set_aside)

    @property
    def new_index(self) -> pd.DataFrame:
        """Rows of the incoming index without those of bad samples."""
        return self.index[~self.index["id"].isin(list(self.reasons))]

    @property
    def accepted_index(self) -> pd.DataFrame:
        """Rows of all samples of the new version: those that stay, and those that are new and good."""
        return pd.concat([self.kept, self.new_index], ignore_index=True) if len(self.kept) else self.new_index

    @property
    def row_counts(self) -> dict[str, int]:
        """Numbers of incoming, accepted and quarantined samples, as the receipt holds them; what stays counts as both first."""
        accepted_count = len(self.kept) + len(self.index) - len(self.reasons)
        return {"given": self.given_count, "accepted": accepted_count, "quarantined": self.bad_count}

    @property
    def over_budget(self) -> bool:
        """True if more samples are bad than may be quarantined."""
        return self.bad_count > self.budget

    @property
    def failed_results(self) -> list[ExpectationResult]:
        """Expectations of the set that failed."""
        return [result for result in self.set_results + self.drift_results if not result.is_success]

    @property
    def is_accepted(self) -> bool:
        """True if the dataset is accepted, without its bad samples."""
        return not self.over_budget and not self.failed_results


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
    index, kept = read_index(incoming), read_kept(incoming)
    validator = DataValidator()
    sample_results = validate_samples(validator, recipe, index, description["dtype"])
    rows = read_rows(incoming, index, recipe.fit.input) if len(index) else None
    sample_results += validate_rows(validator, recipe, rows)
    reasons = quarantine_reasons(sample_results, index)
    set_aside = read_set_aside(incoming)
    budget = math.floor(recipe.validate.quarantine_budget * (len(kept) + len(index) + len(set_aside)) + 1e-9)
    validation = DatasetValidation(index, reasons, budget, sample_results, [], [], None, set_aside, kept)
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


# ---------------------------------------------------------------- the report


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
    expectations = []
    for result in validation.sample_results + validation.set_results + validation.drift_results:
        expectations.append(result.to_dict() | {"applicable": True})
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
        "rows": validation.row_counts,
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


def summary_text(validation: DatasetValidation) -> str:
    """Return the sentences that the page shows above its tables."""
    bad_count, row_count = validation.bad_count, validation.given_count
    text = f"{bad_count} of {row_count} samples are bad; at most {validation.budget} may be quarantined."
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
    if validation.over_budget:
        return (
            f"{dataset}: {validation.bad_count} of {validation.given_count} samples are bad, expected at most "
            f"{validation.budget} (quarantine_budget {recipe.validate.quarantine_budget:g}); most frequent: "
            f"{frequent_failures(validation)}; they are in {quarantine} with their reasons; {next_step}"
        )
    failures = "; ".join(result.message() for result in validation.failed_results)
    return f"{dataset}: the set does not meet the recipe's expectations: {failures}; {next_step}"


def frequent_failures(validation: DatasetValidation) -> str:
    """Return the expectations that most samples fail, such as `blank (40 samples)`, and why most others were set aside."""
    counts: Counter[str] = Counter(count_reasons(validation.set_aside))
    for result in validation.sample_results:
        if result.unexpected_items:
            counts[result.check.name] = len(result.unexpected_items)
    return ", ".join(f"{name} ({count} samples)" for name, count in counts.most_common(MAX_NAMED_REASONS))


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
    write_parquet(folder / "index.parquet", index)
    for name in (FIRST_DAYS_FILE, FORGOTTEN_FILE):
        if (incoming / name).is_file():
            shutil.copyfile(incoming / name, folder / name)
    write_json(folder / "dataset.json", accepted_description(description, index, [*kept_shards, *shards]))
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
