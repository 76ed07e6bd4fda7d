"""Stage train: train a model of ae_models on prepared samples; write a bundle and the history of the training.

`python -m aeops.stages.train --recipe FILE --prepared DIR --out DIR --history DIR`. Checkpoints and live progress are
in the state folder: DVC deletes a stage's outputs before it runs, and a killed training must find its checkpoint again.
"""

import argparse
from pathlib import Path

from ae_models.errors import TrainingError
from ae_models.fit import fit
from ae_models.sample_sets import NpySampleSet
from aeops.errors import DataError
from aeops.machine.entry_point import run_main
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import Recipe, read_recipe

SAMPLE_SETS = ("train", "validation", "calibration")


def train(recipe: Recipe, prepared: Path, bundle: Path, history: Path, checkpoints: Path) -> None:
    """Train the recipe's model on the normal samples of a prepared dataset.

    Args:
        recipe: its sections input, model, score, threshold and train determine the result.
        prepared: the folder of the stage prepare, with train.npy, validation.npy, calibration.npy and prepared.json.
        bundle: the folder to write; it is replaced when the training has ended.
        history: folder for history.csv, trail.csv and export.json.
        checkpoints: folder of this recipe's trainings.

    Raises:
        DataError: the prepared folder is incomplete.
        TrainingError: samples that do not fit the recipe, or a loss that is not finite.
    """
    try:
        description = read_json(prepared / "prepared.json", "content_sha256")
        samples, validation, calibration = (NpySampleSet(prepared / f"{name}.npy") for name in SAMPLE_SETS)
    except (OSError, ValueError, TrainingError) as error:
        raise DataError(
            f"{prepared}: the prepared dataset is incomplete ({error}): type `dvc repro prepare@{recipe.name}`"
        ) from error
    fit(
        recipe.fit,
        samples,
        validation,
        calibration,
        checkpoints=checkpoints,
        content_sha256=description["content_sha256"],
        recipe=recipe.name,
        bundle=bundle,
        history=history,
    )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train a recipe's autoencoder on its prepared dataset.")
    for option in ("recipe", "prepared", "out", "history"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    arguments = parser.parse_args()

    def run_training() -> None:
        recipe = read_recipe(arguments.recipe)
        train(recipe, arguments.prepared, arguments.out, arguments.history, find_project().training(recipe.name))

    run_main(run_training)


if __name__ == "__main__":
    main()
