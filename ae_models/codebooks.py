"""Codebooks: words that follow the running means of the vectors they stand for (VQ-VAE, van den Oord et al. 2017, A.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DEAD_SHARE", "Codebooks"]

DEAD_SHARE = 0.05  # share of an even use at or below which a word counts as dead
_SMOOTHING = 1e-5  # of the counts (Laplace), as a share of an even use


class Codebooks(nn.Module):
    """Several codebooks side by side. Everything it learns lies in buffers, so that a checkpoint resumes it bit by bit.

    A word is dead where its running count is a small share of an even use; it becomes a vector of the present batch. Before
    the first batch every count is 0, so that the first batch makes all the words.

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
        vector_rows = torch.rand(count, vectors.shape[1], device=vectors.device).topk(min(size, vectors.shape[1])).indices
        vector_rows = vector_rows[:, torch.arange(size, device=vectors.device) % vector_rows.shape[1]]
        new_words = vectors.float().gather(1, vector_rows.unsqueeze(2).expand(-1, -1, vectors.shape[2]))
        even_use = vectors.shape[1] / size
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
            one_hot = (indices.unsqueeze(2) == torch.arange(self.counts.shape[1], device=vectors.device)).float()
            self.counts.lerp_(one_hot.sum(1), 1 - self.decay)
            self.sums.lerp_(one_hot.transpose(1, 2) @ vectors.float(), 1 - self.decay)
        # (c + e) / (sum c + K e) sum c, with e = _SMOOTHING times the mean of the counts
        smoothed_counts = (self.counts + _SMOOTHING * self.counts.mean(1, keepdim=True)) / (1 + _SMOOTHING)
        self.words.copy_(self.sums / smoothed_counts.unsqueeze(2))
