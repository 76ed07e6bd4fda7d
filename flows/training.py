"""The training flow: from a source to a champion, on one page.

By hand: `ae run digits`. On a schedule: this flow is a deployment's entrypoint. Each step is a task of flows/training_steps.py,
flows/registering_steps.py or flows/decision_steps.py. The heavy work runs in processes of its own, so this process stays light
(no torch, no Great Expectations).
"""

import time

from prefect import State
from prefect.runtime import deployment

from aeops.machine.lock import RunUse, would_wait
from aeops.monitoring.run_notices import count_decisions, tell_quarantine, tell_result
from aeops.project import find_project
from aeops.provenance.last_run import unchanged_summary, write_record
from aeops.provenance.run_summary import RunSummary
from aeops.recipe.reader import load_recipe
from aeops.registry.version_state import WAITING
from aeops.report.summary import result_line
from flows import decision_steps, flow_run, registering_steps, training_steps
from flows.decision_steps import ApprovalResult


@flow_run.pipeline_flow("training", "train")
def training(recipe: str) -> State[RunSummary] | State[ApprovalResult]:
    """Retrain `recipe` and promote the model if the gate accepts it and, where the recipe requires one, a person.

    A run of a deployment waits for what it uses, its recipe and its dataset, and is suspended until the person has decided,
    without holding a process; its last state has a message with the result. A run by hand ends at once where another one uses
    them.

    Returns:
        The run's summary; `summary["changed"]` is False where there was nothing to do. Of a run that a person's decision
        resumed, recipe, version and state.

    Raises:
        AeError: by kind; data/, data.dvc, the champion and the ledger are then unchanged.
    """
    project = find_project()
    loaded = load_recipe(project, recipe, with_keys=True)  # reports every mistake in it before anything starts
    use = RunUse(recipe, loaded.data.dataset)
    with training_steps.stage_ahead("validate", recipe) as validator:
        if not would_wait(project, use):  # else it would wait as long as this run does, with all that it has imported
            validator.start()  # it imports Great Expectations while this process imports MLflow
        if requested_version := decision_steps.find_requested_version(recipe):
            return decision_steps.ask_for_approval(recipe, requested_version)

        with flow_run.workspace(project, f"ae run {recipe}", use), training_steps.pinned_recipe(project, use) as checked:
            decision_steps.repair_registry(recipe)
            training_steps.report_unknown_code(project)
            started_at = time.time()
            decisions_before = count_decisions(project, recipe)
            if previous := unchanged_summary(project, recipe):
                message = f"nothing new for {recipe}: trained nothing; {previous['version']} is {previous['state']}"
                flow_run.note_outcome(recipe, message)
                return flow_run.flow_result(previous, message)

            training_steps.ingest_source(recipe)
            training_steps.validate_incoming(recipe, validator)
            data = training_steps.version_dataset(recipe)
            tell_quarantine(project, recipe, training_steps.read_quarantine(recipe), data["content_sha256"])

            with registering_steps.mlflow_run(recipe, data, started_at) as run:
                training_steps.prepare_samples(recipe)
                training_steps.train_model(recipe, run)
                training_steps.calibrate_model(recipe)
                training_steps.evaluate_model(recipe)
                with training_steps.stage_ahead("compare", recipe) as comparison:
                    comparison.start()  # it imports while the gate is applied
                    training_steps.apply_gate(recipe)
                    evidence = decision_steps.compare_with_champion(recipe, comparison)

                version = registering_steps.register_version(recipe, run, data, evidence)
                reasons = decision_steps.decide_version(recipe, version, evidence)
            summary = training_steps.summarise_run(checked, run, data, version, evidence, reasons)
            write_record(project, checked, summary)
        training_steps.publish_result(summary)
        tell_result(project, summary, decisions_before)

    if summary["state"] == WAITING and deployment.id:
        return decision_steps.ask_for_approval(recipe, version)
    return flow_run.flow_result(summary, result_line(summary))
