"""The sentence, wired: a plain torch module from samples to reconstructions and codes. It knows nothing of training."""

from torch import Tensor, nn

from ae_models import bottleneck, compare, corrupt, decode, encode
from ae_models.parts import build
from ae_models.spec import InputSpec, Sentence


class Autoencoder(nn.Module):
    """corrupt -> encode -> bottleneck -> decode, compared with the clean input.

    Samples are (n, c, h, w) with values in [0, 1]; `normalise` brings raw ones there.
    """

    def __init__(self, sentence: Sentence, source: InputSpec) -> None:
        super().__init__()
        self.low, self.high = source.low, source.high
        size = sentence.bottleneck.size
        self.corrupt = build(corrupt.KINDS, sentence.corrupt)
        self.encode = build(encode.KINDS, sentence.encode, shape=source.shape, size=size)
        self.bottleneck = build(bottleneck.KINDS, sentence.bottleneck)
        self.decode = build(decode.KINDS, sentence.decode, shape=source.shape, size=size)
        self.compare = build(compare.KINDS, sentence.compare)

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw samples of any dtype, in [low, high], as float32 in [0, 1]."""
        return (raw.float() - self.low) / (self.high - self.low)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions clipped to [0, 1], and codes (n, size)."""
        z = self.bottleneck(self.encode(x))
        return self.decode(z).clamp(0.0, 1.0), z

    def loss(self, x: Tensor) -> Tensor:
        """What training lowers: one number. Unclipped, so that a value out of range still pulls the weights back."""
        y = self.decode(self.bottleneck(self.encode(self.corrupt(x))))
        loss: Tensor = self.compare(y, x)
        return loss
