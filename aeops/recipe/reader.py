"""A recipe: one YAML file that says a whole pipeline. Light: checkable without torch.

Relations between keys are checked here, in one place; every mistake is reported at once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ae_models.spec import TEXT, FitSpec, InputSpec, Reader, bounded, given_shape, listed, made_shape, near, read_fit_spec
from aeops.errors import UsageError
from aeops.project import Project
from aeops.recipe.monitoring import MonitorSpec
from aeops.recipe.sources import SOURCE_SPECS, DaysSource, NpySource, NpzSource, ScansSource, SentencesSource
from aeops.recipe.studies import STUDIES, read_studies

SECTIONS = (
    *("recipe", "about", "data", "validate"),
    *("input", "model", "score", "threshold", "train"),
    *("evaluate", "gate", "approval", "signature", "monitor"),
    *("serving", "scoring"),
)


@dataclass(frozen=True)
class SplitSpec:
    """Shares of the samples, drawn by their content (or their group) so that a sample stays where it is as the data grows.

    Where `test` is left out, the source's own test part is the test set, and the others are shares of the rest.
    """

    validation: float = bounded(low=0.0, high=0.5)  # watched while training
    calibration: float = bounded(low=0.01, high=0.5)  # for the threshold alone
    test: float | None = bounded(None, low=0.01, high=0.5)  # for evaluation alone

    def contradictions(self) -> list[str]:
        total = self.validation + self.calibration + (self.test or 0.0)
        return [] if total < 0.9 else [f"validation + calibration + test is {total:g}: at least 0.1 must be left to train on"]


@dataclass(frozen=True)
class DataSpec:
    """Which samples, from where, and what is normal."""

    dataset: str
    source: Any  # one of SOURCE_SPECS
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
        return found

    def misfits(self) -> list[str]:
        """Where the source does not go with the rest of the section."""
        found = []
        if self.split.test is None and not self.source.own_test:
            found.append("the key split.test is missing, and the source has no test part of its own to stand in for it")
        if isinstance(self.source, NpySource | NpzSource | DaysSource) and bool(self.labels) != bool(self.source.labels):
            missing, given = ("source.labels", "labels") if self.labels else ("labels", "source.labels")
            found.append(f"{given} is given and {missing} is missing: a labelled dataset needs both, an unlabelled one neither")
        if isinstance(self.source, SentencesSource) and self.labels:
            found.append("labels is given, and a source of kind sentences has none: leave labels and novelty out")
        return found


@dataclass(frozen=True)
class Range:
    min: float = bounded()
    max: float = bounded()

    def contradictions(self) -> list[str]:
        return [] if self.min <= self.max else [f"min is {self.min:g} and max is {self.max:g}: min must not be above max"]


@dataclass(frozen=True)
class ValidateSpec:
    """The bounds of the expectations. Sample statistics are of values scaled to [0, 1], without the target channels."""

    rows: Range  # samples in the set
    mean_drift: float = bounded(low=0.0, high=1.0)  # how far the set's means may move from the last accepted version
    quarantine_budget: float = bounded(low=0.0, high=1.0)  # share of rows that may be set aside before the set is refused
    class_share: Range | None = None  # share of each label in the set; none: not judged, as where there are no labels
    blank: str = bounded("refuse", one_of=("refuse", "accept"))  # samples that show nothing: set aside, or as good as others
    sample_mean: Range | None = None  # images and series need it: mean over the values of a sample
    sample_std: Range | None = None  # images and series need it: standard deviation over the values of a sample
    characters: Range | None = None  # texts need it: characters of a text
    letters: Range | None = None  # texts need it: share of letters among the characters of a text

    def contradictions(self) -> list[str]:
        return [] if self.rows.min >= 1 else [f"rows.min is {self.rows.min:g}: an accepted set has 1 sample or more"]

    def misfits(self, kind: str) -> Iterator[tuple[str, str]]:
        """Bounds that samples of this kind need and lack, or do not have: (where, why)."""
        bounds = {"text": ("characters", "letters"), "image or series": ("sample_mean", "sample_std")}
        of_kind = "text" if kind == TEXT else "image or series"
        for of, keys in bounds.items():
            for key in keys:
                if of == of_kind and getattr(self, key) is None:
                    yield "validate", f"the key {key} is missing: samples of input.kind {kind} are judged by it"
                if of != of_kind and getattr(self, key) is not None:
                    yield f"validate.{key}", f"given with input.kind {kind}; {listed(bounds[of_kind])} allowed"


@dataclass(frozen=True)
class EvaluateSpec:
    """What the model is measured beside, and the studies that are made of it."""

    pca_components: int | None = bounded(None, low=1, high=65536)  # None: no such baseline
    neighbours: int | None = bounded(None, low=1, high=1000)  # k of the kNN distance; None: novelty is not ranked
    studies: dict[str, Any] = field(default_factory=dict)  # name -> one of aeops.recipe.studies.STUDIES


ERROR, AUROC = "error", "auroc"  # what a challenger and the champion are compared by
NOT_WORSE, BETTER = "not-worse", "better"  # what a rule may need of the challenger
LOGGED = "logged"  # the check that is done on the registered model

# What a rule is about, and the keys that go with each.
RULE_KEYS = {
    "metric": ("at_least", "at_most"),
    "interval": ("covers",),
    "check": ("milliseconds",),
    "champion": ("margin", "needs", "by"),
}


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: a metric with a floor or ceiling, an interval that must cover a value, a check, or a comparison
    with the champion.

    The comparison with the champion and the check `logged` need the registry, so they are judged after the others.
    """

    metric: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    interval: str | None = None
    covers: str | None = None
    check: str | None = bounded(None, one_of=("served", LOGGED))
    milliseconds: float | None = bounded(None, low=0.001, high=3_600_000)  # that an answer of the logged model may take
    champion: str | None = bounded(None, one_of=(ERROR, AUROC))
    margin: float | None = bounded(None, low=0.0, high=1.0)  # the largest difference that does not matter: see `contradictions`
    needs: str | None = bounded(None, one_of=(NOT_WORSE, BETTER))  # of the challenger; None: not-worse
    by: str | None = bounded(None, one_of=("label",))  # a comparison for each label of the normals; None: one for all

    def contradictions(self) -> list[str]:
        about = [key for key in RULE_KEYS if getattr(self, key) is not None]
        if len(about) != 1:
            shapes = "{metric, at_least and/or at_most}, {interval, covers}, {check} or {champion, margin}"
            return [f"a rule is {shapes}, and exactly one of them; {listed(about) or 'none of them'} given"]
        [own] = about
        found = [
            f"{key} is given with {own}; {listed(RULE_KEYS[own])} allowed"
            for other, keys in RULE_KEYS.items()
            for key in keys
            if other != own and getattr(self, key) is not None
        ]
        own_mistakes = {
            "metric": self._metric_mistakes,
            "interval": self._interval_mistakes,
            "check": self._check_mistakes,
            "champion": self._champion_mistakes,
        }
        return found + own_mistakes[own]()

    def _metric_mistakes(self) -> list[str]:
        bounded_somewhere = self.at_least is not None or self.at_most is not None
        return [] if bounded_somewhere else [f"metric is {self.metric} without a bound: give at_least, at_most or both"]

    def _interval_mistakes(self) -> list[str]:
        return [] if self.covers is not None else [f"interval is {self.interval} without covers: name the metric it has to cover"]

    def _check_mistakes(self) -> list[str]:
        if self.check == LOGGED or self.milliseconds is None:
            return []
        return [f"milliseconds is given with check {self.check}; only the check {LOGGED} has a budget"]

    def _champion_mistakes(self) -> list[str]:
        of_what = "a share of the champion's error" if self.champion == ERROR else "a difference of two AUROCs"
        if self.margin is None:
            return [f"the key margin is missing: the largest difference that does not matter, {of_what}"]
        most = 1.0 if self.champion == ERROR else 0.5
        if 0 < self.margin < most:
            return []
        return [f"margin is {self.margin:g}: above 0 and below {most:g} is allowed, {of_what}"]


