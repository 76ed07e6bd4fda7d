"""How well a model draws the edges of an image, beside a threshold on its gradient."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, generate_binary_structure
from skimage.filters import sobel

from aeops.data.sources.edges import pixel_luma
from aeops.drawing import mosaics
from aeops.drawing.words import format_number
from aeops.evaluation import model_input
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import EdgesStudy

ROWS = 1000  # training samples that the thresholds are chosen on
SHOWN = 12  # images in the strips
NEIGHBOURS = generate_binary_structure(2, 2)[None]  # the eight pixels around one, in the same image

Maps = np.ndarray  # (n, h, w): how sure one is of an edge at each pixel, or bool: where edges are


@dataclass(frozen=True)
class EdgeAgreement:
    """How well the edges found are the true ones, over all pixels of all images.

    Attributes:
        precision: share of the edge pixels found that are true.
        recall: share of the true edge pixels that are found.
        f1: their harmonic mean.
        f1_near: the same where a pixel counts as true, or as found, if one of the eight around it is.
    """

    precision: float
    recall: float
    f1: float
    f1_near: float


def run_edges_study(spec: EdgesStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Edges by the model and by Sobel's gradient, each with its best threshold on training samples, beside the true ones."""
    source, data, normal = scene.recipe.fit.input, scene.data, scene.is_normal
    train = data.train[np.unique(np.linspace(0, len(data.train) - 1, min(ROWS, len(data.train))).round().astype(int))]
    images, true = model_input.clean_inputs(source, train), model_input.scaled_targets(source, data, train)[:, 0] > 0.5
    tested, truth = scene.inputs[normal], scene.target[normal][:, 0] > 0.5

    def by_model(raw: np.ndarray) -> Maps:
        return data.scale(scene.detector.score(raw, reconstruction=True)["reconstruction"])[:, 0]

    def by_sobel(raw: np.ndarray) -> Maps:
        return gradient(data.scale(raw))

    finders: dict[str, Callable[[np.ndarray], Maps]] = {"model": by_model, "sobel": by_sobel}
    thresholds = {name: best_threshold(find(images), true) for name, find in finders.items()}
    sure = {"model": scene.reconstructions[normal][:, 0], "sobel": by_sobel(tested)}
    edges = {name: sure[name] >= thresholds[name] for name in finders}
    chosen = np.linspace(0, len(truth) - 1, min(SHOWN, len(truth))).astype(int)
    strips = {"Canny": truth, "model": edges["model"], "Sobel": edges["sobel"]}
    drawn = {name: found[chosen][:, None].astype(np.float32) for name, found in strips.items()}
    mosaics.draw_rows(figures / "edges_strips.svg", {"image": data.scale(tested[chosen])} | drawn)
    return tell({name: edge_agreement(found, truth) for name, found in edges.items()}, thresholds, len(truth), len(train))


def gradient(images: np.ndarray) -> Maps:
    """The magnitude of Sobel's gradient of the luma of images (n, c, h, w) in [0, 1]."""
    return np.stack([sobel(grey) for grey in pixel_luma(images)])


def best_threshold(sure: Maps, true: Maps) -> float:
    """The value of `sure` from which on calling a pixel an edge has the largest F1; the higher one where two are as good."""
    order = np.argsort(-sure, axis=None, kind="stable")
    values, hits = sure.ravel()[order], np.cumsum(true.ravel()[order])
    last = np.flatnonzero(np.diff(values, append=-np.inf))  # of equal values all are edges or none
    f1 = 2 * hits[last] / (last + 1 + true.sum())
    return float(values[last[int(np.argmax(f1))]])


def edge_agreement(found: Maps, true: Maps) -> EdgeAgreement:
    """How well edges (n, h, w) bool are the true ones; what has no edges to divide by is 0."""
    precision, recall = share_of(found, true), share_of(true, found)
    near = share_of(found, binary_dilation(true, NEIGHBOURS)), share_of(true, binary_dilation(found, NEIGHBOURS))
    return EdgeAgreement(precision, recall, harmonic_mean(precision, recall), harmonic_mean(*near))


def share_of(these: Maps, among: Maps) -> float:
    return float((these & among).sum() / max(1, these.sum()))


def harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def tell(found: dict[str, EdgeAgreement], thresholds: dict[str, float], rows: int, chosen_on: int) -> StudyResult:
    names = {"model": "autoencoder", "sobel": "Sobel with a threshold"}
    model, sobel_found = found["model"], found["sobel"]
    return StudyResult(
        title="Edges",
        lead=f"The edges that the autoencoder draws have an F1 of {format_number(model.f1)} against Canny's, those of a threshold on "
        f"Sobel's gradient {format_number(sobel_found.f1)}.",
        head=["", "F1", "precision", "recall", "F1, one pixel off allowed", "threshold"],
        rows=[
            [names[name], *(format_number(value) for value in (one.f1, one.precision, one.recall, one.f1_near, thresholds[name]))]
            for name, one in found.items()
        ],
        figures=[("edges_strips.svg", "Test images, their edges by Canny, by the autoencoder and by Sobel's gradient.")],
        metrics={name: asdict(one) | {"threshold": thresholds[name]} for name, one in found.items()}
        | {"lead": model.f1 - sobel_found.f1},
        note=f"All pixels of {rows:,} normal test images. Both thresholds are those of the largest F1 on {chosen_on:,} training "
        "images; the same ones are used where a pixel may be one off.",
    )
