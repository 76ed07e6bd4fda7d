"""A recipe: one YAML file that says a whole pipeline. Light: checkable without torch.

Relations between sections are checked by `aeops.recipe.relations`; every mistake is reported at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ae_models.mappings import select_keys
from ae_models.names import names_in
from ae_models.spec import (
    FitSpec,
    InputSpec,
    SpecReader,
    format_value,
    join_choices,
    join_names,
    read_fit_spec,
    suggest_match,
)
from aeops.errors import DataError, UsageError
from aeops.files import data_sha256
from aeops.plugins import use_project
from aeops.project import Project, is_recipe_name, shorten_name
from aeops.recipe.default_rules import DETECT, PURPOSES
from aeops.recipe.gate_rules import Rule
from aeops.recipe.gate_section import GateSubject, read_gate
from aeops.recipe.monitoring import MonitorSpec
from aeops.recipe.own_kinds import require_free_names, source_specs
from aeops.recipe.project_settings import read_project_settings
from aeops.recipe.relations import all_fits, check_baselines, check_relations
from aeops.recipe.sections import (
    ApprovalSpec,
    CalibrationSamplesSpec,
    DataSpec,
    EvaluateSpec,
    ScoringSpec,
    ServingSpec,
    SignatureSpec,
    ValidateSpec,
)
from aeops.recipe.studies import POWER_STUDY, PowerStudy, read_studies
from aeops.recipe.yaml_reader import parse_yaml, read_yaml_content

SECTIONS = (
    *("recipe", "about", "purpose", "data", "validate"),
    *("input", "model", "score", "threshold", "train"),
    *("evaluate", "gate", "approval", "signature", "monitor"),
    *("serving", "scoring"),
)

CALIBRATION_KEYS = ("samples", "samples_sha256")  # of the section threshold, beside those of its kind

MAX_LABEL_LENGTH = 60  # characters of a label's name


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, checked.

    Attributes:
        purpose: one of `aeops.recipe.default_rules.PURPOSES`.
        gate: name -> rule: its own rules and the default ones of its purpose.
        unchecked: default rule -> why the gate does not judge it.
        sha256: of the file that it was read from.
    """

    name: str
    sha256: str
    about: str
    purpose: str
    data: DataSpec
    validate: ValidateSpec
    fit: FitSpec
    evaluate: EvaluateSpec
    gate: dict[str, Rule]
    unchecked: dict[str, str]
    approval: ApprovalSpec
    monitor: MonitorSpec
    signature: SignatureSpec
    serving: ServingSpec
    scoring: ScoringSpec
    calibration_samples: CalibrationSamplesSpec | None = None  # of the threshold; None: those of data.split.calibration
    label_names: tuple[str, ...] = ()  # of the labels 0, 1, ... where data.labels has names; none: it has whole numbers

    def fits(self) -> dict[str, FitSpec]:
        """Return the spec of the model and of each of its rivals, by what stands before `model` in the path of their settings."""
        return all_fits(self.fit, self.evaluate)

    @property
    def on_duplicate(self) -> str:
        """What becomes of samples that equal an earlier one: `skip`, `accept` or `refuse`."""
        return self.data.on_duplicate or self.validate.duplicates

    def label_text(self, label: int) -> str:
        """Return a label as a person knows it."""
        if 0 <= label < len(self.label_names):
            return self.label_names[label]
        return str(label)


def recipe_names(project: Project) -> list[str]:
    return sorted(file.stem for file in project.recipes.glob("*.yaml"))


def load_recipe(project: Project, name: str, with_keys: bool = False) -> Recipe:
    """Read a recipe of the project.

    Args:
        with_keys: also check what promoting and serving need: that its public key can be read.

    Raises:
        UsageError: no such recipe (with the near match), or every mistake in it.
    """
    file = project.recipe_file(name)
    if not is_recipe_name(name) or not file.is_file():
        names = recipe_names(project)
        listing = f"{join_names(names) or 'none'} in {project.recipes.name}/"
        raise UsageError(f"no recipe {shorten_name(name)!r}; {listing}{suggest_match(name, names)}")
    if with_keys:
        return read_recipe(file, key_root=project.root)
    return read_recipe(file)


def require_unchanged(project: Project, recipe: Recipe) -> None:
    """Raise DataError where the recipe's file is no longer the one that this recipe was read from."""
    read_unchanged(project, recipe)


def read_unchanged(project: Project, recipe: Recipe) -> dict[str, Any]:
    """Return the keys of the file that this recipe was read from, as they stand there.

    Raises:
        DataError: the file was changed or deleted since.
    """
    file = project.recipe_file(recipe.name)
    content = b""
    if file.is_file():
        content = read_yaml_content(file)
    if data_sha256(content) != recipe.sha256:
        raise DataError(
            f"recipes/{file.name} was changed while this run was under way, so its steps would not belong together: nothing was "
            f"promoted. Type `ae run {recipe.name}` to begin again with the recipe as it is now"
        )
    return dict(parse_yaml(content, file.name))


