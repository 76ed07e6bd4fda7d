"""The operators of convolutional networks in ONNX, as torch functions with their settings bound.

    run = build_operation(node, graph)      # raises SpecError for settings that are not supported
    y = run(x, weight, bias)

To add one: a function that takes an `OperatorSettings` and returns what runs it, its line in `_BUILDERS`, and its name in
`ae_models.onnx_graph.SUPPORTED_OPERATORS`. Semantics: https://onnx.ai/onnx/operators. Nothing here is trained.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ae_models.errors import SpecError

if TYPE_CHECKING:  # their modules load onnx
    from ae_models.onnx_file import Array
    from ae_models.onnx_graph import GraphNode, OnnxGraph

__all__ = ["Operation", "OperatorSettings", "build_operation", "tensor_inputs"]

Operation = Callable[..., Tensor | tuple[Tensor, ...]]
# Operators whose further inputs are settings, which have to be constants of the file, and the number of the inputs before them.
_TENSOR_INPUTS = {"Clip": 1, "Dropout": 1, "Pad": 1, "ReduceMean": 1, "Reshape": 1, "Resize": 1, "Slice": 1, "Split": 1}


class OperatorSettings:
    """Settings of one node, checked as they are read.

    Args:
        node: the node.
        graph: that it is of.
    """

    def __init__(self, node: "GraphNode", graph: "OnnxGraph") -> None:
        self._node, self._graph = node, graph

    def refuse(self, reason: str) -> SpecError:
        """Return the error to raise for a setting that is not supported."""
        node = self._node
        return SpecError([f"model.encode: {self._graph.path}: the operator {node.operator} of the node {node.label}: {reason}"])

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute; the default where the node does not have it."""
        return self._node.attributes.get(name, default)

    def require(self, name: str, default: Any, *allowed: Any) -> Any:
        """Return an attribute that must have one of these values."""
        value = self.attribute(name, default)
        if value not in allowed:
            raise self.refuse(f"expected {name} {' or '.join(map(str, allowed))}, got {value}")
        return value

    def constant(self, index: int) -> "Array | None":
        """Return an input that is a setting; None where it is left out."""
        inputs = self._node.inputs
        if index >= len(inputs) or not inputs[index]:
            return None
        if inputs[index] not in self._graph.constants:
            raise self.refuse(f"expected a constant as its input {index}, got the result of a node: export with fixed sizes")
        return self._graph.constants[inputs[index]]

    def number(self, index: int) -> float | None:
        """Return an input that is a setting of one number; None where it is left out."""
        value = self.constant(index)
        if value is None:
            return None
        return float(value)

    def reads_constants(self) -> bool:
        """Return whether any input is a constant."""
        return any(name in self._graph.constants for name in self._node.inputs)

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of the first input."""
        return self._shape(self._node.inputs[0])

    def output_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of each output."""
        return list(map(self._shape, self._node.outputs))

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self._graph.constants:
            return tuple(self._graph.constants[name].shape)
        if name not in self._graph.shapes:
            raise self.refuse(f"the shape of {name} is not known before it is run: export with fixed sizes")
        return self._graph.shapes[name]

    def output_of_samples(self) -> tuple[int, ...]:
        """Return the shape of the one output without its first axis, which must still be that of the samples."""
        [shape] = self.output_shapes()
        if shape[0] != self._graph.batch:
            raise self.refuse(f"expected samples along the first axis of its output, got the shape {list(shape)}")
        return shape[1:]


def tensor_inputs(node: "GraphNode") -> tuple[str, ...]:
    """Return the inputs of a node that its operation is called with; an optional one that is left out is empty."""
    return node.inputs[: _TENSOR_INPUTS.get(node.operator)]


def build_operation(node: "GraphNode", graph: "OnnxGraph") -> Operation:
    """Return the function that runs a node.

    Args:
        node: its operator is one of `SUPPORTED_OPERATORS`.
        graph: that it is of.

    Returns:
        Maps the tensors of `tensor_inputs`, None for one that is left out, to the output, or to a tuple of several.

    Raises:
        SpecError: a setting that is not supported.
    """
    settings = OperatorSettings(node, graph)
    outputs = list(filter(None, node.outputs))
    if len(outputs) != 1 and node.operator != "Split":
        raise settings.refuse(f"expected one output, got {', '.join(outputs)}: export the network in evaluation mode")
    return _BUILDERS[node.operator](settings)


