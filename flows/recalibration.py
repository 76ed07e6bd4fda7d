"""The recalibration flow: another score or threshold for the champion's weights. It ingests nothing and trains nothing.

By hand: `ae recalibrate digits --rate 0.005`. Its steps are those of flows/training.py from `calibrate` on.
"""

from prefect import flow

from aeops.machine.lock import RunUse
from aeops.project import find_project
from aeops.provenance.run_summary import RunSummary
from aeops.recipe.reader import load_recipe
from flows import decision_steps, flow_run, training_steps


@flow(name="recalibration", flow_run_name="recalibrate {recipe}")
def recalibration(recipe: str) -> RunSummary:
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
        data = training_steps.find_trained_data(recipe)
        with training_steps.mlflow_run(recipe, data) as run:
            training_steps.calibrate_model(recipe)
            training_steps.evaluate_model(recipe)
            training_steps.apply_gate(recipe)
            evidence = decision_steps.compare_with_champion(recipe)

            version = training_steps.register_version(recipe, run, data, evidence)
            reasons = decision_steps.decide_version(recipe, version, evidence)
        return training_steps.summarise_run(checked, run, data, version, evidence, reasons)
