"""Stage evaluate: what the bundle is worth on samples that it never saw, beside PCA and kNN.

Run: python -m aeops.stages.evaluate --recipe recipes/digits.yaml --prepared DIR --bundle DIR --history DIR --out DIR
Writes metrics.json, scores.parquet and figures/ into --out, the same bytes for the same input.
"""

import argparse
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.dataset import read_json, replace_folder, write_json, write_parquet
from aeops.errors import DataError
from aeops.evaluation import figures, mosaics
from aeops.evaluation.detection import PcaBaseline, Ranking, knn_distance, ranking
from aeops.evaluation.false_alarms import false_alarms
from aeops.evaluation.prepared import Prepared, load_prepared
from aeops.evaluation.reconstruction import mse_per_image, psnr, ssim
from aeops.recipe import EvaluateSpec, read_recipe
from aeops.serving.detector import Detector
from aeops.stage import run_stage


@dataclass(frozen=True)
class Answers:
    """What the model and the baselines say of each test sample; images are (n, c, h, w) in [0, 1].

    Attributes:
        model: score, p_value, is_anomaly and code, as the detector gives them.
        inputs, outputs, pca_outputs: the samples, and what the model and PCA make of them. Both are clipped to the range
            of the input: the bundle clips, so that a baseline left unclipped would be the weaker for it.
        detectors: the score of each detector, (n,); the higher, the stranger.
    """

    model: dict[str, np.ndarray]
    inputs: np.ndarray
    outputs: np.ndarray
    pca_outputs: np.ndarray
    detectors: dict[str, np.ndarray]


def evaluate(spec: EvaluateSpec, prepared: Path, bundle: Path, history: Path, out: Path) -> dict[str, Any]:
    """Evaluates `bundle` on the prepared test samples and replaces `out` by the report; returns the metrics.

    Raises:
        DataError: a bundle that must not be used, or no normal among the test samples.
        UsageError: more PCA components or neighbours than the training samples allow.
    """
    data = load_prepared(prepared)
    if data.novelty.all():
        raise DataError(f"{prepared}: no normal sample in test.npy; raise data.split.test in the recipe, or ingest more samples")
    detector = Detector(bundle)
    answers = answer(spec, data, detector)
    curves = pd.read_csv(history / "history.csv")
    export = read_json(history / "export.json")
    metrics = measure(spec, data, answers, detector.bundle["threshold"]) | {
        "export": {"max_difference": float(export["max_difference"])},
        "history": {
            "epochs": len(curves),
            "final_train_loss": float(curves["train_loss"].iloc[-1]),
            "final_validation_mse": float(curves["validation_mse"].iloc[-1]),
        },
    }
    metrics = {key: only_finite(value) for key, value in metrics.items()}
    write_report_folder(out, data, answers, metrics, curves)
    return metrics


