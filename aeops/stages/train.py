"""Stage train: train a model of ae_models on prepared samples; write its weights and the history of the training.

`python -m aeops.stages.train --recipe FILE --prepared DIR --out DIR`. Checkpoints and live progress are in the state folder: DVC
deletes a stage's outputs before it runs, and a killed training must find its checkpoint again.

Neither score nor threshold is read here, so a change of them, or of their code, trains nothing again: see the stage calibrate.
"""

import argparse
from pathlib import Path

from ae_models.threshold_samples import require_sample_counts
from ae_models.training import finish_training, train_weights
from aeops.data.fit_samples import find_backbone, open_fit_samples
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe


def train(recipe: Recipe, project: Project, prepared: Path, training: Path) -> None:
    """Train the recipe's model on the normal samples of a prepared dataset.

    Args:
        recipe: its sections input, model and train determine the result.
        project: where its checkpoints are, and files that the recipe names.
        prepared: the folder of the stage prepare.
        training: the folder to write: see `ae_models.training_result`; it is replaced when the training has ended.

    Raises:
        DataError: the prepared folder is incomplete, or the file of a frozen network is missing.
        SpecError: too few samples for the threshold, or a frozen network that cannot be used: better said now than later.
        SampleError: samples that do not fit the recipe.
        DivergenceError: a loss that is not finite.
    """
    samples = open_fit_samples(prepared, recipe, project)
    require_sample_counts(samples.fit, samples.roles, samples.extras)
    checkpoints = project.training(recipe.name)
    train_weights(
        samples.fit.weights,
        samples.roles.train,
        samples.roles.validation,
        checkpoints=checkpoints,
        content_sha256=samples.content_sha256,
        recipe=recipe.name,
        training=training,
        backbone=find_backbone(recipe.fit, project),
    )
    finish_training(checkpoints)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train a recipe's autoencoder on its prepared dataset.")
    for option in ("recipe", "prepared", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    arguments = parser.parse_args()

    def run_training() -> None:
        train(read_recipe(arguments.recipe), find_project(), arguments.prepared, arguments.out)

    run_main(run_training)


if __name__ == "__main__":
    main()
