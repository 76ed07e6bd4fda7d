"""Maps of the codes, and whether near codes have one label, beside PCA and UMAP of the same size."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aeops.drawing.style import REPORT_WIDTH, svg_axes
from aeops.drawing.words import format_share
from aeops.evaluation import model_input
from aeops.evaluation.line_charts import name_axes, principal_plane, scatter_labels
from aeops.evaluation.sampling import even_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import CodesStudy

VOCABULARY = 4096  # words that the baselines of texts count
MAP_CODES, MAP_POINTS = 1500, 400  # test codes that the maps are fitted on, and those drawn: few enough for a small file
EPOCHS = 200  # of UMAP's layout: its own choice for small sets, 500, takes twice as long for the same neighbours

CodeVectors = np.ndarray  # (n, size)

METHOD_NAMES = {"model": "model", "pca": "PCA", "umap": "UMAP"}


def run_codes_study(spec: CodesStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Draw maps of test codes, and measure how well the labels of neighbours agree."""
    indices, size = even_indices(len(context.inputs), spec.rows), context.predictions["code"].shape[1]
    codes = euclidean_codes(context.predictions["code"][indices])
    map_indices = even_indices(len(codes), MAP_CODES)
    _draw_maps(figures / "codes_maps.svg", context, codes[map_indices], indices[map_indices])
    labels = context.data.labels[indices]
    is_labelled = labels >= 0
    neighbours = min(spec.neighbours, int(is_labelled.sum()) - 1)
    measures: dict[str, dict[str, Any]] = {}
    if neighbours > 0:
        baselines = _fit_baselines(spec, context, indices, size)
        measures["model"] = {"size": size} | label_agreement(codes[is_labelled], labels[is_labelled], neighbours)
        for name, vectors in baselines.items():
            agreement = label_agreement(vectors[is_labelled], labels[is_labelled], neighbours)
            measures[name] = {"size": vectors.shape[1]} | agreement
    return _codes_result(measures, neighbours, int(is_labelled.sum()), min(spec.rows, len(context.data.train)))


def _codes_result(measures: dict[str, dict[str, Any]], neighbours: int, rows: int, train_rows: int) -> StudyResult:
    result = StudyResult(
        title="Codes",
        lead="Test codes on their two leading principal axes, and as UMAP lays them out in the plane. ",
        head=[],
        rows=[],
        figures=[
            ("codes_maps.svg", "Left: two principal axes of the codes. Right: their UMAP, in which only nearness means anything.")
        ],
        metrics=dict(measures),
        note="The test samples have no labels to compare.",
    )
    if not measures:
        return result
    label_agreements = {name: measure["agreement"] for name, measure in measures.items()}
    model_agreement = label_agreements.pop("model")
    margin = model_agreement - max(label_agreements.values())
    direction = "above" if margin >= 0 else "below"
    table = []
    for name, measure in measures.items():
        shares = [format_share(measure["agreement"]), format_share(measure["accuracy"])]
        table.append([f"{METHOD_NAMES[name]}-{measure['size']}", *shares])
    return replace(
        result,
        lead=f"{result.lead}Of the {neighbours} codes nearest to one, {format_share(model_agreement)} have its label, "
        f"{100 * abs(margin):.1f} points {direction} the better of PCA and UMAP.",
        head=["numbers a sample", "neighbours of the same label", "majority is right"],
        rows=table,
        metrics=result.metrics | {"lead": margin},
        note=f"{rows:,} labelled test samples, novelty among them, each with its {neighbours} nearest others; no label was used "
        f"in training. PCA and UMAP were fitted on {train_rows:,} training samples.",
    )


def euclidean_codes(codes: np.ndarray) -> CodeVectors:
    """Return codes whose distance is Euclidean.

    Code indices (n, slots) become one-hot vectors, so that the distance counts the slots that differ.
    """
    if codes.dtype.kind == "f":
        return codes
    one_hot = np.eye(int(codes.max()) + 1, dtype=np.float32)
    return np.asarray(one_hot[codes].reshape(len(codes), -1))


