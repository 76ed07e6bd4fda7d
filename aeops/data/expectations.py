"""The suites of a recipe: what is expected of each sample, of the set, of each label, and of the drift between versions.

Great Expectations evaluates tables, so the samples are checked by the index (a row a sample, with its statistics).
"""

from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.expectation import Expectation

from ae_models.spec import BOOLEAN, CATEGORY, DATE
from aeops.kinds.interface import load_kind
from aeops.kinds.results import ExpectedRange, ExpectedValue
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import REFUSE, RangeSpec


@dataclass(frozen=True)
class ExpectationCheck:
    """One expectation, and the words for it.

    Attributes:
        name: of the expectation, in messages, receipts and pages.
        expected_text: what is allowed, in words.
        unexpected_text: what breaks it, in words, with {} for the value; empty where the table's facts say it.
        expectation: the expectation of Great Expectations.
    """

    name: str
    expected_text: str
    unexpected_text: str
    expectation: Expectation

    @property
    def column(self) -> str:
        """Return the column that it checks, or the empty string where it checks the table."""
        return str(getattr(self.expectation, "column", ""))


def _range_check(
    name: str, unexpected_text: str, column: str, low: float | None, high: float | None, expected_text: str
) -> ExpectationCheck:
    """Expect every value of the column in [low, high]."""
    expectation = gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)
    return ExpectationCheck(name, expected_text, unexpected_text, expectation)


def _choice_check(name: str, unexpected_text: str, column: str, values: list[Any], expected_text: str) -> ExpectationCheck:
    """Expect every value of the column to be one of `values`."""
    expectation = gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values)
    return ExpectationCheck(name, expected_text, unexpected_text, expectation)


def sample_checks(recipe: Recipe, dtype: str) -> list[ExpectationCheck]:
    """Return what is expected of each sample; one that breaks any of these goes to quarantine."""
    shape = "x".join(map(str, recipe.fit.input.stored_shape))
    is_original = gxe.ExpectColumnValuesToBeNull(column="duplicate_of")
    duplicate_checks = []
    if recipe.on_duplicate == REFUSE:
        duplicate_checks.append(ExpectationCheck("duplicate", "samples that equal no earlier one", "a copy of {}", is_original))
    checks = [
        _choice_check("shape", "{}", "shape", [shape], shape),
        _choice_check("dtype", "{}", "dtype", [dtype], dtype),
        *statistic_checks(recipe),
        *duplicate_checks,
        _choice_check("across_splits", "a copy in another split", "duplicate_across_splits", [False], "copies in the same split"),
    ]
    if recipe.data.labels:
        checks += label_checks(recipe)
    return checks


def statistic_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of the statistics that samples of the recipe's kind have."""
    spec = recipe.fit.input
    bounds = recipe.validate.sample_bounds(spec)
    expected = load_kind(spec.kind).expectations(spec, bounds, refuse_blank=recipe.validate.blank == "refuse")
    return list(map(_statistic_check, expected))


def row_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of each column of a table's rows; nothing for samples that are no rows."""
    expected = load_kind(recipe.fit.input.kind).table_expectations(recipe.fit.input)
    return list(map(_statistic_check, expected))


