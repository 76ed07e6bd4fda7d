"""An evaluation of a logged model by MLflow itself, as its users call it."""

from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import make_metric
from sklearn.metrics import roc_auc_score

from aeops.machine.sqlite import sqlite_uri


def auroc_by_mlflow(model_folder: Path, frame: pd.DataFrame, target_column: str, scratch: Path) -> dict[str, float]:
    """Return the metrics of `mlflow.models.evaluate`: the AUROC of the column `score` against the column of targets.

    Args:
        model_folder: of the logged model.
        frame: what it is asked, with the targets as a column.
        target_column: name of that column.
        scratch: a folder for MLflow's database and files.
    """
    separates = make_metric(
        eval_fn=lambda predictions, targets: float(roc_auc_score(targets, predictions)), greater_is_better=True, name="auroc"
    )
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(sqlite_uri(scratch / "mlflow.db"))
    try:
        experiment = mlflow.create_experiment("tried", artifact_location=(scratch / "files").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            measured = mlflow.models.evaluate(
                str(model_folder),
                frame,
                targets=target_column,
                predictions="score",
                extra_metrics=[separates],
                evaluators="default",
            )
    finally:
        mlflow.set_tracking_uri(before)
    metrics: dict[str, float] = measured.metrics
    return metrics
