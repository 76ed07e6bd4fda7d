"""Detectors that need next to no training, to stand beside the model, with the same preprocessing as the model's score.

PCA's residual, the distance to the k-th nearest neighbour, the residual on the local affine hull of the 10 and of the 20
nearest neighbours, and scikit-learn's isolation forest. To add one: its line in `FittedBaselines._score_block`, its name in
`aeops.recipe.metric_names`, `aeops.report.tables.detectors_by_name` and `aeops.evaluation.line_charts.DETECTOR_STYLES`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models.spec import (
    DenoisingScoreSpec,
    DisagreementScoreSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    NormalisedResidualScoreSpec,
    PcaResidualScoreSpec,
    ScoreSpec,
    single_scores,
)
from aeops.errors import DataError, UsageError
from aeops.evaluation.sample_blocks import rows_of_blocks
from aeops.recipe.metric_names import ISOLATION_FOREST, KNN, LOCAL_HULLS, PCA_RESIDUAL

BLOCK_VALUES = 2**22  # of distances, and of neighbours, that are in memory at once
CACHED_VALUES = 2**17  # of neighbours that are worked on at once: a megabyte
HULL_RIDGES = {10: 0.1, 20: 0.3}  # number of neighbours -> ridge, as a share of the mean diagonal of their Gram matrix
WIDE_VALUES, WIDE_TRAIN_VALUES = 2**11, 2**23  # of a sample, and of all: beyond both, PCA looks for its few components alone
POINT_PENALTY = 1e-12  # the least penalty: neighbours that are all the same span a point, and what differs is rounding
FOREST_SEED = 0
BLUR_REACH = 3  # standard deviations to which the blur's kernel goes, as in ae_models.blur, which needs torch
ENERGY_FLOOR = 1e-6  # added to sums of squares, as in ae_models.scores, which needs torch


TREATED_SCORES = (
    NormalisedResidualScoreSpec,
    DenoisingScoreSpec,
    DisagreementScoreSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    PcaResidualScoreSpec,
)

# ---------------------------------------------------------------- preprocessing


@dataclass(frozen=True)
class ResidualTreatment:
    """Preprocessing of a residual, as of the score `normalised-residual`: blur, and the share of the energy that is subtracted.

    A score's `level` is no part of it: a model that reads no level is compared with detectors that do.

    Attributes:
        blur: standard deviation in pixels or steps.
        energy: share of the sample's log energy, from 0 to 1.
    """

    blur: float = 0.0
    energy: float = 0.0

    @classmethod
    def of_score(cls, score: ScoreSpec, default_energy: float = NormalisedResidualScoreSpec().energy) -> Self:
        """Return the treatment of a model's score: of a combined one that of its first part that treats what it compares.

        Where no part does, nothing is blurred, and `default_energy` is subtracted.
        """
        for single in single_scores(score).values():
            if isinstance(single, TREATED_SCORES) and (single.blur or single.energy):
                return cls(single.blur, single.energy)
        return cls(NormalisedResidualScoreSpec().blur, default_energy)

    def blur_samples(self, samples: np.ndarray) -> np.ndarray:
        """Return (n, channels, ...) blurred along every axis after the channels, as float32 (n, values)."""
        blurred = np.asarray(samples, dtype=np.float32)
        if self.blur > 0:
            radius = math.ceil(BLUR_REACH * self.blur)
            for axis in range(2, samples.ndim):
                blurred = gaussian_filter1d(blurred, self.blur, axis=axis, mode="constant", radius=radius)
        return blurred.reshape(len(samples), -1)

    def log_score(self, squared_residuals: np.ndarray, blurred_samples: np.ndarray) -> np.ndarray:
        """Return log r^2 - energy log ||x||^2, float32 (n,).

        Args:
            squared_residuals: r^2 of each sample, (n,).
            blurred_samples: x, (n, values). Blurred, since the residual is: with the energy of the sample as it is, the
                neighbours rank the digits worse (AUROC of kNN .918 instead of .928).
        """
        energies = np.square(blurred_samples, dtype=np.float64).sum(axis=1)
        score = np.log(squared_residuals + ENERGY_FLOOR) - self.energy * np.log(energies + ENERGY_FLOOR)
        return np.asarray(score, dtype=np.float32)

    def map_residuals(self, residuals: np.ndarray, blurred_samples: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return r^2 / ||x||^(2 energy) of each pixel, summed over the channels, float32 (n, h, w).

        Args:
            residuals: r, (n, values), of blurred images.
            blurred_samples: x, (n, values).
            shape: of the images, (n, c, h, w).
        """
        squares = np.square(residuals, dtype=np.float64).reshape(shape).sum(axis=1)
        energies = np.square(blurred_samples, dtype=np.float64).sum(axis=1) + ENERGY_FLOOR
        return np.asarray(squares / energies[:, np.newaxis, np.newaxis] ** self.energy, dtype=np.float32)