@dataclass(frozen=True)
class ApprovalSpec:
    """Whether a person decides about what the gate has accepted; see docs/approval.md."""

    needed: bool = False
    other_than_starter: bool = False  # whoever started the run may reject its version, not approve it

    def contradictions(self) -> list[str]:
        if self.other_than_starter and not self.needed:
            return ["other_than_starter is true and needed is not: it says who may approve where an approval is needed"]
        return []


@dataclass(frozen=True)
class SignatureSpec:
    """Whether a bundle has to be signed before it is promoted or served, and with which key; see docs/signing.md."""

    require_signature: bool
    public_key: str | None = None  # a file, from the project's folder

    def contradictions(self) -> list[str]:
        if self.require_signature and self.public_key is None:
            return [
                "require_signature is true and public_key is missing: `ae sign --new-keys keys/NAME` makes one, keys/NAME.pub"
            ]
        return []


@dataclass(frozen=True)
class ServingSpec:
    """How a new champion takes over in a service that runs; see docs/serving.md."""

    shadow_requests: int = bounded(50, low=0, high=1_000_000)  # that it answers beside the old one before it takes over
    shadow_seconds: float = bounded(60.0, low=0.0, high=86_400.0)  # after which it takes over though fewer requests came


@dataclass(frozen=True)
class ScoringSpec:
    """What is scored in batches; see docs/scoring.md."""

    inbox: str | None = None  # the folder that new files come to; None: inbox/<recipe> below the state folder


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
    approval: ApprovalSpec
    monitor: MonitorSpec
    signature: SignatureSpec
    serving: ServingSpec
    scoring: ScoringSpec


