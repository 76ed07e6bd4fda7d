"""Bottlenecks: the restriction on the latent code between encoder and decoder.

Each module maps the encoder's output h (n, width) to the decoder's input z (n, size). `penalty` is its share of the loss;
`to_code` returns what is stored of a sample, and `from_code` makes z of it again.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.batch_share import draw_like, mean_over_batch
from ae_models.codebooks import Codebooks

__all__ = [
    "BOTTLENECKS",
    "Bottleneck",
    "ContractiveBottleneck",
    "IdentityBottleneck",
    "L1Bottleneck",
    "MemoryBottleneck",
    "QuantisedBottleneck",
    "TopKBottleneck",
    "VariationalBottleneck",
]

_EPSILON = 1e-12  # keeps divisions and logarithms finite


class Bottleneck(nn.Module):
    """Behaviour that the kinds share; by itself it lets the code pass and costs nothing.

    Args:
        size: numbers in z.

    Attributes:
        width: numbers in h, the size of the encoder's output.
        code_shape: of one sample's code.
        needs_input_gradient: whether `penalty` differentiates z by x, so that x must require a gradient.
    """

    needs_input_gradient: ClassVar[bool] = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.width = size
        self.code_shape: tuple[int, ...] = (size,)

    def forward(self, h: Tensor) -> Tensor:
        """Return z (n, size). Only in training may it draw from torch's global generator, or learn."""
        return self.to_code(h)

    @property
    def has_penalty(self) -> bool:
        """Whether the kind has a `penalty` of its own; a step does without it where there is none."""
        return type(self).penalty is not Bottleneck.penalty

    def penalty(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Return the bottleneck's share of the loss, weight included: summed over a sample's numbers, averaged over the batch.

        Args:
            h: the encoder's output for x.
            z: the output of `forward` for h.
            x: the encoder's input.
        """
        return h.new_zeros(())

    def to_code(self, h: Tensor) -> Tensor:
        """Return the stored code of each sample, (n, *code_shape); the same in training and evaluation."""
        return h

    def from_code(self, code: Tensor) -> Tensor:
        """Return z (n, size) of stored codes."""
        return code


class IdentityBottleneck(Bottleneck):
    """The code as it is."""


class TopKBottleneck(Bottleneck):
    """The `active` numbers of largest magnitude pass, the others become 0 (k-sparse, Makhzani and Frey 2013)."""

    def __init__(self, size: int, active: int) -> None:
        super().__init__(size)
        self.active = active

    def to_code(self, h: Tensor) -> Tensor:
        largest_indices = h.abs().topk(self.active, dim=1).indices
        # A product with a mask, rather than moving the numbers: its gradient has a fixed order of sums on a GPU.
        return h * torch.zeros_like(h).scatter(1, largest_indices, 1.0)


class L1Bottleneck(Bottleneck):
    """ReLU, and weight * sum |z| in the loss.

    Args:
        size: numbers in z.
        weight: of the sum.
    """

    def __init__(self, size: int, weight: float) -> None:
        super().__init__(size)
        self.weight = weight

    def to_code(self, h: Tensor) -> Tensor:
        return h.relu()

    def penalty(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        return self.weight * z.abs().sum(1).mean()


class ContractiveBottleneck(Bottleneck):
    """weight * ||dz/dx||_F^2 in the loss (Rifai et al. 2011).

    E ||J^T v||^2 = ||J||_F^2 for v of independent random signs (Hutchinson 1989): one backward pass a step, whatever the
    size of the code. It holds as long as no sample's code depends on another sample of the batch.
    """

    needs_input_gradient: ClassVar[bool] = True

    def __init__(self, size: int, weight: float) -> None:
        super().__init__(size)
        self.weight = weight

    def penalty(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        random_signs = 2.0 * draw_like(z, lambda draws: draws.bernoulli_(0.5)) - 1.0
        (jacobian_product,) = torch.autograd.grad(z, x, random_signs, create_graph=True)
        return self.weight * jacobian_product.square().flatten(1).sum(1).mean()


class VariationalBottleneck(Bottleneck):
    """N(mean, variance) a sample: z is sampled from it in training, and is its mean otherwise (Kingma and Welling 2014).

    Args:
        size: numbers in z; for each the encoder makes a mean and the logarithm of a variance, side by side: of a code that is
            a map, both belong to the same position.
        beta: weight of the Kullback-Leibler divergence from N(0, I) (beta-VAE, Higgins et al. 2017).
        free_bits: nats a number below which its divergence, averaged over the batch, costs nothing (Kingma et al. 2016).
    """

    def __init__(self, size: int, beta: float, free_bits: float) -> None:
        super().__init__(size)
        self.width = 2 * size
        self.beta, self.free_bits = beta, free_bits

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return self.to_code(h)
        mean, log_variance = self.moments(h)
        return mean + torch.exp(0.5 * log_variance) * draw_like(mean, Tensor.normal_)

    def to_code(self, h: Tensor) -> Tensor:
        return self.moments(h)[0]

    @staticmethod
    def moments(h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of each number of z, (n, size, ...) each, from h (n, 2 size, ...)."""
        return h[:, 0::2], h[:, 1::2]

    def penalty(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        mean, log_variance = self.moments(h.float())
        kl_divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
        return self.beta * mean_over_batch(kl_divergence).clamp(min=self.free_bits).sum()


class QuantisedBottleneck(Bottleneck):
    """z as `slots` words: numbers [i d, (i + 1) d) of h, d = size / slots, become the nearest word of slot i's codebook.

    The gradient passes as if nothing had happened (straight-through), and commitment * ||h - word||^2 joins the loss.

    Args:
        size: numbers in z, a multiple of slots.
        slots: words in a code.
        words: of a codebook.
        shared: one codebook for all slots instead of one for each.
        commitment: weight of the distance.
        decay: of the running means that are the words.
    """

    def __init__(self, size: int, slots: int, words: int, shared: bool, commitment: float, decay: float) -> None:
        super().__init__(size)
        self.code_shape = (slots,)
        self.codebook_count = 1 if shared else slots
        self.commitment = commitment
        self.codebooks = Codebooks(self.codebook_count, words, size // slots, decay)

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return self.from_code(self.to_code(h))
        vectors = self.split_slots(h.detach())
        self.codebooks.revive(vectors)
        indices = self.codebooks.nearest(vectors)
        z = self.from_code(self._join_slots(indices))
        self.codebooks.learn(vectors, indices)
        return h + (z - h).detach()

    def penalty(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        return self.commitment * (h - z.detach()).square().sum(1).mean()

    def to_code(self, h: Tensor) -> Tensor:
        """Return the words' indices, (n, slots) int64."""
        return self._join_slots(self.codebooks.nearest(self.split_slots(h)))

    def from_code(self, code: Tensor) -> Tensor:
        return self.codebooks.look_up(code.reshape(-1, self.codebook_count)).reshape(-1, self.size)

    def split_slots(self, h: Tensor) -> Tensor:
        """Return each codebook's vectors, (codebooks, vectors, d); a shared one gets the slots of all samples."""
        return h.reshape(-1, self.codebook_count, self.size // self.code_shape[0]).transpose(0, 1)

    def _join_slots(self, indices: Tensor) -> Tensor:
        """Return (codebooks, vectors) as (n, slots)."""
        return indices.transpose(0, 1).reshape(-1, self.code_shape[0])


class MemoryBottleneck(Bottleneck):
    """z as a sparse mixture of learned items (MemAE, Gong et al. 2019, equations 3 to 9).

    Args:
        size: numbers in z and in an item.
        items: number of items.
        shrink: attention at or below it becomes 0; the paper advises 1 / items to 3 / items.
        entropy: weight of the attention's entropy (in nats) in the loss.
    """

    def __init__(self, size: int, items: int, shrink: float, entropy: float) -> None:
        super().__init__(size)
        self.shrink, self.entropy = shrink, entropy
        self.items = nn.Parameter(torch.empty(items, size).uniform_(-1.0, 1.0) / math.sqrt(size))

    def attention(self, h: Tensor) -> Tensor:
        """Return the weight of each item, (n, items): 0 or more, of sum 1 (0 where nothing is above `shrink`)."""
        dense_weights = F.linear(F.normalize(h, dim=1), F.normalize(self.items, dim=1)).softmax(1)
        above = dense_weights - self.shrink
        return F.normalize(above.relu() * dense_weights / (above.abs() + _EPSILON), p=1.0, dim=1)

    def to_code(self, h: Tensor) -> Tensor:
        return self.attention(h) @ self.items

    def penalty(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        attention = self.attention(h)
        return self.entropy * -(attention * torch.log(attention + _EPSILON)).sum(1).mean()


BOTTLENECKS: dict[str, type[Bottleneck]] = {
    "identity": IdentityBottleneck,
    "top-k": TopKBottleneck,
    "l1": L1Bottleneck,
    "contractive": ContractiveBottleneck,
    "variational": VariationalBottleneck,
    "vq": QuantisedBottleneck,
    "memory": MemoryBottleneck,
}