# ---------------------------------------------------------------- PCA


class PcaBaseline:
    """Linear reconstruction from a few numbers: an autoencoder of the same code size has to beat it."""

    def __init__(self, pca: PCA) -> None:
        self._pca = pca

    @classmethod
    def fit(cls, train: np.ndarray, components: int) -> Self:
        """Fit on `train` (n, features), values in [0, 1], by a deterministic solver, exact to the last digits.

        Raises:
            UsageError: more components than samples or features.
        """
        if components > min(train.shape):
            raise UsageError(
                f"evaluate.pca_components: expected at most {min(train.shape)} for {train.shape[0]} training samples of "
                f"{train.shape[1]} values, got {components}"
            )
        pca_solver = "full"
        if train.shape[0] >= train.shape[1]:
            pca_solver = "covariance_eigh"  # as exact, and cheaper here
        if train.shape[1] > WIDE_VALUES and train.size > WIDE_TRAIN_VALUES and components < min(train.shape):
            pca_solver = "arpack"  # the other solvers compute as many components as there are samples
        # An eigendecomposition on two busy cores takes 5 s with threads, 0.1 s without. Samples that are all the same have no
        # variance to divide by.
        with threadpool_limits(1, "blas"), np.errstate(invalid="ignore"):
            return cls(PCA(components, svd_solver=pca_solver, random_state=0).fit(train))

    def reconstruct(self, samples: np.ndarray) -> np.ndarray:
        """Return the projection of `samples` (n, features) on the components, not clipped."""
        with threadpool_limits(1, "blas"):  # the last digits of a product depend on the number of threads
            return np.asarray(self._pca.inverse_transform(self._pca.transform(samples)))


# ---------------------------------------------------------------- the detectors


