"""Judges a dataset: Great Expectations over tables of statistics, and what it found in words.

Great Expectations takes seconds to import: only the stage that validates imports this.
"""

from dataclasses import dataclass
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

from aeops.data.expectations import Check, drift_checks, sample_checks, set_checks, share_checks
from aeops.kinds.interface import load_kind
from aeops.recipe.reader import Recipe

DECIMALS = 9  # of observed means: their last bits differ between CPUs, and a receipt's must not
NAMED = 5  # failing values that one line names


@dataclass(frozen=True)
class Result:
    """What one expectation found.

    Attributes:
        check: the expectation.
        success: whether it is met.
        observed: JSON-ready facts: {"judged", "unexpected"} counts values; {"value"} or {"missing"} is a fact of the table.
        unexpected: the unexpected values, each with the key of its row.
    """

    check: Check
    success: bool
    observed: dict[str, Any]
    unexpected: list[dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """JSON-ready, with nothing in it that differs between two equal datasets."""
        expectation = self.check.expectation
        kwargs = {key: value for key, value in expectation.configuration.kwargs.items() if value is not None}
        facts = {"name": self.check.name, "allowed": self.check.allowed, "expectation": expectation.expectation_type}
        return facts | {"kwargs": kwargs, "success": self.success, "observed": self.observed}

    def found(self) -> str:
        """What was found, for a person."""
        if "judged" in self.observed:
            return f"{self.observed['unexpected']} of {self.observed['judged']} break it"
        if "missing" in self.observed:
            return f"nothing in {', '.join(map(str, self.observed['missing']))}" if self.observed["missing"] else "all there"
        return self.check.given.format(said(self.observed["value"]))

    def says(self) -> str:
        """One line: what was given, what is allowed."""
        named = [f"{self.given(item)} for {key_of(item, self.check)}" for item in self.unexpected[:NAMED]]
        more = " and more" if len(self.unexpected) > NAMED else ""
        return f"{self.check.name}: {', '.join(named) + more or self.found()} given; {self.check.allowed} allowed"

    def given(self, item: dict[str, Any]) -> str:
        """What one unexpected value is, for a person."""
        return self.check.given.format(said(item[self.check.column]))


class Judge:
    """Great Expectations with everything in memory but its Data Docs.

    Attributes:
        suites: what was judged so far: title -> results.

        judge = Judge(folder_for_the_pages)
        results = judge.judge("digits-samples", checks, index, key="id")
        judge.write_pages()
    """

    def __init__(self, site: Path) -> None:
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)}
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
        self.suites: dict[str, list[Result]] = {}

    def judge(self, title: str, checks: list[Check], table: pd.DataFrame, key: str) -> list[Result]:
        """The results of `checks` on `table`, in the order of the checks.

        Args:
            title: what is judged; the suite's name on the pages, unique for this judge.
            checks: what is expected.
            table: whose columns the checks name.
            key: the column that names a row.

        Raises:
            RuntimeError: Great Expectations could not judge one of them, which is a fault of ours.
        """
        suite = gx.ExpectationSuite(title)
        for check in checks:
            check.expectation.meta = {"name": check.name}
            suite.add_expectation(check.expectation)
        batch = self.source.add_dataframe_asset(title).add_batch_definition_whole_dataframe(title)
        definition = gx.ValidationDefinition(name=title, data=batch, suite=self.context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=title,
            validation_definitions=[self.context.validation_definitions.add(definition)],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [key]},
        )
        run = self.context.checkpoints.add(checkpoint).run({"dataframe": table}, run_id=RunIdentifier(run_name="last"))
        (found,) = run.run_results.values()
        by_name = {found_one.expectation_config.meta["name"]: found_one for found_one in found.results}
        self.suites[title] = [read_result(check, by_name[check.name]) for check in checks]
        return self.suites[title]

    def write_pages(self) -> None:
        """Writes the Data Docs of everything judged so far."""
        self.context.build_data_docs()


def read_result(check: Check, found: Any) -> Result:
    """Great Expectations' own result as ours, in plain Python types."""
    plain = found.to_json_dict()
    result, success = plain["result"], bool(plain["success"])
    if not result:
        raise RuntimeError(f"Great Expectations could not judge {check.name}: {plain['exception_info']}")
    if "element_count" in result:
        observed = {"judged": result["element_count"], "unexpected": result["unexpected_count"]}
        return Result(check, success, observed, result["unexpected_index_list"])
    if "missing_count" in result:
        return Result(check, success, {"missing": sorted(result.get("partial_missing_list", []))}, [])
    value = result["observed_value"]
    return Result(check, success, {"value": round(value, DECIMALS) if isinstance(value, float) else value}, [])


def key_of(item: dict[str, Any], check: Check) -> str:
    """What names the row of an unexpected value: such as `label 3`."""
    return ", ".join(f"{name} {value}" for name, value in item.items() if name != check.column)


def said(value: Any) -> str:
    """A value for a person."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- what is judged


def judge_samples(judge: Judge, recipe: Recipe, index: pd.DataFrame, dtype: str) -> list[Result]:
    """Every sample by its row of the index."""
    return judge.judge(f"{recipe.data.dataset}-samples", sample_checks(recipe, dtype), index, key="id")


def judge_set(judge: Judge, recipe: Recipe, accepted: pd.DataFrame) -> list[Result]:
    """The accepted samples together: how many, in which splits, and the share of each label."""
    results = judge.judge(f"{recipe.data.dataset}-set", set_checks(recipe), accepted, key="id")
    if recipe.data.labels and recipe.validate.class_share:
        shares = label_shares(accepted, recipe.data.labels)
        checks = share_checks(recipe.validate.class_share)
        return results + judge.judge(f"{recipe.data.dataset}-labels", checks, shares, key="label")
    return results


def label_shares(index: pd.DataFrame, labels: tuple[int, ...]) -> pd.DataFrame:
    """A row for each label there may be: how many samples have it, and which share of all that is."""
    counts = index["label"].value_counts().reindex(list(labels), fill_value=0).astype("int64")
    return pd.DataFrame({"label": list(labels), "rows": counts.to_numpy(), "share": (counts / max(1, len(index))).to_numpy()})


def judge_drift(judge: Judge, recipe: Recipe, accepted: pd.DataFrame, last: dict[str, float]) -> list[Result]:
    """The means of the accepted samples' statistics beside `last`, those of the last accepted version."""
    return judge.judge(f"{recipe.data.dataset}-drift", drift_checks(recipe, last), accepted, key="id")


def drift_means(index: pd.DataFrame, kind: str) -> dict[str, float]:
    """What drift is judged by: the means of statistics that lie in [0, 1], as the kind of the samples has them."""
    return {column: float(index[column].mean()) for column in load_kind(kind).DRIFT_COLUMNS}


# ---------------------------------------------------------------- telling bad samples apart


def reasons_of(results: list[Result], index: pd.DataFrame) -> dict[str, list[str]]:
    """For each sample that breaks an expectation, in the index's order: its id -> what it breaks."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        for item in result.unexpected:
            text = f"{result.check.name}: {result.given(item)} given; {result.check.allowed} allowed"
            reasons.setdefault(item["id"], []).append(text)
    return {identity: reasons[identity] for identity in index["id"] if identity in reasons}
