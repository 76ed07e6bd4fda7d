"""The story of a run: from a source to a served champion, one page.

By hand: `ae run digits`. On a schedule: this flow is a deployment's entrypoint. Each step is a task of flows/steps.py;
the heavy work runs in processes of its own, so this process stays light (no torch, no Great Expectations).
"""

from typing import Any

from prefect import flow

from aeops.lock import run_lock
from aeops.project import find_project
from aeops.recipe import load_recipe
from aeops.standing import standing_result
from flows import steps


@flow(name="training", flow_run_name="train {recipe}")
def training(recipe: str) -> dict[str, Any]:
    """Retrains `recipe` and promotes the model if the gate accepts it.

    Returns:
        The run's summary (see `flows.steps.summarise`); `summary["changed"]` is False where nothing had to be done.

    Raises:
        AeError: by kind; data/, data.dvc and the registry are then as they were.
    """
    project = find_project()
    load_recipe(project, recipe)  # every mistake of the recipe is told before anything starts
    with run_lock(project, f"ae run {recipe}"):
        if standing := standing_result(project, recipe):
            return standing

        steps.ingest(recipe)
        steps.validate(recipe)
        data = steps.version(recipe)

        with steps.tracked(recipe, data) as run:
            steps.prepare(recipe)
            steps.train(recipe, run)
            steps.evaluate(recipe)
            verdict = steps.gate(recipe)

            version = steps.register(recipe, run, data, verdict)
            if verdict == "accepted":
                steps.promote(recipe, version)
        return steps.summarise(recipe, run, data, version)