def write_report_folder(out: Path, data: Prepared, answers: Answers, metrics: dict[str, Any], curves: pd.DataFrame) -> None:
    """Metrics, scores and figures, whole or not at all."""
    aside = out.with_name(f".{out.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "figures").mkdir(parents=True)
    write_json(aside / "metrics.json", metrics)
    write_parquet(aside / "scores.parquet", score_table(data, answers))
    draw(aside / "figures", data, answers, metrics, curves)
    replace_folder(aside, out)


def answer(spec: EvaluateSpec, data: Prepared, detector: Detector) -> Answers:
    """Asks the model and the baselines about every test sample."""
    said = detector.score(data.test, reconstruction=True, code=True)
    inputs = data.scaled(data.test)
    flat, train = inputs.reshape(len(inputs), -1), data.scaled(data.train).reshape(len(data.train), -1)
    pca = PcaBaseline.fit(train, spec.pca_components)
    return Answers(
        model=said,
        inputs=inputs,
        outputs=data.scaled(said["reconstruction"]),
        pca_outputs=pca.reconstruct(flat).clip(0, 1).reshape(inputs.shape),
        detectors={
            "model": said["score"],
            "pca_residual": pca.residual(flat),
            "knn": knn_distance(train, flat, spec.neighbours),
        },
    )


def measure(spec: EvaluateSpec, data: Prepared, answers: Answers, threshold: dict[str, Any]) -> dict[str, Any]:
    """Every metric of the samples, as metrics.json lays them out; what is not defined is None."""
    normal, flagged = ~data.novelty, answers.model["is_anomaly"]
    model = reconstruction_metrics(answers.inputs[normal], answers.outputs[normal])
    pca = reconstruction_metrics(answers.inputs[normal], answers.pca_outputs[normal])
    alarms = false_alarms(int(flagged[normal].sum()), int(normal.sum()), int(threshold["calibration_rows"]))
    return {
        "format": 1,
        "rows": data.rows,
        "reconstruction": {
            "model": model,
            "pca": {"components": spec.pca_components} | pca,
            "gain_over_pca": 1 - model["mse"] / pca["mse"] if pca["mse"] else None,
        },
        "detection": detection_metrics(spec, data, answers),
        "false_alarms": {"requested": threshold["false_alarm_rate"], "threshold": threshold["value"]} | asdict(alarms),
        "novelty_flagged": float(flagged[~normal].mean()) if data.novelty.any() else None,
    }


def reconstruction_metrics(target: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    mse = float(mse_per_image(target, made).mean())
    return {"mse": mse, "psnr": psnr(mse), "ssim": ssim(target, made)}


def detection_metrics(spec: EvaluateSpec, data: Prepared, answers: Answers) -> dict[str, Any]:
    """AUROC and average precision of each detector, and the model's lead in AUROC over the better baseline.

    None throughout where the recipe holds out no novelty.
    """
    found = {key: ranking(score, data.novelty) for key, score in answers.detectors.items()}
    settings: dict[str, dict[str, Any]] = {"model": {}, "pca_residual": {}, "knn": {"neighbours": spec.neighbours}}
    metrics: dict[str, Any] = {key: settings[key] | ranking_metrics(ranked) for key, ranked in found.items()}
    aurocs = {key: ranked.auroc for key, ranked in found.items() if ranked}
    lead = aurocs["model"] - max(aurocs["pca_residual"], aurocs["knn"]) if aurocs else None
    return metrics | {"lead": lead}


def ranking_metrics(found: Ranking | None) -> dict[str, Any]:
    return asdict(found) if found else {"auroc": None, "average_precision": None, "auroc_interval": None}


def only_finite(value: Any) -> Any:
    """`value` with None for each number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: only_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [only_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score_table(data: Prepared, answers: Answers) -> pd.DataFrame:
    said = answers.model
    return data.table[["id", "label", "novelty"]].assign(
        score=said["score"],
        p_value=said["p_value"],
        is_anomaly=said["is_anomaly"],
        mse=mse_per_image(answers.inputs, answers.outputs).astype(np.float32),
    )


def draw(folder: Path, data: Prepared, answers: Answers, metrics: dict[str, Any], curves: pd.DataFrame) -> None:
    """Writes every figure; those that show nothing (no novelty, no false alarm) are left out."""
    labels, novelty, score = data.table["label"], data.novelty, answers.model["score"]
    mosaics.draw_samples(folder / "samples.svg", answers.inputs, labels, novelty)
    figures.draw_counts(folder / "counts.svg", data.rows, labels, novelty)
    figures.draw_training(folder / "training.svg", curves, metrics["reconstruction"]["pca"]["mse"])
    figures.draw_histogram(folder / "histogram.svg", score, novelty, metrics["false_alarms"]["threshold"])
    figures.draw_codes(folder / "codes.svg", answers.model["code"], labels, novelty)
    if novelty.any():
        detection = {key: metrics["detection"][key] for key in answers.detectors}
        aurocs = {key: found["auroc"] for key, found in detection.items()}
        precisions = {key: found["average_precision"] for key, found in detection.items()}
        figures.draw_roc(folder / "roc.svg", answers.detectors, novelty, aurocs)
        figures.draw_precision_recall(folder / "precision_recall.svg", answers.detectors, novelty, precisions)
    draw_strips(folder, answers, novelty)


def draw_strips(folder: Path, answers: Answers, novelty: np.ndarray) -> None:
    """The galleries: normals by their error, then what was flagged, flagged wrongly and missed by its score."""
    mse, score, flagged = mse_per_image(answers.inputs, answers.outputs), answers.model["score"], answers.model["is_anomaly"]
    normals = np.flatnonzero(~novelty)[np.argsort(mse[~novelty], kind="stable")]
    k = min(mosaics.COLUMNS, len(normals))
    middle = (len(normals) - k) // 2
    strips = {"best": normals[:k], "median": normals[middle : middle + k], "worst": normals[len(normals) - k :]}
    for name, chosen in strips.items():
        draw_strip(folder / f"gallery_{name}.svg", answers, chosen, mse)
    kinds = {"flagged_novelty": novelty & flagged, "false_alarms": ~novelty & flagged, "missed_novelty": novelty & ~flagged}
    for name, of_kind in kinds.items():
        if of_kind.any():
            found = np.flatnonzero(of_kind)[np.argsort(-score[of_kind], kind="stable")]
            spread = np.unique(np.linspace(0, len(found) - 1, min(len(found), mosaics.COLUMNS)).round().astype(int))
            draw_strip(folder / f"errors_{name}.svg", answers, found[spread], score)


def draw_strip(file: Path, answers: Answers, chosen: np.ndarray, captions: np.ndarray) -> None:
    mosaics.draw_strip(file, answers.inputs[chosen], answers.outputs[chosen], [f"{captions[i]:#.3g}" for i in chosen])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.evaluate", description=__doc__.splitlines()[0])
    for name in ("recipe", "prepared", "bundle", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    run_stage(lambda: tell(evaluate(read_recipe(given.recipe).evaluate, given.prepared, given.bundle, given.history, given.out)))


def tell(metrics: dict[str, Any]) -> None:
    """One line of what came out, for whoever watches."""
    made, alarms = metrics["reconstruction"], metrics["false_alarms"]
    auroc = metrics["detection"]["model"]["auroc"]
    print(
        f"MSE {made['model']['mse']:.5f} (PCA {made['pca']['mse']:.5f})"
        + (f", AUROC {auroc:.3f}" if auroc is not None else "")
        + f", false alarms {alarms['measured']:.2%} (asked {alarms['requested']:.2%})"
    )


if __name__ == "__main__":
    main()