def recipe_names(project: Project) -> list[str]:
    return sorted(file.stem for file in project.recipes.glob("*.yaml"))


def load_recipe(project: Project, name: str, with_keys: bool = False) -> Recipe:
    """The recipe of that name; `with_keys` also checks what promoting and serving need: that its public key can be read.

    Raises:
        UsageError: no such recipe (with the near match), or every mistake in it.
    """
    file = project.recipe_file(name)
    if not file.is_file():
        known = recipe_names(project)
        raise UsageError(f"no recipe {name!r}; {listed(known) or 'none'} in {project.recipes.name}/{near(name, known)}")
    return read_recipe(file, keys_in=project.root if with_keys else None)


def read_recipe(file: Path, keys_in: Path | None = None) -> Recipe:
    """The recipe in `file`; raises UsageError with every mistake in it, those of its key only where that lies in `keys_in`."""
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{file.name}: not readable as YAML: {' '.join(str(error).split())}") from error
    reader = Reader(f"recipes/{file.name}")
    if not isinstance(given, Mapping):
        raise UsageError(f"{reader.source}: a mapping with {listed(SECTIONS)} is allowed")
    reader.unknown_keys(given, SECTIONS, "recipe")
    before = len(reader.mistakes)
    fit = read_fit_spec(reader, given)
    sentence = FitSpec(**fit) if len(reader.mistakes) == before else None
    parts: dict[str, Any] = {
        "name": given.get("recipe"),
        "about": given.get("about", ""),
        "data": read_data(reader, given.get("data")),
        "validate": reader.read(ValidateSpec, given.get("validate"), "validate"),
        "evaluate": read_evaluate(reader, given.get("evaluate"), sentence),
        "gate": read_gate(reader, given.get("gate")),
        "approval": reader.read(ApprovalSpec, given.get("approval", {}), "approval"),
        "monitor": reader.read(MonitorSpec, given.get("monitor", {}), "monitor"),
        "signature": reader.read(SignatureSpec, given.get("signature", {"require_signature": False}), "signature"),
        "serving": reader.read(ServingSpec, given.get("serving", {}), "serving"),
        "scoring": reader.read(ScoringSpec, given.get("scoring", {}), "scoring"),
    }
    if parts["data"] and parts["validate"] and fit["input"]:
        for where, why in (*data_misfits(parts["data"], fit["input"]), *parts["validate"].misfits(fit["input"].kind)):
            reader.mistake(where, why)
    demand_studied_metrics(reader, parts["gate"], given.get("evaluate"))
    if keys_in is not None and parts["signature"]:
        demand_readable_key(reader, parts["signature"], keys_in)
    if parts["data"]:
        demand_comparable_samples(reader, parts["gate"], parts["data"])
    if parts["name"] != file.stem:
        reader.mistake("recipe", f"{parts['name']!r} given; the file is called {file.name}, so {file.stem!r} is allowed")
    if reader.mistakes:
        raise UsageError("\n".join(reader.mistakes))
    return Recipe(fit=FitSpec(**fit), **parts)


def read_data(reader: Reader, given: Any) -> DataSpec | None:
    """The section data; which keys its source may have is told by the source's kind."""
    before = len(reader.mistakes)
    if isinstance(given, Mapping) and "source" in given:
        given = {**given, "source": reader.of_kind(SOURCE_SPECS, "source", given["source"], "data.source")}
    spec: DataSpec | None = reader.read(DataSpec, given, "data")
    if len(reader.mistakes) > before or spec is None:
        return None
    for why in spec.misfits():
        reader.mistake("data", why)
    return spec


