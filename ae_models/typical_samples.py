"""Which training samples look least like the others, and so may be anomalies that nobody has labelled."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["find_typical"]

_REFERENCES = 2000  # samples, at most, that each sample is compared with
_NEIGHBOUR_SHARE = 0.2  # of the references: anomalies that form a group of fewer are far from their k-th neighbour
_LEAST_NEIGHBOURS = 5
_BLOCK_VALUES = 2**22  # distances in memory at once


def find_typical(vectors: Tensor, trim: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which samples to learn from: all but the share `trim` with the largest distance to their k-th neighbour.

    k is a fifth of the samples, so that anomalies which lie close together do not vouch for each other. The samples that are
    left out are a share, whatever their distances are: where no anomaly is among them, these are the outskirts of the normal
    ones, which cost a detector little (docs/sklearn.md and docs/contaminated.md).

    Args:
        vectors: (n, numbers), scaled.
        trim: share to leave out, in [0, 1).
        seed: of the samples that all are compared with, where there are many.

    Returns:
        bool (n,): false for floor(trim * n) samples.
    """
    dropped = int(trim * len(vectors))
    is_typical = np.ones(len(vectors), dtype=bool)
    if dropped:
        distances = _kth_distances(vectors, seed)
        is_typical[np.argsort(-distances, kind="stable")[:dropped]] = False
    return is_typical


def _kth_distances(vectors: Tensor, seed: int) -> npt.NDArray[np.float32]:
    """Return each sample's squared distance to its k-th neighbour among the references, itself left out; float32 (n,)."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_REFERENCES])
    references = vectors[torch.from_numpy(chosen)]
    neighbours = min(max(_LEAST_NEIGHBOURS, int(_NEIGHBOUR_SHARE * len(chosen))), len(chosen) - 1)
    place_of = np.full(len(vectors), -1)
    place_of[chosen] = np.arange(len(chosen))
    distances = []
    for first in range(0, len(vectors), block_rows := max(1, _BLOCK_VALUES // len(chosen))):
        block = vectors[first : first + block_rows]
        squared = torch.cdist(block, references, compute_mode="donot_use_mm_for_euclid_dist").square()
        own_places = place_of[first : first + len(block)]
        rows = np.flatnonzero(own_places >= 0)
        squared[torch.from_numpy(rows), torch.from_numpy(own_places[rows])] = torch.inf
        distances.append(squared.kthvalue(neighbours, dim=1).values)
    kth: npt.NDArray[np.float32] = torch.cat(distances).numpy()
    return kth
