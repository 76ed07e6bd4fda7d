"""A network of an ONNX file, read and checked without torch: its nodes, its weights, and the maps that are taken from it.

    graph = read_onnx_graph(OnnxEncoderSpec("backbone.onnx"), (1, 28, 28))    # raises SpecError with every mistake

`SUPPORTED_OPERATORS` are those that `ae_models.onnx_operators` runs. Nodes that no map is computed from, such as a classifier at
the end, are left out, whatever their operators.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ae_models.names import names_not_in, names_of
from ae_models.onnx_file import Array, find_input, infer_shapes, load_onnx_model, refused_network
from ae_models.spec import OnnxEncoderSpec, join_names, suggest_match

__all__ = ["SUPPORTED_OPERATORS", "GraphNode", "OnnxGraph", "read_onnx_graph"]

SUPPORTED_OPERATORS = frozenset(
    (
        *("AveragePool", "Conv", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "MatMul", "MaxPool", "ReduceMean"),
        *("BatchNormalization", "Dropout", "LayerNormalization"),
        *("Add", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul", "PRelu", "Pow"),
        *("Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"),
        *("Concat", "Flatten", "Identity", "Pad", "Reshape", "Resize", "Slice", "Split", "Transpose"),
    )
)
_LEAST_SIDE = 4  # positions of the shorter side of a map that is chosen without being named
_LARGEST_STRIDE = 16  # pixels a position of such a map; coarser ones say what an image shows rather than where (PatchCore)
_MAPS_AT_MOST = 2  # that are chosen without being named
_NAMED_AT_MOST = 8  # tensors or nodes that a message names


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
    model = load_onnx_model(path, spec.path_sha256)
    network_input = find_input(model, path)
    batch, *declared_shape = network_input.shape
    sample_input = _input_shape(spec, path, sample_shape, declared_shape)
    shape = (batch or 1, *sample_input)
    constants, shapes = infer_shapes(model, network_input.name, shape, path)
    nodes = list(map(_read_node, model.graph.node))
    outputs = names_of(model.graph.output)
    maps = spec.maps or _choose_maps(nodes, shapes, network_input.name, outputs)
    problems = _map_problems(maps, shapes, network_input.name)
    used_nodes = _nodes_of_maps(nodes, maps)
    if not maps:
        problems = ["no tensor of it is known to be a map of 4 x 4 positions or more, up to a stride of 16: name one in maps"]
        used_nodes = nodes
    problems += _operator_problems(used_nodes)
    if problems:
        raise refused_network(path, *problems)
    return OnnxGraph(path, network_input.name, sample_input, shape[0], tuple(used_nodes), constants, shapes, tuple(maps))


# ---------------------------------------------------------------- its input


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
    fitting_sides, side_texts = [], []
    for declared, side in zip(declared_sides, sides, strict=True):
        fitting_sides.append(declared or side)
        side_texts.append(str(declared or "any"))
    if sides != fitting_sides:
        expected = f"expected images of {' x '.join(side_texts)} pixels, as the network reads"
        got = f"got {sides[0]} x {sides[1]} ({'resize' if spec.resize else 'input.shape'})"
        problems.append(f"{expected}, {got}: write resize: {fitting_sides} or export it again")
    if problems:
        raise refused_network(path, *problems)
    return network_channels, sides[0], sides[1]


# ---------------------------------------------------------------- its nodes


def _read_node(node: onnx.NodeProto) -> GraphNode:
    operator = node.op_type
    if node.domain not in ("", "ai.onnx"):
        operator = f"{node.domain}::{node.op_type}"
    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode("utf-8") if isinstance(value, bytes) else value
    label = node.name or next(iter(node.output), operator)
    return GraphNode(operator, label, tuple(node.input), tuple(node.output), attributes)


def _operator_problems(nodes: Sequence[GraphNode]) -> list[str]:
    unknown = [node for node in nodes if node.operator not in SUPPORTED_OPERATORS]
    problems = []
    for node in unknown[:_NAMED_AT_MOST]:
        problems.append(f"the operator {node.operator} of the node {node.label} is not supported")
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
    nodes: Sequence[GraphNode], shapes: Mapping[str, tuple[int, ...]], input_name: str, outputs: Sequence[str]
) -> tuple[str, ...]:
    """Return the network's own outputs where all of them are maps, else the last map of each of the two coarsest grids.

    Grids with a stride above 16 pixels or with fewer than 4 positions a side do not count. The last map of a grid is its last
    tensor that everything after it is computed from, and so not one inside a block. None where an output's shape is not known.
    """
    if all(_is_map_shape(shapes.get(name, ())) for name in outputs):
        return tuple(outputs)
    if names_not_in(outputs, shapes):
        return ()
    last_by_grid: dict[tuple[int, ...], str] = {}
    for name in _bottleneck_tensors(nodes, input_name, outputs):
        shape = shapes.get(name, ())
        if len(shape) != 4 or name == input_name:
            continue
        stride = max(-(-input_side // side) for input_side, side in zip(shapes[input_name][2:], shape[2:], strict=True))
        if min(shape[2:]) >= _LEAST_SIDE and stride <= _LARGEST_STRIDE:
            last_by_grid[shape[2:]] = name
    grids = sorted(last_by_grid, key=math.prod)[:_MAPS_AT_MOST]
    return tuple(last_by_grid[grid] for grid in reversed(grids))


def _is_map_shape(shape: tuple[int, ...]) -> bool:
    """Return whether a tensor is (n, c, height, width) of more than one position."""
    return len(shape) == 4 and math.prod(shape[2:]) > 1


def _bottleneck_tensors(nodes: Sequence[GraphNode], input_name: str, outputs: Sequence[str]) -> Iterator[str]:
    """Yield each tensor through which everything goes that is computed of the input, in order."""
    computed = {input_name}
    data_nodes = []
    for node in nodes:
        if computed.intersection(node.inputs):
            computed.update(node.outputs)
            data_nodes.append(node)
    last_use: dict[str, int] = {}
    for index, node in enumerate(data_nodes):
        last_use |= dict.fromkeys(computed.intersection(node.inputs), index)
    last_use |= dict.fromkeys(outputs, len(data_nodes))
    live = {input_name}
    for index, node in enumerate(data_nodes):
        live = {name for name in (*live, *node.outputs) if last_use.get(name, -1) > index}
        if len(live) == 1:
            yield from live


def _map_problems(maps: Sequence[str], shapes: Mapping[str, tuple[int, ...]], input_name: str) -> list[str]:
    """Return a message for each name that is no map of the network."""
    problems = []
    candidates = [name for name, shape in shapes.items() if _is_map_shape(shape) and name != input_name]
    for name in maps:
        if name not in candidates:
            last = [f"{candidate} {list(shapes[candidate][1:])}" for candidate in candidates[-_NAMED_AT_MOST:]]
            expected = f"expected names of tensors (n, c, height, width), such as the last ones {join_names(last) or '(none)'}"
            problems.append(f"maps: {expected}, got {name!r}{suggest_match(name, candidates)}")
    return problems