def row_set_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return how complete each column that may lack values has to be over the accepted rows."""
    share = recipe.validate.completeness
    checks = []
    for column in recipe.fit.input.columns if share > 0 else ():
        if column.missing:
            is_complete = gxe.ExpectColumnValuesToNotBeNull(column=column.name, mostly=share)
            name, allowed = f"{column.name}: completeness", f"values in {share:.0%} of the rows or more"
            checks.append(ExpectationCheck(name, allowed, "no value", is_complete))
    return checks


def row_drift_checks(recipe: Recipe, last_rows: pd.DataFrame) -> list[ExpectationCheck]:
    """Return how far each column of the accepted rows may lie from the last accepted version.

    The mean of a column of numbers: by validate.mean_drift of its standard deviation; of a boolean: by that share. A share of
    the rows as large may have categories that are new.

    Args:
        recipe: gives the columns and validate.mean_drift.
        last_rows: the rows of the last accepted version.
    """
    drift, checks = recipe.validate.mean_drift, []
    for channel in recipe.fit.input.channels:
        if channel.name in last_rows:
            checks.append(_mean_check(channel.name, last_rows[channel.name].dropna(), drift))
    for column in recipe.fit.input.columns:
        if column.name not in last_rows or column.type == DATE or last_rows[column.name].isna().all():
            continue
        last = last_rows[column.name].dropna()
        name = f"{column.name}: drift"
        if column.type == CATEGORY:
            known = sorted(map(str, last.unique()))
            is_known = gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=known, mostly=max(0.0, 1 - drift))
            checks.append(ExpectationCheck(name, f"categories of the last accepted version but for {drift:.0%}", "{}", is_known))
            continue
        checks.append(_mean_check(column.name, last, drift, is_share=column.type == BOOLEAN))
    return checks


def _mean_check(name: str, last: pd.Series, drift: float, is_share: bool = False) -> ExpectationCheck:
    """Expect the mean of a column near that of its last values: by `drift` of their deviation, or of a share by `drift`."""
    mean, spread = float(last.astype(float).mean()), float(last.astype(float).std(ddof=0))
    reach = drift if is_share else drift * spread
    expectation = gxe.ExpectColumnMeanToBeBetween(column=name, min_value=mean - reach, max_value=mean + reach)
    allowed = f"{mean - reach:.4g} to {mean + reach:.4g} ({drift:g} standard deviations around the last accepted version)"
    return ExpectationCheck(f"{name}: drift", allowed, "a mean of {}", expectation)


def _statistic_check(expected: ExpectedRange | ExpectedValue) -> ExpectationCheck:
    if isinstance(expected, ExpectedValue) and expected.value is None:
        is_present = gxe.ExpectColumnValuesToNotBeNull(column=expected.column)
        return ExpectationCheck(expected.name, expected.allowed, expected.unexpected, is_present)
    if isinstance(expected, ExpectedValue) and isinstance(expected.value, tuple):
        return _choice_check(expected.name, expected.unexpected, expected.column, list(expected.value), expected.allowed)
    if isinstance(expected, ExpectedValue):
        return _choice_check(expected.name, expected.unexpected, expected.column, [expected.value], expected.allowed)
    return _range_check(expected.name, expected.unexpected, expected.column, expected.low, expected.high, expected.allowed)


def label_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of each sample's label."""
    labels = list(recipe.data.labels)
    expected_text = ", ".join(map(recipe.label_text, labels))
    has_label = gxe.ExpectColumnValuesToNotBeNull(column="label")
    return [
        ExpectationCheck("label_missing", expected_text, "no label", has_label),
        _choice_check("label", "{}", "label", labels, expected_text),
    ]


def set_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of the accepted samples together."""
    split = recipe.data.split
    shares = {"validation": split.validation, "calibration": split.calibration, "test": split.test}
    splits = ["train"]
    splits += [name for name, share in shares.items() if share != 0]  # None: the source's own test part
    low, high = int(recipe.validate.rows.min), int(recipe.validate.rows.max)
    row_count = gxe.ExpectTableRowCountToBeBetween(min_value=low, max_value=high)
    all_splits = gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=splits)
    return [
        ExpectationCheck("rows", f"{low} to {high} samples", "{}", row_count),
        ExpectationCheck("splits", f"samples in each of {', '.join(splits)}", "{}", all_splits),
    ]


def share_checks(bounds: RangeSpec) -> list[ExpectationCheck]:
    """Return what is expected of each label's share of the accepted samples; a label that no sample has is a share of 0."""
    return [_range_check("class_share", "{}", "share", bounds.min, bounds.max, f"{bounds.min:g} to {bounds.max:g}")]


def drift_checks(recipe: Recipe, last_means: dict[str, float]) -> list[ExpectationCheck]:
    """Return how far each mean over the set may lie from that of the last accepted version.

    Args:
        recipe: gives the largest difference (validate.mean_drift).
        last_means: column -> its mean in the last accepted version.
    """
    drift = recipe.validate.mean_drift
    checks = []
    for column, mean in last_means.items():
        low, high = mean - drift, mean + drift
        expected_text = f"{low:.4f} to {high:.4f} ({drift:g} around the last accepted version)"
        expectation = gxe.ExpectColumnMeanToBeBetween(column=column, min_value=low, max_value=high)
        checks.append(ExpectationCheck(f"drift_of_{column}", expected_text, "a mean of {}", expectation))
    return checks
