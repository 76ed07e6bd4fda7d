"""Validates a dataset: Great Expectations over tables of statistics, and the results in words.

Great Expectations takes seconds to import: only the stage that validates imports this.
"""

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from ae_models.spec import BOOLEAN, InputSpec
from aeops.data.dataset import read_shards
from aeops.data.expectations import to_great_expectations
from aeops.data.suite import (
    ExpectationCheck,
    drift_checks,
    row_checks,
    row_drift_checks,
    row_set_checks,
    sample_checks,
    set_checks,
    share_checks,
)
from aeops.kinds.interface import load_kind
from aeops.machine.scratch import ScratchFolder
from aeops.recipe.reader import Recipe

DECIMALS = 9  # of observed means: their last bits differ between CPUs, and a receipt's must not
ROW_KEY = "(sample)"  # column of a table's rows with their ids
MAX_OBSERVED_VALUES = 50  # that a validation lists
NAMED_VALUES = 5  # unexpected values that one message names


@dataclass(frozen=True)
class ExpectationResult:
    """Result of one expectation.

    Attributes:
        check: the expectation.
        is_success: whether the data are as expected.
        observed_facts: JSON-ready: {"judged", "unexpected"} counts values; {"value"} or {"missing"} is a fact of the table.
        unexpected_items: the unexpected values, each with the key of its row.
        observed_range: {"min", "max"} of a column of numbers or {"values"} of one with few others; empty where there is neither.
    """

    check: ExpectationCheck
    is_success: bool
    observed_facts: dict[str, Any]
    unexpected_items: list[dict[str, Any]]
    observed_range: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result JSON-ready, with nothing in it that differs between two equal datasets."""
        expectation = to_great_expectations(self.check)
        kwargs = {key: value for key, value in expectation.configuration.kwargs.items() if value is not None}
        document = {
            "name": self.check.name,
            "allowed": self.check.expected_text,
            "expectation": expectation.expectation_type,
            "kwargs": kwargs,
            "success": self.is_success,
            "observed": self.observed_facts,
        }
        if self.check.severity != self.check.level:
            document["severity"] = self.check.severity
        return document

    def observed_text(self) -> str:
        """Return what the data have, in words."""
        if "judged" in self.observed_facts:
            return f"{self.observed_facts['unexpected']} of {self.observed_facts['judged']} break it"
        if "missing" not in self.observed_facts:
            return self.check.unexpected_text.format(value_text(self.observed_facts["value"]))
        if self.observed_facts["missing"]:
            return f"nothing in {', '.join(map(str, self.observed_facts['missing']))}"
        return "all there"

    def message(self) -> str:
        """Return one line that says what was expected and what the data have."""
        observed_values = ", ".join(self._unexpected_with_key(item) for item in self.unexpected_items[:NAMED_VALUES])
        if len(self.unexpected_items) > NAMED_VALUES:
            observed_values += " and more"
        return f"{self.check.name}: expected {self.check.expected_text}, got {observed_values or self.observed_text()}"

    def item_message(self, item: dict[str, Any]) -> str:
        """Return one line that says what was expected and what one unexpected value is."""
        return f"{self.check.name}: expected {self.check.expected_text}, got {self._unexpected_text(item)}"

    def item_key(self, item: dict[str, Any]) -> str:
        """Return the id of the sample that has an unexpected value."""
        return str(item[ROW_KEY] if ROW_KEY in item else item["id"])

    def _unexpected_text(self, item: dict[str, Any]) -> str:
        return self.check.unexpected_text.format(value_text(item[self.check.column]))

    def _unexpected_with_key(self, item: dict[str, Any]) -> str:
        """Return an unexpected value and the key of its row, such as `0.01 for label 3`."""
        row_key = [f"{name} {value}" for name, value in item.items() if name != self.check.column]
        return f"{self._unexpected_text(item)} for {', '.join(row_key)}"


def messages_of(results: Iterable[ExpectationResult]) -> list[str]:
    """Return the message of each result."""
    return [result.message() for result in results]


class DataValidator:
    """Great Expectations with everything in memory but its Data Docs.

    Attributes:
        suites: the results so far: title -> results.

        validator = DataValidator()
        results = validator.run_suite("digits-samples", checks, index, key="id")
        validator.write_pages(folder_for_the_pages)
    """

    def __init__(self) -> None:
        # Great Expectations fills in variables in the path of its pages: they are built in a folder without any.
        self._site = ScratchFolder()
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": self._site.name}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        site_config = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": store,
            "site_index_builder": index,
        }
        self.context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(),
                data_docs_sites={"site": site_config},
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )
        self.source = self.context.data_sources.add_pandas("datasets")
        self.suites: dict[str, list[ExpectationResult]] = {}

    def run_suite(self, title: str, checks: list[ExpectationCheck], table: pd.DataFrame, key: str) -> list[ExpectationResult]:
        """Evaluate expectations on a table.

        Args:
            title: name of the suite on the pages, unique for this validator.
            checks: the expectations.
            table: has the columns that the checks name.
            key: the column that names a row.

        Returns:
            The results, in the order of the checks.

        Raises:
            RuntimeError: Great Expectations could not evaluate one of them, which is an error in this package.
        """
        suite = gx.ExpectationSuite(title)
        for check in checks:
            expectation = to_great_expectations(check)
            expectation.meta = {"name": check.name}
            suite.add_expectation(expectation)
        batch = self.source.add_dataframe_asset(title).add_batch_definition_whole_dataframe(title)
        validation = gx.ValidationDefinition(name=title, data=batch, suite=self.context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=title,
            validation_definitions=[self.context.validation_definitions.add(validation)],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [key]},
        )
        run = self.context.checkpoints.add(checkpoint).run({"dataframe": table}, run_id=RunIdentifier(run_name="last"))
        (suite_result,) = run.run_results.values()
        gx_results = {}
        for gx_result in suite_result.results:
            gx_results[gx_result.expectation_config.meta["name"]] = gx_result
        results = [_convert_result(check, gx_results[check.name]) for check in checks]
        self.suites[title] = [replace(result, observed_range=observed_range(result.check, table)) for result in results]
        return self.suites[title]

    def write_pages(self, folder: Path) -> None:
        """Write the Data Docs of every suite so far to a new folder."""
        self.context.build_data_docs()
        shutil.copytree(self._site.name, folder)


def observed_range(check: ExpectationCheck, table: pd.DataFrame) -> dict[str, Any]:
    """Return what the values that an expectation judges are: their ends, or all of them where they are few and no numbers."""
    if check.column not in table or check.form in ("ExpectColumnValuesToBeNull", "ExpectColumnMeanToBeBetween"):
        return {}
    values = table[check.column].dropna()
    if values.empty:
        return {}
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        ends = (float(values.min()), float(values.max()))
        return {"min": ends[0], "max": ends[1]} if all(map(math.isfinite, ends)) else {}
    distinct = sorted(map(str, values.unique()))
    return {"values": distinct} if len(distinct) <= MAX_OBSERVED_VALUES else {"distinct": len(distinct)}


def _convert_result(check: ExpectationCheck, gx_result: Any) -> ExpectationResult:
    """Convert a result of Great Expectations to plain Python types."""
    raw_result = gx_result.to_json_dict()
    result, is_success = raw_result["result"], bool(raw_result["success"])
    if not result:
        raise RuntimeError(f"Great Expectations could not evaluate {check.name}: {raw_result['exception_info']}")
    if "element_count" in result:
        counts = {"judged": result["element_count"], "unexpected": result["unexpected_count"]}
        return ExpectationResult(check, is_success, counts, result["unexpected_index_list"])
    if "missing_count" in result:
        return ExpectationResult(check, is_success, {"missing": sorted(result.get("partial_missing_list", []))}, [])
    value = result["observed_value"]
    if isinstance(value, float):
        value = round(value, DECIMALS)
    return ExpectationResult(check, is_success, {"value": value}, [])


def value_text(value: Any) -> str:
    """Return a value as messages and pages show it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


