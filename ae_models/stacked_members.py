"""Training of small dense members all at once: their weights side by side in one tensor a layer, their losses by one vmap.

A step of a small network is so short that torch spends it on starting operations, of which a stack needs one for all members.
Few members, convolutions and large dense layers are as quick or quicker one after another: see benchmarks/ensemble_speed.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ae_models.autoencoder import Autoencoder
from ae_models.bottlenecks import IdentityBottleneck, L1Bottleneck, TopKBottleneck
from ae_models.critics import NoCritic
from ae_models.decoders import DenseDecoder
from ae_models.encoders import DenseEncoder, TableEncoder
from ae_models.losses import BceLoss, HuberLoss, L1Loss, MixedLoss, MseLoss

__all__ = ["StackedMembers", "can_stack"]

# From here on, and up to there, a stack was quicker on one core, whatever the batch.
_MIN_MEMBERS = 8
_MAX_WEIGHTS = 100_000  # of a member

# Parts that neither draw random numbers nor learn by themselves: a stack shares those of one member.
_ENCODERS, _DECODERS, _CRITICS = (DenseEncoder, TableEncoder), (DenseDecoder,), (NoCritic,)
_BOTTLENECKS = (IdentityBottleneck, L1Bottleneck, TopKBottleneck)
_LOSSES = (MseLoss, L1Loss, HuberLoss, BceLoss, MixedLoss)


def can_stack(members: Sequence[Autoencoder]) -> bool:
    """Return whether these members are trained at once. It depends on their spec alone, as it decides their last bits."""
    member = members[-1]
    weights = sum(parameter.numel() for parameter in member.parameters())
    return (
        len(members) >= _MIN_MEMBERS
        and weights <= _MAX_WEIGHTS
        and isinstance(member.encode, _ENCODERS)
        and isinstance(member.bottleneck, _BOTTLENECKS)
        and isinstance(member.decode, _DECODERS)
        and isinstance(member.compare, _LOSSES)
        and isinstance(member.critic, _CRITICS)
    )


class StackedMembers:
    """Members whose weights are views of common tensors: an optimiser that is given `parameters` changes the members themselves.

    Build it when the members are on their device; moving them ends the views.

    Args:
        members: of an ensemble, for which `can_stack` is true.

    Attributes:
        parameters: by the names of a member's: (members, *shape).
    """

    def __init__(self, members: Sequence[Autoencoder]) -> None:
        self._template = _LossOfMember(members[-1])
        self.parameters: dict[str, Tensor] = {}
        for name, _ in members[-1].named_parameters():
            of_members = [member.get_parameter(name) for member in members]
            stack = torch.stack([parameter.detach() for parameter in of_members])
            for parameter, view in zip(of_members, stack, strict=True):
                parameter.data = view
            self.parameters[name] = stack.requires_grad_()

    def losses(self, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Return each member's training loss, (members,).

        Args:
            inputs: of each member's encoder, (n, *input_shape) each.
            targets: of the same samples, (n, *output_shape) each.
        """
        losses: Tensor = vmap(self._loss)(self.parameters, torch.stack(list(inputs)), torch.stack(list(targets)))
        return losses

    def _loss(self, parameters: dict[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
        named = {f"member.{name}": parameter for name, parameter in parameters.items()}
        loss: Tensor = functional_call(self._template, named, (inputs, target))
        return loss


class _LossOfMember(nn.Module):
    """A member's loss as a module, which functional_call can be given other weights for."""

    def __init__(self, member: Autoencoder) -> None:
        super().__init__()
        self.member = member

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        return self.member.loss_of(inputs, target)
