"""Stage evaluate: what the bundle is worth on samples that it never saw, beside its baselines, and the recipe's studies.

Run: python -m aeops.stages.evaluate --recipe recipes/digits.yaml --prepared DIR --bundle DIR --history DIR --out DIR
Writes metrics.json, studies.json, scores.parquet, reference.parquet (for monitoring) and figures/ into --out, the same bytes for
the same input.
"""

import argparse
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ae_models.thresholds import threshold_method
from aeops.bundle.detector import Detector
from aeops.data.array_files import write_parquet
from aeops.drawing import mosaics
from aeops.errors import DataError
from aeops.evaluation import line_charts, model_input
from aeops.evaluation.detection import PcaBaseline, knn_distance, measure_ranking
from aeops.evaluation.false_alarms import measure_false_alarms
from aeops.evaluation.measures import MEASURE_FUNCTIONS
from aeops.evaluation.prepared import load_prepared
from aeops.evaluation.reference import write_reference
from aeops.evaluation.study import EvaluationContext, StudyResult, run_study
from aeops.files import atomic_folder, read_json, write_json
from aeops.kinds.arrays import mse_per_image
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.sections import EvaluateSpec


@dataclass(frozen=True)
class Baselines:
    """What the baselines of a recipe say of each test sample.

    Attributes:
        pca_outputs: what PCA makes of the samples, (n, ...) in [0, 1]; clipped, as the bundle clips: a baseline left
            unclipped would be the weaker for it. None where the recipe asks for no PCA.
        detectors: the score of each detector, (n,), the model's among them; the higher, the stranger.
    """

    pca_outputs: np.ndarray | None
    detectors: dict[str, np.ndarray]


def evaluate(recipe: Recipe, project: Project, prepared: Path, bundle: Path, history: Path, out: Path) -> dict[str, Any]:
    """Evaluates `bundle` on the prepared test samples and replaces `out` by the report; returns the metrics.

    Raises:
        DataError: a bundle that must not be used, or no normal among the test samples.
        UsageError: more PCA components or neighbours than the training samples allow.
    """
    scene = set_scene(recipe, project, prepared, bundle, history)
    curves = pd.read_csv(history / "history.csv")
    baselines = ask_baselines(recipe.evaluate, scene)
    metrics = measure(scene, baselines) | {
        "export": {"max_difference": float(read_json(history / "export.json")["max_difference"])},
        "history": {
            "epochs": len(curves),
            "final_train_loss": float(curves["train_loss"].iloc[-1]),
            "final_validation_error": float(curves["validation_error"].iloc[-1]),
        },
    }
    with atomic_folder(out) as folder:
        (folder / "figures").mkdir()
        findings = {name: run_study(name, spec, scene, folder / "figures") for name, spec in recipe.evaluate.studies.items()}
        metrics = {key: only_finite(value) for key, value in (metrics | measured(findings)).items()}
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "studies.json", {name: shown(finding) for name, finding in (examples(scene) | findings).items()})
        write_parquet(folder / "scores.parquet", score_table(scene))
        calibration = np.load(prepared / "calibration.npy", mmap_mode="r")
        write_reference(folder / "reference.parquet", recipe.fit, calibration, scene.detector)
        draw(folder / "figures", scene, baselines, metrics, curves)
    return metrics


def set_scene(recipe: Recipe, project: Project, prepared: Path, bundle: Path, history: Path) -> EvaluationContext:
    """The test samples as the model is served them, and its answers."""
    data, detector, source = load_prepared(prepared), Detector(bundle), recipe.fit.input
    if data.novelty.all():
        more = "let its test part have some" if recipe.data.split.test is None else "raise data.split.test in the recipe"
        raise DataError(f"{prepared}: no normal sample in test.npy; {more}, or ingest more samples")
    given = model_input.served_inputs(recipe.fit, data.test, model_input.TEST_SEED)
    target = detector.measurable(model_input.target_channels(source, data.test))
    said = detector.score(given, reconstruction=True, code=True)
    return EvaluationContext(recipe, data, detector, given, target, said, project, bundle, history)


def ask_baselines(spec: EvaluateSpec, scene: EvaluationContext) -> Baselines:
    """What PCA and kNN say, where the recipe asks for them.

    PCA is fitted on clean training samples: of corrupted ones it makes their projection on what clean ones look like.
    """
    detectors, pca_outputs, data, fit = {"model": scene.predictions["score"]}, None, scene.data, scene.recipe.fit
    if spec.pca_components is not None:
        flat, train = as_vectors(scene, scene.inputs), as_vectors(scene, model_input.clean_inputs(fit.input, data.train))
        pca = PcaBaseline.fit(train, spec.pca_components)
        pca_outputs = pca.reconstruct(flat).clip(0, 1).reshape(scene.inputs.shape)
        detectors["pca_residual"] = pca.squared_residual(flat)
    if spec.neighbours is not None and data.novelty.any():
        train = as_vectors(scene, model_input.served_inputs(fit, data.train, model_input.TRAIN_SEED))
        detectors["knn"] = knn_distance(train, as_vectors(scene, scene.inputs), spec.neighbours)
    return Baselines(pca_outputs, detectors)


