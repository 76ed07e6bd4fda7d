"""Trains on a bare machine: `python -m ae_models fit --spec FILE --train A.npy --validation B.npy --calibration C.npy ...`

FILE is JSON with the keys input, model, score, threshold and train, as in a bundle.json or a recipe.
"""

import argparse
import json
import sys
from pathlib import Path

from ae_models.errors import AeModelsError, SpecError
from ae_models.spec import FitSpec


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ae_models", description="Autoencoders: from arrays to a bundle.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="train, calibrate and export a bundle")
    fit.add_argument("--spec", type=Path, required=True, help="JSON with input, model, score, threshold, train")
    for name, purpose in (
        ("train", "to train on"),
        ("validation", "to evaluate after each epoch"),
        ("calibration", "for the threshold alone"),
    ):
        fit.add_argument(f"--{name}", type=Path, required=True, metavar="NPY", help=f"samples (n, c, h, w), {purpose}")
    fit.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    fit.add_argument("--history", type=Path, required=True, help="folder of history.csv, trail.csv and export.json")
    fit.add_argument("--checkpoints", type=Path, required=True, help="folder of checkpoints and progress.jsonl")
    fit.add_argument("--recipe", help="name of the model [the spec file's]")
    fit.add_argument("--content-sha256", help="name of the dataset [the SHA-256 of the training samples]")
    return parser.parse_args()


def main() -> None:
    """Run the command line; exit with status 1 and a message where the fit cannot go on."""
    arguments = _parse_arguments()
    try:
        _run_fit(arguments)
    except (AeModelsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _run_fit(arguments: argparse.Namespace) -> None:
    spec = _read_spec(arguments.spec)
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
    )


def _read_spec(path: Path) -> FitSpec:
    try:
        raw_spec = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError([f"{path}: not readable as JSON: {error}"]) from error
    return FitSpec.from_dict(raw_spec, str(path))


if __name__ == "__main__":
    main()
