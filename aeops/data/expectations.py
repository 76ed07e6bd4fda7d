"""The suites of a recipe: what is expected of each sample, of the set, of each label, and beside the last accepted version.

Great Expectations judges tables, so the samples are judged by the index (a row a sample, with its statistics).
"""

from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from aeops.kinds import KINDS
from aeops.kinds.interface import load_kind
from aeops.kinds.results import ExpectedRange, ExpectedValue
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import Range


@dataclass(frozen=True)
class Check:
    """One expectation, and the words for it.

    Attributes:
        name: how messages, receipts and pages call it.
        allowed: what it allows.
        given: what breaks it, with {} for the value; empty where the table's facts say it.
        expectation: Great Expectations' own.
    """

    name: str
    allowed: str
    given: str
    expectation: Expectation

    @property
    def column(self) -> str:
        """The column that it judges, or the empty string where it judges the table."""
        return str(getattr(self.expectation, "column", ""))


def between(name: str, given: str, column: str, low: float | None, high: float | None, allowed: str) -> Check:
    """Every value of the column lies in [low, high]."""
    return Check(name, allowed, given, gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high))


def one_of(name: str, given: str, column: str, values: list[Any], allowed: str) -> Check:
    """Every value of the column is one of a few."""
    return Check(name, allowed, given, gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values))


def sample_checks(recipe: Recipe, dtype: str) -> list[Check]:
    """What is expected of each sample; one that breaks any of these is set aside."""
    shape = "x".join(map(str, recipe.fit.input.shape))
    new = gxe.ExpectColumnValuesToBeNull(column="duplicate_of")
    checks = [
        one_of("shape", "{}", "shape", [shape], shape),
        one_of("dtype", "{}", "dtype", [dtype], dtype),
        *statistic_checks(recipe),
        Check("duplicate", "samples that equal no earlier one", "a copy of {}", new),
        one_of("across_splits", "a copy in another split", "duplicate_across_splits", [False], "copies in the same split"),
    ]
    return checks + (label_checks(recipe) if recipe.data.labels else [])


def statistic_checks(recipe: Recipe) -> list[Check]:
    """What is expected of the statistics that samples of the recipe's kind have."""
    kind = recipe.fit.input.kind
    bounds = {}
    for key in KINDS[kind].bounds:
        bound = getattr(recipe.validate, key)
        bounds[key] = (bound.min, bound.max)  # the recipe was checked: it has the bounds of its kind
    expected = load_kind(kind).expectations(recipe.fit.input, bounds, refuse_blank=recipe.validate.blank == "refuse")
    return [statistic_check(one) for one in expected]


def statistic_check(expected: ExpectedRange | ExpectedValue) -> Check:
    if isinstance(expected, ExpectedValue):
        return one_of(expected.name, expected.unexpected, expected.column, [expected.value], expected.allowed)
    return between(expected.name, expected.unexpected, expected.column, expected.low, expected.high, expected.allowed)


def label_checks(recipe: Recipe) -> list[Check]:
    """What is expected of each sample's label."""
    labels = list(recipe.data.labels)
    allowed = ", ".join(map(str, labels))
    return [
        Check("label_missing", allowed, "no label", gxe.ExpectColumnValuesToNotBeNull(column="label")),
        one_of("label", "{}", "label", labels, allowed),
    ]


def set_checks(recipe: Recipe) -> list[Check]:
    """What is expected of the accepted samples together."""
    split = recipe.data.split
    shares = {"validation": split.validation, "calibration": split.calibration, "test": split.test}
    splits = ["train", *(name for name, share in shares.items() if share != 0)]  # None: the source's own test part
    low, high = int(recipe.validate.rows.min), int(recipe.validate.rows.max)
    rows = gxe.ExpectTableRowCountToBeBetween(min_value=low, max_value=high)
    filled = gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=splits)
    return [
        Check("rows", f"{low} to {high} samples", "{}", rows),
        Check("splits", f"samples in each of {', '.join(splits)}", "{}", filled),
    ]


def share_checks(bounds: Range) -> list[Check]:
    """What is expected of each label's share of the accepted samples; a label that no sample has is a share of 0."""
    return [between("class_share", "{}", "share", bounds.min, bounds.max, f"{bounds.min:g} to {bounds.max:g}")]


def drift_checks(recipe: Recipe, last: dict[str, float]) -> list[Check]:
    """How far the means over the set may lie from `last`: column -> its mean in the last accepted version."""
    bound = recipe.validate.mean_drift
    return [
        Check(
            f"drift_of_{column}",
            f"{mean - bound:.4f} to {mean + bound:.4f} ({bound:g} around the last accepted version)",
            "a mean of {}",
            gxe.ExpectColumnMeanToBeBetween(column=column, min_value=mean - bound, max_value=mean + bound),
        )
        for column, mean in last.items()
    ]
