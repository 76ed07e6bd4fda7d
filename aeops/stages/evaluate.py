"""Stage evaluate: measure a bundle and its baselines on unseen test samples, and run the recipe's studies.

Run: python -m aeops.stages.evaluate --recipe recipes/digits.yaml --prepared DIR --bundle DIR --history DIR --out DIR
It writes metrics.json, studies.json, scores.parquet, reference.parquet (for monitoring), thresholds.csv and errors.csv (for the
report and `dvc plots`) and figures/ to --out. The same input gives the same bytes.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.intervals import clopper_pearson
from ae_models.mappings import drop_keys
from ae_models.thresholds import read_threshold
from aeops.bundle.detector import Detector
from aeops.data.array_files import write_parquet
from aeops.data.fit_samples import calibration_file, learnt_fit
from aeops.data.series_sets import calibration_names
from aeops.drawing import mosaics
from aeops.errors import DataError
from aeops.evaluation import line_charts, model_input
from aeops.evaluation.alarm_causes import alarm_results
from aeops.evaluation.block_scores import score_in_blocks
from aeops.evaluation.detection import DetectorScores, measure_flagged, measure_lead, measure_ranking
from aeops.evaluation.false_alarms import count_blocks, measure_false_alarms
from aeops.evaluation.galleries import draw_galleries
from aeops.evaluation.measures import MEASURE_FUNCTIONS
from aeops.evaluation.prepared import load_prepared
from aeops.evaluation.reference import REFERENCE_SEED, write_reference
from aeops.evaluation.sample_blocks import map_samples, read_pairs
from aeops.evaluation.series_alarms import series_results
from aeops.evaluation.study import EvaluationContext, StudyResult, run_study
from aeops.evaluation.threshold_table import error_table, threshold_table, to_csv
from aeops.files import atomic_folder, atomic_write, write_json
from aeops.machine.entry_point import run_main
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.metric_names import AT_REQUESTED_RATE, MODEL_DETECTOR, TABLE_RATES, has_labels
from aeops.recipe.reader import Recipe, read_recipe

CORRELATIONS_FILE = "correlations.svg"
CORRELATIONS_TEXT = (
    "Correlations of the columns of normal test rows, below the diagonal, and of their reconstructions, above it: blue where two "
    "rise together, vermillion where one falls."
)
# A nested part of metrics.json: numbers, texts and None under the names that docs and the gate's rules use.
MetricTree = dict[str, Any]


def evaluate(recipe: Recipe, project: Project, prepared: Path, bundle: Path, history: Path, output: Path) -> MetricTree:
    """Evaluate `bundle` on the prepared test samples and replace the folder `output` by the report.

    Args:
        recipe: its section `evaluate` names baselines and studies.
        project: where the studies find sources and state.
        prepared: the folder of the stage prepare.
        bundle: the bundle to evaluate.
        history: the folder with history.csv of the training.
        output: the report's folder.

    Returns:
        The metrics, as metrics.json holds them.

    Raises:
        DataError: a bundle that must not be used, or no normal sample among the test samples.
        UsageError: more PCA components or neighbours than the training samples allow.
    """
    context = build_context(recipe, project, prepared, bundle, history)
    recipe = context.recipe  # with what the stage prepare has learnt of its input
    curves = pd.read_csv(history / "history.csv")
    detectors = score_detectors(context)
    metrics = measure_metrics(context, detectors) | training_metrics(curves, context.detector)
    with atomic_folder(output) as folder:
        figures = folder / "figures"
        figures.mkdir()
        documents = {}
        own_results = series_results(context, figures) | example_results(context, figures) | alarm_results(context)
        for name, result in own_results.items():
            documents[name] = study_document(result)
            if result.metrics:
                metrics[name] = result.metrics
        for name, spec in recipe.evaluate.studies.items():
            result = run_study(name, spec, context, figures)
            metrics[name] = result.metrics
            documents[name] = study_document(result)
        metrics = dict(zip(metrics, map(replace_nonfinite, metrics.values()), strict=True))
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "studies.json", documents)
        scores = score_table(context)
        write_parquet(folder / "scores.parquet", scores)
        write_tables(folder, scores, metrics["false_alarms"]["threshold"])
        file = calibration_file(prepared, recipe, project)
        calibration, names = np.load(file, mmap_mode="r"), calibration_names(file)
        write_reference(folder / "reference.parquet", recipe.fit, calibration, context.detector, names)
        draw_figures(figures, context, detectors, metrics, curves)
    return metrics


def build_context(recipe: Recipe, project: Project, prepared: Path, bundle: Path, history: Path) -> EvaluationContext:
    """Load the test samples and the bundle, and let the bundle score the samples.

    Raises:
        DataError: a bundle that must not be used, or no normal sample among the test samples.
    """
    recipe = replace(recipe, fit=learnt_fit(recipe.fit, read_json(prepared / "prepared.json")))
    data, detector, source = load_prepared(prepared), Detector(bundle), recipe.fit.input
    if data.novelty.all():
        next_step = "raise data.split.test in the recipe"
        if recipe.data.split.test is None:
            next_step = "add some to the source's own test part"
        raise DataError(f"{prepared}: no normal sample in test.npy, expected at least one; {next_step}, or ingest more samples")
    inputs = model_input.served_inputs(recipe.fit, data.test, model_input.TEST_SEED, data.folder)
    target = map_samples(detector.to_measured, model_input.target_channels(source, data.test), data.folder)
    predictions = score_in_blocks(detector, inputs, data.folder, reconstruction=True, code=True)
    return EvaluationContext(recipe, data, detector, inputs, target, predictions, project, bundle, history)


def score_detectors(context: EvaluationContext) -> dict[str, DetectorScores]:
    """Return the scores of the model and of each baseline on calibration and test samples; empty if novelty is not ranked."""
    recipe = context.recipe
    if recipe.evaluate.neighbours is None or not context.data.novelty.any():
        return {}
    calibration = np.load(calibration_file(context.data.folder, recipe, context.project), mmap_mode="r")
    folder = context.data.folder
    calibration_scores = context.baselines.score(model_input.served_inputs(recipe.fit, calibration, REFERENCE_SEED, folder))
    model_scores = context.detector.calibration_scores
    if read_threshold(context.detector.bundle["threshold"]).method.block > 1:  # those are of blocks, and baselines have windows
        model_scores = score_in_blocks(context.detector, calibration, folder)["score"]
    detectors = {MODEL_DETECTOR: DetectorScores(model_scores, context.predictions["score"])}
    for name, scores in context.baselines.score(context.inputs).items():
        detectors[name] = DetectorScores(calibration_scores[name], scores)
    return detectors


# ---------------------------------------------------------------- metrics


def measure_metrics(context: EvaluationContext, detectors: Mapping[str, DetectorScores]) -> MetricTree:
    """Return the metrics of every report, as metrics.json holds them; sections that the recipe does not ask for are left out."""
    threshold = read_threshold(context.detector.bundle["threshold"])
    is_normal, is_anomaly = context.is_normal, context.predictions["is_anomaly"]
    alarm_count, normal_count = int(is_anomaly[is_normal].sum()), int(is_normal.sum())
    if threshold.method.block > 1:
        runs = context.data.table["run"].to_numpy()
        alarm_count, normal_count = count_blocks(is_anomaly, is_normal, runs, threshold.method.block)
    alarms = measure_false_alarms(alarm_count, normal_count, threshold)
    metrics: MetricTree = {
        "format": 1,
        "rows": context.data.rows | {"calibration": threshold.calibration_rows},
        "reconstruction": measure_reconstruction(context),
    }
    if detectors:
        # A rate of blocks is none of the single windows that detectors are compared by.
        window_rate = threshold.method.requested_rate if threshold.method.block == 1 else None
        metrics["detection"] = detection_metrics(detectors, context, window_rate)
    metrics["false_alarms"] = {"requested": threshold.method.requested_rate, "threshold": threshold.value} | asdict(alarms)
    if threshold.method.block > 1:
        metrics["false_alarms"]["block"] = threshold.method.block
    if not context.recipe.data.labels:
        metrics["labelled"] = False  # the test samples count as normal, and nobody knows whether they are
    metrics["novelty_flagged"], metrics["novelty_flagged_interval"] = None, None
    if not is_normal.all():
        flagged = is_anomaly[~is_normal]
        metrics["novelty_flagged"] = float(flagged.mean())
        metrics["novelty_flagged_interval"] = clopper_pearson(int(flagged.sum()), len(flagged))
    return metrics


def training_metrics(curves: pd.DataFrame, detector: Detector) -> MetricTree:
    """Return the sections `export` and `history`.

    Raises:
        DataError: a bundle of format 1 or 2, which does not hold how far its ONNX model is from torch.
    """
    if "export" not in detector.bundle:
        raise DataError(
            f"the bundle {detector.folder} is of format {detector.bundle['format']}, which does not say how far its ONNX model "
            "is from torch: make it again with the stage calibrate"
        )
    return {
        "export": {"max_difference": float(detector.bundle["export"]["max_difference"])},
        "history": {
            "epochs": len(curves),
            "final_train_loss": float(curves["train_loss"].iloc[-1]),
            "final_validation_error": float(curves["validation_error"].iloc[-1]),
        },
    }


def measure_reconstruction(context: EvaluationContext) -> MetricTree:
    """Return the errors on the normal samples: those of the model, and those of PCA if the recipe has it."""
    model = measure_normals(context, context.measured_outputs)
    pca_outputs = context.baselines.reconstruct(context.inputs)
    if pca_outputs is None:
        return {"model": model}
    pca = measure_normals(context, pca_outputs)
    gain = None
    if pca["mse"]:
        gain = 1 - model["mse"] / pca["mse"]
    settings = {"components": context.recipe.evaluate.pca_components, "rows": context.baselines.pca_rows}
    return {"model": model, "pca": settings | pca, "gain_over_pca": gain}


def measure_normals(context: EvaluationContext, outputs: np.ndarray) -> MetricTree:
    """Measure the outputs (n, ...) of the normal samples against their targets."""
    measure_function = MEASURE_FUNCTIONS[context.detector.data_kind.MEASURED_AS]
    groups = context.data.table["group"].to_numpy()[context.is_normal]
    return measure_function(context.target, outputs, groups, np.flatnonzero(context.is_normal))


def detection_metrics(
    detectors: Mapping[str, DetectorScores], context: EvaluationContext, requested_rate: float | None
) -> MetricTree:
    """Return what each detector reaches, and the model's lead in AUROC over the best baseline.

    Args:
        detectors: the scores of the model and of each baseline.
        context: of the evaluation.
        requested_rate: of the recipe's threshold; None where it names no rate of single samples.
    """
    novelty, baselines = context.data.novelty, context.baselines.detectors
    assert baselines is not None, "novelty is ranked only beside baselines"
    rates = dict(TABLE_RATES)
    if requested_rate is not None:
        rates[AT_REQUESTED_RATE] = requested_rate
    metrics: MetricTree = {"baseline_rows": context.baselines.neighbour_rows}
    if context.baselines.searched_shape != context.detector.shape:
        metrics["baseline_shape"] = list(context.baselines.searched_shape)
    test_scores = {}
    for name, scores in detectors.items():
        test_scores[name] = scores.test
        caught, false_alarms = {}, {}
        for rate_name, rate in rates.items():
            flagged = measure_flagged(scores, novelty, rate)
            caught[rate_name], false_alarms[rate_name] = flagged.caught, flagged.false_alarms
        metrics[name] = asdict(measure_ranking(scores.test, novelty)) | {"caught": caught, "false_alarms": false_alarms}
    for name, count in baselines.neighbour_counts.items():
        metrics[name]["neighbours"] = count
    lead = measure_lead(test_scores.pop(MODEL_DETECTOR), test_scores, novelty, context.data.table["group"].to_numpy())
    lower_bound = None if lead.interval is None else lead.interval[0]
    return metrics | {"lead": lead.margin, "lead_interval": lead.interval, "lead_lower_bound": lower_bound}


def replace_nonfinite(value: Any) -> Any:
    """Return `value` with None for each number that JSON cannot hold, also in nested dicts and lists."""
    if isinstance(value, dict):
        return dict(zip(value, map(replace_nonfinite, value.values()), strict=True))
    if isinstance(value, list | tuple):
        return list(map(replace_nonfinite, value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def score_table(context: EvaluationContext) -> pd.DataFrame:
    """Return one row for each test sample: the model's scores, and the quality and the error of its reconstruction.

    The error is what a comparison with the champion compares.
    """
    predictions, kind = context.predictions, context.detector.data_kind
    qualities, errors = [], []
    for target, output in read_pairs(context.target, context.measured_outputs, np.arange(len(context.target))):
        column, quality = kind.quality(target, output)
        qualities.append(quality)
        errors.append(kind.errors(target, output))
    return context.data.table[["id", "label", "novelty"]].assign(
        score=predictions["score"],
        p_value=predictions["p_value"],
        is_anomaly=predictions["is_anomaly"],
        **{column: np.concatenate(qualities).astype(np.float32)},
        error=np.concatenate(errors).astype(np.float32),
    )


def write_tables(folder: Path, scores: pd.DataFrame, threshold: float) -> None:
    """Write thresholds.csv, what every threshold would flag, and errors.csv, a histogram: for the report and `dvc plots`."""
    is_normal = ~scores["novelty"].to_numpy(dtype=bool)
    flagged = threshold_table(scores["score"].to_numpy(dtype=np.float64), is_normal, threshold)
    atomic_write(folder / "thresholds.csv", to_csv(flagged))
    atomic_write(folder / "errors.csv", to_csv(error_table(scores["error"].to_numpy(dtype=np.float64), is_normal)))


# ---------------------------------------------------------------- studies and figures


def study_document(result: StudyResult) -> dict[str, object]:
    """Return a study's result for studies.json; its metrics stand in metrics.json."""
    return drop_keys(vars(result), {"metrics"})


