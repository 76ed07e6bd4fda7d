"""An autoencoder, assembled from its parts: a plain torch module from samples to reconstructions and codes."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ae_models.bottlenecks import BOTTLENECKS
from ae_models.corruptions import CORRUPTIONS
from ae_models.critics import CRITICS, NoCritic
from ae_models.decoders import DECODERS
from ae_models.encoder_interface import EncoderModule
from ae_models.encoders import ENCODERS
from ae_models.factory import build_part
from ae_models.losses import LOSSES
from ae_models.model_output import ModelOutput
from ae_models.spec import (
    TABLE,
    AutoencoderConfig,
    InputSpec,
    MixedLossSpec,
    TableEncoderSpec,
    TokenEncoderSpec,
    input_shape,
    output_shape,
)
from ae_models.table_preprocessing import TablePreprocessing
from ae_models.value_range import allowed_range, value_range

__all__ = ["Autoencoder"]


class Autoencoder(nn.Module):
    """corrupt -> encode -> bottleneck -> decode, compared with the target by the loss; a critic may be trained against it.

    Samples x are (n, c, h, w) or (n, c, steps) with values in [0, 1], token ids (n, tokens), or the vectors (n, numbers) of a
    table's rows; `normalise` makes them of raw ones. `split_target` splits them into input and target, which are the same unless
    there are target channels.

    Args:
        config: of the parts.
        input_spec: of a stored sample.

    Attributes:
        input_shape: of one sample for the encoder.
        output_shape: of one reconstruction.
        is_text: whether samples are token ids.
        preprocessing: of a table's rows; None for other kinds.
        serves_corrupted: whether the served model gets corrupted samples.
        low: raw value that becomes 0; of a series with channels (channels, 1), one for each.
        high: raw value that becomes 1, likewise.
        allowed: the lowest and the highest raw value that the served model is given, likewise.
    """

    critic: Any  # one of CRITICS
    low: Any
    high: Any

    def __init__(self, config: AutoencoderConfig, input_spec: InputSpec) -> None:
        super().__init__()
        self._set_range(input_spec)
        self.is_text = isinstance(config.encode, TokenEncoderSpec)
        self.preprocessing = TablePreprocessing(input_spec) if input_spec.kind == TABLE else None
        self.target_channels = input_spec.target_channels
        self.serves_corrupted = input_spec.given == "corrupted"
        self.input_shape, self.output_shape = input_shape(config, input_spec), output_shape(config, input_spec)
        self._loss_is_mean = config.compare.reduce == "mean"

        self.corrupt = build_part(CORRUPTIONS, config.corrupt)
        blocks = {"blocks": input_spec.blocks}
        self.compare = build_part(LOSSES, config.compare, **(blocks if isinstance(config.compare, MixedLossSpec) else {}))
        self.bottleneck = build_part(BOTTLENECKS, config.bottleneck)

        def make_encoder(shape: tuple[int, ...], size: int) -> EncoderModule:
            context = blocks if isinstance(config.encode, TableEncoderSpec) else {}
            encoder: EncoderModule = build_part(ENCODERS, config.encode, shape=shape, size=size, **context)
            return encoder

        self.encode = make_encoder(self.input_shape, self.bottleneck.width)
        size = config.bottleneck.size
        if isinstance(config.encode, TokenEncoderSpec):
            decoder_context: dict[str, Any] = {"shape": self.output_shape, "vocabulary": config.encode.vocabulary}
        else:
            channels, *sides = self.output_shape
            decoder_context = {"shape": (channels * self.compare.outputs_per_value, *sides)}
        self.decode = build_part(DECODERS, config.decode, size=size, **decoder_context)
        self.critic = build_part(CRITICS, config.critic, make_encoder=make_encoder, input_shape=self.input_shape, size=size)

    def _set_range(self, input_spec: InputSpec) -> None:
        """Hold the range as numbers, or as buffers that move with the module; the weights do not hold it, the spec does."""
        low, high = value_range(input_spec)
        self.allowed = allowed_range(input_spec)
        if not input_spec.channels:
            self.low, self.high = low, high
            return
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32), persistent=False)

    @property
    def given_shape(self) -> tuple[int, ...]:
        """Return the shape of a sample as it is served: the encoder's input, or a table's row."""
        return self.input_shape if self.preprocessing is None else (len(self.preprocessing.columns),)

    @property
    def made_shape(self) -> tuple[int, ...]:
        """Return the shape of a reconstruction as `denormalise` returns it."""
        return self.output_shape if self.preprocessing is None else (len(self.preprocessing.columns),)

    @property
    def sample_dtype(self) -> str:
        """Return numpy's name of the dtype of a sample as it is served."""
        if self.preprocessing is not None:
            return "float64"
        return "int64" if self.is_text else "float32"

    @property
    def members(self) -> tuple["Autoencoder", ...]:
        """The models that are trained, each by its own loss: this one alone, or those of an `Ensemble`, this one first."""
        return (self,)

    def normalise(self, raw: Tensor) -> Tensor:
        """Return raw samples of any dtype, in [low, high], as float32 in [0, 1]; token ids as int64; rows as vectors."""
        if self.preprocessing is not None:
            vectors: Tensor = self.preprocessing(raw.double())
            return vectors
        if self.is_text:
            return raw.long()
        unit: Tensor = (raw.float() - self.low) / (self.high - self.low)
        return unit

    def denormalise(self, x: Tensor) -> Tensor:
        """Return samples in [0, 1] in raw units: the inverse of `normalise`."""
        if self.preprocessing is not None:
            return self.preprocessing.invert(x)
        if self.is_text:
            return x
        raw: Tensor = x * (self.high - self.low) + self.low
        return raw

    def split_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clean input and the target of samples."""
        if not self.target_channels:
            return x, x
        return x[:, : -self.target_channels], x[:, -self.target_channels :]

    def serving_input(self, clean_input: Tensor) -> Tensor:
        """Return the served model's input: clean samples, or corrupted ones where undoing that is its work."""
        if not self.serves_corrupted:
            return clean_input
        corrupted_input: Tensor = self.corrupt(clean_input)
        return corrupted_input

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructions in [0, 1] (token ids, for texts), (n, *output_shape), and codes, (n, *code_shape)."""
        output = self.run(inputs)
        return output.reconstruction, output.code

    def run(self, inputs: Tensor) -> ModelOutput:
        """Return everything that a score may ask for.

        Args:
            inputs: (n, *input_shape) in [0, 1], or token ids.
        """
        h, features = self.encode.forward_with_features(inputs)
        code = self.bottleneck.to_code(h)
        latent = self.bottleneck.from_code(code)
        decoder_output = self.decode(latent)
        reconstruction = self.compare.activate(decoder_output)
        reconstruction_code = self.critic.reconstruction_code(reconstruction)
        return ModelOutput(inputs, reconstruction, decoder_output, latent, code, reconstruction_code, features=features)

    def reconstruct(self, code: Tensor) -> Tensor:
        """Return the reconstructions of codes (n, *code_shape), as `forward` returns them."""
        reconstruction: Tensor = self.compare.activate(self.decode(self.bottleneck.from_code(code)))
        return reconstruction

    def loss(self, x: Tensor) -> Tensor:
        """Return the training loss of samples: one number."""
        return self.loss_of(*self.training_pair(x))

    def training_pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's input, which is corrupted in training, and the target of samples."""
        clean_input, target = self.split_target(x)
        return self.corrupt(clean_input), target

    @torch.no_grad()
    def sample_losses(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the reconstruction loss of each sample, (n,): the mean over its numbers, or tokens in use; nothing is drawn.

        Args:
            inputs: of the encoder.
            target: of the same samples.
        """
        code = self.bottleneck.to_code(self.encode(inputs))
        return self.compare.sample_losses(self.decode(self.bottleneck.from_code(code)), target)

    def loss_of(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the training loss of inputs of the encoder and their targets: one number.

        The bottleneck's penalty is a sum over a sample. Where the reconstruction loss is a mean over numbers, the penalty is
        divided by as many, so that its weight means the same.
        """
        if self.bottleneck.needs_input_gradient:
            inputs = inputs.detach().requires_grad_()
        h = self.encode(inputs)
        z = self.bottleneck(h)
        outputs = self.decode(z)
        loss: Tensor = self.compare(outputs, target)
        if self.bottleneck.has_penalty:
            penalty_scale = math.prod(self.output_shape) if self._loss_is_mean else 1
            loss = loss + self.bottleneck.penalty(h, z, inputs) / penalty_scale
        if not isinstance(self.critic, NoCritic):
            loss = loss + self.critic.loss(inputs, self.compare.activate(outputs), z, target)
        return loss
