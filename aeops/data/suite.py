"""The suites of a recipe: what is expected of each sample, of the set, of each label, and of the drift between versions.

Tables are evaluated, so the samples are checked by the index (a row a sample, with its statistics). Light: it needs no Great
Expectations, whose own expectations `aeops.data.expectations` makes of these.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ae_models.spec import BOOLEAN, CATEGORY, DATE, suggest_match
from aeops.errors import UsageError
from aeops.kinds.interface import load_kind
from aeops.kinds.results import ExpectedRange, ExpectedValue, shorten_list
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import DUPLICATE, REFUSE, ROW, SET, WARNING, RangeSpec

if TYPE_CHECKING:
    import pandas as pd

DRIFT = "drift"  # the family of those that compare with the last accepted version
# What breaks an expectation of each severity, in words.
CONSEQUENCES = {
    ROW: "a sample that breaks it is set aside",
    SET: "data that breaks it is refused",
    WARNING: "only reported",
}


@dataclass(frozen=True)
class ExpectationCheck:
    """One expectation, and the words for it.

    Attributes:
        name: of the expectation, in messages, receipts and pages.
        expected_text: what is allowed, in words.
        unexpected_text: what breaks it, in words, with {} for the value; empty where the table's facts say it.
        form: name of Great Expectations' class.
        arguments: of that class.
        sentence: the expectation as a sentence for people.
        level: what it judges: `ROW`, each sample; `SET`, all of them together.
        severity: what becomes of data that breaks it: `ROW`, `SET` or `WARNING`.
        is_required: whether no model can take a sample that breaks it, so that nobody may release one or be only reported.
        setting: the recipe's bounds, as `ExpectedRange.setting`; `validate.mean_drift` is the bound itself.
    """

    name: str
    expected_text: str
    unexpected_text: str
    form: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""
    level: str = ROW
    severity: str = ROW
    is_required: bool = False
    setting: str = ""

    @property
    def column(self) -> str:
        """Return the column that it checks, or the empty string where it checks the table."""
        return str(self.arguments.get("column", ""))

    @property
    def family(self) -> str:
        """Return what a recipe may call it and its like: `range` of `pressure: range`, `drift` of `drift_of_mean`."""
        last = self.name.rpartition(": ")[2]
        return DRIFT if last.startswith(f"{DRIFT}_of_") else last


def _range_check(
    name: str, unexpected_text: str, column: str, low: float | None, high: float | None, expected_text: str, **options: Any
) -> ExpectationCheck:
    """Expect every value of the column in [low, high]."""
    arguments = {"column": column, "min_value": low, "max_value": high}
    return ExpectationCheck(name, expected_text, unexpected_text, "ExpectColumnValuesToBeBetween", arguments, **options)


def _choice_check(
    name: str, unexpected_text: str, column: str, values: list[Any], expected_text: str, **options: Any
) -> ExpectationCheck:
    """Expect every value of the column to be one of `values`."""
    arguments = {"column": column, "value_set": values}
    return ExpectationCheck(name, expected_text, unexpected_text, "ExpectColumnValuesToBeInSet", arguments, **options)


# ---------------------------------------------------------------- each sample


def sample_checks(recipe: Recipe, dtype: str | None) -> list[ExpectationCheck]:
    """Return what is expected of each sample; one that breaks any of these goes to quarantine.

    Args:
        recipe: whose samples they are.
        dtype: that of the dataset, which all of its samples have to have; None: any, as nothing came in yet.
    """
    shape = "x".join(map(str, recipe.fit.input.stored_shape))
    checks = [_choice_check("shape", "{}", "shape", [shape], shape, sentence=f"Each sample is {shape}.", is_required=True)]
    if dtype is not None:
        sentence = f"Each sample is stored as {dtype}."
        checks.append(_choice_check("dtype", "{}", "dtype", [dtype], dtype, sentence=sentence, is_required=True))
    checks += statistic_checks(recipe)
    if recipe.on_duplicate == REFUSE:
        null, column, sentence = "ExpectColumnValuesToBeNull", {"column": "duplicate_of"}, "No sample equals an earlier one."
        texts = ("samples that equal no earlier one", "a copy of {}")
        checks.append(ExpectationCheck(DUPLICATE, *texts, null, column, sentence))
    checks.append(
        _choice_check(
            *("across_splits", "a copy in another split", "duplicate_across_splits", [False], "copies in the same split"),
            sentence="Samples that are equal are in one split.",
            is_required=True,
        )
    )
    if recipe.data.labels:
        checks += label_checks(recipe)
    return with_severities(checks, recipe)


def statistic_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of the statistics that samples of the recipe's kind have."""
    spec = recipe.fit.input
    bounds = recipe.validate.sample_bounds(spec)
    expected = load_kind(spec.kind).expectations(spec, bounds, refuse_blank=recipe.validate.blank == "refuse")
    return list(map(_statistic_check, expected))


