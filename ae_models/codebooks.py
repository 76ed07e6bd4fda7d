"""Codebooks: words that follow the running means of the vectors they stand for (VQ-VAE, van den Oord et al. 2017, A.1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.batch_share import current_share, sum_over_workers

__all__ = ["DEAD_SHARE", "Codebooks"]

DEAD_SHARE = 0.05  # share of an even use at or below which a word counts as dead
_SMOOTHING = 1e-5  # of the counts (Laplace), as a share of an even use


class Codebooks(nn.Module):
    """Several codebooks side by side. Everything it learns lies in buffers, so that a checkpoint resumes it bit by bit.

    A word is dead where its running count is a small share of an even use; it becomes a vector of the present batch. Before
    the first batch every count is 0, so that the first batch makes all the words.

    Where several workers share a batch, each ends a step with the same words: those that the whole batch makes.

    Args:
        count: number of codebooks.
        words: of a codebook.
        dimensions: numbers in a word.
        decay: of the running counts and sums, a step.
    """

    words: Tensor  # (codebooks, words, dimensions)
    counts: Tensor  # (codebooks, words), vectors a step
    sums: Tensor  # (codebooks, words, dimensions), of vectors, a step
    starts: Tensor

    def __init__(self, count: int, words: int, dimensions: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("words", torch.randn(count, words, dimensions))
        self.register_buffer("counts", torch.zeros(count, words))
        self.register_buffer("sums", torch.zeros(count, words, dimensions))
        self.register_buffer("starts", torch.arange(count) * words, persistent=False)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the index of the word at the least Euclidean distance, (codebooks, vectors) int64.

        Args:
            vectors: (codebooks, vectors, dimensions).
        """
        # ||z - w||^2 without ||z||^2, which is the same for every word. In half precision near words would be one.
        with torch.autocast(vectors.device.type, enabled=False):
            lengths = self.words.square().sum(2).unsqueeze(1)
            return torch.baddbmm(lengths, vectors.float(), self.words.transpose(1, 2), alpha=-2.0).argmin(2)

    def look_up(self, indices: Tensor) -> Tensor:
        """Return the words (n, codebooks, dimensions) of indices (n, codebooks)."""
        return F.embedding(indices + self.starts, self.words.flatten(0, 1))

    @torch.no_grad()
    def revive(self, vectors: Tensor) -> None:
        """Replace dead words by random vectors of the batch, without repetition as far as there are enough.

        Args:
            vectors: (codebooks, vectors, dimensions).
        """
        count, size = self.counts.shape
        own = _VectorsOfBatch.of(vectors)
        vector_rows = torch.rand(count, own.total, device=vectors.device).topk(min(size, own.total)).indices
        vector_rows = vector_rows[:, torch.arange(size, device=vectors.device) % vector_rows.shape[1]]
        new_words = own.gather(vectors.float(), vector_rows)
        even_use = own.total / size
        is_dead = self.counts <= DEAD_SHARE * self.counts.mean(1, keepdim=True)
        # No branch on `is_dead`: asking for its value would make a GPU wait at every step.
        self.counts.masked_fill_(is_dead, even_use)
        self.words.copy_(torch.where(is_dead.unsqueeze(2), new_words, self.words))
        self.sums.copy_(torch.where(is_dead.unsqueeze(2), new_words * even_use, self.sums))

    @torch.no_grad()
    def learn(self, vectors: Tensor, indices: Tensor) -> None:
        """Move running counts, sums and words towards a batch.

        Args:
            vectors: (codebooks, vectors, dimensions).
            indices: of their words, (codebooks, vectors).
        """
        with torch.autocast(vectors.device.type, enabled=False):
            # A sum by a product with ones and zeros: adding up by index has no fixed order on a GPU.
            own = _VectorsOfBatch.of(vectors)
            indices, vectors = indices[:, : own.counted], vectors[:, : own.counted]
            one_hot = (indices.unsqueeze(2) == torch.arange(self.counts.shape[1], device=vectors.device)).float()
            self.counts.lerp_(sum_over_workers(one_hot.sum(1)), 1 - self.decay)
            self.sums.lerp_(sum_over_workers(one_hot.transpose(1, 2) @ vectors.float()), 1 - self.decay)
        # (c + e) / (sum c + K e) sum c, with e = _SMOOTHING times the mean of the counts
        smoothed_counts = (self.counts + _SMOOTHING * self.counts.mean(1, keepdim=True)) / (1 + _SMOOTHING)
        self.words.copy_(self.sums / smoothed_counts.unsqueeze(2))


class _VectorsOfBatch(NamedTuple):
    """Which of a batch's vectors are at hand.

    Attributes:
        first: the first of them in the batch.
        counted: how many of them count.
        total: vectors of the whole batch.
    """

    first: int
    counted: int
    total: int

    @classmethod
    def of(cls, vectors: Tensor) -> "_VectorsOfBatch":
        """Return those of vectors (codebooks, vectors, dimensions), as many of each sample."""
        share = current_share()
        if share is None:
            return cls(0, vectors.shape[1], vectors.shape[1])
        each = vectors.shape[1] // max(1, share.count)
        return cls(share.first * each, share.count * each, share.total * each)

    def gather(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Return the vectors (codebooks, k, dimensions) of the batch in these rows (codebooks, k)."""
        places = (rows - self.first).unsqueeze(2).expand(-1, -1, vectors.shape[2])
        if current_share() is None:
            return vectors.gather(1, places)
        is_own = (places >= 0) & (places < self.counted)
        own = vectors.gather(1, places.clamp(0, vectors.shape[1] - 1)).masked_fill(~is_own, 0.0)
        return sum_over_workers(own)  # each of them is at hand in one worker
