"""Codebooks: words that follow the running means of what they stand for (VQ-VAE, van den Oord et al. 2017, appendix A.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RARE = 0.05  # share of an even use at or below which a word is taken for dead
SMOOTHING = 1e-5  # of the counts (Laplace), as a share of an even use


class Codebooks(nn.Module):
    """Several codebooks side by side. All that it learns lies in buffers: a checkpoint resumes it bit by bit.

    A word is dead where its running count is a small share of an even use; it becomes a row of the present batch. Before
    the first batch every count is 0, so that the first batch makes all the words.

    Args:
        books: how many codebooks.
        words: of a codebook.
        numbers: in a word.
        decay: of the running counts and sums, a step.
    """

    words: Tensor  # (books, words, numbers)
    counts: Tensor  # (books, words), rows a step
    sums: Tensor  # (books, words, numbers), of rows, a step
    starts: Tensor

    def __init__(self, books: int, words: int, numbers: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("words", torch.randn(books, words, numbers))
        self.register_buffer("counts", torch.zeros(books, words))
        self.register_buffer("sums", torch.zeros(books, words, numbers))
        self.register_buffer("starts", torch.arange(books) * words, persistent=False)

    def nearest(self, rows: Tensor) -> Tensor:
        """Index of the word at the least Euclidean distance, (books, rows) int64, of rows (books, rows, numbers)."""
        # ||z - w||^2 without ||z||^2, which is the same for every word. In half precision near words would be one.
        with torch.autocast(rows.device.type, enabled=False):
            lengths = self.words.square().sum(2).unsqueeze(1)
            return torch.baddbmm(lengths, rows.float(), self.words.transpose(1, 2), alpha=-2.0).argmin(2)

    def look_up(self, indices: Tensor) -> Tensor:
        """The words (rows, books, numbers) of indices (rows, books)."""
        return F.embedding(indices + self.starts, self.words.flatten(0, 1))

    @torch.no_grad()
    def revive(self, rows: Tensor) -> None:
        """Makes dead words of rows (books, rows, numbers), drawn without repetition as far as there are enough."""
        books, size = self.counts.shape
        drawn = torch.rand(books, rows.shape[1], device=rows.device).topk(min(size, rows.shape[1])).indices
        drawn = drawn[:, torch.arange(size, device=rows.device) % drawn.shape[1]]
        fresh = rows.float().gather(1, drawn.unsqueeze(2).expand(-1, -1, rows.shape[2]))
        even = rows.shape[1] / size
        dead = self.counts <= RARE * self.counts.mean(1, keepdim=True)
        # No branch on `dead`: asking for its value would make a GPU wait at every step.
        self.counts.masked_fill_(dead, even)
        self.words.copy_(torch.where(dead.unsqueeze(2), fresh, self.words))
        self.sums.copy_(torch.where(dead.unsqueeze(2), fresh * even, self.sums))

    @torch.no_grad()
    def learn(self, rows: Tensor, indices: Tensor) -> None:
        """Moves running counts, sums and words towards rows (books, rows, numbers) and their words (books, rows)."""
        with torch.autocast(rows.device.type, enabled=False):
            # A sum by a product with ones and zeros: adding up by index has no fixed order on a GPU.
            chosen = (indices.unsqueeze(2) == torch.arange(self.counts.shape[1], device=rows.device)).float()
            self.counts.lerp_(chosen.sum(1), 1 - self.decay)
            self.sums.lerp_(chosen.transpose(1, 2) @ rows.float(), 1 - self.decay)
        # (c + e) / (sum c + K e) sum c, with e = SMOOTHING times the mean of the counts
        smoothed = (self.counts + SMOOTHING * self.counts.mean(1, keepdim=True)) / (1 + SMOOTHING)
        self.words.copy_(self.sums / smoothed.unsqueeze(2))
