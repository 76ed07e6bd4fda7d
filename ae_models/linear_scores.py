"""A score by the distance of a sample from the main directions in which normal samples vary."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ae_models.blur import gaussian_kernel
from ae_models.model_output import ModelOutput
from ae_models.score_interface import ENERGY_FLOOR, Score, log_energy, to_shares, to_vectors
from ae_models.score_samples import ScoreSamples

__all__ = ["PcaResidualScore", "find_principal_axes"]

_MOST_ROWS = 5000  # training samples that the axes are learnt from, drawn at random: the time of a fit grows with their square
# A direction with less than this share of the largest variance, or less than this variance, holds rounding errors of the samples.
_LEAST_SHARE, _LEAST_VARIANCE = 1e-10, 1e-12


class PcaResidualScore(Score):
    """log ||r||^2 - energy log ||x||^2, with the residual r of x on the first principal axes of the training samples.

    With their mean m and the axes A, r = (x - m) - A^T A (x - m); x is the blurred and pooled input, less a share of its level.
    The squared length of r is also called Q statistic, or squared prediction error (Jackson and Mudholkar 1979).

    Buffers: `mean` (numbers,); `axes` (components, numbers), orthonormal, that of the largest variance first.

    Args:
        components: number of axes; 0: as many as `variance` needs. Directions without variance are no axes.
        variance: least share of the variance that lies along the axes.
        blur, energy, pool, level: as the spec says.
    """

    mean: Tensor
    axes: Tensor
    kernel: Tensor

    def __init__(self, components: int, variance: float, blur: float, energy: float, pool: int, level: float = 0.0) -> None:
        super().__init__()
        self.components, self.variance = components, variance
        self.energy, self.pool, self.level = energy, pool, level
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        for name in ("mean", "axes"):
            self.register_buffer(name, torch.zeros(0))

    def forward(self, output: ModelOutput) -> Tensor:
        vectors = self._vectors(output)
        scores = torch.log(self._residual(vectors).square().sum(1) + ENERGY_FLOOR)
        if self.energy:
            scores = scores - self.energy * log_energy(vectors)
        return scores

    @property
    def has_value_shares(self) -> bool:  # type: ignore[override]  # a pooled number is none of the input
        return self.pool == 1

    def value_shares(self, output: ModelOutput) -> Tensor | None:
        return to_shares(self._residual(self._vectors(output))) if self.has_value_shares else None

    def learnt_facts(self) -> dict[str, Any]:
        return {"components": len(self.axes)}

    @torch.no_grad()
    def fit(self, samples: ScoreSamples) -> None:
        order = np.random.default_rng(samples.seed).permutation(samples.rows("train"))
        batches = []
        for output in samples.outputs("train", np.sort(order[:_MOST_ROWS])):
            batches.append(self._vectors(output))
        vectors = torch.cat(batches)
        if samples.trim:
            vectors = vectors[torch.from_numpy(samples.find_typical(vectors))]
        self.mean = vectors.double().mean(0).float()
        axes, variances, total = find_principal_axes(vectors - self.mean)
        count = self.components
        if not count:
            shares = variances.cumsum(0) / total
            count = 1 + int((shares < self.variance).sum())
        self.axes = axes[:count].float()

    def _vectors(self, output: ModelOutput) -> Tensor:
        """Return the samples as they are compared, (n, numbers)."""
        return to_vectors(output.inputs, self.kernel, self.pool, self.level)

    def _residual(self, vectors: Tensor) -> Tensor:
        centred = vectors - self.mean
        if not len(self.axes):  # of training samples that are all the same
            return centred
        return centred - (centred @ self.axes.T) @ self.axes


def find_principal_axes(centred: Tensor) -> tuple[Tensor, Tensor, float]:
    """Find the directions along which vectors vary, by eigenvectors of the smaller of covariance and Gram matrix.

    Args:
        centred: (n, numbers), less their mean.

    Returns:
        The axes (k, numbers), orthonormal, in float64; their sums of squares (k,), the largest first; and the sum of all.
        Directions without variance are none, so that k is 0 for vectors that are all the same.
    """
    rows, numbers = centred.shape
    x = centred.double()
    if rows >= numbers:
        energies, directions = torch.linalg.eigh(x.T @ x)
        axes = directions.T
    else:
        energies, combinations = torch.linalg.eigh(x @ x.T)
        axes = combinations.T @ x
        axes = axes / energies.clamp(min=_LEAST_VARIANCE).sqrt().unsqueeze(1)
    energies, axes = energies.flip(0), axes.flip(0)
    is_axis = (energies > _LEAST_SHARE * energies[0]) & (energies > _LEAST_VARIANCE * rows)
    return axes[is_axis], energies[is_axis], float(energies.clamp(min=0).sum())
