"""What each recipe has to show, as benchmarks/targets.yaml says it, and whether a record of it does. Light."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ae_models.spec import SpecReader, bounded_field, format_value, join_names, suggest_match
from aeops.drawing.words import number, share
from aeops.errors import UsageError
from aeops.gate.flattening import flatten, is_finite_number


@dataclass(frozen=True)
class Target:
    """A number that a recipe has to show.

    Attributes:
        name: for a reader.
        metric: its path in metrics.json.
        better: whether `less` or `more` is better.
        digits: after the point.
        unit: written after it; `%` makes percent of a share.
        bound: what is asked; None: to be better than each of `beside`.
        beside: name of a baseline -> the path of the same measure of it.
    """

    name: str
    metric: str
    better: str = bounded_field(one_of=("less", "more"))
    digits: int = bounded_field(3, low=0, high=9)
    unit: str = ""
    bound: float | None = None
    beside: dict[str, str] = field(default_factory=dict)

    def validation_errors(self) -> list[str]:
        return [] if self.bound is not None or self.beside else ["bound and beside are missing: one of them says what is asked"]

    def written(self, value: float | None) -> str:
        """A value of the metric as a reader wants it."""
        if self.unit == "%":
            return share(value, self.digits)
        return number(value, self.digits) + (f" {self.unit}" if self.unit and value is not None else "")

    @property
    def asked(self) -> str:
        """What is asked, such as `at most 0.0075` or `above kNN-5 and PCA-16`."""
        if self.bound is None:
            *others, last = self.beside
            names = f"{', '.join(others)} and {last}" if others else last
            return f"{'above' if self.better == 'more' else 'below'} {names}"
        bound = f"{self.bound * 100:g} %" if self.unit == "%" else f"{self.bound:g} {self.unit}".strip()
        return f"{'at least' if self.better == 'more' else 'at most'} {bound}"


@dataclass(frozen=True)
class Shows:
    """What a recipe does, in a few words, and the numbers that have to show it, the leading one first."""

    does: str
    targets: tuple[Target, ...]

    def validation_errors(self) -> list[str]:
        return [] if self.targets else ["targets is empty: one or more is needed"]


@dataclass(frozen=True)
class Result:
    """A target beside what was measured; None for what is not defined."""

    target: Target
    value: float | None
    beside: dict[str, float | None]

    @property
    def met(self) -> bool:
        """Whether the value reaches the bound, or is better than every baseline that is defined; one not defined never is."""
        if not is_finite_number(self.value):
            return False
        value, sign = self.value or 0.0, 1 if self.target.better == "more" else -1
        if self.target.bound is not None:
            return sign * (value - self.target.bound) >= 0
        return all(sign * (value - other) > 0 for other in self.beside.values() if other is not None)

    @property
    def mark(self) -> str:
        if self.value is None:
            return "**not measured**"
        return "met" if self.met else "**missed**"

    @property
    def baselines(self) -> str:
        """Each baseline with its value, `kNN-5 0.870, PCA-16 0.792`."""
        return ", ".join(f"{name} {self.target.written(value)}" for name, value in self.beside.items())


def read_targets(file: Path, recipes: Iterable[str]) -> dict[str, Shows]:
    """What each recipe in `file` has to show.

    Raises:
        SpecError: every mistake in it, and each of `recipes` that it does not have.
    """
    reader, given = SpecReader(file.name), yaml.safe_load(file.read_text(encoding="utf-8"))
    found = {name: reader.read(Shows, shows, name) for name, shows in given.items()}
    for name in recipes:
        if name not in found:
            reader.mistake(
                name, f"not here; say what it does and has to show: {join_names(found)} do{suggest_match(name, found)}"
            )
    reader.finish()
    return found


def results(shows: Shows, metrics: Mapping[str, Any], where: str) -> list[Result]:
    """Each target beside what was measured.

    Args:
        shows: of the recipe.
        metrics: its metrics.json.
        where: the recipe's name, for messages.

    Raises:
        UsageError: every target that names a metric which is not there.
    """
    mistakes = unknown_metrics(shows, metrics, where)
    if mistakes:
        raise UsageError("\n".join(mistakes))
    found = numbers(metrics)
    return [
        Result(target, found[target.metric], {name: found[path] for name, path in target.beside.items()})
        for target in shows.targets
    ]


def unknown_metrics(shows: Shows, metrics: Mapping[str, Any], where: str) -> list[str]:
    """A message for each metric that a target names and `metrics` lacks."""
    found = numbers(metrics)
    paths = [path for target in shows.targets for path in (target.metric, *target.beside.values())]
    missing = [path for path in paths if path not in found]
    return [
        f"targets.yaml: {where}: no metric {format_value(path)} in metrics.json{suggest_match(path, found)}" for path in missing
    ]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of metrics.json by their dotted paths; None for what is not defined."""
    return {path: value for path, value in flatten(metrics).items() if value is None or is_finite_number(value)}