def example_results(context: EvaluationContext, folder: Path) -> dict[str, StudyResult]:
    """Return a table of samples and their reconstructions, as the result `examples`; empty where the kind has no such table."""
    if context.detector.data_kind.IS_DRAWABLE:  # galleries show those
        return {}
    is_normal = context.is_normal
    stored, decoded = context.data.test[is_normal], context.predictions["reconstruction"][is_normal]
    target, output = context.target[is_normal], context.measured_outputs[is_normal]
    table = context.detector.data_kind.examples(stored, decoded, target, output, context.detector.spec)
    if table is None:
        return {}
    figures = draw_columns(folder, context)
    return {"examples": StudyResult(table.title, table.lead, table.head, table.rows, figures=figures, metrics={})}


def draw_columns(folder: Path, context: EvaluationContext) -> list[tuple[str, str]]:
    """Draw the correlations of the columns of normal test samples; return the figure, or nothing where they have no columns."""
    kind, spec, is_normal = context.detector.data_kind, context.detector.spec, context.is_normal
    given = kind.column_values(context.inputs[is_normal], spec)
    made = kind.column_values(context.predictions["reconstruction"][is_normal], spec)
    if given is None or made is None or len(given.names) < 2:
        return []
    line_charts.draw_correlations(folder / CORRELATIONS_FILE, given.names, given.values, made.values)
    return [(CORRELATIONS_FILE, CORRELATIONS_TEXT)]


