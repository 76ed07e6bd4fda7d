"""Agreement of a model's edges with the true ones, beside a threshold on the gradient."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, generate_binary_structure
from skimage.filters import sobel

from aeops.data.sources.edges import pixel_luma
from aeops.drawing import mosaics
from aeops.drawing.words import format_number
from aeops.evaluation import model_input
from aeops.evaluation.sampling import even_indices, strip_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import EdgesStudy

ROWS = 1000  # training samples that the thresholds are chosen on
STRIP_SAMPLES = 12  # images in the strips
EIGHT_NEIGHBOURS = generate_binary_structure(2, 2)[None]  # the eight pixels around one, in the same image

EdgeMaps = np.ndarray  # (n, h, w): the confidence in an edge at each pixel, or bool: where edges are


@dataclass(frozen=True)
class EdgeAgreement:
    """Agreement of detected edges with the true ones, over all pixels of all images.

    Attributes:
        precision: share of the detected edge pixels that are true.
        recall: share of the true edge pixels that are detected.
        f1: their harmonic mean.
        f1_near: the same where a pixel counts as true, or as detected, if one of the eight around it is.
    """

    precision: float
    recall: float
    f1: float
    f1_near: float


def run_edges_study(spec: EdgesStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Compare the edges of the model and of Sobel's gradient with the true ones.

    Each has its best threshold on training samples.
    """
    source, data, normal = context.recipe.fit.input, context.data, context.is_normal
    train = data.train[even_indices(len(data.train), ROWS)]
    train_images = model_input.clean_inputs(source, train)
    train_edges = model_input.scaled_targets(source, data, train)[:, 0] > 0.5
    test_images, truth = context.inputs[normal], context.target[normal][:, 0] > 0.5

    def model_edges(raw: np.ndarray) -> EdgeMaps:
        return data.scale(context.detector.score(raw, reconstruction=True)["reconstruction"])[:, 0]

    def sobel_edges(raw: np.ndarray) -> EdgeMaps:
        return _sobel_gradient(data.scale(raw))

    edge_detectors: dict[str, Callable[[np.ndarray], EdgeMaps]] = {"model": model_edges, "sobel": sobel_edges}
    edge_confidences = {"model": context.reconstructions[normal][:, 0], "sobel": sobel_edges(test_images)}
    thresholds, edges, edge_agreements = {}, {}, {}
    for name, detect_edges in edge_detectors.items():
        thresholds[name] = best_threshold(detect_edges(train_images), train_edges)
        edges[name] = edge_confidences[name] >= thresholds[name]
        edge_agreements[name] = edge_agreement(edges[name], truth)
    strip_rows = strip_indices(len(truth), STRIP_SAMPLES)
    strips = {"image": data.scale(test_images[strip_rows])}
    for name, maps in {"Canny": truth, "model": edges["model"], "Sobel": edges["sobel"]}.items():
        strips[name] = maps[strip_rows][:, None].astype(np.float32)
    mosaics.draw_rows(figures / "edges_strips.svg", strips)
    return _edges_result(edge_agreements, thresholds, len(truth), len(train))


def _sobel_gradient(images: np.ndarray) -> EdgeMaps:
    """Return the magnitude of Sobel's gradient of the luma of images (n, c, h, w) in [0, 1]."""
    return np.stack(list(map(sobel, pixel_luma(images))))


def best_threshold(confidence: EdgeMaps, truth: EdgeMaps) -> float:
    """Return the confidence from which on calling a pixel an edge has the largest F1.

    The higher one where two are as good.
    """
    order = np.argsort(-confidence, axis=None, kind="stable")
    values, true_positives = confidence.ravel()[order], np.cumsum(truth.ravel()[order])
    last_equal = np.flatnonzero(np.diff(values, append=-np.inf))  # of equal values all are edges or none
    f1 = 2 * true_positives[last_equal] / (last_equal + 1 + truth.sum())
    return float(values[last_equal[int(np.argmax(f1))]])


def edge_agreement(detected: EdgeMaps, truth: EdgeMaps) -> EdgeAgreement:
    """Compare edges (n, h, w) bool with the true ones; a measure with no edges to divide by is 0."""
    precision, recall = _overlap_share(detected, truth), _overlap_share(truth, detected)
    near_precision = _overlap_share(detected, binary_dilation(truth, EIGHT_NEIGHBOURS))
    near_recall = _overlap_share(truth, binary_dilation(detected, EIGHT_NEIGHBOURS))
    f1_near = _harmonic_mean(near_precision, near_recall)
    return EdgeAgreement(precision, recall, _harmonic_mean(precision, recall), f1_near)


def _overlap_share(pixels: EdgeMaps, reference: EdgeMaps) -> float:
    return float((pixels & reference).sum() / max(1, pixels.sum()))


def _harmonic_mean(a: float, b: float) -> float:
    if not a + b:
        return 0.0
    return 2 * a * b / (a + b)


def _edges_result(
    edge_agreements: dict[str, EdgeAgreement], thresholds: dict[str, float], rows: int, train_rows: int
) -> StudyResult:
    names = {"model": "model", "sobel": "Sobel with a threshold"}
    model, sobel_agreement = edge_agreements["model"], edge_agreements["sobel"]
    table, metrics = [], {}
    for name, agreement in edge_agreements.items():
        values = (agreement.f1, agreement.precision, agreement.recall, agreement.f1_near, thresholds[name])
        table.append([names[name], *map(format_number, values)])
        metrics[name] = asdict(agreement) | {"threshold": thresholds[name]}
    lead_metric: dict[str, Any] = {"lead": model.f1 - sobel_agreement.f1}
    return StudyResult(
        title="Edges",
        lead=f"The edges that the model draws have an F1 of {format_number(model.f1)} against Canny's, those of a "
        f"threshold on Sobel's gradient {format_number(sobel_agreement.f1)}.",
        head=["", "F1", "precision", "recall", "F1, one pixel off allowed", "threshold"],
        rows=table,
        figures=[("edges_strips.svg", "Test images, their edges by Canny, by the model and by Sobel's gradient.")],
        metrics=metrics | lead_metric,
        note=f"All pixels of {rows:,} normal test images. Both thresholds are those of the largest F1 on {train_rows:,} training "
        "images; the same ones are used where a pixel may be one off.",
    )
