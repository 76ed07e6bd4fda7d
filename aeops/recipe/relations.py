"""Relations between the sections of a recipe: what each of them allows by itself and the others do not.

Each check yields (path, reason) for every mistake it finds, such as `("data.novelty", "expected ..., got ...")`.
"""

import math
from collections.abc import Iterator

from ae_models.spec import TEXT, FitSpec, InputSpec, OnnxEncoderSpec, input_shape, join_names, output_shape
from aeops.recipe.sections import (
    BY_CONTENT,
    BY_MACHINE,
    BY_TIME,
    IGNORE,
    SAME_SPLIT,
    WARN,
    DataSpec,
    EvaluateSpec,
    ValidateSpec,
)
from aeops.recipe.source_spec import SourceSpec
from aeops.recipe.sources import SeriesSource
from aeops.recipe.studies import RivalsStudy

IMAGE_AXES = 3  # channels, height, width


def check_relations(
    data: DataSpec | None,
    validate: ValidateSpec | None,
    evaluate: EvaluateSpec | None,
    fit: FitSpec | None,
    input_spec: InputSpec | None,
) -> Iterator[tuple[str, str]]:
    """Yield the mistakes between sections; what a section is compared with is left out where it has mistakes itself, as None."""
    if data and validate and input_spec:
        yield from _check_data(data, input_spec)
        yield from validate.check_kind(input_spec)
    if data and fit:
        yield from _check_threshold_labels(data, fit)
    if data and evaluate:
        yield from _check_studied_source(evaluate, data.source)
    if evaluate and fit:
        yield from _check_backbones(fit, evaluate)


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


def check_baselines(spec: EvaluateSpec, fit: FitSpec) -> Iterator[tuple[str, str]]:
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


def all_fits(fit: FitSpec, evaluate: EvaluateSpec) -> dict[str, FitSpec]:
    """Return every model that a run trains, by the prefix of its keys: the recipe's own, an empty one, and its rivals."""
    fits = {"": fit}
    rivals = evaluate.studies.get("rivals")
    if isinstance(rivals, RivalsStudy):
        for name, rival in rivals.rivals.items():
            fits[f"evaluate.studies.rivals.{name}."] = rival
    return fits


def _check_backbones(fit: FitSpec, evaluate: EvaluateSpec) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) for each frozen network whose content the recipe does not name: another one would not be noticed."""
    for prefix, one_fit in all_fits(fit, evaluate).items():
        encoder = one_fit.model.encode
        if isinstance(encoder, OnnxEncoderSpec) and encoder.path_sha256 is None:
            reason = f"expected the SHA-256 of {encoder.path}, as `sha256sum {encoder.path}` prints it, got nothing"
            yield f"{prefix}model.encode.path_sha256", reason
