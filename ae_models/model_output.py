"""Everything that a model computes of one batch, as scores and exports read it."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["ModelOutput"]


class ModelOutput(NamedTuple):
    """One batch after its way through an autoencoder. Values of arrays lie in [0, 1]; texts are token ids int64 (n, tokens).

    Attributes:
        inputs: the encoder's input, (n, *input_shape).
        reconstruction: the decoder's output after the loss's activation, (n, *output_shape).
        decoder_output: before that activation: logits, where the loss is bce or cross-entropy.
        latent: the decoder's input, (n, size); of a quantised code the words' numbers, not their indices.
        code: what is stored of a sample, (n, *code_shape); of a quantised code the words' indices.
        reconstruction_code: the reconstruction's own code, (n, size), where the critic computes one (ganomaly).
        members: of an ensemble: the outputs of each of its members, the first of which is the model whose reconstruction and
            code the other fields hold. Empty where there is one model.
        features: the encoder's last convolutional map, (n, c, h, w), of a kind that has one: conv or onnx.
    """

    inputs: Tensor
    reconstruction: Tensor
    decoder_output: Tensor
    latent: Tensor
    code: Tensor
    reconstruction_code: Tensor | None
    members: tuple["ModelOutput", ...] = ()
    features: Tensor | None = None
