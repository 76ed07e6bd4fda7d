"""A recipe: one YAML file that says a whole pipeline. Light: checkable without torch.

Relations between keys are checked here, in one place; every mistake is reported at once.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ae_models.mappings import select_keys
from ae_models.names import names_in
from ae_models.spec import (
    TEXT,
    FitSpec,
    InputSpec,
    OnnxEncoderSpec,
    SpecReader,
    format_value,
    input_shape,
    join_choices,
    join_names,
    output_shape,
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
from aeops.recipe.sections import (
    BY_CONTENT,
    BY_MACHINE,
    BY_TIME,
    IGNORE,
    SAME_SPLIT,
    WARN,
    ApprovalSpec,
    CalibrationSamplesSpec,
    DataSpec,
    EvaluateSpec,
    ScoringSpec,
    ServingSpec,
    SignatureSpec,
    ValidateSpec,
)
from aeops.recipe.source_spec import SourceSpec
from aeops.recipe.sources import SeriesSource
from aeops.recipe.studies import POWER_STUDY, PowerStudy, RivalsStudy, read_studies
from aeops.recipe.yaml_reader import parse_yaml, read_yaml_content

SECTIONS = (
    *("recipe", "about", "purpose", "data", "validate"),
    *("input", "model", "score", "threshold", "train"),
    *("evaluate", "gate", "approval", "signature", "monitor"),
    *("serving", "scoring"),
)

CALIBRATION_KEYS = ("samples", "samples_sha256")  # of the section threshold, beside those of its kind

IMAGE_AXES = 3  # channels, height, width
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
        return _all_fits(self.fit, self.evaluate)

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
    parts: dict[str, Any] = {
        "name": raw_recipe.get("recipe"),
        "about": raw_recipe.get("about", ""),
        "purpose": _read_purpose(reader, raw_recipe),
        "data": _read_data(reader, raw_data),
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
    if parts["data"] and parts["validate"] and input_spec:
        for path, reason in _check_data(parts["data"], input_spec):
            reader.mistake(path, reason)
        for path, reason in parts["validate"].check_kind(input_spec):
            reader.mistake(path, reason)
    if parts["data"] and fit_spec:
        for path, reason in _check_threshold_labels(parts["data"], fit_spec):
            reader.mistake(path, reason)
    if parts["evaluate"] and parts["purpose"] == DETECT:
        parts["evaluate"] = _with_power_study(parts["evaluate"])
    if parts["data"] and parts["evaluate"]:
        for path, reason in _check_studied_source(parts["evaluate"], parts["data"].source):
            reader.mistake(path, reason)
    if parts["evaluate"] and fit_spec:
        for path, reason in _check_backbones(fit_spec, parts["evaluate"]):
            reader.mistake(path, reason)
    subject = None
    if parts["purpose"] and parts["data"] and parts["evaluate"] and fit_spec:
        subject = GateSubject(parts["purpose"], parts["data"], fit_spec, parts["evaluate"])
    gate = read_gate(reader, raw_recipe.get("gate", {}), subject)
    if key_root is not None and parts["signature"]:
        _check_public_key(reader, parts["signature"], key_root)
    if not is_recipe_name(file.stem):
        reader.mistake(
            "recipe", f"expected a file named by letters, digits, -, _ and ., with at most 100 bytes, got {file.stem!r}"
        )
    if parts["name"] != file.stem:
        reader.mistake("recipe", f"expected {file.stem!r}, since the file is called {file.name}, got {parts['name']!r}")
    if reader.mistakes:
        raise UsageError("\n".join(reader.mistakes))
    assert fit_spec is not None, "it has no mistakes"
    return Recipe(fit=fit_spec, gate=gate.rules, unchecked=gate.unchecked, sha256=data_sha256(content), **parts)


def _all_fits(fit: FitSpec, evaluate: EvaluateSpec) -> dict[str, FitSpec]:
    fits = {"": fit}
    rivals = evaluate.studies.get("rivals")
    if isinstance(rivals, RivalsStudy):
        for name, rival in rivals.rivals.items():
            fits[f"evaluate.studies.rivals.{name}."] = rival
    return fits


def _check_backbones(fit: FitSpec, evaluate: EvaluateSpec) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) for each frozen network whose content the recipe does not name: another one would not be noticed."""
    for prefix, one_fit in _all_fits(fit, evaluate).items():
        encoder = one_fit.model.encode
        if isinstance(encoder, OnnxEncoderSpec) and encoder.path_sha256 is None:
            reason = f"expected the SHA-256 of {encoder.path}, as `sha256sum {encoder.path}` prints it, got nothing"
            yield f"{prefix}model.encode.path_sha256", reason


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


