"""Transformer layers, small and plain: no dropout, no cache, and nothing that the ONNX exporter does not know.

Letters: n samples, t positions, d numbers a position, h heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPREAD = 0.02  # standard deviation of embeddings at the start, as in GPT-2 (Radford et al. 2019)
WIDER = 4  # how many times wider a layer's hidden part is (Vaswani et al. 2017)


class Transformer(nn.Module):
    """Layers that each add attention and a two-layer perceptron to their input, normalised before each, and once at the end.

    The pre-norm order of Xiong et al. 2020, which trains without a slow start. With 0 layers only the last norm is left.

    Args:
        width: d, a multiple of `heads`.
        layers: how many.
        heads: h.
    """

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, in_use: Tensor | None = None) -> Tensor:
        """(n, t, d) to the same; `in_use` bool (n, t) says which positions may be attended to, at least one of each sample."""
        for layer in self.layers:
            x = layer(x, in_use)
        y: Tensor = self.norm(x)
        return y


class Layer(nn.Module):
    """x + attention(norm(x)), then the same with a perceptron in place of attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, WIDER * width), nn.GELU(), nn.Linear(WIDER * width, width))

    def forward(self, x: Tensor, in_use: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), in_use)
        y: Tensor = x + self.perceptron(self.perceptron_norm(x))
        return y


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d / h)) V in each of h heads, from every position to every one in use (Vaswani et al. 2017).

    torch's own encoder layer takes another way in evaluation mode, which ONNX cannot express.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)  # queries, keys and values, in this order, each head by head
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor, in_use: Tensor | None) -> Tensor:
        parts = self.inward(x).unflatten(2, (3, self.heads, -1))  # (n, t, 3, h, d / h)
        queries, keys, values = (part.transpose(1, 2) for part in parts.unbind(2))
        mask = None if in_use is None else in_use[:, None, None, :]
        heard = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        y: Tensor = self.outward(heard.transpose(1, 2).flatten(2))
        return y


def drawn_positions(length: int, width: int) -> nn.Parameter:
    """An embedding for each of `length` positions, (t, d), to be learned."""
    return nn.Parameter(SPREAD * torch.randn(length, width))
