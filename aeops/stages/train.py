"""Stage train: train a model of ae_models on prepared samples; write its weights and the history of the training.

`python -m aeops.stages.train --recipe FILE --prepared DIR --out DIR`. Checkpoints and live progress are in the state folder: DVC
deletes a stage's outputs before it runs, and a killed training must find its checkpoint again.

Neither score nor threshold is read here, so a change of them, or of their code, trains nothing again: see the stage calibrate.

A place that starts the workers of `train.devices` itself starts this stage once for each of them, with `--group DIR --worker K
--interface NAME`: they share each batch, and the first one (0) writes the result.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ae_models.spec import WeightsSpec
from ae_models.threshold_samples import require_sample_counts
from ae_models.training import finish_training, train_weights
from ae_models.training_worker import TrainingWorker
from aeops.data.fit_samples import find_backbone, open_fit_samples
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe


@dataclass(frozen=True)
class GroupMember:
    """One of the workers that another process has started.

    Attributes:
        folder: where they meet, new for each try.
        number: of this one, from 0.
        interface: the network device by which the others reach it.
    """

    folder: Path
    number: int
    interface: str


def train(recipe: Recipe, project: Project, prepared: Path, training: Path, member: GroupMember | None = None) -> None:
    """Train the recipe's model on the normal samples of a prepared dataset.

    Args:
        recipe: its sections input, model and train determine the result.
        project: where its checkpoints are, and files that the recipe names.
        prepared: the folder of the stage prepare.
        training: the folder to write: see `ae_models.training_result`; it is replaced when the training has ended.
        member: which worker this process is, where another process has started all of them; the first one writes.

    Raises:
        DataError: the prepared folder is incomplete, or the file of a frozen network is missing.
        SpecError: too few samples for the threshold, or a frozen network that cannot be used: better said now than later.
        SampleError: samples that do not fit the recipe.
        DivergenceError: a loss that is not finite.
    """
    samples = open_fit_samples(prepared, recipe, project)
    require_sample_counts(samples.fit, samples.roles, samples.extras)
    checkpoints = project.training(recipe.name)
    with _worker_of(samples.fit.weights, member) as worker:
        train_weights(
            samples.fit.weights,
            samples.roles.train,
            samples.roles.validation,
            checkpoints=checkpoints,
            content_sha256=samples.content_sha256,
            recipe=recipe.name,
            training=training,
            backbone=find_backbone(recipe.fit, project),
            worker=worker,
        )
    if worker is None or worker.is_first:
        finish_training(checkpoints)


@contextmanager
def _worker_of(weights: WeightsSpec, member: GroupMember | None) -> Iterator[TrainingWorker | None]:
    """Yield the worker that this process is; None where it starts the others itself, if there are any."""
    if member is None:
        yield None
        return
    from ae_models.worker_group import joined_worker  # here, as it brings torch's process groups

    with joined_worker(weights, member.folder, member.number, member.interface) as worker:
        yield worker


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train a recipe's autoencoder on its prepared dataset.")
    for option in ("recipe", "prepared", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--group", type=Path, help="where workers that another process has started meet")
    parser.add_argument("--worker", type=int, default=0, help="which of them this is, from 0")
    parser.add_argument("--interface", help="the network device by which the others reach it")
    arguments = parser.parse_args()

    def run_training() -> None:
        member = None
        if arguments.group is not None:
            member = GroupMember(arguments.group, arguments.worker, arguments.interface)
        train(read_recipe(arguments.recipe), find_project(), arguments.prepared, arguments.out, member)

    run_main(run_training)


if __name__ == "__main__":
    main()