def row_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of each column of a table's rows; nothing for samples that are no rows."""
    expected = load_kind(recipe.fit.input.kind).table_expectations(recipe.fit.input)
    return with_severities(list(map(_statistic_check, expected)), recipe)


def _statistic_check(expected: ExpectedRange | ExpectedValue) -> ExpectationCheck:
    options: dict[str, Any] = {"sentence": expected.sentence, "is_required": expected.is_required, "setting": expected.setting}
    if isinstance(expected, ExpectedRange):
        bounds = (expected.low, expected.high)
        return _range_check(expected.name, expected.unexpected, expected.column, *bounds, expected.allowed, **options)
    if expected.value is None:
        form, column = "ExpectColumnValuesToNotBeNull", {"column": expected.column}
        return ExpectationCheck(expected.name, expected.allowed, expected.unexpected, form, column, **options)
    values = list(expected.value) if isinstance(expected.value, tuple) else [expected.value]
    return _choice_check(expected.name, expected.unexpected, expected.column, values, expected.allowed, **options)


def label_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of each sample's label."""
    labels, texts = list(recipe.data.labels), list(map(recipe.label_text, recipe.data.labels))
    expected_text, column = ", ".join(texts), {"column": "label"}
    sentence = f"The label of each sample is one of {shorten_list(texts)}."
    return [
        ExpectationCheck(
            *("label_missing", expected_text, "no label", "ExpectColumnValuesToNotBeNull", column, "Each sample has a label."),
            is_required=True,
        ),
        _choice_check("label", "{}", "label", labels, expected_text, sentence=sentence, is_required=True),
    ]


# ---------------------------------------------------------------- all samples together


def set_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return what is expected of the accepted samples together."""
    split = recipe.data.split
    shares = {"validation": split.validation, "calibration": split.calibration, "test": split.test}
    splits = ["train"]
    splits += [name for name, share in shares.items() if share != 0]  # None: the source's own test part
    low, high = int(recipe.validate.rows.min), int(recipe.validate.rows.max)
    names = ", ".join(splits)
    row_count = ExpectationCheck(
        *("rows", f"{low} to {high} samples", "{}", "ExpectTableRowCountToBeBetween", {"min_value": low, "max_value": high}),
        *(f"There are {low:,} to {high:,} samples.", SET, SET),
        setting="validate.rows",
    )
    all_splits = ExpectationCheck(
        *("splits", f"samples in each of {names}", "{}", "ExpectColumnDistinctValuesToContainSet"),
        *({"column": "split", "value_set": splits}, f"There are samples in each of {names}.", SET, SET),
        is_required=True,
    )
    return with_severities([row_count, all_splits], recipe)


def share_checks(recipe: Recipe, bounds: RangeSpec) -> list[ExpectationCheck]:
    """Return what is expected of each label's share of the accepted samples; a label that no sample has is a share of 0."""
    allowed = f"{bounds.min:g} to {bounds.max:g}"
    sentence = f"The share of each label is {allowed}."
    options = {"sentence": sentence, "level": SET, "severity": SET, "setting": "validate.class_share"}
    return with_severities([_range_check("class_share", "{}", "share", bounds.min, bounds.max, allowed, **options)], recipe)


