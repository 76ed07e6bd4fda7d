"""Pairs of samples that are the same: exactly, nearly, or as windows that share steps."""

import re

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from aeops.audit.features import AuditSamples
from aeops.audit.near_rows import NEIGHBOURS, near_rows
from aeops.data.sample_pairs import EXACT, NEAR, Pairs, unique_pairs

IMAGE_LIMIT = 0.98  # correlation of pixels
VALUES_LIMIT = 0.999  # of other values and rows, each scaled by its spread over the set
TEXT_LIMIT = 0.8  # share of common words (Jaccard)
_PROJECTED = 64  # numbers a sample by which neighbours are looked for
_PROJECTION_ROWS = 5_000  # that the projection is fitted to
_TEXT_ROWS = 1_024  # that are joined at once
_WORD = re.compile(r"\w+")
_SMALLEST_NORM = 1e-6


def exact_pairs(sha256: pd.Series, splits: pd.Series) -> Pairs:
    """Return each sample with the first sample of the same content in each split.

    Args:
        sha256: of each sample's content.
        splits: of each sample.
    """
    rows = pd.DataFrame({"sha256": sha256.to_numpy(), "split": splits.to_numpy(), "row": np.arange(len(sha256))})
    rows = rows[rows["sha256"].duplicated(keep=False)]
    firsts = rows.drop_duplicates(["sha256", "split"])
    joined = rows.merge(firsts, on="sha256", suffixes=("", "_first"))
    first, second = joined["row_first"].to_numpy(np.int64), joined["row"].to_numpy(np.int64)
    return unique_pairs(EXACT, first, second, np.ones(len(first)))


# ---------------------------------------------------------------- numbers


def near_limit(samples: AuditSamples) -> float:
    """Return the similarity from which two samples are near copies, where the caller says none."""
    if samples.texts is not None:
        return TEXT_LIMIT
    return IMAGE_LIMIT if samples.are_images else VALUES_LIMIT


def near_method(samples: AuditSamples) -> str:
    """Describe how near copies are looked for, to go on after "near copies by the"."""
    if samples.rows is not None:
        return "distance of their numbers, in spreads, where all else is the same: 1 - mean squared difference / 2"
    if samples.texts is not None:
        return "share of common words (Jaccard)"
    if samples.are_images:
        return "correlation of their pixels, whatever their brightness and contrast"
    return "distance of their values, each scaled by its spread: 1 - mean squared difference / 2"


def near_pairs(samples: AuditSamples, splits: pd.Series, limit: float) -> Pairs:
    """Return pairs of samples with a similarity of at least `limit`.

    Of vectors the five nearest of each sample are looked at, and its nearest in each other split, so that no leak hides behind
    many copies within a split; so it is of rows; of texts all pairs.
    """
    if samples.rows is not None:
        return near_rows(samples.rows, splits, limit)
    if samples.texts is not None:
        return near_texts(samples.texts, limit)
    assert samples.vectors is not None
    vectors = comparable(samples.vectors, samples.are_images)
    projected = project(vectors)
    pairs = [nearest_pairs(vectors, projected, np.arange(len(vectors)), np.arange(len(vectors)), NEIGHBOURS)]
    codes = splits.to_numpy()
    for split in np.unique(codes):
        inside, outside = np.flatnonzero(codes == split), np.flatnonzero(codes != split)
        if len(inside) and len(outside):
            pairs.append(nearest_pairs(vectors, projected, outside, inside, 1))
    first, second, similarity = map(np.concatenate, zip(*pairs, strict=True))
    near = similarity >= limit
    return unique_pairs(NEAR, first[near], second[near], similarity[near])


def comparable(vectors: np.ndarray, are_images: bool) -> np.ndarray:
    """Return vectors a, b (n, values) such that 1 - |a - b|^2 / 2 is their similarity: 1 where equal, 0 where unrelated.

    Images are centred and scaled one by one, which makes it their correlation; other values column by column over the set.
    """
    if are_images:
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.asarray(centred / np.maximum(norms, _SMALLEST_NORM))
    spread = vectors.std(axis=0)
    varying = spread > _SMALLEST_NORM
    if not varying.any():
        return np.zeros((len(vectors), 1), np.float32)
    columns = (vectors[:, varying] - vectors[:, varying].mean(axis=0)) / spread[varying]
    return np.asarray(columns / np.sqrt(columns.shape[1]), np.float32)


