"""Everything that a training's evaluation and gate will ask of samples and files, checked before the training starts."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.errors import SpecError
from ae_models.names import attributes_with_values
from ae_models.spec import FitSpec, OnnxEncoderSpec, input_shape
from aeops.errors import DataError, UsageError
from aeops.files import file_sha256
from aeops.gate.seed_record import read_seed_record
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.gate_rules import AUROC, LEAD_LOWER_BOUND, MIN_GROUPS, Rule
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import SourceFile

if TYPE_CHECKING:
    import pandas as pd


def require_named_files(recipe: Recipe, project: Project) -> None:
    """Check the files that the recipe's model, threshold and studies read beside the dataset.

    Raises:
        DataError: some are missing or have another SHA-256 than the recipe says; the message names all of them.
        UsageError: the file of a frozen network cannot be used as the recipe says.
    """
    problems = []
    for setting, source_file in _named_files(recipe):
        key = setting.rpartition(".")[2]
        place = f"{setting} in recipes/{recipe.name}.yaml"
        try:
            content_sha256 = file_sha256(project.find_source(source_file.path))
        except DataError as error:
            problems.append(f"{error}: put it there or correct {place}")
            continue
        if content_sha256 != source_file.sha256:
            expected = f"expected SHA-256 {source_file.sha256[:12]}... ({key}_sha256)"
            problems.append(f"{source_file.path}: {expected}, got {content_sha256[:12]}...: correct {place}")
    if problems:
        raise DataError("\n".join(problems))
    for prefix, fit in recipe.fits().items():
        for problem in _backbone_problems(fit, project):
            problems.append(f"recipes/{recipe.name}.yaml: {prefix}{problem}")
    if problems:
        raise UsageError("\n".join(problems))


def _named_files(recipe: Recipe) -> Iterator[tuple[str, SourceFile]]:
    """Yield each setting that names a file, such as `threshold.samples`, and the file."""
    readers = {}
    for name, study in recipe.evaluate.studies.items():
        readers[f"evaluate.studies.{name}"] = study
    readers["threshold"] = recipe.calibration_samples
    for section, reader in readers.items():
        if hasattr(reader, "source_files"):
            for key, source_file in reader.source_files().items():
                yield f"{section}.{key}", source_file
    for prefix, fit in recipe.fits().items():
        encoder = fit.model.encode
        if isinstance(encoder, OnnxEncoderSpec) and encoder.path_sha256 is not None:
            yield f"{prefix}model.encode.path", SourceFile(encoder.path, encoder.path_sha256)


def _backbone_problems(fit: FitSpec, project: Project) -> list[str]:
    """Return why a model's frozen network cannot be used; an empty list where it can, or where there is none."""
    encoder = fit.model.encode
    if not isinstance(encoder, OnnxEncoderSpec):
        return []
    from ae_models.onnx_graph import read_onnx_graph  # loads onnx: only where there is such a network

    try:
        read_onnx_graph(replace(encoder, path=str(project.find_source(encoder.path))), input_shape(fit.model, fit.input))
    except SpecError as error:
        return error.mistakes
    return []


def require_whole_seed_record(recipe: Recipe, project: Project) -> None:
    """Check that the record of seeds, which the gate reads, is whole or missing.

    Raises:
        DataError: it is damaged; the message says what to type.
    """
    read_seed_record(project.seed_record(recipe.name))


def require_enough_samples(recipe: Recipe, project: Project, prepared: Path) -> None:
    """Check that there are as many samples as the recipe's threshold, baselines and comparisons need.

    Args:
        recipe: the recipe.
        project: where a file of calibration samples that the recipe names is looked for.
        prepared: the folder of the stage prepare.

    Raises:
        UsageError: there are not; the message names every setting that asks for more.
    """
    import pandas as pd

    rows = read_json(prepared / "prepared.json")["rows"]
    test = pd.read_parquet(prepared / "test.parquet", columns=["label", "group", "novelty"])
    problems = [*_fit_problems(recipe, project, prepared), *_baseline_problems(recipe, rows)]
    for name, rule in recipe.gate.items():
        problems += _comparison_problems(name, rule, test)
    if problems:
        raise UsageError("\n".join(f"recipes/{recipe.name}.yaml: {problem}" for problem in problems))


def _fit_problems(recipe: Recipe, project: Project, prepared: Path) -> list[str]:
    from ae_models.threshold_samples import require_sample_counts
    from aeops.data.fit_samples import open_fit_samples

    samples = open_fit_samples(prepared, recipe, project)
    try:
        require_sample_counts(recipe.fit, samples.roles, samples.extras)
    except SpecError as error:
        return error.mistakes
    return []


def _baseline_problems(recipe: Recipe, split_rows: Mapping[str, int]) -> Iterator[str]:
    keys = attributes_with_values(recipe.evaluate, ("pca_components", "neighbours"))
    if not keys:
        return
    from aeops.evaluation.sampling import baseline_rows, neighbour_rows
    from aeops.evaluation.shrinking import shrink_factor, shrunk_shape

    shape, train_rows = input_shape(recipe.fit.model, recipe.fit.input), split_rows["train"]
    searched_values = math.prod(shrunk_shape(shape, shrink_factor(shape)))
    limits = {
        "pca_components": baseline_rows(train_rows, math.prod(shape)),
        "neighbours": neighbour_rows(train_rows, searched_values, split_rows["calibration"] + split_rows["test"]),
    }
    for key in keys:
        value, what = getattr(recipe.evaluate, key), "the number of training samples"
        if limits[key] < train_rows:
            what = f"the number of training samples that baselines are fitted to, of {train_rows:,}"
        if value > limits[key]:
            yield f"evaluate.{key}: expected at most {limits[key]}, {what}, got {value}"


def _comparison_problems(name: str, rule: Rule, test: "pd.DataFrame") -> Iterator[str]:
    """Yield a message for each set of samples that is too small for a comparison ever to pass."""
    if rule.champion is None and rule.metric != LEAD_LOWER_BOUND:
        return
    opponent = "a champion"
    if rule.champion is None:
        opponent = "baselines"
    normals = test[~test["novelty"]]
    sample_sets = {"of normals": normals}
    if rule.by is not None:
        sample_sets = {}
        for label, samples in normals.groupby("label"):
            sample_sets[f"of label {label}"] = samples
    if rule.champion == AUROC or rule.metric == LEAD_LOWER_BOUND:
        sample_sets["of novelty"] = test[test["novelty"]]
    for what, samples in sample_sets.items():
        group_count = samples["group"].nunique()
        if group_count < MIN_GROUPS:
            yield (
                f"gate.{name}: expected {MIN_GROUPS} or more groups {what} among the test samples to compare with {opponent}, "
                f"got {group_count}: bring more samples, raise data.split.test, or take the rule out: see docs/gates.md"
            )