def read_recipe(file: Path, key_root: Path | None = None) -> Recipe:
    """Read a recipe from a file.

    Args:
        key_root: the folder from which its public key's path starts; None: the key is not checked.

    Raises:
        UsageError: with every mistake in it.
    """
    content = read_yaml_content(file)
    raw_recipe = parse_yaml(content, file.name)
    root = file.absolute().parent.parent
    use_project(root)
    read_project_settings(root)
    require_free_names()
    reader = SpecReader(f"recipes/{file.name}")
    if not isinstance(raw_recipe, Mapping):
        raise UsageError(f"{reader.source}: expected a mapping with {join_names(SECTIONS)}")
    reader.check_keys(raw_recipe, SECTIONS, "recipe")
    fit_spec, input_spec = read_fit_spec(reader, fit_sections(raw_recipe))
    raw_data, label_names = _number_labels(reader, raw_recipe.get("data"))
    purpose, data = _read_purpose(reader, raw_recipe), _read_data(reader, raw_data)
    if data is not None and input_spec is not None:
        input_spec = data.source.complete_input(input_spec)
        if fit_spec is not None:
            fit_spec = replace(fit_spec, input=input_spec)
    parts: dict[str, Any] = {
        "name": raw_recipe.get("recipe"),
        "about": raw_recipe.get("about", ""),
        "purpose": purpose,
        "data": data,
        "validate": reader.read(ValidateSpec, raw_recipe.get("validate"), "validate"),
        "evaluate": _read_evaluate(reader, raw_recipe.get("evaluate"), fit_spec),
        "approval": reader.read(ApprovalSpec, raw_recipe.get("approval", {}), "approval"),
        "monitor": reader.read(MonitorSpec, raw_recipe.get("monitor", {}), "monitor"),
        "signature": reader.read(SignatureSpec, raw_recipe.get("signature", {"require_signature": False}), "signature"),
        "serving": reader.read(ServingSpec, raw_recipe.get("serving", {}), "serving"),
        "scoring": reader.read(ScoringSpec, raw_recipe.get("scoring", {}), "scoring"),
        "calibration_samples": _read_calibration_samples(reader, raw_recipe.get("threshold"), input_spec),
        "label_names": label_names,
    }
    if parts["evaluate"] and parts["purpose"] == DETECT:
        parts["evaluate"] = _with_power_study(parts["evaluate"])
    for path, reason in check_relations(parts["data"], parts["validate"], parts["evaluate"], fit_spec, input_spec):
        reader.mistake(path, reason)
    subject = None
    if parts["purpose"] and parts["data"] and parts["evaluate"] and fit_spec:
        subject = GateSubject(parts["purpose"], parts["data"], fit_spec, parts["evaluate"])
    gate = read_gate(reader, raw_recipe.get("gate", {}), subject)
    if key_root is not None and parts["signature"]:
        _check_public_key(reader, parts["signature"], key_root)
    _check_name(reader, parts["name"], file)
    if reader.mistakes:
        raise UsageError("\n".join(reader.mistakes))
    assert fit_spec is not None, "it has no mistakes"
    return Recipe(fit=fit_spec, gate=gate.rules, unchecked=gate.unchecked, sha256=data_sha256(content), **parts)


def _check_name(reader: SpecReader, name: Any, file: Path) -> None:
    """Note a name that is not the file's, or that no recipe can have."""
    if not is_recipe_name(file.stem):
        reader.mistake(
            "recipe", f"expected a file named by letters, digits, -, _ and ., with at most 100 bytes, got {file.stem!r}"
        )
    if name != file.stem:
        reader.mistake("recipe", f"expected {file.stem!r}, since the file is called {file.name}, got {name!r}")


def _read_purpose(reader: SpecReader, raw_recipe: Mapping[str, Any]) -> str | None:
    """Return what the recipe says its model is for; None where that is a mistake."""
    purpose = raw_recipe.get("purpose")
    if purpose in PURPOSES:
        return str(purpose)
    hint = ": it decides which rules of the gate always hold, see docs/gates.md"
    if purpose is not None:
        hint = suggest_match(purpose, PURPOSES)
    reader.mistake("purpose", f"expected {join_choices(PURPOSES)}, got {format_value(purpose)}{hint}")
    return None


def is_label_name(label: object) -> bool:
    """Return whether a label is a name that figures and tables can show; a $ would begin a formula in a figure."""
    return isinstance(label, str) and 0 < len(label) <= MAX_LABEL_LENGTH and label.isprintable() and "$" not in label


