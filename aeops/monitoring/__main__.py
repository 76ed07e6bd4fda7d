"""`python -m aeops.monitoring --recipe R [--as-of TIME]`: one look, as the flow starts it. The result is verdict.json."""

import argparse
from datetime import UTC, datetime

from aeops.machine.environment import prepare_environment
from aeops.machine.stage_main import run_stage
from aeops.monitoring.check import look
from aeops.project import find_project
from aeops.recipe.reader import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.monitoring", description="Looks at a recipe's champion.")
    parser.add_argument("--recipe", required=True, help="name of a file in recipes/")
    parser.add_argument("--as-of", type=datetime.fromisoformat, help="an ISO time with a zone [now]")
    given = parser.parse_args()
    run_stage(lambda: tell(given.recipe, given.as_of or datetime.now(UTC)))


def tell(recipe: str, now: datetime) -> None:
    project = find_project()
    prepare_environment(project)
    found = look(project, load_recipe(project, recipe), now)
    print("; ".join(f"{one['name']} {one['verdict']}" for one in found["signals"]))


if __name__ == "__main__":
    main()