# ---------------------------------------------------------------- convolutions and pools


def _build_conv(settings: OperatorSettings) -> Operation:
    pads, strides, dilations, groups = _window(settings), *_steps(settings), settings.attribute("group", 1)
    if len(settings.input_shape()) != 4:
        raise settings.refuse(f"expected images (n, c, height, width), got {len(settings.input_shape())} axes")

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        padding = (pads[0], pads[1])
        if pads[:2] != pads[2:]:
            x, padding = _pad_sides(x, pads, 0.0), (0, 0)
        return F.conv2d(x, weight, bias, strides, padding, dilations, groups)

    return convolve


def _build_max_pool(settings: OperatorSettings) -> Operation:
    pads, (strides, dilations) = _window(settings), _steps(settings)
    kernel, ceil = list(settings.attribute("kernel_shape", [])), bool(settings.attribute("ceil_mode", 0))
    if _is_plain_padding(pads, kernel):
        return lambda x: F.max_pool2d(x, kernel, strides, pads[:2], dilations, ceil)
    return lambda x: F.max_pool2d(_pad_sides(x, pads, -torch.inf), kernel, strides, 0, dilations, ceil)


def _build_average_pool(settings: OperatorSettings) -> Operation:
    pads, (strides, dilations) = _window(settings), _steps(settings)
    kernel, ceil = list(settings.attribute("kernel_shape", [])), bool(settings.attribute("ceil_mode", 0))
    counts_padding = bool(settings.attribute("count_include_pad", 0))
    if dilations != [1, 1]:
        raise settings.refuse(f"expected dilations [1, 1], got {dilations}")
    if not _is_plain_padding(pads, kernel):
        raise settings.refuse(f"expected the same padding before and after, half the kernel at most, got {pads}")
    padding = pads[:2]
    return lambda x: F.avg_pool2d(x, kernel, strides, padding, ceil, counts_padding)


def _steps(settings: OperatorSettings) -> tuple[list[int], list[int]]:
    """Return strides and dilations of a window that moves over an image."""
    return list(settings.attribute("strides", [1, 1])), list(settings.attribute("dilations", [1, 1]))


