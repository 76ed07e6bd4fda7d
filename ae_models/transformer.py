"""Transformer layers, small and plain: no dropout, no cache, and nothing that the ONNX exporter does not know.

Letters: n samples, t positions, d numbers a position, h heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["EMBEDDING_STD", "MultiHeadAttention", "Transformer", "TransformerLayer", "position_embeddings"]

EMBEDDING_STD = 0.02  # standard deviation of embeddings at the start, as in GPT-2 (Radford et al. 2019)
_HIDDEN_FACTOR = 4  # width of a layer's hidden part over d (Vaswani et al. 2017)


class Transformer(nn.Module):
    """Layers that each add attention and a two-layer perceptron to their input, normalised before each, and once at the end.

    The pre-norm order of Xiong et al. 2020, which trains without a slow start. With 0 layers only the last norm is left.

    Args:
        width: d, a multiple of `heads`.
        layers: number of layers.
        heads: h.
    """

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, in_use: Tensor | None = None) -> Tensor:
        """Map (n, t, d) to the same shape.

        Args:
            x: embeddings.
            in_use: bool (n, t), the positions to attend to, at least one of each sample; None means all.
        """
        for layer in self.layers:
            x = layer(x, in_use)
        y: Tensor = self.norm(x)
        return y


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then the same with a perceptron in place of attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads)
        self.perceptron_norm = nn.LayerNorm(width)
        hidden_width = _HIDDEN_FACTOR * width
        self.perceptron = nn.Sequential(nn.Linear(width, hidden_width), nn.GELU(), nn.Linear(hidden_width, width))

    def forward(self, x: Tensor, in_use: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), in_use)
        y: Tensor = x + self.perceptron(self.perceptron_norm(x))
        return y


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(d / h)) V in each of h heads, from every position to every one in use (Vaswani et al. 2017).

    torch's own encoder layer takes another path in evaluation mode, which ONNX cannot express.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)  # queries, keys and values, in this order, each head by head
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor, in_use: Tensor | None) -> Tensor:
        projections = self.inward(x).unflatten(2, (3, self.heads, -1))  # (n, t, 3, h, d / h)
        queries, keys, values = (part.transpose(1, 2) for part in projections.unbind(2))
        mask = None if in_use is None else in_use[:, None, None, :]
        attention_output = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        y: Tensor = self.outward(attention_output.transpose(1, 2).flatten(2))
        return y


def position_embeddings(length: int, width: int) -> nn.Parameter:
    """Return a trainable embedding for each of `length` positions, (t, d)."""
    return nn.Parameter(EMBEDDING_STD * torch.randn(length, width))
