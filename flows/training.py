"""The story of a run: from a source to a served champion, one page.

By hand: `ae run digits`. On a schedule: this flow is a deployment's entrypoint. Each step is a task of flows/steps.py or
flows/deciding.py; the heavy work runs in processes of its own, so this process stays light (no torch, no Great Expectations).
"""

from typing import Any

from prefect import State, flow
from prefect.runtime import deployment

from aeops.machine.lock import is_free
from aeops.project import find_project
from aeops.provenance.last_run import unchanged_summary
from aeops.recipe.reader import load_recipe
from aeops.registry.outcome import WAITING
from flows import deciding, runs, steps


@flow(name="training", flow_run_name="train {recipe}")
def training(recipe: str) -> dict[str, Any] | State[dict[str, Any]]:
    """Retrains `recipe` and promotes the model if the gate accepts it and, where the recipe asks for one, a person.

    A run of a deployment waits for the workspace, is suspended until the person has decided, holding no process meanwhile, and
    ends in a state whose message says what came of it; one by hand ends at once where the workspace is held.

    Returns:
        The run's summary (see `flows.steps.summarise`); `summary["changed"]` is False where nothing had to be done.
        Of a run that a person's answer resumed, recipe, version and state.

    Raises:
        AeError: by kind; data/, data.dvc, the champion and the ledger are then as they were.
    """
    project = find_project()
    checked = load_recipe(project, recipe, with_keys=True)  # every mistake of it is told before anything starts
    with steps.stage_ahead("validate") as validator:
        if is_free(project):  # else it would wait as long as this run does, with all that it has imported
            validator.begin()  # it imports Great Expectations while this process imports MLflow
        if asked := deciding.asked_about(recipe):
            return deciding.ask(recipe, asked)

        with runs.workspace(project, f"ae run {recipe}"):
            deciding.repair(recipe)
            if unchanged := unchanged_summary(project, recipe):
                return runs.ended(
                    unchanged, f"nothing new for {recipe}: trained nothing; {unchanged['version']} is {unchanged['state']}"
                )

            steps.ingest(recipe)
            steps.validate(recipe, validator)
            data = steps.version(recipe)

            with steps.tracked(recipe, data) as run:
                steps.prepare(recipe)
                steps.train(recipe, run)
                steps.evaluate(recipe)
                steps.gate(recipe)
                evidence = deciding.compare(recipe)

                version = steps.register(recipe, run, data, evidence)
                if reasons := deciding.judge(recipe, version):
                    deciding.refuse(recipe, version, evidence, reasons)
                else:
                    deciding.sign(recipe, version)
                    decide = deciding.request if checked.approval.needed else deciding.promote
                    decide(recipe, version, evidence)
            summary = steps.summarise(recipe, run, data, version, reasons)

    if summary["state"] == WAITING and deployment.id:
        return deciding.ask(recipe, version)
    return runs.ended(summary, f"{recipe} {version}: {summary['state']}")
