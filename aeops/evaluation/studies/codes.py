"""Maps of the codes, and whether near codes have one label, beside PCA and UMAP of the same size."""

import warnings
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
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import CodesStudy

VOCABULARY = 4096  # words that the baselines of texts count
MAPPED, POINTS = 1500, 400  # test codes that the maps are made of, and those drawn: few enough for a small file
EPOCHS = 200  # of UMAP's layout: its own choice for small sets, 500, takes twice as long for the same neighbours

Vectors = np.ndarray  # (n, size)


def run_codes_study(spec: CodesStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Maps test codes and measures how well their neighbours agree on the label."""
    chosen, size = evenly(len(scene.inputs), spec.rows), scene.predictions["code"].shape[1]
    codes = euclidean_codes(scene.predictions["code"][chosen])
    mapped = evenly(len(codes), MAPPED)
    draw(figures / "codes_maps.svg", scene, codes[mapped], chosen[mapped])
    labels = scene.data.labels[chosen]
    known = labels >= 0
    neighbours = min(spec.neighbours, int(known.sum()) - 1)
    measured: dict[str, dict[str, Any]] = {}
    if neighbours > 0:
        vectors = {"model": codes, **baselines(spec, scene, chosen, size)}
        sizes = {name: size if name == "model" else found.shape[1] for name, found in vectors.items()}
        measured = {
            name: {"size": sizes[name]} | label_agreement(found[known], labels[known], neighbours)
            for name, found in vectors.items()
        }
    return tell(measured, neighbours, int(known.sum()), min(spec.rows, len(scene.data.train)))


def tell(measured: dict[str, dict[str, Any]], neighbours: int, rows: int, fitted: int) -> StudyResult:
    names = {"model": "autoencoder", "pca": "PCA", "umap": "UMAP"}
    metrics: dict[str, Any] = dict(measured)
    lead = "Test codes on their two leading principal axes, and as UMAP lays them out in the plane. "
    if measured:
        best = max(found["agreement"] for name, found in measured.items() if name != "model")
        metrics["lead"] = measured["model"]["agreement"] - best
        where = "above" if metrics["lead"] >= 0 else "below"
        lead += (
            f"Of the {neighbours} codes nearest to one, {format_share(measured['model']['agreement'])} have its label, "
            f"{100 * abs(metrics['lead']):.1f} points {where} the better of PCA and UMAP."
        )
    return StudyResult(
        title="Codes",
        lead=lead,
        head=["numbers a sample", "neighbours of the same label", "majority is right"] if measured else [],
        rows=[
            [f"{names[name]}-{found['size']}", format_share(found["agreement"]), format_share(found["accuracy"])]
            for name, found in measured.items()
        ],
        figures=[
            ("codes_maps.svg", "Left: two principal axes of the codes. Right: their UMAP, in which only nearness means anything.")
        ],
        metrics=metrics,
        note=f"{rows:,} labelled test samples, novelty among them, each with its {neighbours} nearest others; no label was used "
        f"in training. PCA and UMAP were fitted on {fitted:,} training samples."
        if measured
        else "The test samples have no labels to compare.",
    )


def evenly(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def euclidean_codes(codes: np.ndarray) -> Vectors:
    """Codes whose distance is Euclidean: words (n, slots) as one-hot vectors, so that it counts the slots that differ."""
    if codes.dtype.kind == "f":
        return codes
    words = np.eye(int(codes.max()) + 1, dtype=np.float32)
    return np.asarray(words[codes].reshape(len(codes), -1))


def label_agreement(vectors: Vectors, labels: np.ndarray, neighbours: int) -> dict[str, float]:
    """Of each vector's nearest others: the share with its label, and how often their most frequent label is its own.

    Args:
        vectors: (n, size).
        labels: (n,) whole numbers.
        neighbours: k, below n.
    """
    _, nearest = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(vectors).kneighbors()  # without itself
    found = labels[nearest]
    kinds = np.unique(labels)
    votes = (found[:, :, None] == kinds).sum(axis=1)
    return {
        "agreement": float((found == labels[:, None]).mean()),
        "accuracy": float((kinds[votes.argmax(axis=1)] == labels).mean()),
    }


# ---------------------------------------------------------------- baselines


def baselines(spec: CodesStudy, scene: EvaluationContext, chosen: np.ndarray, size: int) -> dict[str, Vectors]:
    """The chosen test samples as so many numbers by PCA and by UMAP, both fitted on training samples."""
    train, test = plain_vectors(scene, evenly(len(scene.data.train), spec.rows), chosen)
    kept = min(size, *(side - 1 for side in train.shape))
    projection = TruncatedSVD(kept, random_state=0) if issparse(train) else PCA(kept, random_state=0)
    with threadpool_limits(1, "blas"):
        pca = projection.fit(train).transform(test)
        return {"pca": pca, "umap": umap(dense(train), dense(test), kept)}


def plain_vectors(scene: EvaluationContext, train: np.ndarray, test: np.ndarray) -> tuple[Any, Any]:
    """Training and test samples as a model is given them, flat in [0, 1]; of texts, the tf-idf of their words (sparse)."""
    kind, spec = scene.detector.data_kind, scene.detector.spec
    given = model_input.served_inputs(scene.recipe.fit, np.asarray(scene.data.train[train]), model_input.TRAIN_SEED)
    fitted, asked = kind.baseline(given, spec), kind.baseline(scene.inputs[test], spec)
    if fitted.texts is None or asked.texts is None:
        return fitted.vectors, asked.vectors
    words = TfidfVectorizer(max_features=VOCABULARY, sublinear_tf=True)
    return words.fit_transform(fitted.texts), words.transform(asked.texts)


def dense(vectors: Any) -> np.ndarray:
    return np.asarray(vectors if isinstance(vectors, np.ndarray) else vectors.toarray(), dtype=np.float32)


def umap(train: Vectors, test: Vectors | None, size: int) -> Vectors:
    """UMAP (McInnes et al. 2018) fitted on `train`, on one thread from one seed: the same map each time.

    Returns:
        `test` on it, (n, size), or where that is None `train` itself.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library it does not need, and of graphs in several pieces, which are no mistake
        from umap import UMAP  # here: it takes seconds to import

        # Its usual beginning, as many eigenvectors of a graph as numbers, takes minutes where those are hundreds.
        start = "pca" if size <= min(train.shape) else "spectral"
        mapping = UMAP(
            n_components=size, n_neighbors=min(15, len(train) - 1), n_epochs=EPOCHS, init=start, random_state=0, n_jobs=1
        ).fit(train)
        return np.asarray(mapping.embedding_ if test is None else mapping.transform(test))


# ---------------------------------------------------------------- maps


def draw(file: Path, scene: EvaluationContext, codes: Vectors, chosen: np.ndarray) -> None:
    """The codes on two principal axes of the normal ones, and as UMAP lays them out."""
    labels, novelty = scene.data.table["label"].iloc[chosen], scene.data.novelty[chosen]
    places, shares = principal_plane(codes, ~novelty)
    with svg_axes(file, REPORT_WIDTH, 5, columns=2) as [left, right]:
        scatter_labels(left, places, labels, novelty, POINTS)
        name_axes(left, shares)
        scatter_labels(right, umap(codes, None, 2), labels, novelty, POINTS)
        right.set(xlabel="UMAP", ylabel="")
