"""Trains on a bare machine: `python -m ae_models fit --spec FILE --train A.npy --validation B.npy --calibration C.npy ...`

FILE is JSON with the keys input, model, score, threshold and train, as in a bundle.json or a recipe.
"""

import argparse
import json
import sys
from pathlib import Path

from ae_models.errors import AeModelsError, SpecError
from ae_models.spec import FitSpec


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ae_models", description="Autoencoders: from arrays to a bundle.")
    fit = parser.add_subparsers(required=True, metavar="COMMAND").add_parser("fit", help="train, calibrate and export a bundle")
    fit.add_argument("--spec", type=Path, required=True, help="JSON with input, model, score, threshold, train")
    for part, use in (("train", "trained on"), ("validation", "watched"), ("calibration", "for the threshold alone")):
        fit.add_argument(f"--{part}", type=Path, required=True, metavar="NPY", help=f"samples (n, c, h, w), {use}")
    fit.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    fit.add_argument("--history", type=Path, required=True, help="folder of history.csv, trail.csv and export.json")
    fit.add_argument("--checkpoints", type=Path, required=True, help="folder of checkpoints and progress.jsonl")
    fit.add_argument("--recipe", help="name of the model [the spec file's]")
    fit.add_argument("--content-sha256", help="names the dataset [the sum of the training samples]")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    try:
        run(given)
    except (AeModelsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def run(given: argparse.Namespace) -> None:
    try:
        spec = FitSpec.from_plain(json.loads(given.spec.read_text(encoding="utf-8")), str(given.spec))
    except ValueError as error:
        raise error if isinstance(error, SpecError) else SpecError([f"{given.spec}: not readable as JSON: {error}"]) from error
    from ae_models.fit import fit, samples_sha256  # late, so that --help and a wrong spec answer at once
    from ae_models.rows import NpyRows

    train, validation, calibration = (NpyRows(file) for file in (given.train, given.validation, given.calibration))
    fit(
        spec,
        train,
        validation,
        calibration,
        checkpoints=given.checkpoints,
        content_sha256=given.content_sha256 or samples_sha256(train),
        recipe=given.recipe or given.spec.stem,
        bundle=given.out,
        history=given.history,
    )


if __name__ == "__main__":
    main()
