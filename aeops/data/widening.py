"""Bounds of a recipe that a person widens: so far that what was judged to be good passes, and no further.

The values are those of the last validation. A bound moves to the value, rounded away from what was allowed to three digits, so
that the same data and the same judgements give the same recipe.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from ae_models.mappings import without_none
from ae_models.names import index_by_name, names_in, names_not_in
from ae_models.spec import suggest_match
from aeops.data.judgements import SampleKey, Standing
from aeops.data.suite import DRIFT, ExpectationCheck, drift_entries, static_checks
from aeops.errors import UsageError
from aeops.files import atomic_write, make_folder
from aeops.machine.lock import file_lock
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import ROW

DIGITS = 3  # of a bound that is widened
NAMED_SAMPLES = 20  # that a record of a widening names
DRIFT_SETTING = "validate.mean_drift"


@dataclass(frozen=True)
class Widening:
    """One bound that moves.

    Attributes:
        expectation: its name, or `drift` for the bound of all means.
        setting: path of the bound in the recipe.
        before, after: its values.
        because: ids of the released samples that pass now; empty where the set was judged.
    """

    expectation: str
    setting: str
    before: Any
    after: Any
    because: tuple[str, ...] = ()


def plan_widenings(
    recipe: Recipe,
    raw_recipe: Mapping[str, Any],
    validation: Mapping[str, Any],
    standings: Mapping[SampleKey, Standing],
    names: Sequence[str],
) -> list[Widening]:
    """Return which bounds have to move.

    Args:
        recipe: whose bounds they are.
        raw_recipe: its YAML, whose values they replace.
        validation: validation.json of its dataset.
        standings: what people have decided about samples: bounds of samples move for the released ones.
        names: of expectations; none: all those that released samples break.

    Raises:
        UsageError: with every mistake: a name that is none, an expectation that nobody has judged or that has no bounds.
    """
    planner = _Planner(recipe, raw_recipe, validation, standings)
    widenings = list(planner.plan(names))
    if planner.mistakes:
        raise UsageError("\n".join(planner.mistakes))
    return widenings


class _Planner:
    """Collects widenings, and the mistakes in what was asked for."""

    def __init__(
        self,
        recipe: Recipe,
        raw_recipe: Mapping[str, Any],
        validation: Mapping[str, Any],
        standings: Mapping[SampleKey, Standing],
    ) -> None:
        self.recipe, self.raw_recipe, self.standings = recipe, raw_recipe, standings
        self.checks = index_by_name(static_checks(recipe))
        self.results: dict[str, Mapping[str, Any]] = {}
        for entry in validation["expectations"]:
            if entry["applicable"]:
                self.results[entry["name"]] = entry
        self.mistakes: list[str] = []

    def plan(self, names: Sequence[str]) -> Iterator[Widening]:
        if not names:
            for check in self.checks.values():
                if check.level == ROW and check.setting and (released := self.released_values(check)):
                    yield from self.widen_rows(check, released)
            return
        for name in names:
            yield from self.plan_one(name)

    def plan_one(self, name: str) -> Iterator[Widening]:
        known = [*self.checks, DRIFT]
        if name == DRIFT:
            yield from self.widen_drift()
        elif name not in self.checks:
            self.mistakes.append(f"{name!r}: no such expectation, expected {', '.join(known)}{suggest_match(name, known)}")
        elif not self.checks[name].setting:
            hint = f"validate.severity: {{{json.dumps(name)}: warning}}"
            self.mistakes.append(f"{name} has no bounds that could be widened; with {hint} in the recipe, it is only reported")
        elif self.checks[name].level == ROW:
            released = self.released_values(self.checks[name])
            if not released:
                self.mistakes.append(
                    f"{name}: nobody has released a sample that breaks it: judge some by `ae quarantine {self.recipe.name} "
                    "--release IDS --why TEXT` first"
                )
            yield from self.widen_rows(self.checks[name], released)
        else:
            yield from self.widen_set(self.checks[name])

    def released_values(self, check: ExpectationCheck) -> dict[str, Any]:
        """Return the values by which released samples break an expectation: sample's id -> value."""
        values = {}
        for item in self.results.get(check.name, {}).get("broken", ()):
            standing = self.standings.get((item["id"], item["sha256"]))
            if standing is not None and not standing.is_dropped and check.name in standing.released_reasons:
                values[item["id"]] = item["value"]
        return values

    def widen_rows(self, check: ExpectationCheck, values: Mapping[str, Any]) -> Iterator[Widening]:
        """Yield the bounds of a range, or the list of values, that let samples pass."""
        if "value_set" in check.arguments:
            before = list(self.raw_value(check.setting))
            new = sorted(set(values.values()) - {None, *before})
            if new:
                yield Widening(check.name, check.setting, before, [*before, *new], named(values))
            return
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}
        if odd := names_not_in(values, numbers):
            self.mistakes.append(f"{check.name}: {odd[0]} has no number that a bound could be: change the recipe by hand")
        yield from self.widen_range(check, numbers)

    def widen_range(self, check: ExpectationCheck, values: Mapping[str, float], because: bool = True) -> Iterator[Widening]:
        low, high = check.arguments["min_value"], check.arguments["max_value"]
        below = {name: value for name, value in values.items() if low is not None and value < low}
        above = {name: value for name, value in values.items() if high is not None and value > high}
        for key, outside, value in (
            ("min", below, min(below.values(), default=0)),
            ("max", above, max(above.values(), default=0)),
        ):
            if outside:
                setting = f"{check.setting}.{key}"
                after = round_outward(value, up=key == "max")
                yield Widening(check.name, setting, self.raw_value(setting), after, named(outside) if because else ())

    def widen_set(self, check: ExpectationCheck) -> Iterator[Widening]:
        """Yield the bounds that let the set of the last validation pass."""
        result = self.result_of(check.name)
        if result is None:
            return
        observed = result["observed"]
        if "min_value" not in check.arguments:  # a share of values that are there
            share = 1 - observed["unexpected"] / max(1, observed["judged"])
            if share < check.arguments["mostly"]:
                yield Widening(check.name, check.setting, self.raw_value(check.setting), float(round_outward(share, up=False)))
            return
        values = result.get("range") or {"observed": observed.get("value")}
        yield from self.widen_range(check, without_none(values), because=False)

    def result_of(self, name: str) -> Mapping[str, Any] | None:
        if name not in self.results:
            self.mistakes.append(f"{name} was not evaluated in the last validation: type `ae run {self.recipe.name}` first")
            return None
        return self.results[name]

    def widen_drift(self) -> Iterator[Widening]:
        """Yield the largest difference of means that lets the last validation pass."""
        drift, needed = self.recipe.validate.mean_drift, 0.0
        results = drift_entries(self.results)
        if not results:
            self.mistakes.append(f"{DRIFT} was not evaluated in the last validation: there was no accepted version before it")
        for entry in results:
            if "mostly" in entry["kwargs"] or "value_set" in entry["kwargs"]:
                needed = max(needed, entry["observed"]["unexpected"] / max(1, entry["observed"]["judged"]))
                continue
            low, high = entry["kwargs"]["min_value"], entry["kwargs"]["max_value"]
            distance = abs(entry["observed"]["value"] - (low + high) / 2)
            if distance > (high - low) / 2 and high == low:
                self.mistakes.append(f"{entry['name']}: no share of a deviation of 0 lets it pass: change the recipe by hand")
            elif high > low:
                needed = max(needed, distance / ((high - low) / 2) * drift)
        if needed > drift:
            after = min(1.0, float(round_outward(needed, up=True)))
            yield Widening(DRIFT, DRIFT_SETTING, self.raw_value(DRIFT_SETTING), after)

    def raw_value(self, setting: str) -> Any:
        """Return what the recipe's file has at a path; None where it has nothing there."""
        value: Any = self.raw_recipe
        for key in setting.split("."):
            if isinstance(value, list):
                value = value[int(key)]
                continue
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def named(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(values)[:NAMED_SAMPLES])


