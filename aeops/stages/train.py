"""Stage train: prepared samples to a bundle and a training history, through ae_models.

`python -m aeops.stages.train --recipe FILE --prepared DIR --out DIR --history DIR`. Checkpoints and live progress lie in
the state folder: DVC drops a stage's outputs before it runs, and a killed training must find its checkpoint again.
"""

import argparse
import json
from pathlib import Path

from ae_models.errors import TrainingError
from ae_models.fit import fit
from ae_models.sample_sets import NpySampleSet
from aeops.errors import DataError
from aeops.machine.entry_point import run_main
from aeops.project import find_project
from aeops.recipe.reader import Recipe, read_recipe

PARTS = ("train", "validation", "calibration")


def train(recipe: Recipe, prepared: Path, bundle: Path, history: Path, checkpoints: Path) -> None:
    """Trains the recipe's model on the normals of a prepared dataset.

    Args:
        recipe: its sections input, model, score, threshold and train decide the result.
        prepared: the stage prepare's folder, with train.npy, validation.npy, calibration.npy and prepared.json.
        bundle: replaced when the training has ended.
        history: folder for history.csv, trail.csv and export.json.
        checkpoints: folder of this recipe's trainings.

    Raises:
        DataError: the prepared folder is incomplete.
        TrainingError: samples that do not fit the recipe, or a loss that is no number.
    """
    try:
        prepared_json = json.loads((prepared / "prepared.json").read_text(encoding="utf-8"))
        samples, validation, calibration = (NpySampleSet(prepared / f"{part}.npy") for part in PARTS)
    except (OSError, ValueError, TrainingError) as error:
        raise DataError(
            f"{prepared} holds no whole prepared dataset ({error}): type `dvc repro prepare@{recipe.name}`"
        ) from error
    fit(
        recipe.fit,
        samples,
        validation,
        calibration,
        checkpoints=checkpoints,
        content_sha256=prepared_json["content_sha256"],
        recipe=recipe.name,
        bundle=bundle,
        history=history,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a recipe's autoencoder on its prepared dataset.")
    for option in ("recipe", "prepared", "out", "history"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    given = parser.parse_args()

    def work() -> None:
        recipe = read_recipe(given.recipe)
        train(recipe, given.prepared, given.out, given.history, find_project().training(recipe.name))

    run_main(work)


if __name__ == "__main__":
    main()
