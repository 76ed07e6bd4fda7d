"""How well a score tells the novelty from normals, with two baselines that need no training to speak of."""

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
class Ranking:
    """How well one score ranks novelty above normals.

    Attributes:
        auroc: chance that a novelty scores higher than a normal, ties counted half.
        average_precision: area under the precision-recall curve as a sum of steps, with novelty as the positive class.
        auroc_interval: 95 % interval of `auroc`.
    """

    auroc: float
    average_precision: float
    auroc_interval: tuple[float, float]


def ranking(score: np.ndarray, novelty: np.ndarray) -> Ranking:
    """How well `score` (n,) ranks samples where `novelty` (n,) is true above the others; there must be some of both."""
    auroc, variance = estimate_auroc(score[novelty], score[~novelty])
    precision = float(average_precision_score(novelty, score))
    return Ranking(auroc, precision, logit_interval(auroc, variance))


def logit_interval(auroc: float, variance: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of an AUROC, normal on the logit scale, so that it stays inside [0, 1] (Pepe 2003, section 5.2).

    It is the point itself where the classes are separated perfectly: the variance is then 0 and tells nothing.
    """
    if variance == 0 or auroc in (0.0, 1.0):
        return auroc, auroc
    centre = math.log(auroc / (1 - auroc))
    reach = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (auroc * (1 - auroc))
    return expit(centre - reach), expit(centre + reach)


def expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


class PcaBaseline:
    """Linear reconstruction from a few numbers: what an autoencoder of the same code size has to beat."""

    def __init__(self, pca: PCA) -> None:
        self._pca = pca

    @classmethod
    def fit(cls, train: np.ndarray, components: int) -> Self:
        """Fits on `train` (n, features), values in [0, 1], by an exact and deterministic solver.

        Raises:
            UsageError: more components than samples or features.
        """
        if components > min(train.shape):
            raise UsageError(
                f"evaluate.pca_components is {components}; at most {min(train.shape)} is allowed with "
                f"{train.shape[0]} training samples of {train.shape[1]} values"
            )
        solver = "covariance_eigh" if train.shape[0] >= train.shape[1] else "full"  # the cheaper of the two exact ones
        with threadpool_limits(1, "blas"):  # an eigendecomposition on two busy cores takes 5 s with threads, 0.1 s without
            return cls(PCA(components, svd_solver=solver).fit(train))

    def reconstruct(self, samples: np.ndarray) -> np.ndarray:
        """The projection of `samples` (n, features) on the components, not clipped."""
        with threadpool_limits(1, "blas"):  # the last digits of a product depend on the number of threads
            return np.asarray(self._pca.inverse_transform(self._pca.transform(samples)))

    def residual(self, samples: np.ndarray) -> np.ndarray:
        """Squared distance of each sample to its projection, (n,): the usual PCA score."""
        return np.asarray(np.square(samples - self.reconstruct(samples)).sum(axis=1))


def knn_distance(train: np.ndarray, samples: np.ndarray, neighbours: int) -> np.ndarray:
    """Euclidean distance of each sample to its k-th nearest training sample, (n,) (Ramaswamy et al. 2000).

    Raises:
        UsageError: more neighbours than training samples.
    """
    if neighbours > len(train):
        raise UsageError(f"evaluate.neighbours is {neighbours}; at most {len(train)} is allowed, one a training sample")
    with threadpool_limits(1):  # the last digits depend on the number of threads, which whatever else is loaded may have set
        distances, _ = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(train).kneighbors(samples)
    return np.asarray(distances[:, -1])