class FittedBaselines:
    """Every detector beside a model, fitted to normal samples.

    Args:
        train: (m, *shape) in [0, 1], as the model is served them: see `aeops.evaluation.sampling.draw_baseline_rows`.
        neighbours: k of the kNN distance, from 1 to m.
        treatment: of residuals and distances.
        pca: fitted to training samples; None for no such detector.
        limits: to which its reconstructions are clipped, as a model's are.

    Raises:
        UsageError: more neighbours than training samples.
        DataError: training samples with values that are NaN or infinite.
    """

    def __init__(
        self,
        train: np.ndarray,
        neighbours: int,
        treatment: ResidualTreatment,
        pca: PcaBaseline | None,
        limits: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if neighbours > len(train):
            raise UsageError(
                f"evaluate.neighbours: expected at most {len(train)}, the number of training samples, got {neighbours}"
            )
        require_finite(train, "training")
        self._neighbours, self._treatment, self._pca, self._limits = neighbours, treatment, pca, limits
        self._train = treatment.blur_samples(train)
        self._train_energies = np.square(self._train).sum(axis=1)
        self._search_size = min(len(train), max(neighbours, *HULL_RIDGES))
        self._forest = _fit_forest(self._train)

    @property
    def neighbour_counts(self) -> dict[str, int]:
        """Numbers of neighbours by the baselines' names: a hull has all training samples, where there are fewer."""
        counts = {KNN: self._neighbours}
        for name, neighbours in LOCAL_HULLS.items():
            counts[name] = min(neighbours, len(self._train))
        return counts

    def score(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of each baseline, float32 (n,), by its name; higher is more anomalous.

        Args:
            samples: (n, *shape) in [0, 1].

        Raises:
            DataError: values that are NaN or infinite.
        """
        require_finite(samples, "scored")
        rows_at_once = BLOCK_VALUES // max(len(self._train), self._search_size * self._train.shape[1])
        scores = join_scores(map(self._score_block, split_samples(samples, rows_at_once)))
        # Not by blocks: a call takes the forest a tenth of a second, however few samples it is about.
        forest_scores = -self._forest.score_samples(self._treatment.blur_samples(samples))
        return scores | {ISOLATION_FOREST: np.asarray(forest_scores, dtype=np.float32)}

    def _score_block(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        blurred = self._treatment.blur_samples(samples)
        scores = {}
        with threadpool_limits(1):  # the last digits depend on the number of threads, which other libraries may have set
            if self._pca is not None:
                residuals = self._treatment.blur_samples(pca_residuals(self._pca, samples, self._limits))
                scores[PCA_RESIDUAL] = self._treatment.log_score(squared_norms(residuals), blurred)
            squared_residuals = join_scores(map(self._squared_residuals, self._nearest_offsets(blurred)))
            for name, values in squared_residuals.items():
                scores[name] = self._treatment.log_score(values, blurred)
        return scores

    def _squared_residuals(self, offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Return r^2 of the baselines that look at neighbours, (n,) each, from the offsets (n, neighbours, values)."""
        squares = {KNN: squared_norms(offsets[:, self._neighbours - 1])}
        for name, neighbours in LOCAL_HULLS.items():
            squares[name] = hull_residuals(offsets[:, :neighbours], HULL_RIDGES[neighbours])
        return squares

    def pixel_maps(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return how much each pixel adds to the scores, float32 (n, h, w), by baseline; the isolation forest has no such map.

        A map is that of the squared residuals or offsets whose sum over all pixels the score is the logarithm of, divided by the
        same share of the sample's energy.

        Args:
            samples: images (n, c, h, w) in [0, 1].

        Raises:
            DataError: values that are NaN or infinite.
        """
        require_finite(samples, "scored")
        rows_at_once = BLOCK_VALUES // max(len(self._train), self._search_size * self._train.shape[1])
        return join_scores(map(self._map_block, split_samples(samples, rows_at_once)))

    def _map_block(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        blurred = self._treatment.blur_samples(samples)
        residuals = {}
        with threadpool_limits(1):
            if self._pca is not None:
                residuals[PCA_RESIDUAL] = self._treatment.blur_samples(pca_residuals(self._pca, samples))
            residuals |= join_scores(map(self._residual_vectors, self._nearest_offsets(blurred)))
        maps = {}
        for name, vectors in residuals.items():
            maps[name] = self._treatment.map_residuals(vectors, blurred, samples.shape)
        return maps

    def _residual_vectors(self, offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Return the residuals of the baselines that look at neighbours, (n, values) each; see `_squared_residuals`."""
        vectors = {KNN: offsets[:, self._neighbours - 1]}
        for name, neighbours in LOCAL_HULLS.items():
            vectors[name] = hull_residual_vectors(offsets[:, :neighbours], HULL_RIDGES[neighbours])
        return vectors

    def _nearest_offsets(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the nearest training samples less the sample, from near to far, float64 (k, neighbours, values) of some samples.

        Of so few samples that the processor's cache holds what is made of them: two thirds of the time of many.
        """
        # ||t - x||^2 - ||x||^2: the term that all neighbours of a sample share does not change their order.
        distances = self._train_energies - 2 * (samples @ self._train.T)
        indices = np.argpartition(distances, self._search_size - 1, axis=1)[:, : self._search_size]
        for rows in rows_of_blocks(len(samples), self._search_size * samples.shape[1], limit=CACHED_VALUES):
            offsets = self._train[indices[rows]].astype(np.float64) - samples[rows, np.newaxis]
            order = np.argsort(squared_norms(offsets), axis=1, kind="stable")
            yield np.take_along_axis(offsets, order[:, :, np.newaxis], axis=1)


def _fit_forest(train: np.ndarray) -> Any:
    from sklearn.ensemble import IsolationForest  # here: a recipe without detection does without

    return IsolationForest(random_state=FOREST_SEED).fit(train)


def pca_residuals(pca: PcaBaseline, samples: np.ndarray, limits: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Return samples (n, *shape) less their projections, which are clipped as a model's reconstructions are."""
    outputs = pca.reconstruct(samples.reshape(len(samples), -1)).clip(*limits)
    return np.asarray(samples - outputs.reshape(samples.shape))


def hull_residuals(offsets: np.ndarray, ridge: float) -> np.ndarray:
    """Return the squared distance of each sample to the ridge-regularised affine hull of its neighbours, (n,).

    See `hull_residual_vectors`.
    """
    return squared_norms(hull_residual_vectors(offsets, ridge))


def hull_residual_vectors(offsets: np.ndarray, ridge: float) -> np.ndarray:
    """Return the nearest point of the ridge-regularised affine hull of each sample's neighbours, less the sample, (n, values).

    With the neighbours' mean m and the rows D of their differences from it, the nearest point is m + D^T w, and
    w = (D D^T + c I)^-1 D (x - m): the local hyperplane of Vincent and Bengio (2001, K-local hyperplane and convex distance
    nearest neighbor algorithms, section 3.1), with the penalty c = ridge x mean diagonal of the Gram matrix D D^T.

    Args:
        offsets: neighbours less the sample, (n, k, values).
        ridge: above 0.
    """
    means = offsets.mean(axis=1, keepdims=True)
    differences = offsets - means
    gram = differences @ differences.transpose(0, 2, 1)
    count = gram.shape[1]
    penalty = ridge * np.trace(gram, axis1=1, axis2=2) / count
    penalty = np.maximum(penalty, POINT_PENALTY)
    system = gram + penalty[:, np.newaxis, np.newaxis] * np.eye(count)
    weights = np.linalg.solve(system, -differences @ means.transpose(0, 2, 1))
    return np.asarray(means[:, 0] + (differences * weights).sum(axis=1))


def split_samples(samples: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Yield samples (n, ...) in blocks of so many rows, of one where that is 0."""
    for start in range(0, len(samples), max(1, rows)):
        yield samples[start : start + max(1, rows)]


def join_scores(blocks: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the scores of one block or more as one array for each name."""
    first, *others = blocks
    joined = {}
    for name, scores in first.items():
        joined[name] = np.concatenate([scores, *(block[name] for block in others)])
    return joined


def squared_norms(vectors: np.ndarray) -> np.ndarray:
    """Return the sums of squares over the last axis, in float64."""
    return np.asarray(np.square(vectors, dtype=np.float64).sum(axis=-1))


def require_finite(samples: np.ndarray, role: str) -> None:
    """Check that baselines can read samples (n, ...).

    Args:
        samples: (n, ...).
        role: what they are for, for the message.

    Raises:
        DataError: some hold NaN or infinite values.
    """
    bad_rows = int((~np.isfinite(samples.reshape(len(samples), -1)).all(axis=1)).sum())
    if bad_rows:
        raise DataError(
            f"expected finite values in the {role} samples, got {bad_rows:,} of {len(samples):,} samples with NaN or infinite "
            "values, which PCA, nearest neighbours and isolation forest cannot read: ingest the dataset again, which sets such "
            "samples aside"
        )
