"""An ensemble: autoencoders of one spec that were trained with different seeds and score a sample together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ae_models.autoencoder import Autoencoder
from ae_models.model_output import ModelOutput
from ae_models.spec import AutoencoderConfig, InputSpec

__all__ = ["Ensemble", "build_autoencoder"]


class Ensemble(Autoencoder):
    """An autoencoder, the first member, with further members beside it.

    It encodes, decodes, reconstructs and learns as its first member does, whose weights have the same names as those of a
    single model. Only `run` asks the other members, for scores to compare.

    Args:
        config: of the parts of each member.
        input_spec: of a stored sample.
        others: the members after the first, of the same parts.
    """

    def __init__(self, config: AutoencoderConfig, input_spec: InputSpec, others: Sequence[Autoencoder]) -> None:
        super().__init__(config, input_spec)
        self.others = nn.ModuleList(others)

    @property
    def members(self) -> tuple[Autoencoder, ...]:
        return (self, *self.others)

    def run(self, inputs: Tensor) -> ModelOutput:
        """Return what the first member computes, and as `members` what each of them does, the first one included."""
        output = super().run(inputs)
        return output._replace(members=(output, *(other.run(inputs) for other in self.members[1:])))


def build_autoencoder(config: AutoencoderConfig, input_spec: InputSpec, members: int, *, seed: int | None = None) -> Autoencoder:
    """Build an autoencoder with fresh weights, or an ensemble of `members`, if there are two or more.

    Args:
        config: of the parts.
        input_spec: of a stored sample.
        members: number of models, 1 or more.
        seed: of the first member's weights, the next ones' are seed + 1, seed + 2, ...: each has those of a single model with
            its seed. Seeds torch's global generator. None: for weights that are loaded afterwards.
    """

    def seed_member(index: int) -> None:
        if seed is not None:
            torch.manual_seed(seed + index)

    others = []
    for index in range(1, members):
        seed_member(index)
        others.append(Autoencoder(config, input_spec))
    seed_member(0)
    if not others:
        return Autoencoder(config, input_spec)
    return Ensemble(config, input_spec, others)