def row_set_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return how complete each column that may lack values has to be over the accepted rows."""
    share = recipe.validate.completeness
    checks = []
    for column in recipe.fit.input.columns if share > 0 else ():
        if column.missing:
            arguments = {"column": column.name, "mostly": share}
            name, allowed = f"{column.name}: completeness", f"values in {share:.0%} of the rows or more"
            sentence = f"{column.name} has {allowed}."
            form = "ExpectColumnValuesToNotBeNull"
            texts = (name, allowed, "no value")
            setting = "validate.completeness"
            checks.append(ExpectationCheck(*texts, form, arguments, sentence, SET, SET, setting=setting))
    return with_severities(checks, recipe)


def drift_checks(recipe: Recipe, last_means: Mapping[str, float]) -> list[ExpectationCheck]:
    """Return how far each mean over the set may lie from that of the last accepted version.

    Args:
        recipe: gives the largest difference (validate.mean_drift).
        last_means: column -> its mean in the last accepted version.
    """
    drift = recipe.validate.mean_drift
    checks = []
    for column, mean in last_means.items():
        low, high = mean - drift, mean + drift
        allowed = f"{low:.4f} to {high:.4f} ({drift:g} around the last accepted version)"
        name = f"{DRIFT}_of_{column}"
        sentence = f"The mean of {column} over all samples is {low:.4f} to {high:.4f}, as in the last accepted version."
        checks.append(_mean_check(name, column, (low, high), allowed, sentence))
    return with_severities(checks, recipe)


def row_drift_checks(recipe: Recipe, last_rows: "pd.DataFrame") -> list[ExpectationCheck]:
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
            checks.append(_column_drift(channel.name, last_rows[channel.name].dropna(), drift))
    for column in recipe.fit.input.columns:
        if column.name not in last_rows or column.type == DATE or last_rows[column.name].isna().all():
            continue
        last = last_rows[column.name].dropna()
        if column.type != CATEGORY:
            checks.append(_column_drift(column.name, last, drift, is_share=column.type == BOOLEAN))
            continue
        known = sorted(map(str, last.unique()))
        allowed = f"categories of the last accepted version but for {drift:.0%}"
        sentence, options = f"{column.name} has {allowed} of the rows.", {"mostly": max(0.0, 1 - drift)}
        check = _choice_check(f"{column.name}: {DRIFT}", "{}", column.name, known, allowed, sentence=sentence, level=SET)
        checks.append(replace(check, severity=SET, arguments={**check.arguments, **options}, setting="validate.mean_drift"))
    return with_severities(checks, recipe)


def _column_drift(name: str, last: "pd.Series", drift: float, is_share: bool = False) -> ExpectationCheck:
    """Expect the mean of a column near that of its last values: by `drift` of their deviation, or of a share by `drift`."""
    mean, spread = float(last.astype(float).mean()), float(last.astype(float).std(ddof=0))
    reach = drift if is_share else drift * spread
    values = f"{mean - reach:.4g} to {mean + reach:.4g}"
    allowed = f"{values} ({drift:g} standard deviations around the last accepted version)"
    sentence = f"The mean of {name} is {values}, as in the last accepted version."
    return _mean_check(f"{name}: {DRIFT}", name, (mean - reach, mean + reach), allowed, sentence)


def _mean_check(name: str, column: str, bounds: tuple[float, float], allowed: str, sentence: str) -> ExpectationCheck:
    arguments = {"column": column, "min_value": bounds[0], "max_value": bounds[1]}
    form = "ExpectColumnMeanToBeBetween"
    return ExpectationCheck(name, allowed, "a mean of {}", form, arguments, sentence, SET, SET, setting="validate.mean_drift")


# ---------------------------------------------------------------- severities


def with_severities(checks: list[ExpectationCheck], recipe: Recipe) -> list[ExpectationCheck]:
    """Return expectations with the severities of validate.severity, by their names or families."""
    chosen = recipe.validate.severity
    return [replace(check, severity=chosen.get(check.name, chosen.get(check.family, check.severity))) for check in checks]


def require_known_severities(recipe: Recipe) -> None:
    """Check validate.severity against the expectations that the recipe has.

    Raises:
        UsageError: with every mistake: a name that is none, a severity of rows for what judges the set, a warning of what no
            model can do without.
    """
    problems = [f"recipes/{recipe.name}.yaml: validate.severity.{problem}" for problem in _severity_problems(recipe)]
    if problems:
        raise UsageError("\n".join(problems))


def _severity_problems(recipe: Recipe) -> Iterator[str]:
    checks = static_checks(recipe)
    names: list[str] = []
    for check in checks:
        names += [check.name, check.family]
    for name, severity in recipe.validate.severity.items():
        if name == DRIFT:
            if severity == ROW:
                yield f"{name}: expected {SET} or {WARNING}, as it judges the set, got {severity}"
            continue
        meant = [check for check in checks if name in (check.name, check.family)]
        if not meant:
            known = ", ".join(dict.fromkeys([*names, DRIFT]))
            yield f"{name}: no such expectation, expected {known}{suggest_match(name, names)}"
        if severity == ROW and any(check.level == SET for check in meant):
            yield f"{name}: expected {SET} or {WARNING}, as it judges the set, got {severity}"
        if severity == WARNING and any(check.is_required for check in meant):
            yield f"{name}: expected {ROW} or {SET}, as no model can take such samples, got {severity}"


def static_checks(recipe: Recipe) -> list[ExpectationCheck]:
    """Return every expectation that does not depend on the last accepted version."""
    checks = [*sample_checks(recipe, None), *row_checks(recipe), *set_checks(recipe), *row_set_checks(recipe)]
    if recipe.data.labels and recipe.validate.class_share:
        checks += share_checks(recipe, recipe.validate.class_share)
    return checks


def drift_entries(results: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of validation.json, given by the names of their expectations, that judge drift."""
    return [entry for name, entry in results.items() if name.startswith(DRIFT) or name.endswith(f": {DRIFT}")]


def required_names(recipe: Recipe) -> frozenset[str]:
    """Return the names of the expectations whose samples nobody may release."""
    return frozenset({check.name for check in static_checks(recipe) if check.is_required} | {"dtype"})
