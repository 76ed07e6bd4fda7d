"""Scores of two bundles on the same test samples, each served as the recipe serves it today."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import starmap

import numpy as np

from ae_models.names import names_of
from ae_models.spec import ColumnSpec, InputSpec
from aeops.bundle.detector import Detector
from aeops.evaluation import model_input
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.sample_blocks import is_large, release_pages, rows_of_blocks, sample_values
from aeops.recipe.reader import Recipe

INPUT_KEYS = ("kind", "shape", "low", "high", "target_channels", "given")  # of bundle.json: they define a model's samples


@dataclass(frozen=True)
class TestPredictions:
    """What a bundle says of the test samples.

    Attributes:
        error: reconstruction error of each sample, (n,).
        score: anomaly score, (n,).
        p_value: (n,) in (0, 1], NaN where a sample was refused.
        is_anomaly: by the bundle's own threshold, bool (n,).
    """

    __test__ = False  # no test, whatever its name begins with

    error: np.ndarray
    score: np.ndarray
    p_value: np.ndarray
    is_anomaly: np.ndarray


def predict_both(
    recipe: Recipe, data: PreparedSamples, first: Detector, second: Detector
) -> tuple[TestPredictions, TestPredictions]:
    """Score the test samples with both bundles; both get them as the recipe serves them today.

    Both errors are measured with the first one's encoder: two tokenizers cut the same text into different numbers of tokens.
    """
    inputs = model_input.served_inputs(recipe.fit, data.test, model_input.TEST_SEED, data.folder)
    stored = model_input.target_channels(recipe.fit.input, data.test)
    columns = recipe.fit.input.columns
    results = []
    for detector in (first, second):
        blocks = []
        rows_at_once = detector.data_kind.rows_at_once(sample_values(inputs))
        for rows in _block_slices(stored, rows_at_once):
            target = first.to_measured(first.data_kind.recode(stored[rows], columns, first.spec))
            blocks.append(_predict(detector, first, inputs[rows], target, columns))
            release_pages(inputs, stored)
        results.append(_join_predictions(blocks))
    return results[0], results[1]


def _block_slices(samples: np.ndarray, rows_at_once: int) -> Iterable[slice]:
    """Return slices of the samples that are scored at once: all of them where they are small."""
    if not is_large(samples.shape):
        return [slice(0, len(samples))]
    return rows_of_blocks(len(samples), sample_values(samples), rows_at_once)


def _join_predictions(blocks: Sequence[TestPredictions]) -> TestPredictions:
    columns = {}
    for field in fields(TestPredictions):
        columns[field.name] = np.concatenate([getattr(block, field.name) for block in blocks])
    return TestPredictions(**columns)


def _predict(
    detector: Detector, reference: Detector, inputs: np.ndarray, target: np.ndarray, columns: Sequence[ColumnSpec]
) -> TestPredictions:
    """Return what `detector` says of the samples.

    Args:
        detector: the model that scores the samples.
        reference: the model whose encoder measures the errors.
        inputs: the samples as they are served, (n, ...).
        target: the expected outputs, as `reference.to_measured` returns them.
        columns: of a table: those whose codes the inputs have.
    """
    kind = detector.data_kind
    predictions = detector.score(kind.recode(inputs, columns, detector.spec), reconstruction=True)
    own_columns = [column.spec for column in detector.spec.columns]
    outputs = kind.recode(predictions["reconstruction"], own_columns, reference.spec)
    errors = reference.data_kind.errors(target, reference.to_measured(outputs))
    return TestPredictions(errors, predictions["score"], predictions["p_value"], predictions["is_anomaly"])


def sample_difference(first: Detector, second: Detector) -> str:
    """Return how the samples of the first bundle differ from those of the second; an empty string if they do not."""
    first_spec, second_spec = sample_spec(first), sample_spec(second)
    differing_keys = []
    for key, value in first_spec.items():
        if value != second_spec.get(key):
            differing_keys.append(f"{key} {value} instead of {second_spec.get(key)}")
    return ", ".join(differing_keys)


def sample_spec(detector: Detector) -> dict[str, object]:
    """Return the properties of a model's inputs and outputs.

    Keys that an older bundle lacks have their default. The shape is left out where samples may have any length.
    """
    defaults, stored_spec = InputSpec(), detector.bundle["input"]
    spec: dict[str, object] = {}
    for key in INPUT_KEYS:
        spec[key] = stored_spec.get(key, getattr(defaults, key))
    if detector.data_kind.FIXED_SHAPE:
        spec["input shape"] = list(detector.shape)
        spec["output shape"] = list(detector.output_shape)
    if detector.spec.channels and detector.spec.steps is not None:
        spec["channels"] = names_of(detector.spec.channels)
        spec["seconds a step"] = detector.spec.steps.every
    if detector.column_types:
        spec["columns"] = list(starmap("{} ({})".format, detector.column_types))
    return spec
