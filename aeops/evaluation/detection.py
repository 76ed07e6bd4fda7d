"""Measures of how well a score separates novelty from normals, and two baselines that need next to no training."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aeops.errors import UsageError
from aeops.gate.auroc import estimate_auroc


@dataclass(frozen=True)
class RankingMetrics:
    """Quality of one score that ranks novelty above normals.

    Attributes:
        auroc: chance that a novelty scores higher than a normal, ties counted half.
        average_precision: area under the precision-recall curve as a sum of steps, with novelty as the positive class.
        auroc_interval: 95 % interval of `auroc`.
    """

    auroc: float
    average_precision: float
    auroc_interval: tuple[float, float]


def measure_ranking(score: np.ndarray, novelty: np.ndarray) -> RankingMetrics:
    """Measure how well a score ranks novelty above normals.

    Args:
        score: (n,), higher for novelty.
        novelty: bool (n,), with at least one novelty and one normal.
    """
    auroc, variance = estimate_auroc(score[novelty], score[~novelty])
    precision = float(average_precision_score(novelty, score))
    return RankingMetrics(auroc, precision, logit_interval(auroc, variance))


def logit_interval(auroc: float, variance: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of an AUROC, normal on the logit scale, so that it stays inside [0, 1] (Pepe 2003, section 5.2).

    Where the classes are separated perfectly, both ends are the AUROC itself: the variance is then 0 and carries no information.
    """
    if variance == 0 or auroc in (0.0, 1.0):
        return auroc, auroc
    logit = math.log(auroc / (1 - auroc))
    half_width = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (auroc * (1 - auroc))
    return expit(logit - half_width), expit(logit + half_width)


def expit(x: float) -> float:
    """Return the logistic function 1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x))


class PcaBaseline:
    """Linear reconstruction from a few numbers: an autoencoder of the same code size has to beat it."""

    def __init__(self, pca: PCA) -> None:
        self._pca = pca

    @classmethod
    def fit(cls, train: np.ndarray, components: int) -> Self:
        """Fit on `train` (n, features), values in [0, 1], by an exact and deterministic solver.

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
        with threadpool_limits(1, "blas"):  # an eigendecomposition on two busy cores takes 5 s with threads, 0.1 s without
            return cls(PCA(components, svd_solver=pca_solver).fit(train))

    def reconstruct(self, samples: np.ndarray) -> np.ndarray:
        """Return the projection of `samples` (n, features) on the components, not clipped."""
        with threadpool_limits(1, "blas"):  # the last digits of a product depend on the number of threads
            return np.asarray(self._pca.inverse_transform(self._pca.transform(samples)))

    def squared_residual(self, samples: np.ndarray) -> np.ndarray:
        """Return the squared distance of each sample to its projection, (n,): the usual PCA score."""
        return np.asarray(np.square(samples - self.reconstruct(samples)).sum(axis=1))


def knn_distance(train: np.ndarray, samples: np.ndarray, neighbours: int) -> np.ndarray:
    """Return the Euclidean distance of each sample to its k-th nearest training sample, (n,) (Ramaswamy et al. 2000).

    Args:
        train: (m, features).
        samples: (n, features).
        neighbours: k, from 1 to m.

    Raises:
        UsageError: more neighbours than training samples.
    """
    if neighbours > len(train):
        raise UsageError(f"evaluate.neighbours: expected at most {len(train)}, the number of training samples, got {neighbours}")
    with threadpool_limits(1):  # the last digits depend on the number of threads, which other libraries may have set
        distances, _ = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(train).kneighbors(samples)
    return np.asarray(distances[:, -1])
