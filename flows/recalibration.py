"""The recalibration flow: another score or threshold for the champion's weights. It ingests nothing and trains nothing.

By hand: `ae recalibrate digits --rate 0.005`. Its steps are those of flows/training.py from `calibrate` on.
"""

import time

from prefect import State

from aeops.machine.lock import RunUse
from aeops.monitoring.run_notices import count_decisions, tell_result
from aeops.project import find_project
from aeops.provenance.run_summary import RunSummary
from aeops.recipe.reader import load_recipe
from aeops.report.summary import result_line
from flows import decision_steps, flow_run, registering_steps, training_steps


@flow_run.pipeline_flow("recalibration", "recalibrate")
def recalibration(recipe: str) -> State[RunSummary]:
    """Calibrate the recipe's last training again as its recipe now says, and promote the result if the gate accepts it.

    No record of a last run is written: the next `ae run` looks at the source, which this flow does not.

    Returns:
        The run's summary.

    Raises:
        AeError: by kind; the champion and the ledger are then unchanged.
    """
    project = find_project()
    use = RunUse(recipe, load_recipe(project, recipe).data.dataset)
    with flow_run.workspace(project, f"ae recalibrate {recipe}", use), training_steps.pinned_recipe(project, use) as checked:
        decision_steps.repair_registry(recipe)
        training_steps.report_unknown_code(project)
        started_at = time.time()
        decisions_before = count_decisions(project, recipe)
        data = training_steps.find_trained_data(recipe)
        with registering_steps.mlflow_run(recipe, data, started_at) as run:
            training_steps.calibrate_model(recipe)
            training_steps.evaluate_model(recipe)
            with training_steps.stage_ahead("compare", recipe) as comparison:
                comparison.start()  # it imports while the gate is applied
                training_steps.apply_gate(recipe)
                evidence = decision_steps.compare_with_champion(recipe, comparison)

            version = registering_steps.register_version(recipe, run, data, evidence)
            reasons = decision_steps.decide_version(recipe, version, evidence)
        summary = training_steps.summarise_run(checked, run, data, version, evidence, reasons)
    training_steps.publish_result(summary)
    tell_result(project, summary, decisions_before)
    return flow_run.flow_result(summary, result_line(summary))
