"""A recipe: one YAML file that says a whole pipeline. Light: checkable without torch.

Relations between keys are checked here, in one place; every mistake is reported at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ae_models.spec import (
    TEXT,
    FitSpec,
    InputSpec,
    SpecReader,
    input_shape,
    join_names,
    output_shape,
    read_fit_spec,
    suggest_match,
)
from aeops.errors import UsageError
from aeops.project import Project
from aeops.recipe.gate_rules import AUROC, ERROR, Rule
from aeops.recipe.monitoring import MonitorSpec
from aeops.recipe.sections import ApprovalSpec, DataSpec, EvaluateSpec, ScoringSpec, ServingSpec, SignatureSpec, ValidateSpec
from aeops.recipe.sources import SOURCE_SPECS
from aeops.recipe.studies import STUDIES, read_studies

SECTIONS = (
    *("recipe", "about", "data", "validate"),
    *("input", "model", "score", "threshold", "train"),
    *("evaluate", "gate", "approval", "signature", "monitor"),
    *("serving", "scoring"),
)


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
        raise UsageError(
            f"no recipe {name!r}; {join_names(known) or 'none'} in {project.recipes.name}/{suggest_match(name, known)}"
        )
    return read_recipe(file, keys_in=project.root if with_keys else None)


def read_recipe(file: Path, keys_in: Path | None = None) -> Recipe:
    """The recipe in `file`; raises UsageError with every mistake in it, those of its key only where that lies in `keys_in`."""
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{file.name}: not readable as YAML: {' '.join(str(error).split())}") from error
    reader = SpecReader(f"recipes/{file.name}")
    if not isinstance(given, Mapping):
        raise UsageError(f"{reader.source}: a mapping with {join_names(SECTIONS)} is allowed")
    reader.check_keys(given, SECTIONS, "recipe")
    sentence, input_spec = read_fit_spec(reader, given)
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
    if parts["data"] and parts["validate"] and input_spec:
        for where, why in (*data_misfits(parts["data"], input_spec), *parts["validate"].misfits(input_spec.kind)):
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
    assert sentence is not None, "it has no mistakes"
    return Recipe(fit=sentence, **parts)


def read_data(reader: SpecReader, given: Any) -> DataSpec | None:
    """The section data; which keys its source may have is told by the source's kind."""
    before = len(reader.mistakes)
    if isinstance(given, Mapping) and "source" in given:
        given = {**given, "source": reader.read_kind(SOURCE_SPECS, given["source"], "data.source")}
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
        yield "input.kind", f"{spec.kind} given with a source of kind {source.kind}; {join_names(source.holds)} allowed"
        return
    yield from source.check_input(spec)


def read_evaluate(reader: SpecReader, given: Any, sentence: FitSpec | None) -> EvaluateSpec | None:
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
    given, made = input_shape(fit.model, fit.input), output_shape(fit.model, fit.input)
    if spec.pca_components is not None and given != made:
        yield "pca_components", f"PCA rebuilds its input; the model is given {list(given)} and makes {list(made)}: leave it out"


def demand_studied_metrics(reader: SpecReader, gate: Mapping[str, Rule | None], evaluate: Any) -> None:
    """Notes each rule that names a metric of a study which the recipe does not have."""
    asked = asked_studies(evaluate)
    for name, rule in gate.items():
        for key in ("metric", "interval", "covers"):
            path = str(getattr(rule, key, None))
            study = path.partition(".")[0]
            if study in STUDIES and study not in asked:
                reader.mistake(f"gate.{name}.{key}", f"{path} is of the study {study}, which evaluate.studies lacks")


def demand_comparable_samples(reader: SpecReader, gate: Mapping[str, Rule | None], data: DataSpec) -> None:
    """Notes each comparison with the champion that asks for novelty or labels where the data has none."""
    for name, rule in gate.items():
        if rule is not None and rule.champion == AUROC and not data.novelty:
            reader.mistake(f"gate.{name}.champion", f"{AUROC} given with no data.novelty to rank; {ERROR} allowed")
        if rule is not None and rule.by is not None and not set(data.labels) - set(data.novelty):
            reader.mistake(f"gate.{name}.by", f"{rule.by} given and data.labels names no normal label: leave by out")


def demand_readable_key(reader: SpecReader, spec: SignatureSpec, folder: Path) -> None:
    """Notes a public key that cannot be read from `folder`."""
    if spec.public_key is None:
        return
    from aeops.bundle.signing import read_public_key  # brings cryptography: only where there is a key

    try:
        read_public_key(folder / spec.public_key)
    except UsageError as error:
        reader.mistake("signature.public_key", str(error))


def read_gate(reader: SpecReader, given: Any) -> dict[str, Rule]:
    if not isinstance(given, Mapping) or not given:
        reader.mistake(
            "gate", "at least one rule, as NAME: {metric: ..., at_least: ...}, is needed: a gate without rules blocks nothing"
        )
        return {}
    return {name: reader.read(Rule, rule, f"gate.{name}") for name, rule in given.items()}
