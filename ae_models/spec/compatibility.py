"""Rules between parts that are valid alone: which inputs they support, and which shapes and settings go together."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ae_models.spec.augmentations import AugmentationSpec
from ae_models.spec.autoencoder import AutoencoderConfig, input_shape, output_shape
from ae_models.spec.bottlenecks import BottleneckSpec
from ae_models.spec.combined_score import ScoreSpec
from ae_models.spec.corruptions import CorruptionSpec, GreyCorruptionSpec
from ae_models.spec.critics import CriticSpec, GanomalyCriticSpec
from ae_models.spec.decoders import ConvDecoderSpec, DecoderSpec
from ae_models.spec.encoders import ConvEncoderSpec, EncoderSpec
from ae_models.spec.fields import specs_by_kind
from ae_models.spec.inputs import TEXT, InputSpec
from ae_models.spec.losses import CrossEntropyLossSpec, LossSpec, SsimLossSpec
from ae_models.spec.messages import join_choices
from ae_models.spec.thresholds import ThresholdSpec
from ae_models.spec.training import TrainSpec

__all__ = ["PART_SPECS", "Incompatibility", "check_compatibility"]

_SSIM_WINDOW = 11  # pixels a side

# Key of a recipe -> kind -> spec.
PART_SPECS: dict[str, dict[str, type]] = {
    "corrupt": specs_by_kind(CorruptionSpec),
    "encode": specs_by_kind(EncoderSpec),
    "bottleneck": specs_by_kind(BottleneckSpec),
    "decode": specs_by_kind(DecoderSpec),
    "compare": specs_by_kind(LossSpec),
    "critic": specs_by_kind(CriticSpec),
    "augment": specs_by_kind(AugmentationSpec),
    "score": specs_by_kind(ScoreSpec),
    "threshold": specs_by_kind(ThresholdSpec),
}


class Incompatibility(NamedTuple):
    """Two settings that do not go together.

    Attributes:
        path: the setting to change, such as `model.encode.kind`.
        reason: for a message that names the path.
    """

    path: str
    reason: str


def check_compatibility(
    model: AutoencoderConfig,
    input_spec: InputSpec,
    score: ScoreSpec | None,
    train: TrainSpec,
    threshold: ThresholdSpec | None = None,
) -> Iterator[Incompatibility]:
    """Yield every incompatibility between parts that are valid alone.

    `score` and `threshold` are None where only the weights are asked for.
    """
    parts: dict[str, Any] = {f"model.{name}": getattr(model, name) for name in AutoencoderConfig.part_names()}
    if score is not None:
        parts["score"] = score
    if threshold is not None:
        parts["threshold"] = threshold
    parts["train.augment"] = train.augment
    unsupported = list(_unsupported_inputs(parts, input_spec))
    if unsupported:
        yield from unsupported
        return  # the other rules ask for shapes, which these parts do not have
    yield from _corruption_problems(model, input_spec)
    yield from _latent_map_problems(model, input_spec)
    yield from _loss_problems(model, input_spec)
    yield from _critic_problems(model, input_spec)
    if score is not None:
        for reason in score.compatibility_errors(model, input_spec, train):
            yield Incompatibility("score", reason)


def _unsupported_inputs(parts: dict[str, Any], input_spec: InputSpec) -> Iterator[Incompatibility]:
    for path, part in parts.items():
        if input_spec.kind in part.supported_inputs:
            continue
        specs: dict[str, Any] = PART_SPECS[path.rpartition(".")[2]]
        supported = [kind for kind, spec in specs.items() if input_spec.kind in spec.supported_inputs]
        reason = f"expected {join_choices(supported)} for input.kind {input_spec.kind}, got {part.kind}"
        yield Incompatibility(f"{path}.kind", reason)


def _corruption_problems(model: AutoencoderConfig, input_spec: InputSpec) -> Iterator[Incompatibility]:
    if not isinstance(model.corrupt, GreyCorruptionSpec):
        return
    channels = input_spec.shape[0] - input_spec.target_channels
    if channels != 3:
        yield Incompatibility("model.corrupt", f"grey needs 3 channels, red, green and blue; input.shape has {channels}")
    if input_spec.given != "corrupted":
        reason = f"grey changes the shape of the model's input: expected input.given corrupted, got {input_spec.given}"
        yield Incompatibility("model.corrupt", reason)


def _latent_map_problems(model: AutoencoderConfig, input_spec: InputSpec) -> Iterator[Incompatibility]:
    inputs, outputs = input_shape(model, input_spec), output_shape(model, input_spec)
    size, critic = model.bottleneck.size, model.critic
    yield from _map_size_problem("model.encode", model.encode, inputs, "bottleneck.size", size)
    yield from _map_size_problem("model.decode", model.decode, outputs, "bottleneck.size", size)
    if isinstance(critic, GanomalyCriticSpec):  # its discriminator is another such encoder
        yield from _map_size_problem("model.encode", model.encode, inputs, "critic.features", critic.features)


def _map_size_problem(
    path: str, part: EncoderSpec | DecoderSpec, shape: tuple[int, ...], key: str, numbers: int
) -> Iterator[Incompatibility]:
    if not isinstance(part, ConvEncoderSpec | ConvDecoderSpec) or not part.map:
        return
    positions = math.prod(_halve(side, len(part.widths)) for side in shape[1:])
    if numbers % positions:
        reason = f"its map has {positions} positions and {key} is {numbers}: {key} must be a multiple of {positions}"
        yield Incompatibility(path, reason)


def _halve(size: int, times: int) -> int:
    """Return `size` after so many halvings, each rounding up."""
    return -(-size // (1 << times))


def _loss_problems(model: AutoencoderConfig, input_spec: InputSpec) -> Iterator[Incompatibility]:
    loss = model.compare
    if isinstance(loss, SsimLossSpec):
        _, height, width = output_shape(model, input_spec)
        if min(height, width) < _SSIM_WINDOW:
            reason = f"ssim needs {_SSIM_WINDOW} pixels a side or more; input.shape has {height} x {width}"
            yield Incompatibility("model.compare", reason)
    if isinstance(loss, CrossEntropyLossSpec):
        path = "model.compare.categories"
        if input_spec.kind == TEXT and loss.categories:
            yield Incompatibility(path, f"expected 0 for a text, whose tokens are the categories, got {loss.categories}")
        if input_spec.kind != TEXT and loss.categories < 2:
            yield Incompatibility(path, f"expected 2 or more for input.kind {input_spec.kind}, got {loss.categories}")


def _critic_problems(model: AutoencoderConfig, input_spec: InputSpec) -> Iterator[Incompatibility]:
    inputs, outputs = input_shape(model, input_spec), output_shape(model, input_spec)
    if isinstance(model.critic, GanomalyCriticSpec) and inputs != outputs:
        reason = f"ganomaly needs input and output of one shape, got {list(inputs)} and {list(outputs)}"
        yield Incompatibility("model.critic", reason)