def as_vectors(scene: EvaluationContext, samples: np.ndarray) -> np.ndarray:
    """Samples as vectors in [0, 1], (n, values); the recipe was checked: its kind has such baselines."""
    vectors = scene.detector.data_kind.baseline(samples, scene.detector.spec).vectors
    assert vectors is not None
    return vectors


# ---------------------------------------------------------------- metrics


def measure(scene: EvaluationContext, baselines: Baselines) -> dict[str, Any]:
    """The standing metrics, as metrics.json lays them out: sections that the recipe does not ask for are left out."""
    spec, threshold = scene.recipe.evaluate, scene.detector.bundle["threshold"]
    normal, flagged = scene.is_normal, scene.predictions["is_anomaly"]
    method, calibration_rows = threshold_method(threshold), int(threshold["calibration_rows"])
    alarms = measure_false_alarms(int(flagged[normal].sum()), int(normal.sum()), method, calibration_rows)
    ranked = {"detection": detection_metrics(spec, baselines, ~normal)} if "knn" in baselines.detectors else {}
    return {
        "format": 1,
        "rows": scene.data.rows,
        "reconstruction": reconstruction(scene, baselines),
        **ranked,
        "false_alarms": {"requested": method.promised_rate, "threshold": threshold["value"]} | asdict(alarms),
        "novelty_flagged": float(flagged[~normal].mean()) if not normal.all() else None,
    }


def reconstruction(scene: EvaluationContext, baselines: Baselines) -> dict[str, Any]:
    """Of the normal samples: the model, and PCA where there is one."""
    model = of_normals(scene, scene.measured_outputs)
    if baselines.pca_outputs is None:
        return {"model": model}
    pca = of_normals(scene, baselines.pca_outputs)
    gain = 1 - model["mse"] / pca["mse"] if pca["mse"] else None
    return {"model": model, "pca": {"components": scene.recipe.evaluate.pca_components} | pca, "gain_over_pca": gain}


def of_normals(scene: EvaluationContext, made: np.ndarray) -> dict[str, Any]:
    """How near reconstructions (n, ...) of the normal samples come to their targets."""
    measure = MEASURE_FUNCTIONS[scene.detector.data_kind.MEASURED_AS]
    groups = scene.data.table["group"].to_numpy()[scene.is_normal]
    return measure(scene.target[scene.is_normal], made[scene.is_normal], groups)


def detection_metrics(spec: EvaluateSpec, baselines: Baselines, novelty: np.ndarray) -> dict[str, Any]:
    """AUROC and average precision of each detector, and the model's lead in AUROC over the better baseline."""
    ranked = {key: asdict(measure_ranking(score, novelty)) for key, score in baselines.detectors.items()}
    lead = ranked["model"]["auroc"] - max(found["auroc"] for key, found in ranked.items() if key != "model")
    return ranked | {"knn": {"neighbours": spec.neighbours} | ranked["knn"], "lead": lead}