def _check_data(data: DataSpec, spec: InputSpec) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) for each setting of the section input that the source does not support."""
    source = data.source
    if spec.kind not in source.input_kinds:
        yield "input.kind", f"expected {join_names(source.input_kinds)} with a source of kind {source.kind}, got {spec.kind}"
        return
    yield from source.check_input(spec)
    if data.near_copies == SAME_SPLIT and (len(spec.stored_shape) != IMAGE_AXES or getattr(source, "group", None) is not None):
        yield (
            "data.near_copies",
            f"expected {WARN} or {IGNORE} for other samples than images without groups, got {SAME_SPLIT}: windows that share "
            "steps are one long chain, and samples of a group share a split anyway",
        )
    if spec.channels and not isinstance(source, SeriesSource):
        yield (
            "input.channels",
            f"expected a source of kind {SeriesSource.kind} with channels, got {source.kind}: it has bare windows",
        )
        return
    if (data.split.by == BY_CONTENT) == bool(spec.channels):
        expected = f"{BY_TIME} or {BY_MACHINE}" if spec.channels else BY_CONTENT
        which = "a series with" if spec.channels else "samples without"
        yield "data.split.by", f"expected {expected} with {which} input.channels, got {data.split.by}"
    if data.split.by == BY_MACHINE and spec.steps is not None and spec.steps.machine is None:
        yield "data.split.by", f"expected {BY_TIME}, since input.steps.machine names no column, got {BY_MACHINE}"
    if spec.channels and data.novelty_in_validation:
        yield (
            "data.novelty_in_validation",
            "expected false with input.channels: anomalies of a series are tested on alone, got true",
        )


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


def _check_threshold_labels(data: DataSpec, fit: FitSpec) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) for each key about labels that the threshold needs, or that nothing would read."""
    threshold = fit.threshold
    if threshold.reads_groups and not set(data.labels) - set(data.novelty):
        yield "data.labels", f"expected the labels of the normal samples, since threshold.kind is {threshold.kind}, got none"
    if threshold.reads_novelty and not data.novelty:
        yield "data.novelty", f"expected the labels of anomalies, since threshold.kind is {threshold.kind}, got none"
    if threshold.reads_novelty and not data.novelty_in_validation:
        yield "data.novelty_in_validation", f"expected true, since threshold.kind {threshold.kind} is chosen by them, got false"
    if data.novelty_in_validation and not threshold.reads_novelty:
        yield "data.novelty_in_validation", f"expected false, since threshold.kind {threshold.kind} reads no anomalies, got true"


def _read_evaluate(reader: SpecReader, raw_evaluate: Any, fit: FitSpec | None) -> EvaluateSpec | None:
    """Read the section evaluate with its studies; `fit` is None where it has mistakes, and nothing is compared with it."""
    spec: EvaluateSpec | None = reader.read(EvaluateSpec, raw_evaluate, "evaluate")
    studies = read_studies(reader, _raw_studies(raw_evaluate), "evaluate.studies", fit)
    if spec is None:
        return None
    if fit is not None:
        for key, reason in _check_baselines(spec, fit):
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


def _check_baselines(spec: EvaluateSpec, fit: FitSpec) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) for each baseline that the recipe's samples do not allow, however many there are."""
    if fit.input.kind == TEXT:
        for key in ("pca_components", "neighbours"):
            value = getattr(spec, key)
            if value is not None:
                yield key, f"expected no such baseline of a text, got {value}: leave the key out"
        return
    sample_shape, reconstruction_shape = list(input_shape(fit.model, fit.input)), list(output_shape(fit.model, fit.input))
    if spec.pca_components is not None and sample_shape != reconstruction_shape:
        yield (
            "pca_components",
            f"PCA reconstructs its input, but the model makes {reconstruction_shape} of {sample_shape}: leave the key out",
        )
    elif spec.pca_components is not None and spec.pca_components > math.prod(sample_shape):
        yield (
            "pca_components",
            f"expected at most {math.prod(sample_shape)}, the values of a sample {sample_shape}, got {spec.pca_components}",
        )


def _check_studied_source(evaluate: EvaluateSpec, source: SourceSpec) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) for each study that the recipe's source has no samples for."""
    for name, study in evaluate.studies.items():
        if hasattr(study, "check_source"):
            for reason in study.check_source(source):
                yield f"evaluate.studies.{name}", reason


def _check_public_key(reader: SpecReader, spec: SignatureSpec, folder: Path) -> None:
    """Note a public key that cannot be read from `folder`."""
    if spec.public_key is None:
        return
    from aeops.bundle.signing import read_public_key  # brings cryptography: only where there is a key

    try:
        read_public_key(folder / spec.public_key)
    except UsageError as error:
        reader.mistake("signature.public_key", str(error))