def _number_labels(reader: SpecReader, raw_data: Any) -> tuple[Any, tuple[str, ...]]:
    """Replace labels that are names by their places in data.labels.

    Returns:
        The section data with numbers in labels and novelty, and the names; as it was and no names where labels holds no names.
    """
    if not isinstance(raw_data, Mapping):
        return raw_data, ()
    raw_labels, raw_novelty = raw_data.get("labels"), raw_data.get("novelty", [])
    if not isinstance(raw_labels, list) or not any(isinstance(label, str) for label in raw_labels):
        return raw_data, ()
    if not all(map(is_label_name, raw_labels)) or len(set(raw_labels)) < len(raw_labels):
        expected = f"whole numbers, or different names of up to {MAX_LABEL_LENGTH} characters without $"
        reader.mistake("data.labels", f"expected {expected}, got {format_value(raw_labels)}")
        return {**raw_data, "labels": [], "novelty": []}, ()
    novelty = []
    for label in raw_novelty if isinstance(raw_novelty, list) else [raw_novelty]:
        if label in raw_labels:
            novelty.append(raw_labels.index(label))
        else:
            expected = f"{join_choices(raw_labels)}, as in data.labels"
            reader.mistake("data.novelty", f"expected {expected}, got {format_value(label)}{suggest_match(label, raw_labels)}")
    return {**raw_data, "labels": list(range(len(raw_labels))), "novelty": novelty}, tuple(raw_labels)


def _read_data(reader: SpecReader, raw_data: Any) -> DataSpec | None:
    """Read the section data; the source's kind decides which keys it may have."""
    mistakes_before = len(reader.mistakes)
    if isinstance(raw_data, Mapping) and "source" in raw_data:
        raw_data = {**raw_data, "source": reader.read_kind(source_specs(), raw_data["source"], "data.source")}
    spec: DataSpec | None = reader.read(DataSpec, raw_data, "data")
    if len(reader.mistakes) > mistakes_before or spec is None:
        return None
    for reason in spec.check_source():
        reader.mistake("data", reason)
    return spec


def fit_sections(raw_recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parsed recipe whose section threshold has only the keys that ae_models knows."""
    raw_threshold = raw_recipe.get("threshold")
    if not isinstance(raw_threshold, Mapping):
        return dict(raw_recipe)
    threshold = dict(raw_threshold)
    for key in CALIBRATION_KEYS:
        threshold.pop(key, None)
    return {**raw_recipe, "threshold": threshold}


def _read_calibration_samples(
    reader: SpecReader, raw_threshold: Any, input_spec: InputSpec | None
) -> CalibrationSamplesSpec | None:
    """Read the two keys of the section threshold about its own samples; None where it has neither."""
    if not isinstance(raw_threshold, Mapping):
        return None
    raw_samples = select_keys(raw_threshold, names_in(CALIBRATION_KEYS, raw_threshold))
    if not raw_samples:
        return None
    spec: CalibrationSamplesSpec | None = reader.read(CalibrationSamplesSpec, raw_samples, "threshold")
    if input_spec is not None and input_spec.target_channels:
        reader.mistake("threshold.samples", "expected none with input.target_channels, since samples of a file have no target")
    return spec


def _read_evaluate(reader: SpecReader, raw_evaluate: Any, fit: FitSpec | None) -> EvaluateSpec | None:
    """Read the section evaluate with its studies; `fit` is None where it has mistakes, and nothing is compared with it."""
    spec: EvaluateSpec | None = reader.read(EvaluateSpec, raw_evaluate, "evaluate")
    studies = read_studies(reader, _raw_studies(raw_evaluate), "evaluate.studies", fit)
    if spec is None:
        return None
    if fit is not None:
        for key, reason in check_baselines(spec, fit):
            reader.mistake(f"evaluate.{key}", reason)
    return replace(spec, studies=studies)


def _with_power_study(spec: EvaluateSpec) -> EvaluateSpec:
    """Return the section with the study that every recipe with purpose detect has; as it is, where it names that itself."""
    if POWER_STUDY in spec.studies:
        return spec
    return replace(spec, studies={**spec.studies, POWER_STUDY: PowerStudy()})


def _raw_studies(raw_evaluate: Any) -> Mapping[str, Any]:
    """Return the raw studies of a raw section evaluate; none where one is no mapping, which is a mistake noted elsewhere."""
    if not isinstance(raw_evaluate, Mapping):
        return {}
    raw_studies = raw_evaluate.get("studies")
    if not isinstance(raw_studies, Mapping):
        return {}
    return raw_studies


def _check_public_key(reader: SpecReader, spec: SignatureSpec, folder: Path) -> None:
    """Note a public key that cannot be read from `folder`."""
    if spec.public_key is None:
        return
    from aeops.bundle.signing import read_public_key  # brings cryptography: only where there is a key

    try:
        read_public_key(folder / spec.public_key)
    except UsageError as error:
        reader.mistake("signature.public_key", str(error))
