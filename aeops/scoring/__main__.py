"""`python -m aeops.scoring RECIPE [--now TIME] --out FILE`: scores the recipe's inbox in a process of its own, for the flow."""

import argparse
from datetime import datetime
from pathlib import Path

from aeops.files import write_json
from aeops.machine.stage_main import run_stage
from aeops.project import find_project
from aeops.recipe.reader import load_recipe


def score(recipe: str, now: datetime | None, out: Path) -> None:
    from aeops.scoring.inbox_run import score_inbox

    project = find_project()
    write_json(out, score_inbox(project, load_recipe(project, recipe, with_keys=True), now))


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores what is new in a recipe's inbox.")
    parser.add_argument("recipe", help="name of a file in recipes/")
    parser.add_argument("--now", type=datetime.fromisoformat, help="the time of the predictions, with its zone [the clock's]")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write what was found to")
    given = parser.parse_args()
    run_stage(lambda: score(given.recipe, given.now, given.out))


if __name__ == "__main__":
    main()
