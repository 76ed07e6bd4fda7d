"""The sentence, wired: a plain torch module from samples to reconstructions and codes. It knows nothing of training."""

import math
from typing import Any

from torch import Tensor, nn

from ae_models import bottleneck, compare, corrupt, critic, decode, encode
from ae_models.answer import Answer
from ae_models.parts import build
from ae_models.spec import TEXT, InputSpec, Sentence, given_shape, made_shape


class Autoencoder(nn.Module):
    """corrupt -> encode -> bottleneck -> decode, compared with the target, while a critic may judge.

    Stored samples are (n, c, h, w) or (n, c, steps) with values in [0, 1], where `normalise` brings raw ones, or token ids
    (n, tokens). `pair` parts them into what is given and what is to be made of it: the same, unless there are target channels.
    """

    critic: Any  # one of critic.KINDS

    def __init__(self, sentence: Sentence, source: InputSpec) -> None:
        super().__init__()
        self.low, self.high = source.low, source.high
        self.of_text = source.kind == TEXT
        self.target_channels = source.target_channels
        self.serves_corrupted = source.given == "corrupted"
        self.given_shape, self.made_shape = given_shape(sentence, source), made_shape(sentence, source)
        self.weigh_as_mean = sentence.compare.reduce == "mean"

        self.corrupt = build(corrupt.KINDS, sentence.corrupt)
        self.compare = build(compare.KINDS, sentence.compare)
        self.bottleneck = build(bottleneck.KINDS, sentence.bottleneck)

        def encoder(shape: tuple[int, ...], size: int) -> nn.Module:
            made: nn.Module = build(encode.KINDS, sentence.encode, shape=shape, size=size)
            return made

        self.encode = encoder(self.given_shape, self.bottleneck.width)
        channels, *sides = self.made_shape
        text = {"vocabulary": sentence.encode.vocabulary} if self.of_text else {}
        made = self.made_shape if self.of_text else (channels * self.compare.numbers, *sides)
        code = sentence.bottleneck.size
        self.decode = build(decode.KINDS, sentence.decode, shape=made, size=code, **text)
        self.critic = build(critic.KINDS, sentence.critic, make_encoder=encoder, given=self.given_shape, size=code)

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw samples of any dtype, in [low, high], as float32 in [0, 1]; token ids as int64."""
        return raw.long() if self.of_text else (raw.float() - self.low) / (self.high - self.low)

    def raw(self, x: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return x if self.of_text else x * (self.high - self.low) + self.low

    def pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What of a stored sample is given, and the target."""
        return (x[:, : -self.target_channels], x[:, -self.target_channels :]) if self.target_channels else (x, x)

    def served(self, clean: Tensor) -> Tensor:
        """What the model gets when it serves: clean samples, or corrupted ones where that is its work."""
        given: Tensor = self.corrupt(clean) if self.serves_corrupted else clean
        return given

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions in [0, 1] (token ids, for texts), and what is kept of each sample: the bottleneck's code."""
        answer, kept = self.answer(given)
        return answer.made, kept

    def answer(self, given: Tensor) -> tuple[Answer, Tensor]:
        """All that a score may ask for, and the code that is kept."""
        kept = self.bottleneck.code(self.encode(given))
        z = self.bottleneck.opened(kept)
        raw = self.decode(z)
        made = self.compare.finished(raw)
        return Answer(given, made, raw, z, self.critic.again(made)), kept

    def opened(self, code: Tensor) -> Tensor:
        """Reconstructions, as `forward` gives them, of codes as it gives them."""
        made: Tensor = self.compare.finished(self.decode(self.bottleneck.opened(code)))
        return made

    def loss(self, x: Tensor) -> Tensor:
        """What training lowers: one number, for stored samples in [0, 1].

        Unclipped, so that a value out of range still pulls the weights back. The bottleneck's penalty is a sum over a
        sample; where the comparison is a mean over numbers, the penalty is divided by as many, so that its weight means the same.
        """
        clean, target = self.pair(x)
        given = self.corrupt(clean)
        if self.bottleneck.needs_input_gradient:
            given = given.detach().requires_grad_()
        h = self.encode(given)
        z = self.bottleneck(h)
        raw = self.decode(z)
        numbers = math.prod(self.made_shape) if self.weigh_as_mean else 1
        judged = self.critic.loss(given, self.compare.finished(raw), z, target)
        loss: Tensor = self.compare(raw, target) + self.bottleneck.penalty(h, z, given) / numbers + judged
        return loss
