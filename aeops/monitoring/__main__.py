"""`python -m aeops.monitoring --recipe R [--as-of TIME]`: one check, as the flow runs it. The result is verdict.json."""

import argparse
from datetime import UTC, datetime

from aeops.machine.entry_point import run_main
from aeops.machine.environment import prepare_environment
from aeops.monitoring.check import run_check
from aeops.project import find_project
from aeops.recipe.reader import load_recipe


def main() -> None:
    """Parse the command line and run one check."""
    parser = argparse.ArgumentParser(prog="python -m aeops.monitoring", description="Check a recipe's champion.")
    parser.add_argument("--recipe", required=True, help="name of a file in recipes/")
    parser.add_argument("--as-of", type=datetime.fromisoformat, help="an ISO time with a zone [now]")
    arguments = parser.parse_args()
    run_main(lambda: _check_and_print(arguments.recipe, arguments.as_of or datetime.now(UTC)))


def _check_and_print(recipe: str, now: datetime) -> None:
    project = find_project()
    prepare_environment(project)
    verdict = run_check(project, load_recipe(project, recipe), now)
    print("; ".join(f"{signal['name']} {signal['verdict']}" for signal in verdict["signals"]))


if __name__ == "__main__":
    main()
