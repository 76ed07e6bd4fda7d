"""What a model says of samples, as a score reads it."""

from typing import NamedTuple

from torch import Tensor


class Answer(NamedTuple):
    """One batch on its way through the sentence. Values of arrays lie in [0, 1]; texts are token ids int64 (n, tokens).

    Attributes:
        given: what the encoder got, (n, *given shape).
        made: the reconstruction, finished by compare, (n, *made shape).
        raw: what the decoder made before that: logits, where compare is bce or cross-entropy.
        code: what the decoder got, (n, size); of a quantised code the words' numbers, not their indices.
        again: the code of the reconstruction, (n, size), where the critic makes one (ganomaly).
    """

    given: Tensor
    made: Tensor
    raw: Tensor
    code: Tensor
    again: Tensor | None
