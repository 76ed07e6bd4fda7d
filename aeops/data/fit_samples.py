"""The prepared samples that training and calibration read, opened without loading them, and the file of a frozen network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.errors import SampleError
from ae_models.sample_sets import NpySampleSet, SampleRoles
from ae_models.spec import FitSpec, OnnxEncoderSpec
from ae_models.threshold_samples import ThresholdSamples
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.recipe.reader import Recipe

NOVELTY_FILE = "validation_novelty.npy"  # in the folder of the stage prepare, where data.novelty_in_validation is set


@dataclass(frozen=True)
class FitSamples:
    """The samples of a fit.

    Attributes:
        fit: the recipe's model, with what the stage prepare has learnt of its input.
        roles: by what each set is for.
        extras: labels and labelled anomalies, where the recipe's threshold reads them.
        content_sha256: names the version of the dataset.
    """

    fit: FitSpec
    roles: SampleRoles
    extras: ThresholdSamples
    content_sha256: str


def open_fit_samples(prepared: Path, recipe: Recipe, project: Project) -> FitSamples:
    """Open the samples that the stage prepare wrote.

    Args:
        prepared: its folder, with train.npy, validation.npy, calibration.npy and prepared.json.
        recipe: its threshold decides what else is read, and whether its calibration samples are those of a file.
        project: where that file is looked for.

    Raises:
        DataError: the folder is incomplete.
    """
    try:
        document = read_json(prepared / "prepared.json", "content_sha256")
        content_sha256 = str(document["content_sha256"])
        fit = learnt_fit(recipe.fit, document)
        train, validation = NpySampleSet(prepared / "train.npy"), NpySampleSet(prepared / "validation.npy")
        calibration = NpySampleSet(calibration_file(prepared, recipe, project))
        extras = _open_extras(prepared, recipe)
    except (OSError, ValueError, SampleError) as error:
        raise DataError(
            f"{prepared}: the prepared dataset is incomplete ({error}): type `dvc repro prepare@{recipe.name}`"
        ) from error
    return FitSamples(fit, SampleRoles(train, validation, calibration), extras, content_sha256)


def learnt_fit(fit: FitSpec, document: Mapping[str, Any]) -> FitSpec:
    """Return a recipe's model with the categories or ranges of a prepared.json; as it is, where that has none."""
    spec = fit.input.with_categories(document.get("categories", {}))
    return replace(fit, input=spec.with_ranges(document.get("ranges", {})))


def calibration_file(prepared: Path, recipe: Recipe, project: Project) -> Path:
    """Return the file of the samples that the recipe's threshold is calibrated on.

    Raises:
        DataError: the recipe names a file that is missing, or another one now.
    """
    samples = recipe.calibration_samples
    if samples is None:
        return prepared / "calibration.npy"
    file = project.find_source(samples.samples)
    content_sha256 = file_sha256(file)
    if content_sha256 != samples.samples_sha256:
        expected = f"{samples.samples_sha256[:12]}... (threshold.samples_sha256 in recipes/{recipe.name}.yaml)"
        command = f"ae recalibrate {recipe.name} --on DATA"
        raise DataError(f"{file}: expected SHA-256 {expected}, got {content_sha256[:12]}...: type `{command}` again")
    return file


def find_backbone(fit: FitSpec, project: Project) -> Path | None:
    """Return the file of a model's frozen network; None where it has none. The training checks its SHA-256.

    Raises:
        DataError: it is in none of the folders of sources.
    """
    encoder = fit.model.encode
    if not isinstance(encoder, OnnxEncoderSpec):
        return None
    return project.find_source(encoder.path)


def _open_extras(prepared: Path, recipe: Recipe) -> ThresholdSamples:
    train_labels, label_names, novelty = None, {}, None
    if recipe.fit.threshold.reads_groups:
        train_labels = np.load(prepared / "train_labels.npy", allow_pickle=False)
        label_names = dict(enumerate(recipe.label_names))
    if recipe.fit.threshold.reads_novelty:
        novelty = NpySampleSet(prepared / NOVELTY_FILE)
    return ThresholdSamples(train_labels, label_names, novelty)