def round_outward(value: float, up: bool) -> int | float:
    """Return a number rounded up or down to three digits; whole numbers as they are.

    >>> round_outward(0.61234, up=True), round_outward(-0.61234, up=False), round_outward(1234567, up=True)
    (0.613, -0.613, 1234567)
    """
    if float(value).is_integer():
        return int(value)
    exact = Decimal(repr(float(value)))
    digit = Decimal(1).scaleb(exact.adjusted() - DIGITS + 1)
    if digit > 1:  # a bound of thousands: no digits behind the point
        digit = Decimal(1)
    return float(exact.quantize(digit, rounding=ROUND_CEILING if up else ROUND_FLOOR))


# ---------------------------------------------------------------- the record


def record_widenings(project: Project, recipe: str, widenings: Sequence[Widening], facts: Mapping[str, str]) -> None:
    """Add a line to recipes/suites/<recipe>.jsonl: which bounds move, who says so and why.

    A line that is there already, as after a kill before the recipe was written, is not added again.

    Args:
        facts: who, account, why and time.
    """
    file = project.suite_record(recipe)
    content = {**facts, "changes": list(map(asdict, widenings))}
    line = json.dumps(content, ensure_ascii=False, sort_keys=True)
    with file_lock(project, "judgements"):
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        last = text.splitlines()[-1:] or ["{}"]
        if _changes(last[0]) != json.loads(line)["changes"]:
            make_folder(file.parent)
            atomic_write(file, f"{text}{line}\n")


def forget_in_widenings(project: Project, recipe: str, ids: Collection[str]) -> int:
    """Take samples out of the record of a recipe's widenings, whose bounds stay; return how often they were named."""
    file = project.suite_record(recipe)
    if not file.is_file():
        return 0
    with file_lock(project, "judgements"):
        total, lines = 0, []
        for line in file.read_text(encoding="utf-8").splitlines():
            kept, count = [], 0
            for change in _changes(line) or ():
                kept.append(change | {"because": names_not_in(change["because"], ids)})
                count += len(names_in(change["because"], ids))
            if count:
                line = json.dumps(json.loads(line) | {"changes": kept}, ensure_ascii=False, sort_keys=True)
            lines.append(f"{line}\n")
            total += count
        if total:
            atomic_write(file, "".join(lines))
    return total


def _changes(line: str) -> Any:
    try:
        return json.loads(line).get("changes")
    except (ValueError, AttributeError):  # a line of something else: it stays, and a new one is added
        return None
