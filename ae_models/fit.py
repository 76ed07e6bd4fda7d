"""A fit: a training and its calibration in one call, from a FitSpec and samples to a bundle. It only writes files.

Killed at any moment and called again, it goes on from its last checkpoint and ends in the same bundle, bit for bit.
"""

from pathlib import Path

from ae_models.calibration import calibrate
from ae_models.sample_sets import SampleArray, SampleRoles, SampleSet, as_sample_set, require_samples
from ae_models.spec import FitSpec
from ae_models.threshold_samples import ThresholdSamples, require_sample_counts
from ae_models.training import finish_training, train_weights

__all__ = ["fit"]


def fit(
    spec: FitSpec,
    train: SampleArray | SampleSet,
    validation: SampleArray | SampleSet,
    calibration: SampleArray | SampleSet,
    *,
    checkpoints: Path,
    content_sha256: str,
    recipe: str,
    bundle: Path,
    history: Path,
    progress_bar: bool = True,
    extras: ThresholdSamples | None = None,
    backbone: Path | None = None,
) -> None:
    """Train, calibrate and write `bundle` and `history`.

    Args:
        spec: every setting that decides the result beside the samples.
        train: raw samples (n, *spec.input.shape), values in its [low, high]: an array, or a file
            (`ae_models.sample_sets.NpySampleSet`), which may exceed memory.
        validation: the same, evaluated after each epoch.
        calibration: the same, for the threshold alone.
        checkpoints: a folder of this training's own, outside the results: last.ckpt, key.json, progress.jsonl, trail.csv.
        content_sha256: names the dataset, for bundle.json.
        recipe: names the bundle.
        bundle: folder, replaced at the end.
        history: folder of the training's result, replaced when the training has ended: weights, history.csv and trail.csv.
            `ae_models.calibration.calibrate` makes another bundle of it.
        progress_bar: whether to draw one on stderr.
        extras: labels and labelled anomalies, for the kinds of threshold that read them.
        backbone: file of the frozen network that `spec.model.encode.path` names, where it lies elsewhere.

    Raises:
        SampleError: samples that are not valid.
        DivergenceError: a loss that is not finite.
        TrainingError: fewer threads than `spec.train.threads`.
        SpecError: too few samples for the threshold; a frozen network that cannot be used; or a GPU that this machine lacks.
    """
    extras = extras or ThresholdSamples()
    samples = SampleRoles(as_sample_set(train), as_sample_set(validation), as_sample_set(calibration))
    # Before the training, which may take hours.
    require_samples("calibration", samples.calibration, spec.input)
    require_sample_counts(spec, samples, extras)
    train_weights(
        spec.weights,
        samples.train,
        samples.validation,
        checkpoints=checkpoints,
        content_sha256=content_sha256,
        recipe=recipe,
        training=history,
        progress_bar=progress_bar,
        backbone=backbone,
    )
    calibrate(spec, history, samples, content_sha256=content_sha256, bundle=bundle, extras=extras)
    finish_training(checkpoints)
