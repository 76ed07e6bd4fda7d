"""Trains and calibrates on a bare machine. FILE is JSON with the keys input, model, score, threshold and train, as in a recipe.
A relative path in it, of a frozen network, begins at its folder.

    python -m ae_models fit --spec FILE --train A.npy --validation B.npy --calibration C.npy --out BUNDLE --history DIR ...
    python -m ae_models calibrate --spec FILE --train A.npy --validation B.npy --calibration C.npy --out BUNDLE --history DIR

`fit` makes a bundle and leaves the weights in DIR; `calibrate` makes another bundle of them, with another score or threshold.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.errors import AeModelsError, SampleError, SpecError
from ae_models.spec import FitSpec, OnnxEncoderSpec

if TYPE_CHECKING:
    from ae_models.threshold_samples import ThresholdSamples


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ae_models", description="Autoencoders: from arrays to a bundle.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="train, calibrate and export a bundle")
    _add_common_arguments(fit, history="folder to write: the weights, history.csv and trail.csv")
    fit.add_argument("--checkpoints", type=Path, required=True, help="folder of checkpoints and progress.jsonl")
    fit.add_argument("--recipe", help="name of the model [the spec file's]")
    fit.set_defaults(run=_run_fit)
    calibrate = commands.add_parser("calibrate", help="make a bundle of weights that fit has trained")
    _add_common_arguments(calibrate, history="folder of the weights, which fit wrote")
    calibrate.set_defaults(run=_run_calibration)
    return parser.parse_args()


def _add_common_arguments(command: argparse.ArgumentParser, history: str) -> None:
    command.add_argument("--spec", type=Path, required=True, help="JSON with input, model, score, threshold, train")
    for name, purpose in (
        ("train", "to train on"),
        ("validation", "to evaluate after each epoch"),
        ("calibration", "for the threshold alone"),
    ):
        command.add_argument(f"--{name}", type=Path, required=True, metavar="NPY", help=f"samples (n, c, h, w), {purpose}")
    labels_help = "whole numbers (n,), the label of each training sample, for thresholds per group"
    command.add_argument("--train-labels", type=Path, metavar="NPY", help=labels_help)
    novelty_help = "anomalies (n, c, h, w) beside the validation samples, for thresholds by labels"
    command.add_argument("--novelty", type=Path, metavar="NPY", help=novelty_help)
    command.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    command.add_argument("--history", type=Path, required=True, help=history)
    command.add_argument("--content-sha256", help="name of the dataset [the SHA-256 of the training samples]")


def main() -> None:
    """Run the command line; exit with status 1 and a message where it cannot go on."""
    arguments = _parse_arguments()
    try:
        arguments.run(arguments, _read_spec(arguments.spec))
    except (AeModelsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _run_fit(arguments: argparse.Namespace, spec: FitSpec) -> None:
    from ae_models.fit import fit  # late, so that --help and a wrong spec answer at once
    from ae_models.sample_sets import NpySampleSet, samples_sha256

    train = NpySampleSet(arguments.train)
    fit(
        spec,
        train,
        NpySampleSet(arguments.validation),
        NpySampleSet(arguments.calibration),
        checkpoints=arguments.checkpoints,
        content_sha256=arguments.content_sha256 or samples_sha256(train),
        recipe=arguments.recipe or arguments.spec.stem,
        bundle=arguments.out,
        history=arguments.history,
        extras=_read_extras(arguments),
        backbone=_find_backbone(arguments.spec, spec),
    )


def _find_backbone(spec_file: Path, spec: FitSpec) -> Path | None:
    """Return the file of the model's frozen network; None where it has none."""
    encoder = spec.model.encode
    if not isinstance(encoder, OnnxEncoderSpec):
        return None
    return spec_file.parent / encoder.path


def _run_calibration(arguments: argparse.Namespace, spec: FitSpec) -> None:
    from ae_models.calibration import calibrate  # late, as above
    from ae_models.sample_sets import NpySampleSet, SampleRoles, samples_sha256

    files = (arguments.train, arguments.validation, arguments.calibration)
    samples = SampleRoles(*map(NpySampleSet, files))
    content_sha256 = arguments.content_sha256 or samples_sha256(samples.train)
    extras = _read_extras(arguments)
    calibrate(spec, arguments.history, samples, content_sha256=content_sha256, bundle=arguments.out, extras=extras)


def _read_extras(arguments: argparse.Namespace) -> "ThresholdSamples":
    from ae_models.sample_sets import NpySampleSet
    from ae_models.threshold_samples import ThresholdSamples

    labels, novelty = None, None
    if arguments.train_labels is not None:
        label_set = NpySampleSet(arguments.train_labels)
        if len(label_set.shape) != 1 or label_set.dtype.kind not in "iu":
            raise SampleError(
                f"{arguments.train_labels}: expected whole numbers (n,), got {label_set.dtype} of shape {label_set.shape}"
            )
        labels = next(label_set.blocks()).astype("int64")
    if arguments.novelty is not None:
        novelty = NpySampleSet(arguments.novelty)
    return ThresholdSamples(train_labels=labels, novelty=novelty)


def _read_spec(path: Path) -> FitSpec:
    try:
        raw_spec = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError([f"{path}: not readable as JSON: {error}"]) from error
    return FitSpec.from_dict(raw_spec, str(path))


if __name__ == "__main__":
    main()
