"""A network of an ONNX file, read and checked without torch: its nodes, its weights, and the maps that are taken from it.

    graph = read_onnx_graph(OnnxEncoderSpec("backbone.onnx"), (1, 28, 28))    # raises SpecError with every mistake

`SUPPORTED_OPERATORS` are those that `ae_models.onnx_operators` runs. Nodes that no map is computed from, such as a classifier at
the end, are left out, whatever their operators.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, shape_inference

from ae_models.errors import SpecError
from ae_models.spec import OnnxEncoderSpec, join_names, suggest_match

__all__ = ["OLDEST_OPSET", "SUPPORTED_OPERATORS", "GraphNode", "OnnxGraph", "read_onnx_graph"]

SUPPORTED_OPERATORS = frozenset(
    (
        *("AveragePool", "Conv", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "MatMul", "MaxPool", "ReduceMean"),
        *("BatchNormalization", "Dropout", "LayerNormalization"),
        *("Add", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul", "PRelu", "Pow"),
        *("Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"),
        *("Concat", "Flatten", "Identity", "Pad", "Reshape", "Resize", "Slice", "Split", "Transpose"),
    )
)
OLDEST_OPSET = 11  # since then Clip, Pad and Resize take their settings as inputs
_LEAST_SIDE = 4  # positions of the shorter side of a map that is chosen without being named
_LARGEST_STRIDE = 16  # pixels a position of such a map; coarser ones say what an image shows rather than where (PatchCore)
_MAPS_AT_MOST = 2  # that are chosen without being named
_NAMED_AT_MOST = 8  # tensors or nodes that a message names

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GraphNode:
    """One operation of a network.

    Attributes:
        operator: its ONNX name, such as `Conv`.
        label: names it in messages: its own name, or that of its output.
        inputs: names of tensors; an optional one that is left out is empty.
        outputs: names of tensors.
        attributes: by their ONNX names.
    """

    operator: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OnnxGraph:
    """The part of a network from its input to its maps.

    Attributes:
        path: of its file.
        input_name: of the one tensor that it reads.
        input_shape: (c, height, width) of that tensor.
        batch: rows that the file itself says its input has; 1 where it leaves that open.
        nodes: in an order in which they can be run.
        constants: tensors of the file: weights, and settings of nodes.
        shapes: of each tensor of float32 that the nodes compute, with `batch` rows.
        maps: names of the tensors that are the network's maps.
    """

    path: Path
    input_name: str
    input_shape: tuple[int, ...]
    batch: int
    nodes: tuple[GraphNode, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    maps: tuple[str, ...]

    def map_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape (c, height, width) of each map."""
        return [self.shapes[name][1:] for name in self.maps]