# ---------------------------------------------------------------- the suites of a dataset


def validate_samples(validator: DataValidator, recipe: Recipe, index: pd.DataFrame, dtype: str) -> list[ExpectationResult]:
    """Evaluate what is expected of each sample, by its row of the index."""
    return validator.run_suite(f"{recipe.data.dataset}-samples", sample_checks(recipe, dtype), index, key="id")


def read_rows(dataset: Path, index: pd.DataFrame, spec: InputSpec) -> pd.DataFrame | None:
    """Return the rows of a table with their ids, each column in its own type; None where samples are no rows."""
    parts = []
    for rows, block in read_shards(dataset, index):
        columns = load_kind(spec.kind).to_table(block, spec)
        if columns is None:
            return None
        parts.append(pd.DataFrame(columns).assign(**{ROW_KEY: rows["id"].to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def validate_rows(validator: DataValidator, recipe: Recipe, rows: pd.DataFrame | None) -> list[ExpectationResult]:
    """Evaluate what is expected of each row's columns; nothing where samples are no rows, or where nothing is."""
    checks = row_checks(recipe)
    if rows is None or not checks:
        return []
    return validator.run_suite(f"{recipe.data.dataset}-rows", checks, rows, key=ROW_KEY)


def validate_row_set(validator: DataValidator, recipe: Recipe, rows: pd.DataFrame | None) -> list[ExpectationResult]:
    """Evaluate what is expected of each column over the accepted rows; nothing where samples are no rows."""
    checks = row_set_checks(recipe)
    if rows is None or not checks:
        return []
    results = validator.run_suite(f"{recipe.data.dataset}-columns", checks, rows, key=ROW_KEY)
    # The rows that lack a value are not bad by themselves.
    return [replace(result, unexpected_items=[]) for result in results]


def validate_row_drift(
    validator: DataValidator, recipe: Recipe, rows: pd.DataFrame | None, last_rows: pd.DataFrame | None
) -> list[ExpectationResult]:
    """Compare each column of the accepted rows with the last accepted version; nothing where samples are no rows."""
    if rows is None or last_rows is None:
        return []
    checks = row_drift_checks(recipe, last_rows)
    if not checks:
        return []
    booleans = {column.name: float for column in recipe.fit.input.columns if column.type == BOOLEAN}
    return validator.run_suite(f"{recipe.data.dataset}-column-drift", checks, rows.astype(booleans), key=ROW_KEY)


def validate_set(validator: DataValidator, recipe: Recipe, accepted_index: pd.DataFrame) -> list[ExpectationResult]:
    """Evaluate what is expected of the accepted samples together: their number, their splits, and the share of each label."""
    results = validator.run_suite(f"{recipe.data.dataset}-set", set_checks(recipe), accepted_index, key="id")
    if not recipe.data.labels or not recipe.validate.class_share:
        return results
    shares = label_shares(accepted_index, recipe.data.labels)
    checks = share_checks(recipe, recipe.validate.class_share)
    return results + validator.run_suite(f"{recipe.data.dataset}-labels", checks, shares, key="label")


def label_shares(index: pd.DataFrame, labels: tuple[int, ...]) -> pd.DataFrame:
    """Return a row for each label of the recipe: the number of samples that have it, and their share of all samples."""
    counts = index["label"].value_counts().reindex(list(labels), fill_value=0).astype("int64")
    return pd.DataFrame({"label": list(labels), "rows": counts.to_numpy(), "share": (counts / max(1, len(index))).to_numpy()})


def validate_drift(
    validator: DataValidator, recipe: Recipe, accepted_index: pd.DataFrame, last_means: dict[str, float]
) -> list[ExpectationResult]:
    """Compare the means of the accepted samples' statistics with those of the last accepted version."""
    return validator.run_suite(f"{recipe.data.dataset}-drift", drift_checks(recipe, last_means), accepted_index, key="id")


def drift_means(index: pd.DataFrame, spec: InputSpec) -> dict[str, float]:
    """Return the means that the drift checks compare: of statistics in [0, 1], which the kind of the samples names."""
    return {column: float(index[column].mean()) for column in load_kind(spec.kind).drift_columns(spec)}


# ---------------------------------------------------------------- bad samples


def quarantine_reasons(results: list[ExpectationResult], index: pd.DataFrame) -> dict[str, list[str]]:
    """Return the bad samples, in the index's order: sample's id -> messages of the expectations that it breaks."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        for item in result.unexpected_items:
            identity = result.item_key(item)
            reasons.setdefault(identity, []).append(result.item_message(item))
    return {identity: reasons[identity] for identity in index["id"] if identity in reasons}
