"""`python -m aeops.places.run_stage train --recipe FILE --prepared DIR --out DIR`: runs the stage at the place of AE_RUN_ON.

.dvc/stage calls it in the place of the stage itself where a run trains on a cluster. The stage is the same: where it runs changes
none of its files. A worker of it that is killed is replaced up to twice, and the training goes on from its checkpoint.
"""

import argparse
import os
from pathlib import Path

from aeops.data.stage_runs import StageStarter
from aeops.machine.entry_point import run_main
from aeops.places.open_place import RUN_ON_VARIABLE, open_place
from aeops.places.pool import run_command
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.run_place import parse_place


def train(recipe_file: Path, prepared: Path, out: Path) -> None:
    """Run the stage train at the place of this process's environment.

    Raises:
        AeError: as the stage reports it, or its place.
    """
    project, recipe = find_project(), read_recipe(recipe_file)
    place = parse_place(os.environ.get(RUN_ON_VARIABLE, ""), RUN_ON_VARIABLE)
    starter = StageStarter(project, project.home, recipe_file.absolute(), prepared.absolute())
    command = starter.training_command(recipe.fit.train, project.training(recipe.name), out.absolute())
    with open_place(project, place) as opened:
        run_command(command, opened.start)
    print(f"trained on {place.text}", flush=True)


def main() -> None:
    """Parse the command line and run the stage."""
    parser = argparse.ArgumentParser(description="Run a stage at the place that AE_RUN_ON names.")
    parser.add_argument("stage", choices=("train",))
    for option in ("recipe", "prepared", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    arguments = parser.parse_args()
    run_main(lambda: train(arguments.recipe, arguments.prepared, arguments.out))


if __name__ == "__main__":
    main()