def read_onnx_graph(spec: OnnxEncoderSpec, sample_shape: Sequence[int]) -> OnnxGraph:
    """Read a network as the section `encode` of a model describes it.

    Args:
        spec: its path is that of the file.
        sample_shape: (c, height, width) of a sample.

    Raises:
        SpecError: no such file, no ONNX, another SHA-256 than the spec's, operators or input shapes that are not supported, or no
            such maps.
    """
    path = Path(spec.path)
    model = _load_model(path, spec.path_sha256)
    input_info = _single_input(model, path)
    batch, *sides = _declared_shape(input_info)
    shape = _input_shape(spec, path, sample_shape, sides)
    shapes = _infer_shapes(model, input_info, (batch or 1, *shape), path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = list(_read_nodes(model, constants))
    maps = spec.maps or _choose_maps(model, nodes, constants, shapes, input_info.name, (batch or 1, *shape))
    problems = _map_problems(maps, shapes, input_info.name)
    used_nodes = _nodes_of_maps(nodes, maps)
    if not maps:
        problems = ["no tensor of it is known to be a map of 4 x 4 positions or more: name one in maps"]
        used_nodes = nodes
    problems += _operator_problems(used_nodes)
    if problems:
        raise _refuse(path, *problems)
    return OnnxGraph(path, input_info.name, shape, batch or 1, tuple(used_nodes), constants, shapes, tuple(maps))


def _refuse(path: Path, *problems: str) -> SpecError:
    return SpecError([f"model.encode: {path}: {problem}" for problem in problems])


# ---------------------------------------------------------------- the file


def _load_model(path: Path, expected_sha256: str | None) -> onnx.ModelProto:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refuse(path, f"expected an ONNX file, which cannot be read ({error.strerror}): correct path") from error
    actual_sha256 = hashlib.sha256(content).hexdigest()
    if expected_sha256 not in (None, actual_sha256):
        raise _refuse(path, f"expected SHA-256 {str(expected_sha256)[:12]}... (path_sha256), got {actual_sha256[:12]}...")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own class, which onnx does not export
        raise _refuse(path, "expected an ONNX file, got something else: export the network as docs/features.md says") from error
    if not model.graph.node:
        raise _refuse(path, "expected an ONNX file with a network, got one without a node: export it as docs/features.md says")
    external = [tensor.name for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if external:
        raise _refuse(path, "its weights lie in another file: save it as one, with torch.onnx.export(..., external_data=False)")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise _refuse(path, f"expected operators of opset {OLDEST_OPSET} or later, got {opset}: export it with opset_version=18")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise _refuse(path, f"it is no valid ONNX ({reason}): export it as docs/features.md says") from error
    return model


def _single_input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    """Return the one input that is no weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [tensor for tensor in model.graph.input if tensor.name not in weights]
    if len(inputs) != 1:
        raise _refuse(path, f"expected one input, got {len(inputs)}: {join_names(tensor.name for tensor in inputs) or 'none'}")
    [only_input] = inputs
    tensor_type = only_input.type.tensor_type
    if tensor_type.elem_type != onnx.TensorProto.FLOAT or len(tensor_type.shape.dim) != 4:
        type_name = onnx.TensorProto.DataType.Name(tensor_type.elem_type)
        expected = "expected the input float32 (n, channels, height, width)"
        raise _refuse(path, f"{expected}, got {type_name.lower()} with {len(tensor_type.shape.dim)} axes")
    return only_input


def _declared_shape(tensor: onnx.ValueInfoProto) -> list[int]:
    """Return the sizes that the file says its input has; 0 where it leaves one open."""
    return [dimension.dim_value for dimension in tensor.type.tensor_type.shape.dim]


def _input_shape(
    spec: OnnxEncoderSpec, path: Path, sample_shape: Sequence[int], declared_shape: Sequence[int]
) -> tuple[int, int, int]:
    """Return (c, height, width) of what the network reads; `declared_shape` has 0 where the file leaves a size open."""
    channels, height, width = sample_shape
    declared_channels, *declared_sides = declared_shape
    problems = []
    network_channels = declared_channels or channels
    if network_channels != channels and channels != 1:
        expected = f"expected samples of {network_channels} channels, as the network reads, or of one"
        problems.append(f"{expected}, got {channels}")
    for name in ("mean", "std"):
        count = len(getattr(spec, name))
        if count not in (1, network_channels):
            problems.append(f"{name}: expected 1 number or {network_channels}, one a channel of the network, got {count}")
    sides = list(spec.resize or (height, width))
    if any(declared not in (0, side) for declared, side in zip(declared_sides, sides, strict=True)):
        declared_text = " x ".join(str(declared or "any") for declared in declared_sides)
        remedy = f"resize: {[declared or side for declared, side in zip(declared_sides, sides, strict=True)]}"
        got = f"got {sides[0]} x {sides[1]} ({'resize' if spec.resize else 'input.shape'})"
        problems.append(
            f"expected images of {declared_text} pixels, as the network reads, {got}: write {remedy} or export it again"
        )
    if problems:
        raise _refuse(path, *problems)
    return network_channels, sides[0], sides[1]


# ---------------------------------------------------------------- its nodes


def _infer_shapes(
    model: onnx.ModelProto, input_info: onnx.ValueInfoProto, shape: Sequence[int], path: Path
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of float32 for an input of this shape, where it can be inferred."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]  # what the file says of other input sizes
    for tensor in fixed.graph.output:
        tensor.type.tensor_type.ClearField("shape")
    for tensor in fixed.graph.input:
        if tensor.name == input_info.name:
            for dimension, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
                dimension.dim_value = size
    try:
        inferred = shape_inference.infer_shapes(fixed, strict_mode=False, data_prop=True)
    except (shape_inference.InferenceError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise _refuse(path, f"the shapes of its tensors cannot be inferred ({reason})") from error
    shapes = {input_info.name: tuple(shape)}
    for tensor in (*inferred.graph.value_info, *inferred.graph.output):
        tensor_type = tensor.type.tensor_type
        sizes = [dimension.dim_value for dimension in tensor_type.shape.dim]
        if tensor_type.elem_type == onnx.TensorProto.FLOAT and sizes and all(size > 0 for size in sizes):
            shapes[tensor.name] = tuple(sizes)
    return shapes


def _read_nodes(model: onnx.ModelProto, constants: dict[str, Array]) -> Iterator[GraphNode]:
    """Yield the nodes; Constant, and Identity of a constant, as exporters write weights that are equal, go to `constants`."""
    for node in model.graph.node:
        operator = f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if operator == "Constant" and (value := _constant_value(attributes)) is not None:
            constants[node.output[0]] = value
            continue
        if operator == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
            continue
        for name, value in attributes.items():
            if isinstance(value, bytes):
                attributes[name] = value.decode("utf-8")
        label = node.name or next(iter(node.output), operator)
        yield GraphNode(operator, label, tuple(node.input), tuple(node.output), attributes)


def _constant_value(attributes: Mapping[str, Any]) -> Array | None:
    """Return the tensor of a node Constant; None for one of another form, such as a sparse one."""
    if "value" in attributes:
        tensor: Array = numpy_helper.to_array(attributes["value"])
        return tensor
    for name, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    return None


def _operator_problems(nodes: Sequence[GraphNode]) -> list[str]:
    unknown = [node for node in nodes if node.operator not in SUPPORTED_OPERATORS]
    problems = [f"the operator {node.operator} of the node {node.label} is not supported" for node in unknown[:_NAMED_AT_MOST]]
    if len(unknown) > _NAMED_AT_MOST:
        problems.append(f"so are the operators of {len(unknown) - _NAMED_AT_MOST} more nodes")
    if problems:
        problems[-1] += f"; supported: {join_names(sorted(SUPPORTED_OPERATORS))}"
    return problems


def _nodes_of_maps(nodes: Sequence[GraphNode], maps: Sequence[str]) -> list[GraphNode]:
    """Return the nodes that the maps are computed from, in their order."""
    needed, used_nodes = set(maps), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            used_nodes.append(node)
    return used_nodes[::-1]


# ---------------------------------------------------------------- its maps


def _choose_maps(
    model: onnx.ModelProto,
    nodes: Sequence[GraphNode],
    constants: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    input_name: str,
    input_shape: Sequence[int],
) -> tuple[str, ...]:
    """Return the network's own outputs where all of them are maps, else the last map of each of the two coarsest grids.

    Grids with a stride above 16 pixels or with fewer than 4 positions a side do not count. The last map of a grid is its last
    tensor that everything after it is computed from, and so not one inside a block.
    """
    outputs = tuple(tensor.name for tensor in model.graph.output)
    if all(len(shapes.get(name, ())) == 4 and math.prod(shapes[name][2:]) > 1 for name in outputs):
        return outputs
    last_by_grid: dict[tuple[int, ...], str] = {}
    for name in _bottleneck_tensors(nodes, constants, input_name, outputs):
        shape = shapes.get(name, ())
        if len(shape) != 4 or name == input_name:
            continue
        stride = max(-(-input_side // side) for input_side, side in zip(input_shape[2:], shape[2:], strict=True))
        if min(shape[2:]) >= _LEAST_SIDE and stride <= _LARGEST_STRIDE:
            last_by_grid[shape[2:]] = name
    grids = sorted(last_by_grid, key=math.prod)[:_MAPS_AT_MOST]
    return tuple(last_by_grid[grid] for grid in reversed(grids))


def _bottleneck_tensors(
    nodes: Sequence[GraphNode], constants: Mapping[str, Array], input_name: str, outputs: Sequence[str]
) -> Iterator[str]:
    """Yield each tensor through which everything goes that is computed of the input, in order."""
    computed = {input_name}
    data_nodes = []
    for node in nodes:
        if computed.intersection(node.inputs):
            computed.update(node.outputs)
            data_nodes.append(node)
    last_use = dict.fromkeys(outputs, len(data_nodes))
    for index, node in enumerate(data_nodes):
        for name in node.inputs:
            if name in computed and name not in outputs:
                last_use[name] = index
    live = {input_name}
    for index, node in enumerate(data_nodes):
        live = {name for name in live if last_use.get(name, -1) > index}
        live.update(name for name in node.outputs if last_use.get(name, -1) > index)
        if len(live) == 1:
            yield from live


def _map_problems(maps: Sequence[str], shapes: Mapping[str, tuple[int, ...]], input_name: str) -> list[str]:
    """Return a message for each name that is no map of the network."""
    problems = []
    candidates = [name for name, shape in shapes.items() if len(shape) == 4 and math.prod(shape[2:]) > 1 and name != input_name]
    for name in maps:
        if name not in candidates:
            last = [f"{candidate} {list(shapes[candidate][1:])}" for candidate in candidates[-_NAMED_AT_MOST:]]
            expected = f"expected names of tensors (n, c, height, width), such as the last ones {join_names(last) or '(none)'}"
            problems.append(f"maps: {expected}, got {name!r}{suggest_match(name, candidates)}")
    return problems