def data_misfits(data: DataSpec, spec: InputSpec) -> Iterator[tuple[str, str]]:
    """Where the source cannot give what the section input asks for: (where, why)."""
    source = data.source
    if spec.kind not in source.holds:
        yield "input.kind", f"{spec.kind} given with a source of kind {source.kind}; {listed(source.holds)} allowed"
        return
    if isinstance(source, ScansSource):
        shape, channels = (2, source.side, source.side), 1
        if (spec.shape, spec.target_channels, spec.low, spec.high) != (shape, channels, 0, 255):
            yield (
                "input",
                f"shape {list(spec.shape)}, target_channels {spec.target_channels}, low {spec.low:g}, high {spec.high:g} given; "
                f"{list(shape)}, {channels}, 0, 255 allowed with tiles of core {source.core} and margin {source.margin}",
            )
    if isinstance(source, NpzSource) and source.edges is not None and spec.target_channels < 1:
        yield "input.target_channels", "0 given with data.source.edges; 1 allowed: the edges are what is to be made"


def read_evaluate(reader: Reader, given: Any, sentence: FitSpec | None) -> EvaluateSpec | None:
    """The section evaluate with its studies read as such; what has to fit the sentence is not judged where that is faulty."""
    spec: EvaluateSpec | None = reader.read(EvaluateSpec, given, "evaluate")
    studies = read_studies(reader, asked_studies(given), "evaluate.studies", sentence)
    if spec is None:
        return None
    if sentence is not None:
        for key, why in baseline_misfits(spec, sentence):
            reader.mistake(f"evaluate.{key}", why)
    return replace(spec, studies=studies)


def asked_studies(evaluate: Any) -> Mapping[str, Any]:
    """The raw studies of a raw section evaluate; none where that is no mapping, which is noted elsewhere."""
    studies = evaluate.get("studies") if isinstance(evaluate, Mapping) else None
    return studies if isinstance(studies, Mapping) else {}


def baseline_misfits(spec: EvaluateSpec, fit: FitSpec) -> Iterator[tuple[str, str]]:
    """Baselines that the sentence's samples do not allow: (key, why)."""
    if fit.input.kind == TEXT:
        for key in ("pca_components", "neighbours"):
            if getattr(spec, key) is not None:
                yield key, f"{getattr(spec, key)} given; a text has no such baseline: leave the key out"
        return
    given, made = given_shape(fit.model, fit.input), made_shape(fit.model, fit.input)
    if spec.pca_components is not None and given != made:
        yield "pca_components", f"PCA rebuilds its input; the model is given {list(given)} and makes {list(made)}: leave it out"


def demand_studied_metrics(reader: Reader, gate: Mapping[str, Rule | None], evaluate: Any) -> None:
    """Notes each rule that names a metric of a study which the recipe does not have."""
    asked = asked_studies(evaluate)
    for name, rule in gate.items():
        for key in ("metric", "interval", "covers"):
            path = str(getattr(rule, key, None))
            study = path.partition(".")[0]
            if study in STUDIES and study not in asked:
                reader.mistake(f"gate.{name}.{key}", f"{path} is of the study {study}, which evaluate.studies lacks")


def demand_comparable_samples(reader: Reader, gate: Mapping[str, Rule | None], data: DataSpec) -> None:
    """Notes each comparison with the champion that asks for novelty or labels where the data has none."""
    for name, rule in gate.items():
        if rule is not None and rule.champion == AUROC and not data.novelty:
            reader.mistake(f"gate.{name}.champion", f"{AUROC} given with no data.novelty to rank; {ERROR} allowed")
        if rule is not None and rule.by is not None and not set(data.labels) - set(data.novelty):
            reader.mistake(f"gate.{name}.by", f"{rule.by} given and data.labels names no normal label: leave by out")


def demand_readable_key(reader: Reader, spec: SignatureSpec, folder: Path) -> None:
    """Notes a public key that cannot be read from `folder`."""
    if spec.public_key is None:
        return
    from aeops.bundle.signing import read_public_key  # brings cryptography: only where there is a key

    try:
        read_public_key(folder / spec.public_key)
    except UsageError as error:
        reader.mistake("signature.public_key", str(error))


def read_gate(reader: Reader, given: Any) -> dict[str, Rule]:
    if not isinstance(given, Mapping) or not given:
        reader.mistake(
            "gate", "at least one rule, as NAME: {metric: ..., at_least: ...}, is needed: a gate without rules blocks nothing"
        )
        return {}
    return {name: reader.read(Rule, rule, f"gate.{name}") for name, rule in given.items()}
