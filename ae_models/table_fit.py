"""A fit of a table in memory: from rows to the detector that a bundle holds. Nothing is written until `TableModel.save`.

`ae_models.sklearn` is its face. The parts are those of every fit: columns and their preprocessing, score, threshold, bundle.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ae_models.autoencoder import Autoencoder
from ae_models.bank_scores import KnnScore, LocalHullScore
from ae_models.bundle import fit_sections, load_bundle, write_bundle
from ae_models.calibration import bundle_document, calibrate_scorer
from ae_models.checksums import refused_bundle
from ae_models.combined_score import CombinedScore, build_score
from ae_models.data_loading import iterate_batches
from ae_models.direct_training import train_in_memory
from ae_models.ensemble import build_autoencoder
from ae_models.errors import SampleError, SpecError
from ae_models.export import AnomalyScorer
from ae_models.factory import build_part
from ae_models.mappings import drop_keys
from ae_models.model_output import ModelOutput
from ae_models.row_blocks import compute_by_blocks
from ae_models.sample_sets import ArraySampleSet, SampleArray, samples_sha256
from ae_models.score_interface import Score
from ae_models.score_samples import ScoreSamples
from ae_models.spec import (
    TABLE,
    AutoencoderConfig,
    ColumnSpec,
    CombinedScoreSpec,
    DenseDecoderSpec,
    DenseEncoderSpec,
    FitSpec,
    IdentityBottleneckSpec,
    InputSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    MixedLossSpec,
    NoCorruptionSpec,
    ScoreSpec,
    SingleScoreSpec,
    SplitConformalThresholdSpec,
    TrainSpec,
    single_scores,
    vector_width,
)
from ae_models.table_preprocessing import TablePreprocessing
from ae_models.threshold_interface import CalibrationScores, conformal_rows
from ae_models.thresholds import THRESHOLDS
from ae_models.training_environment import deterministic_threads
from ae_models.training_result import TrainingFacts
from ae_models.typical_samples import find_typical

__all__ = ["LEAST_ROWS", "TableModel", "TableSettings", "fit_table"]

_LARGEST_SHARE = 0.9  # of rows that are set aside, or not learnt from
LEAST_ROWS = 8  # of a fit: two to calibrate, two to standardise scores by, four to learn from
_VALIDATION_SHARE = 0.1
_SCORED_ROWS = 4096  # at once, by each thread
_EXAMPLES = 64  # calibration rows on which ONNX is compared with torch
_PRINCIPAL_NUMBERS = 16  # of the code of a detector without a trained network
_PRINCIPAL_ROWS = 50_000  # from which components are computed
_ROUNDING = 1e-5  # share of a score by which a calibration in single precision may differ from one in double
_RECIPE = "estimator"  # names the model in bundle.json


@dataclass(frozen=True)
class TableSettings:
    """Settings of a fit.

    Attributes:
        score: of the rows.
        false_alarm_rate: of the threshold, in (0, 1).
        calibration_share: of the rows, set aside for the threshold, in (0, 1).
        trim: share of the other rows that are not learnt from, in [0, 1): see `ae_models.typical_samples`.
        leaves_one_out: whether a bank holds all rows that it can, and each row is scored without itself to calibrate, instead of
            rows that are set aside for that; where there are more rows than the bank holds, these are.
        training: of a network of these `widths` and code `size`; None: a linear one, by principal components.
        widths: of the encoder's layers, those of the decoder in reverse.
        size: numbers of the code.
    """

    score: ScoreSpec
    false_alarm_rate: float
    calibration_share: float
    trim: float
    threads: int
    leaves_one_out: bool = False
    training: TrainSpec | None = None
    widths: tuple[int, ...] = ()
    size: int = _PRINCIPAL_NUMBERS


@dataclass(frozen=True)
class TableModel:
    """A fitted detector of rows, in memory: the content of a bundle.

    Attributes:
        document: bundle.json without what an export adds.
        scorer: the whole model, on the CPU.
        examples: some rows, (n, columns), on which an export is compared with torch.
    """

    document: dict[str, Any]
    scorer: AnomalyScorer
    examples: SampleArray

    @cached_property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """The columns of a row, in their order."""
        return _fit_spec(self.document).input.columns

    @property
    def threshold(self) -> float:
        """The score above which a row is an anomaly; equal scores differ by what the calibration rounded."""
        value = self.scorer.threshold.value
        return value + _ROUNDING * (1 + abs(value))

    @property
    def false_alarm_rate(self) -> float | None:
        """The share of normal rows that is flagged at most, on average; None where the threshold names none."""
        rate: float | None = self.scorer.threshold.method.requested_rate
        return rate

    @cached_property
    def _precise(self) -> AnomalyScorer:
        """The model in double precision: the score of a row then does not depend on the rows beside it."""
        return copy.deepcopy(self.scorer).double()

    def score(self, rows: SampleArray) -> npt.NDArray[np.float64]:
        """Return the scores of rows (n, columns), (n,): the higher, the more anomalous.

        A call of more than 4,096 rows is computed in single precision, as a served bundle is; a shorter one in double precision.
        """
        scorer = self._precise if len(rows) <= _SCORED_ROWS else self.scorer
        return compute_by_blocks(scorer.score_only, rows, _SCORED_ROWS)

    def p_values(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (1 + number of calibration scores at least as large) / (m + 1) of scores, (n,)."""
        calibration = self.scorer.threshold.calibration_scores.astype(np.float64)
        at_least = len(calibration) - np.searchsorted(calibration, scores - _ROUNDING * (1 + np.abs(scores)), side="left")
        p_values: npt.NDArray[np.float64] = (1 + at_least) / (len(calibration) + 1)
        return p_values

    def save(self, folder: Path) -> None:
        """Write the bundle, replacing the one in `folder`."""
        write_bundle(folder, self.document, copy.deepcopy(self.scorer), self.examples, tokenizer=None, word_counts=None)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a bundle.

        Raises:
            BundleError: see `ae_models.bundle.load_bundle`; or samples that are no rows of a table.
        """
        bundle = load_bundle(folder)
        spec = _fit_spec(bundle.document)
        if spec.input.kind != TABLE:
            raise refused_bundle(folder, f"expected a model of rows (input.kind {TABLE}), got {spec.input.kind}")
        document = drop_keys(bundle.document, ("format", "export"))
        return cls(document, bundle.scorer, _usual_rows(bundle.scorer.autoencoder))


def fit_table(input_spec: InputSpec, rows: SampleArray, settings: TableSettings, seed: int) -> TableModel:
    """Learn what is normal of rows.

    Args:
        input_spec: of a table, its categories known.
        rows: float64 (n, columns), NaN where a value is missing.
        settings: of the fit.
        seed: of everything that is drawn.

    Raises:
        SpecError: settings that are not valid, all of them at once.
        SampleError: fewer rows than `LEAST_ROWS`.
    """
    if len(rows) < LEAST_ROWS:
        raise SampleError(f"expected {LEAST_ROWS} rows or more to learn from, got {len(rows)} (n_samples={len(rows)})")
    _checked_spec(input_spec, settings, seed, len(rows), settings.false_alarm_rate)
    if settings.leaves_one_out and len(rows) <= _bank_rows(settings.score):
        return _fit_without_split(input_spec, rows, settings, seed)
    learnt, validation, calibration = _split_rows(rows, settings, seed)
    learnt = learnt[_find_typical_rows(input_spec, learnt, settings.trim, seed)]
    spec = _checked_spec(input_spec, settings, seed, len(learnt), _reachable_rate(settings.false_alarm_rate, len(calibration)))
    with deterministic_threads(settings.threads):
        if settings.training is None:
            autoencoder, steps = _principal_autoencoder(spec, learnt), 0
        else:
            autoencoder, steps = _train(spec, learnt)
        autoencoder = autoencoder.cpu().eval()
        score = build_score(spec.score, autoencoder)
        train_set, validation_set = ArraySampleSet(learnt), ArraySampleSet(validation)
        score.fit(ScoreSamples(autoencoder, spec.input, train_set, validation_set, seed))
        scorer = calibrate_scorer(spec.threshold, autoencoder, score, calibration)
    facts = TrainingFacts(_RECIPE, spec.weights, steps, samples_sha256(train_set), torch.__version__.partition("+")[0])
    return TableModel(bundle_document(spec, facts, scorer), scorer.eval(), calibration[:_EXAMPLES])


def _fit_without_split(input_spec: InputSpec, rows: SampleArray, settings: TableSettings, seed: int) -> TableModel:
    """Fit a bank of all rows but the trimmed ones; the calibration scores are those of all rows, each without itself."""
    is_typical = _find_typical_rows(input_spec, rows, settings.trim, seed)
    learnt = rows[is_typical]
    spec = _checked_spec(input_spec, settings, seed, len(learnt), _reachable_rate(settings.false_alarm_rate, len(rows)))
    with deterministic_threads(settings.threads), torch.no_grad():
        autoencoder = _principal_autoencoder(spec, learnt).cpu().eval()
        score = build_score(spec.score, autoencoder)
        train_set = ArraySampleSet(learnt)
        score.fit(ScoreSamples(autoencoder, spec.input, train_set, train_set, seed))
        _leave_out_nearest(score, 1)
        if isinstance(score, CombinedScore):
            score.standardise(_outputs(autoencoder, learnt))
        learnt_scores = list(map(score, _outputs(autoencoder, learnt)))
        _leave_out_nearest(score, 0)
        trimmed_scores = list(map(score, _outputs(autoencoder, rows[~is_typical])))
    scores = torch.cat([*learnt_scores, *trimmed_scores]).numpy()
    threshold = build_part(THRESHOLDS, spec.threshold).calibrate(CalibrationScores(scores))
    facts = TrainingFacts(_RECIPE, spec.weights, 0, samples_sha256(train_set), torch.__version__.partition("+")[0])
    scorer = AnomalyScorer(autoencoder, score, threshold)
    return TableModel(bundle_document(spec, facts, scorer), scorer.eval(), learnt[:_EXAMPLES])


def _outputs(autoencoder: Autoencoder, rows: SampleArray) -> Iterator[ModelOutput]:
    for batch in iterate_batches(ArraySampleSet(rows)):
        yield autoencoder.run(autoencoder.normalise(batch))


def _leave_out_nearest(score: Score, count: int) -> None:
    """Let banks leave out the nearest row, which is a row of the bank itself where such rows are scored."""
    for part in score.modules():
        if isinstance(part, KnnScore | LocalHullScore):
            part.left_out = count


def _bank_rows(score: ScoreSpec) -> int:
    """Return how many rows the smallest bank of a score holds."""
    return min(
        (part.rows for part in single_scores(score).values() if isinstance(part, KnnScoreSpec | LocalHullScoreSpec)), default=0
    )


def _split_rows(rows: SampleArray, settings: TableSettings, seed: int) -> list[SampleArray]:
    """Return the rows to learn from, to standardise scores by, and to calibrate, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(rows))
    calibration = min(max(2, round(settings.calibration_share * len(rows))), len(rows) - LEAST_ROWS // 2)
    validation = min(max(2, round(_VALIDATION_SHARE * len(rows))), len(rows) - calibration - 2)
    parts = np.split(order, [calibration, calibration + validation])
    return [rows[parts[2]], rows[parts[1]], rows[parts[0]]]


def _find_typical_rows(input_spec: InputSpec, rows: SampleArray, trim: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which rows to learn from: see `ae_models.typical_samples`."""
    if not trim:
        return np.ones(len(rows), dtype=bool)
    preprocessing = TablePreprocessing(input_spec)
    preprocessing.learn(rows)
    with torch.inference_mode():
        vectors = _to_vectors(preprocessing, rows)
    return find_typical(vectors, trim, seed)


def _reachable_rate(rate: float, calibration_rows: int) -> float:
    """Return the rate of false alarms that so many calibration rows can promise: a higher one than asked for is announced."""
    if calibration_rows >= conformal_rows(rate):
        return rate
    reachable = math.ceil(1e6 / (calibration_rows + 1)) / 1e6  # rounded up: as one over a number it may be a bit too small
    warnings.warn(
        f"false_alarm_rate={rate:g} needs {conformal_rows(rate)} calibration rows, got {calibration_rows}: the threshold "
        f"promises {reachable:.3g} instead. Give fit more rows, or a larger calibration_share",
        UserWarning,
        stacklevel=4,
    )
    return reachable


def _checked_spec(input_spec: InputSpec, settings: TableSettings, seed: int, learnt_rows: int, rate: float) -> FitSpec:
    """Return the settings as those of any fit; neighbours are as many as there are rows.

    Raises:
        SpecError: with every mistake.
    """
    mistakes = []
    for name in ("calibration_share", "trim"):
        share, low = getattr(settings, name), 0 if name == "trim" else 0.01
        if not low <= share <= _LARGEST_SHARE:
            mistakes.append(f"{name}: expected {low:g} to {_LARGEST_SHARE:g}, got {share:g}")
    width = vector_width(input_spec.columns, input_spec.one_hot)
    model = AutoencoderConfig(
        corrupt=NoCorruptionSpec(),
        encode=DenseEncoderSpec(settings.widths),
        bottleneck=IdentityBottleneckSpec(min(settings.size, width)),
        decode=DenseDecoderSpec(settings.widths[::-1]),
        compare=MixedLossSpec(),
    )
    train = replace(settings.training or TrainSpec(epochs=1, accelerator="cpu"), seed=seed, threads=settings.threads)
    threshold = SplitConformalThresholdSpec(false_alarm_rate=rate)
    spec = FitSpec(input_spec, model, _fitting_score(settings.score, learnt_rows), threshold, train)
    try:
        checked_spec = FitSpec.from_dict(spec.to_dict(), "the detector")
    except SpecError as error:
        raise SpecError([*error.mistakes, *mistakes]) from None
    if mistakes:
        raise SpecError(mistakes)
    return checked_spec


def _fitting_score(score: ScoreSpec, learnt_rows: int) -> ScoreSpec:
    """Return the score with as many neighbours as there are rows, less one, where it asks for more."""
    if isinstance(score, CombinedScoreSpec):
        return replace(score, scores=tuple(_fitting_part(part, learnt_rows) for part in score.scores))
    return _fitting_part(score, learnt_rows)


def _fitting_part(score: SingleScoreSpec, learnt_rows: int) -> SingleScoreSpec:
    if isinstance(score, KnnScoreSpec | LocalHullScoreSpec) and score.neighbours > learnt_rows - 1:
        return replace(score, neighbours=learnt_rows - 1)
    return score


def _principal_autoencoder(spec: FitSpec, rows: SampleArray) -> Autoencoder:
    """Return a linear autoencoder whose code are the principal components of the rows' vectors: nothing is trained."""
    autoencoder = build_autoencoder(spec.model, spec.input, 1, seed=spec.train.seed)
    _learn_preprocessing(autoencoder, rows)
    with torch.no_grad():
        vectors = autoencoder.normalise(torch.from_numpy(rows[:_PRINCIPAL_ROWS])).double()
        mean = vectors.mean(0)
        _, axes = torch.linalg.eigh((vectors - mean).T @ (vectors - mean))
        encode, decode = _only_linear(autoencoder.encode), _only_linear(autoencoder.decode)
        axes = axes[:, -len(encode.weight) :].flip(1)
        encode.weight.copy_(axes.T)
        encode.bias.copy_(-(axes.T @ mean))
        decode.weight.copy_(axes)
        decode.bias.copy_(mean)
    return autoencoder


def _only_linear(part: nn.Module) -> nn.Linear:
    """Return the one linear layer of a part."""
    [layer] = (layer for layer in part.modules() if isinstance(layer, nn.Linear))
    return layer


def _train(spec: FitSpec, rows: SampleArray) -> tuple[Autoencoder, int]:
    """Train a network, or the members of an ensemble; return it and the steps that it took."""
    autoencoder = build_autoencoder(spec.model, spec.input, spec.train.members, seed=spec.train.seed)
    _learn_preprocessing(autoencoder, rows)
    with torch.no_grad():
        inputs = _to_vectors(autoencoder.normalise, rows)
    return autoencoder, train_in_memory(autoencoder, spec.train, inputs)


def _to_vectors(preprocess: Callable[[Tensor], Tensor], rows: SampleArray) -> Tensor:
    """Return what the network reads of rows, (n, numbers), block by block."""
    return torch.cat([preprocess(torch.from_numpy(block)) for block in ArraySampleSet(rows).blocks()])


def _learn_preprocessing(autoencoder: Autoencoder, rows: SampleArray) -> None:
    first, *others = (member.preprocessing for member in autoencoder.members)
    assert first is not None, "the input is a table"
    first.learn(rows)
    for preprocessing in others:
        assert preprocessing is not None, "members have one spec"
        preprocessing.load_state_dict(first.state_dict())


def _usual_rows(autoencoder: Autoencoder) -> SampleArray:
    """Return two rows of usual values: what a loaded detector has to compare an export with torch."""
    assert autoencoder.preprocessing is not None, "the input is a table"
    rows: SampleArray = autoencoder.preprocessing.fill.numpy()[None].repeat(2, 0)
    return rows


def _fit_spec(document: Mapping[str, Any]) -> FitSpec:
    """Return the settings in a bundle.json."""
    return FitSpec.from_dict(fit_sections(document), "bundle.json")