def only_finite(value: Any) -> Any:
    """`value` with None for each number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: only_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [only_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score_table(scene: EvaluationContext) -> pd.DataFrame:
    """One row a test sample: what the model says of it, and how well it rebuilds it."""
    said = scene.predictions
    column, quality = scene.detector.data_kind.quality(scene.target, scene.measured_outputs)
    return scene.data.table[["id", "label", "novelty"]].assign(
        score=said["score"],
        p_value=said["p_value"],
        is_anomaly=said["is_anomaly"],
        **{column: quality.astype(np.float32)},
    )


# ---------------------------------------------------------------- what is shown


def measured(findings: dict[str, StudyResult]) -> dict[str, dict[str, Any]]:
    return {name: finding.metrics for name, finding in findings.items()}


def shown(finding: StudyResult) -> dict[str, Any]:
    """A finding as studies.json holds it: its metrics stand in metrics.json."""
    return {key.name: getattr(finding, key.name) for key in fields(finding) if key.name != "metrics"}


def examples(scene: EvaluationContext) -> dict[str, StudyResult]:
    """Samples to read beside their reconstructions, where their kind cannot be drawn."""
    stored, decoded = scene.data.test[scene.is_normal], scene.predictions["reconstruction"][scene.is_normal]
    target, output = scene.target[scene.is_normal], scene.measured_outputs[scene.is_normal]
    table = scene.detector.data_kind.examples(stored, decoded, target, output)
    if table is None:
        return {}
    return {"examples": StudyResult(table.title, table.lead, table.head, table.rows, figures=[], metrics={})}


def draw(folder: Path, scene: EvaluationContext, baselines: Baselines, metrics: dict[str, Any], curves: pd.DataFrame) -> None:
    """Writes every figure; those that show nothing (no novelty, no false alarm) are left out."""
    labels, novelty = scene.data.table["label"], scene.data.novelty
    kind = scene.detector.data_kind
    pca_mse = metrics["reconstruction"]["pca"]["mse"] if baselines.pca_outputs is not None else None
    line_charts.draw_counts(folder / "counts.svg", scene.data.rows, labels, novelty)
    line_charts.draw_training(folder / "training.svg", curves, pca_mse, kind.ERROR_NAME)
    line_charts.draw_histogram(
        folder / "histogram.svg", scene.predictions["score"], novelty, metrics["false_alarms"]["threshold"]
    )
    if (
        scene.predictions["code"].dtype.kind == "f" and "codes" not in metrics
    ):  # words have no axes; the study of codes draws more
        line_charts.draw_codes(folder / "codes.svg", scene.predictions["code"], labels, novelty)
    if "detection" in metrics:
        found = {key: metrics["detection"][key] for key in baselines.detectors}
        aurocs, precisions = ({key: one[what] for key, one in found.items()} for what in ("auroc", "average_precision"))
        line_charts.draw_roc(folder / "roc.svg", baselines.detectors, novelty, aurocs)
        line_charts.draw_precision_recall(folder / "precision_recall.svg", baselines.detectors, novelty, precisions)
    if kind.DRAWABLE:
        mosaics.draw_samples(folder / "samples.svg", scene.data.scale(scene.inputs), labels, novelty)
        draw_strips(folder, scene)


def draw_strips(folder: Path, scene: EvaluationContext) -> None:
    """The galleries: normals by their error, then what was flagged, flagged wrongly and missed by its score."""
    mse, score = mse_per_image(scene.target, scene.reconstructions), scene.predictions["score"]
    novelty, flagged = scene.data.novelty, scene.predictions["is_anomaly"]
    normals = np.flatnonzero(~novelty)[np.argsort(mse[~novelty], kind="stable")]
    k = min(mosaics.COLUMNS, len(normals))
    middle = (len(normals) - k) // 2
    strips = {"best": normals[:k], "median": normals[middle : middle + k], "worst": normals[len(normals) - k :]}
    for name, chosen in strips.items():
        draw_strip(folder / f"gallery_{name}.svg", scene, chosen, mse)
    kinds = {"flagged_novelty": novelty & flagged, "false_alarms": ~novelty & flagged, "missed_novelty": novelty & ~flagged}
    for name, of_kind in kinds.items():
        if of_kind.any():
            found = np.flatnonzero(of_kind)[np.argsort(-score[of_kind], kind="stable")]
            spread = np.unique(np.linspace(0, len(found) - 1, min(len(found), mosaics.COLUMNS)).round().astype(int))
            draw_strip(folder / f"errors_{name}.svg", scene, found[spread], score)


def draw_strip(file: Path, scene: EvaluationContext, chosen: np.ndarray, captions: np.ndarray) -> None:
    source = scene.recipe.fit.input
    targets = scene.target[chosen] if source.target_channels or source.given == "corrupted" else None
    inputs, outputs = (scene.data.scale(samples[chosen]) for samples in (scene.inputs, scene.predictions["reconstruction"]))
    mosaics.draw_strip(file, inputs, outputs, targets, [f"{captions[i]:#.3g}" for i in chosen])


# ---------------------------------------------------------------- the program


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.evaluate", description=__doc__.splitlines()[0])
    for name in ("recipe", "prepared", "bundle", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    places = (given.prepared, given.bundle, given.history, given.out)
    run_main(lambda: tell(evaluate(read_recipe(given.recipe), find_project(), *places)))


def tell(metrics: dict[str, Any]) -> None:
    """One line of what came out, for whoever watches."""
    made, alarms = metrics["reconstruction"], metrics["false_alarms"]
    model = made["model"]
    parts = [f"MSE {model['mse']:.5f}" if "mse" in model else f"tokens right {model['token_accuracy']:.1%}"]
    if "pca" in made:
        parts[0] += f" (PCA {made['pca']['mse']:.5f})"
    if "detection" in metrics:
        parts.append(f"AUROC {metrics['detection']['model']['auroc']:.3f}")
    print(", ".join([*parts, f"false alarms {alarms['measured']:.2%} (asked {alarms['requested']:.2%})"]))


if __name__ == "__main__":
    main()