def draw_figures(
    folder: Path,
    context: EvaluationContext,
    detectors: Mapping[str, DetectorScores],
    metrics: MetricTree,
    curves: pd.DataFrame,
) -> None:
    """Write every figure that has something to show; one of novelties, for instance, needs a novelty."""
    labels, novelty = context.data.table["label"].map(context.recipe.label_text, na_action="ignore"), context.data.novelty
    kind = context.detector.data_kind
    score, code = context.predictions["score"], context.predictions["code"]
    pca_mse = None
    if "pca" in metrics["reconstruction"]:
        pca_mse = metrics["reconstruction"]["pca"]["mse"]
    line_charts.draw_counts(folder / "counts.svg", context.data.rows, labels, novelty)
    line_charts.draw_training(folder / "training.svg", curves, pca_mse, kind.ERROR_NAME)
    threshold = metrics["false_alarms"]["threshold"]
    line_charts.draw_histogram(folder / "histogram.svg", score, novelty, threshold, has_labels=has_labels(metrics))
    if code.dtype.kind == "f" and "codes" not in metrics:  # words have no axes; the study `codes` draws more
        line_charts.draw_codes(folder / "codes.svg", code, labels, novelty)
    if "detection" in metrics:
        draw_detection(folder, detectors, metrics["detection"], novelty)
    if kind.IS_DRAWABLE:
        mosaics.draw_samples(folder / "samples.svg", context.inputs, context.data.scale, labels, novelty)
        draw_galleries(folder, context)