def label_agreement(vectors: CodeVectors, labels: np.ndarray, neighbours: int) -> dict[str, float]:
    """Measure how well the labels of each vector's nearest others agree with its own.

    Args:
        vectors: (n, size).
        labels: (n,) whole numbers.
        neighbours: k, below n.

    Returns:
        `agreement`: the share of neighbours with the same label; `accuracy`: how often their most frequent label is the
        same.
    """
    _, nearest_indices = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(vectors).kneighbors()  # without itself
    neighbour_labels = labels[nearest_indices]
    kinds = np.unique(labels)
    label_counts = (neighbour_labels[:, :, None] == kinds).sum(axis=1)
    return {
        "agreement": float((neighbour_labels == labels[:, None]).mean()),
        "accuracy": float((kinds[label_counts.argmax(axis=1)] == labels).mean()),
    }


# ---------------------------------------------------------------- baselines


def _fit_baselines(spec: CodesStudy, context: EvaluationContext, test_indices: np.ndarray, size: int) -> dict[str, CodeVectors]:
    """Return the test samples as so many numbers by PCA and by UMAP, both fitted on training samples."""
    train, test = _plain_vectors(context, even_indices(len(context.data.train), spec.rows), test_indices)
    components = min(size, train.shape[0] - 1, train.shape[1] - 1)
    projection: Any = PCA(components, random_state=0)
    if issparse(train):
        projection = TruncatedSVD(components, random_state=0)
    with threadpool_limits(1, "blas"):
        pca = projection.fit(train).transform(test)
        return {"pca": pca, "umap": fit_umap(_as_dense(train), _as_dense(test), components)}


def _plain_vectors(context: EvaluationContext, train_indices: np.ndarray, test_indices: np.ndarray) -> tuple[Any, Any]:
    """Return training and test inputs, flat in [0, 1]; of texts, the tf-idf of their words (sparse)."""
    kind, spec = context.detector.data_kind, context.detector.spec
    train_samples = np.asarray(context.data.train[train_indices])
    train_inputs = model_input.served_inputs(context.recipe.fit, train_samples, model_input.TRAIN_SEED)
    train, test = kind.baseline(train_inputs, spec), kind.baseline(context.inputs[test_indices], spec)
    if train.texts is None or test.texts is None:
        return train.vectors, test.vectors
    vectorizer = TfidfVectorizer(max_features=VOCABULARY, sublinear_tf=True)
    return vectorizer.fit_transform(train.texts), vectorizer.transform(test.texts)


def _as_dense(vectors: Any) -> np.ndarray:
    if issparse(vectors):
        vectors = vectors.toarray()
    return np.asarray(vectors, dtype=np.float32)


def fit_umap(train: CodeVectors, test: CodeVectors | None, size: int) -> CodeVectors:
    """Fit UMAP (McInnes et al. 2018) on one thread from one seed, so that the map is the same each time.

    Args:
        train: (m, numbers).
        test: (n, numbers); None to return the training vectors.
        size: numbers a vector in the map.

    Returns:
        (n, size) or (m, size).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library it does not need, and of graphs in several pieces, which are no mistake
        from umap import UMAP  # here: it takes seconds to import

        # Its usual beginning, as many eigenvectors of a graph as numbers, takes minutes where those are hundreds.
        start = "pca" if size <= min(train.shape) else "spectral"
        mapping = UMAP(
            n_components=size, n_neighbors=min(15, len(train) - 1), n_epochs=EPOCHS, init=start, random_state=0, n_jobs=1
        ).fit(train)
        if test is None:
            return np.asarray(mapping.embedding_)
        return np.asarray(mapping.transform(test))


# ---------------------------------------------------------------- maps


def _draw_maps(file: Path, context: EvaluationContext, codes: CodeVectors, test_indices: np.ndarray) -> None:
    """Draw the codes on two principal axes of the normal ones, and as UMAP lays them out."""
    labels, novelty = context.data.table["label"].iloc[test_indices], context.data.novelty[test_indices]
    positions, shares = principal_plane(codes, ~novelty)
    with svg_axes(file, REPORT_WIDTH, 5, columns=2) as [left, right]:
        scatter_labels(left, positions, labels, novelty, MAP_POINTS)
        name_axes(left, shares)
        scatter_labels(right, fit_umap(codes, None, 2), labels, novelty, MAP_POINTS)
        right.set(xlabel="UMAP", ylabel="")
