"""Targets of each recipe, from benchmarks/targets.yaml, compared with the record of a run. Loads no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ae_models.spec import SpecReader, bounded_field, format_value, join_names, suggest_match
from aeops.drawing.words import format_number, format_share
from aeops.errors import UsageError
from aeops.gate.flattening import flatten, is_finite_number
from aeops.gate.seed_record import MetricSummary
from aeops.gate.seed_summary import summarize_values


@dataclass(frozen=True)
class RecipeTarget:
    """A number that a recipe has to reach.

    Attributes:
        name: for a reader.
        metric: its path in metrics.json.
        better: whether `less` or `more` is better.
        digits: after the point.
        unit: written after it; `%` makes percent of a share.
        bound: the number to reach; None: to be better than each of `baselines`.
        baselines: name of a baseline -> the path of its value of the same measure in metrics.json.
    """

    name: str
    metric: str
    better: str = bounded_field(one_of=("less", "more"))
    digits: int = bounded_field(3, low=0, high=9)
    unit: str = ""
    bound: float | None = None
    baselines: dict[str, str] = field(default_factory=dict)

    def validation_errors(self) -> list[str]:
        if self.bound is None and not self.baselines:
            return ["expected bound or baselines, got neither"]
        return []

    def format_measured(self, value: float | None) -> str:
        """Return a value of the metric with its unit."""
        if self.unit == "%":
            return format_share(value, self.digits)
        text = format_number(value, self.digits)
        if value is None or not self.unit:
            return text
        return f"{text} {self.unit}"

    @property
    def requirement(self) -> str:
        """Condition to meet, such as `at most 0.0075` or `above kNN-5 and PCA-16`."""
        higher_is_better = self.better == "more"
        if self.bound is None:
            preposition = "below"
            if higher_is_better:
                preposition = "above"
            return f"{preposition} {_join_with_and(list(self.baselines))}"
        bound = f"{self.bound:g} {self.unit}".strip()
        if self.unit == "%":
            bound = f"{self.bound * 100:g} %"
        if higher_is_better:
            return f"at least {bound}"
        return f"at most {bound}"


def _join_with_and(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class RecipeTargets:
    """A few words about what a recipe does, and the numbers that have to show it, the leading one first."""

    summary: str
    targets: tuple[RecipeTarget, ...]

    def validation_errors(self) -> list[str]:
        if not self.targets:
            return ["expected one target or more in targets, got none"]
        return []


@dataclass(frozen=True)
class TargetResult:
    """A target with the measured values; None for a value that is not defined.

    Attributes:
        target: the number to reach.
        value: of one training.
        baseline_values: beside it, by their names.
        over_seeds: the values of several trainings by their paths in metrics.json; empty where there was one.
    """

    target: RecipeTarget
    value: float | None
    baseline_values: dict[str, float | None]
    over_seeds: Mapping[str, MetricSummary] = field(default_factory=dict)

    @property
    def summary(self) -> MetricSummary | None:
        """The value over seeds; None where there was one training."""
        return self.over_seeds.get(self.target.metric)

    @property
    def is_reached(self) -> bool:
        """True if the value reaches the bound, or is better than every baseline that is defined; never without a value.

        Over seeds the interval of the mean has to lie there, and that of the mean difference from each baseline above 0.
        """
        if self.value is None or not is_finite_number(self.value):
            return False
        if self.target.bound is not None:
            return self._worst_advantage(None, self.target.bound) >= 0
        for name, baseline_value in self.baseline_values.items():
            if baseline_value is not None and self._worst_advantage(self.target.baselines[name], baseline_value) <= 0:
                return False
        return True

    def _worst_advantage(self, baseline_path: str | None, baseline_value: float) -> float:
        """Return how much better the value is, over seeds at the worse end of the interval; negative where it is worse.

        Args:
            baseline_path: of the baseline's values over seeds; None for a bound.
            baseline_value: of one training.
        """
        sign = -1
        if self.target.better == "more":
            sign = 1
        if self.summary is None:
            return sign * ((self.value or 0.0) - baseline_value)
        values = self.summary["values"]
        baseline_values = [baseline_value] * len(values)
        if baseline_path is not None and baseline_path in self.over_seeds:
            baseline_values = self.over_seeds[baseline_path]["values"]
        differences = [sign * (value - baseline) for value, baseline in zip(values, baseline_values, strict=True)]
        return summarize_values(differences)["interval"][0]

    @property
    def status_text(self) -> str:
        if self.value is None:
            return "**not measured**"
        status = "**missed**"
        if self.is_reached:
            status = "met"
        if self.summary is None:
            return f"{status}, one seed"
        return status

    @property
    def value_text(self) -> str:
        """The value, over seeds as mean, standard deviation and their number, such as `0.950 ± 0.020 (5 seeds)`."""
        if self.summary is None:
            return self.target.format_measured(self.value)
        mean, sd = self.target.format_measured(self.summary["mean"]), self.target.format_measured(self.summary["sd"])
        return f"{mean} ± {sd} ({len(self.summary['values'])} seeds)"

    @property
    def baselines_text(self) -> str:
        """Each baseline with its value, over seeds with its mean, such as `kNN-5 0.870, PCA-16 0.792`."""
        texts = []
        for name, value in self.baseline_values.items():
            path = self.target.baselines[name]
            if path in self.over_seeds:
                value = self.over_seeds[path]["mean"]
            texts.append(f"{name} {self.target.format_measured(value)}")
        return ", ".join(texts)


def read_targets(file: Path, recipes: Iterable[str]) -> dict[str, RecipeTargets]:
    """Read the targets of each recipe.

    Args:
        file: benchmarks/targets.yaml.
        recipes: names of the recipes that it must have.

    Raises:
        SpecError: every mistake in it, and each of `recipes` that it does not have.
    """
    reader, raw_targets = SpecReader(file.name), yaml.safe_load(file.read_text(encoding="utf-8"))
    targets_by_recipe = {}
    for name, raw_recipe_targets in raw_targets.items():
        targets_by_recipe[name] = reader.read(RecipeTargets, raw_recipe_targets, name)
    for name in recipes:
        if name not in targets_by_recipe:
            hint = suggest_match(name, targets_by_recipe)
            reader.mistake(name, f"expected a summary and targets of this recipe, got {join_names(targets_by_recipe)}{hint}")
    reader.finish()
    return targets_by_recipe


def target_results(
    recipe_targets: RecipeTargets, metrics: Mapping[str, Any], recipe: str, over_seeds: Mapping[str, MetricSummary]
) -> list[TargetResult]:
    """Compare each target with the measured values.

    Args:
        recipe_targets: of the recipe.
        metrics: its metrics.json.
        recipe: its name, for messages.
        over_seeds: its metrics over seeds by their paths; empty where it was trained once.

    Raises:
        UsageError: a target names a metric that is not in metrics.json; the message names all of them.
    """
    mistakes = unknown_metrics(recipe_targets, metrics, recipe)
    if mistakes:
        raise UsageError("\n".join(mistakes))
    numbers = _numbers_by_path(metrics)
    results = []
    for target in recipe_targets.targets:
        baseline_values = {name: numbers[path] for name, path in target.baselines.items()}
        results.append(TargetResult(target, numbers[target.metric], baseline_values, over_seeds))
    return results


def unknown_metrics(recipe_targets: RecipeTargets, metrics: Mapping[str, Any], recipe: str) -> list[str]:
    """Return a message for each metric that a target names and metrics.json lacks."""
    numbers = _numbers_by_path(metrics)
    messages = []
    for target in recipe_targets.targets:
        for path in (target.metric, *target.baselines.values()):
            if path not in numbers:
                hint = suggest_match(path, numbers)
                messages.append(f"targets.yaml: {recipe}: no metric {format_value(path)} in metrics.json{hint}")
    return messages


def _numbers_by_path(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of metrics.json by their dotted paths; None for one that is not defined."""
    numbers = {}
    for path, value in flatten(metrics).items():
        if value is None or is_finite_number(value):
            numbers[path] = value
    return numbers