def _window(settings: OperatorSettings) -> list[int]:
    """Return the padding of a window that moves over an image: [top, left, bottom, right]."""
    auto_pad = settings.require("auto_pad", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if auto_pad == "NOTSET":
        return list(settings.attribute("pads", [0, 0, 0, 0]))
    if auto_pad == "VALID":
        return [0, 0, 0, 0]
    (strides, dilations), kernel = _steps(settings), settings.attribute("kernel_shape", [])
    if len(kernel) != 2:
        raise settings.refuse(f"expected kernel_shape with auto_pad {auto_pad}, got {kernel}")
    before, after = [], []
    for side, stride, dilation, taps in zip(settings.input_shape()[2:], strides, dilations, kernel, strict=True):
        missing = max(0, (-(-side // stride) - 1) * stride + (taps - 1) * dilation + 1 - side)
        smaller, larger = missing // 2, missing - missing // 2
        before.append(smaller if auto_pad == "SAME_UPPER" else larger)
        after.append(larger if auto_pad == "SAME_UPPER" else smaller)
    return before + after


def _is_plain_padding(pads: Sequence[int], kernel: Sequence[int]) -> bool:
    """Return whether torch pools with this padding: the same before and after, half the kernel at most."""
    return pads[:2] == pads[2:] and all(pad <= side // 2 for pad, side in zip(pads[:2], kernel, strict=True))


def _pad_sides(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    """Pad (n, c, h, w) by [top, left, bottom, right]."""
    if not any(pads):
        return x
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value)


def _build_global_average_pool(settings: OperatorSettings) -> Operation:
    return lambda x: x.mean((2, 3), keepdim=True)


def _build_global_max_pool(settings: OperatorSettings) -> Operation:
    return lambda x: x.amax((2, 3), keepdim=True)


# ---------------------------------------------------------------- normalisation


def _build_batch_normalization(settings: OperatorSettings) -> Operation:
    settings.require("training_mode", 0, 0)
    epsilon = settings.attribute("epsilon", 1e-5)

    def normalise(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, shift, training=False, eps=epsilon)

    return normalise


def _build_layer_normalization(settings: OperatorSettings) -> Operation:
    shape, epsilon = settings.input_shape(), settings.attribute("epsilon", 1e-5)
    normalised_shape = shape[settings.attribute("axis", -1) :]
    if len(normalised_shape) >= len(shape):
        raise settings.refuse("expected an axis after the first, which is that of the samples")

    def normalise(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, normalised_shape, scale, shift, epsilon)

    return normalise


# ---------------------------------------------------------------- numbers one by one


def _build_leaky_relu(settings: OperatorSettings) -> Operation:
    slope = settings.attribute("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


def _build_elu(settings: OperatorSettings) -> Operation:
    alpha = settings.attribute("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def _build_hard_sigmoid(settings: OperatorSettings) -> Operation:
    alpha, beta = settings.attribute("alpha", 0.2), settings.attribute("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0.0, 1.0)


def _build_gelu(settings: OperatorSettings) -> Operation:
    approximation = settings.require("approximate", "none", "none", "tanh")
    return lambda x: F.gelu(x, approximate=approximation)


def _build_clip(settings: OperatorSettings) -> Operation:
    bounds = (settings.number(1), settings.number(2))
    if bounds == (None, None):
        return lambda x: x
    return lambda x: x.clamp(*bounds)


def _build_dropout(settings: OperatorSettings) -> Operation:
    is_training = settings.constant(2)
    if is_training is not None and bool(is_training):
        raise settings.refuse("expected a network in evaluation mode, got one in training: export model.eval()")
    return lambda x: x


def _simple(function: Callable[..., Tensor]) -> Callable[[OperatorSettings], Operation]:
    """Return the builder of an operator without settings."""
    return lambda settings: function


# ---------------------------------------------------------------- shapes


def _build_concat(settings: OperatorSettings) -> Operation:
    axis = _sample_axis(settings, settings.attribute("axis", 0))
    if settings.reads_constants():
        raise settings.refuse("expected results of nodes alone, got a constant, which has no samples")
    return lambda *tensors: torch.cat(tensors, axis)


def _build_split(settings: OperatorSettings) -> Operation:
    axis = _sample_axis(settings, settings.attribute("axis", 0))
    sizes = [shape[axis] for shape in settings.output_shapes()]
    return lambda x: torch.split(x, sizes, axis)


def _build_slice(settings: OperatorSettings) -> Operation:
    starts, ends, axes, steps = map(settings.constant, range(1, 5))
    if starts is None or ends is None:
        raise settings.refuse("expected its starts and ends as inputs")
    slices = [slice(None)] * len(settings.input_shape())
    for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis = _sample_axis(settings, place if axes is None else int(axes[place]))
        step = 1 if steps is None else int(steps[place])
        if step < 1:
            raise settings.refuse(f"expected steps of 1 or more, got {step}")
        slices[axis] = slice(start, end, step)
    index = tuple(slices)
    return lambda x: x[index]


def _build_pad(settings: OperatorSettings) -> Operation:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    mode = modes[settings.require("mode", "constant", *modes)]
    pads, value, axes = map(settings.constant, range(1, 4))
    if pads is None or axes is not None or len(pads) != 8 or pads[[0, 1, 4, 5]].any():
        raise settings.refuse("expected a padding of height and width of (n, c, height, width)")
    top, left, bottom, right = pads[[2, 3, 6, 7]].tolist()
    padding = (left, right, top, bottom)
    if mode == "constant":
        fill = 0.0 if value is None else float(value)
        return lambda x: F.pad(x, padding, value=fill)
    return lambda x: F.pad(x, padding, mode=mode)


def _build_resize(settings: OperatorSettings) -> Operation:
    settings.require("antialias", 0, 0)
    mode = settings.require("mode", "nearest", "nearest", "linear")
    shape, sides = settings.input_shape(), settings.output_of_samples()
    if len(shape) != 4 or sides[0] != shape[1]:
        raise settings.refuse("expected a resize of height and width of (n, c, height, width)")
    size = list(sides[1:])
    if mode == "nearest":
        settings.require("nearest_mode", "round_prefer_floor", "floor")
        settings.require("coordinate_transformation_mode", "half_pixel", "asymmetric")
        return lambda x: F.interpolate(x, size, mode="nearest")
    allowed = ("half_pixel", "pytorch_half_pixel", "align_corners")
    aligned = settings.require("coordinate_transformation_mode", "half_pixel", *allowed) == "align_corners"
    return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=aligned)


def _build_reshape(settings: OperatorSettings) -> Operation:
    shape = settings.output_of_samples()
    return lambda x: x.reshape(-1, *shape)


def _build_transpose(settings: OperatorSettings) -> Operation:
    order = list(settings.attribute("perm", []))
    if not order or order[0] != 0:
        raise settings.refuse(f"expected an order of axes that begins with 0, got {order}")
    return lambda x: x.permute(order)


def _build_reduce_mean(settings: OperatorSettings) -> Operation:
    stored_axes = settings.constant(1)
    axes = settings.attribute("axes", None) if stored_axes is None else stored_axes.tolist()
    if not axes:
        raise settings.refuse("expected axes to take the mean of")
    dims, keep = [_sample_axis(settings, axis) for axis in axes], bool(settings.attribute("keepdims", 1))
    return lambda x: x.mean(dims, keepdim=keep)


def _sample_axis(settings: OperatorSettings, axis: int) -> int:
    """Return the place of an axis of a sample, counted from the first axis, which is that of the samples themselves."""
    place = axis % len(settings.input_shape())
    if place == 0:
        raise settings.refuse("expected an axis after the first, which is that of the samples")
    return place


# ---------------------------------------------------------------- products


def _build_gemm(settings: OperatorSettings) -> Operation:
    settings.require("transA", 0, 0)
    alpha, beta = settings.attribute("alpha", 1.0), settings.attribute("beta", 1.0)
    transposed = bool(settings.attribute("transB", 0))

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product: Tensor = alpha * (x @ (weight.t() if transposed else weight))
        return product if bias is None else product + beta * bias

    return multiply


def _leaky_by_channel(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


_BUILDERS: dict[str, Callable[[OperatorSettings], Operation]] = {
    "Add": _simple(torch.add),
    "AveragePool": _build_average_pool,
    "BatchNormalization": _build_batch_normalization,
    "Clip": _build_clip,
    "Concat": _build_concat,
    "Conv": _build_conv,
    "Div": _simple(torch.div),
    "Dropout": _build_dropout,
    "Elu": _build_elu,
    "Erf": _simple(torch.erf),
    "Flatten": _build_reshape,
    "Gelu": _build_gelu,
    "Gemm": _build_gemm,
    "GlobalAveragePool": _build_global_average_pool,
    "GlobalMaxPool": _build_global_max_pool,
    "HardSigmoid": _build_hard_sigmoid,
    "HardSwish": _simple(F.hardswish),
    "Identity": _simple(lambda x: x),
    "LayerNormalization": _build_layer_normalization,
    "LeakyRelu": _build_leaky_relu,
    "MatMul": _simple(torch.matmul),
    "MaxPool": _build_max_pool,
    "Mish": _simple(F.mish),
    "Mul": _simple(torch.mul),
    "PRelu": _simple(_leaky_by_channel),
    "Pad": _build_pad,
    "Pow": _simple(torch.pow),
    "ReduceMean": _build_reduce_mean,
    "Relu": _simple(torch.relu),
    "Reshape": _build_reshape,
    "Resize": _build_resize,
    "Sigmoid": _simple(torch.sigmoid),
    "Slice": _build_slice,
    "Softplus": _simple(F.softplus),
    "Split": _build_split,
    "Sqrt": _simple(torch.sqrt),
    "Sub": _simple(torch.sub),
    "Tanh": _simple(torch.tanh),
    "Transpose": _build_transpose,
}