def draw_detection(folder: Path, detectors: Mapping[str, DetectorScores], metrics: MetricTree, novelty: np.ndarray) -> None:
    """Write the ROC and precision-recall curves of every detector."""
    scores, auroc_values, average_precisions = {}, {}, {}
    for name, detector_scores in detectors.items():
        scores[name] = detector_scores.test
        auroc_values[name] = metrics[name]["auroc"]
        average_precisions[name] = metrics[name]["average_precision"]
    line_charts.draw_roc(folder / "roc.svg", scores, novelty, auroc_values)
    line_charts.draw_precision_recall(folder / "precision_recall.svg", scores, novelty, average_precisions)


# ---------------------------------------------------------------- the program


def main() -> None:
    """Parse the command line, evaluate, and print the main metrics."""
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.evaluate", description=__doc__.splitlines()[0])
    for name in ("recipe", "prepared", "bundle", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()

    def run_evaluation() -> None:
        paths = (arguments.prepared, arguments.bundle, arguments.history, arguments.out)
        print(metrics_line(evaluate(read_recipe(arguments.recipe), find_project(), *paths)))

    run_main(run_evaluation)


def metrics_line(metrics: MetricTree) -> str:
    """Return the main metrics in one line, for the log."""
    reconstruction, alarms = metrics["reconstruction"], metrics["false_alarms"]
    model = reconstruction["model"]
    line = f"MSE {model['mse']:.5f}" if "mse" in model else f"tokens right {model['token_accuracy']:.1%}"
    if "pca" in reconstruction:
        line += f" (PCA {reconstruction['pca']['mse']:.5f})"
    if "detection" in metrics:
        line += f", AUROC {metrics['detection']['model']['auroc']:.3f}"
    requested = "" if alarms["requested"] is None else f" (requested {alarms['requested']:.2%})"
    name = "false alarms" if has_labels(metrics) else "flagged"
    return f"{line}, {name} {alarms['measured']:.2%}{requested}"


if __name__ == "__main__":
    main()
