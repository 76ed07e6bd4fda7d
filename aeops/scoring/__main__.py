"""`python -m aeops.scoring RECIPE [--now TIME] --out FILE`: scores the recipe's inbox in a process of its own, for the flow."""

import argparse
from datetime import datetime
from pathlib import Path

from aeops.files import write_json
from aeops.machine.entry_point import run_main
from aeops.project import find_project
from aeops.recipe.reader import load_recipe


def _score_and_write(recipe: str, now: datetime | None, out: Path) -> None:
    from aeops.scoring.inbox_run import score_inbox

    project = find_project()
    write_json(out, score_inbox(project, load_recipe(project, recipe, with_keys=True), now))


def main() -> None:
    """Parse the command line and score the inbox."""
    parser = argparse.ArgumentParser(description="Score the new files of a recipe's inbox.")
    parser.add_argument("recipe", help="name of a file in recipes/")
    parser.add_argument("--now", type=datetime.fromisoformat, help="the time of the predictions, with its zone [the clock's]")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write the summary to")
    arguments = parser.parse_args()
    run_main(lambda: _score_and_write(arguments.recipe, arguments.now, arguments.out))


if __name__ == "__main__":
    main()
