"""Samples and labels that some kinds of threshold read beside the calibration samples; counts of samples before a training.

    extras = ThresholdSamples(train_labels=np.load("train_labels.npy"))
    require_sample_counts(spec, samples, extras)     # raises SpecError, naming how many are needed

numpy only: a flow checks the counts without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ae_models.errors import SampleError, SpecError
from ae_models.factory import build_part
from ae_models.sample_sets import SampleArray, SampleRoles, SampleSet
from ae_models.spec import FitSpec, InputSpec, score_row_errors
from ae_models.threshold_interface import CalibrationRows, GroupedRows
from ae_models.threshold_laws import nearest_centre
from ae_models.thresholds import THRESHOLDS
from ae_models.value_range import value_range

__all__ = ["NO_LABEL", "SampleGroups", "ThresholdSamples", "fit_groups", "require_sample_counts"]

NO_LABEL = -1  # of a sample without one


@dataclass(frozen=True)
class ThresholdSamples:
    """What a threshold may read beside the samples of a fit; each is None where there is none.

    Attributes:
        train_labels: of the training samples, (n,), whole numbers; `NO_LABEL` for a sample without one.
        label_names: label -> name, for reports; a label that is left out is named by its number.
        novelty: labelled anomalies beside the validation samples, raw.
    """

    train_labels: npt.NDArray[np.int64] | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    novelty: SampleSet | None = None


@dataclass(frozen=True)
class SampleGroups:
    """The groups of normal samples: one a label.

    Attributes:
        names: of the labels.
        centres: the mean training sample of each, as the model reads it, (groups, values) in [0, 1].
    """

    names: tuple[str, ...]
    centres: npt.NDArray[np.float32]


def fit_groups(extras: ThresholdSamples, train: SampleSet, input_spec: InputSpec) -> SampleGroups | None:
    """Return a group for each label of the training samples; None where their labels are not known.

    Raises:
        SampleError: another number of labels than of samples.
    """
    labels = extras.train_labels
    if labels is None:
        return None
    if len(labels) != train.shape[0]:
        raise SampleError(f"expected a label for each of {train.shape[0]} training samples, got {len(labels)} labels")
    used_labels, counts = np.unique(labels[labels != NO_LABEL], return_counts=True)
    sums, first = np.zeros((len(used_labels), _clean_vectors(next(train.blocks())[:1], input_spec).shape[1])), 0
    for block in train.blocks():
        vectors, block_labels = _clean_vectors(block, input_spec), labels[first : first + len(block)]
        for place, label in enumerate(used_labels):
            sums[place] += vectors[block_labels == label].sum(0, dtype=np.float64)
        first += len(block)
    names = tuple(extras.label_names.get(int(label), str(label)) for label in used_labels)
    return SampleGroups(names, (sums / counts[:, None]).astype(np.float32))


def _clean_vectors(raw: SampleArray, input_spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return raw samples (n, *shape) as vectors in [0, 1], (n, values), without their target channels."""
    if input_spec.target_channels:
        raw = raw[:, : -input_spec.target_channels]
    low, high = value_range(input_spec)
    if input_spec.channels:
        unit: npt.NDArray[np.float32] = ((raw - low) / (high - low)).astype(np.float32).reshape(len(raw), -1)
        return unit
    values = raw.astype(np.float32).reshape(len(raw), -1)
    vectors: npt.NDArray[np.float32] = (values - np.float32(low)) / np.float32(high - low)
    return vectors


def require_sample_counts(spec: FitSpec, samples: SampleRoles, extras: ThresholdSamples) -> None:
    """Check, before a training, that there are enough samples for the score and to choose the threshold by.

    Raises:
        SpecError: there are not; its messages say how many are needed.
        SampleError: another number of labels than of training samples.
    """
    groups, novelty_rows = None, 0
    if spec.threshold.reads_groups:
        groups = _count_groups(fit_groups(extras, samples.train, spec.input), samples.calibration, spec.input)
    if extras.novelty is not None:
        novelty_rows = extras.novelty.shape[0]
    rows = CalibrationRows(samples.calibration.shape[0], samples.validation.shape[0], novelty_rows, groups)
    mistakes = score_row_errors(spec.score, samples.train.shape[0])
    try:
        build_part(THRESHOLDS, spec.threshold).require_rows(rows)
    except SpecError as error:
        mistakes += error.mistakes
    if mistakes:
        raise SpecError(mistakes)


def _count_groups(groups: SampleGroups | None, calibration: SampleSet, input_spec: InputSpec) -> GroupedRows | None:
    if groups is None:
        return None
    counts = np.zeros(len(groups.names), np.int64)
    if groups.names:
        for block in calibration.blocks():
            places = nearest_centre(_clean_vectors(block, input_spec), groups.centres)
            counts += np.bincount(places, minlength=len(counts))
    return GroupedRows(groups.names, tuple(counts.tolist()))