def project(vectors: np.ndarray) -> np.ndarray:
    """Return vectors by their first principal components, which find neighbours sooner; short ones as they are."""
    rows = min(len(vectors), _PROJECTION_ROWS)
    if vectors.shape[1] <= 2 * _PROJECTED or rows <= _PROJECTED:
        return vectors
    chosen = np.random.default_rng(0).permutation(len(vectors))[:rows]
    fitted = PCA(_PROJECTED, svd_solver="randomized", random_state=0).fit(vectors[chosen])
    return np.asarray(fitted.transform(vectors), np.float32)


def nearest_pairs(
    vectors: np.ndarray, projected: np.ndarray, queries: np.ndarray, targets: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of each query, of its nearest targets, and their similarity, (queries * neighbours,) each.

    A row is no neighbour of itself. Blank images, which have no direction, are like nothing.
    """
    search = NearestNeighbors(n_neighbors=min(neighbours + 1, len(targets)), algorithm="brute").fit(projected[targets])
    found = search.kneighbors(projected[queries], return_distance=False)
    first, second = np.repeat(queries, found.shape[1]), targets[found.ravel()]
    similarity = np.empty(len(first))
    for start in range(0, len(first), 65_536):
        part = slice(start, start + 65_536)
        similarity[part] = 1 - ((vectors[first[part]] - vectors[second[part]]) ** 2).sum(axis=1) / 2
    has_direction = (vectors**2).sum(axis=1) > _SMALLEST_NORM
    similarity[(first == second) | ~has_direction[first] | ~has_direction[second]] = -np.inf
    return first, second, similarity


# ---------------------------------------------------------------- texts


def near_texts(texts: list[str], limit: float) -> Pairs:
    """Return pairs of texts whose sets of words have at least `limit` in common (Jaccard), all of them.

    Two such sets share one of their rarest words (Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"), so
    only texts that share one are compared.
    """
    words = count_words(texts)
    sizes = np.asarray(words.sum(axis=1)).ravel()
    rare = _rarest_words(words, sizes, limit)
    first_parts, second_parts, similarities = [], [], []
    for start in range(0, len(texts), _TEXT_ROWS):
        candidates = sparse.triu(rare[start : start + _TEXT_ROWS] @ rare.T, k=start + 1).tocoo()
        first, second = candidates.row + start, candidates.col.astype(np.int64)
        common = np.asarray(words[first].multiply(words[second]).sum(axis=1)).ravel()
        similarity = common / np.maximum(sizes[first] + sizes[second] - common, 1)
        near = similarity >= limit
        first_parts.append(first[near])
        second_parts.append(second[near])
        similarities.append(similarity[near])
    return unique_pairs(NEAR, *map(np.concatenate, (first_parts, second_parts, similarities)))


def count_words(texts: list[str]) -> sparse.csr_matrix:
    """Return which words each text has, (n, words) of 0 and 1, rare words first."""
    numbers: dict[str, int] = {}
    columns, starts = [], [0]
    for text in texts:
        found = set()
        for word in _WORD.findall(text.lower()):
            found.add(numbers.setdefault(word, len(numbers)))
        columns += sorted(found)
        starts.append(len(columns))
    ones = np.ones(len(columns), np.int64)
    words = sparse.csr_matrix((ones, columns, starts), shape=(len(texts), max(len(numbers), 1)))
    order = np.argsort(np.asarray(words.sum(axis=0)).ravel(), kind="stable")
    return words[:, order]


def _rarest_words(words: sparse.csr_matrix, sizes: np.ndarray, limit: float) -> sparse.csr_matrix:
    """Return the same with only the rarest words of each text, as many as two similar texts must share one of."""
    words = words.sorted_indices()
    needed = sizes - np.ceil(limit * sizes).astype(np.int64) + 1
    rank_in_row = np.arange(words.nnz) - np.repeat(words.indptr[:-1], sizes)
    kept = rank_in_row < np.repeat(needed, sizes)
    rows = np.repeat(np.arange(words.shape[0]), sizes)[kept]
    return sparse.csr_matrix((np.ones(len(rows), np.int64), (rows, words.indices[kept])), shape=words.shape)
