"""An ONNX file of a frozen network: read, checked, and its shapes worked out for one size of input. Loads no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, shape_inference

from ae_models.errors import SpecError
from ae_models.names import names_not_in, names_of
from ae_models.spec import join_names

__all__ = ["OLDEST_OPSET", "Array", "OnnxInput", "find_input", "infer_shapes", "load_onnx_model", "refused_network"]

OLDEST_OPSET = 11  # since then Clip, Pad and Resize take their settings as inputs
# Operators by which exporters work out sizes while the network runs; for one size of input their results are constants.
_SIZE_OPERATORS = frozenset(
    (
        *("Add", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Expand", "Floor", "Gather", "Identity", "Mul", "Reshape"),
        *("Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    )
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class OnnxInput:
    """The one input of a network, float32 (n, c, height, width).

    Attributes:
        name: of the tensor.
        shape: that the file says, 0 where it leaves a size open.
    """

    name: str
    shape: tuple[int, ...]


def refused_network(path: Path, *problems: str) -> SpecError:
    """Return the error to raise for a network that cannot be used."""
    return SpecError([f"model.encode: {path}: {problem}" for problem in problems])


def load_onnx_model(path: Path, expected_sha256: str | None) -> onnx.ModelProto:
    """Read a file.

    Args:
        path: of the file.
        expected_sha256: of its content; None for any.

    Raises:
        SpecError: no such file, no valid ONNX, another content, weights in another file, or operators that are too old.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise refused_network(path, f"expected an ONNX file, which cannot be read ({error.strerror}): correct path") from error
    actual_sha256 = hashlib.sha256(content).hexdigest()
    if expected_sha256 not in (None, actual_sha256):
        expected = f"expected SHA-256 {str(expected_sha256)[:12]}... (path_sha256)"
        raise refused_network(path, f"{expected}, got {actual_sha256[:12]}...")
    remedy = "export the network as docs/features.md says"
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own class, which onnx does not export
        raise refused_network(path, f"expected an ONNX file, got something else: {remedy}") from error
    if not model.graph.node:
        raise refused_network(path, f"expected an ONNX file with a network, got one without a node: {remedy}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        how = "torch.onnx.export(..., external_data=False)"
        raise refused_network(path, f"its weights lie in another file: save it as one, with {how}")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        expected = f"expected operators of opset {OLDEST_OPSET} or later"
        raise refused_network(path, f"{expected}, got {opset}: export it with opset_version=18")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise refused_network(path, f"it is no valid ONNX ({_first_line(error)}): {remedy}") from error
    return model


def find_input(model: onnx.ModelProto, path: Path) -> OnnxInput:
    """Return the one input that is no weight.

    Raises:
        SpecError: there are others, or it is no float32 of four axes.
    """
    weights = set(names_of(model.graph.initializer))
    inputs = [tensor for tensor in model.graph.input if tensor.name not in weights]
    if len(inputs) != 1:
        names = join_names(names_of(inputs)) or "none"
        raise refused_network(path, f"expected one input, got {len(inputs)}: {names}")
    [only_input] = inputs
    tensor_type = only_input.type.tensor_type
    if tensor_type.elem_type != onnx.TensorProto.FLOAT or len(tensor_type.shape.dim) != 4:
        type_name = onnx.TensorProto.DataType.Name(tensor_type.elem_type).lower()
        expected = "expected the input float32 (n, channels, height, width)"
        raise refused_network(path, f"{expected}, got {type_name} with {len(tensor_type.shape.dim)} axes")
    return OnnxInput(only_input.name, _declared_sizes(tensor_type))


def _declared_sizes(tensor_type: "onnx.TypeProto.Tensor") -> tuple[int, ...]:
    """Return the shape that the file says, 0 where it leaves a size open."""
    return tuple(dimension.dim_value for dimension in tensor_type.shape.dim)


def infer_shapes(
    model: onnx.ModelProto, input_name: str, shape: Sequence[int], path: Path
) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
    """Work out the constants and the shapes of a network for an input of this shape.

    Nodes whose results are constants then, such as sizes, are taken out of `model`.

    Returns:
        The constants by the names of their tensors, weights included; and the shape of each tensor of float32 that is computed,
        where it can be inferred.

    Raises:
        SpecError: the shapes contradict each other.
    """
    _fix_input(model, input_name, shape)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    count = -1
    while len(model.graph.node) != count:  # a size that is known now may make more shapes known
        count = len(model.graph.node)
        shapes = {input_name: tuple(shape)} | _infer_known_shapes(model, path)
        _fold_constants(model, constants, shapes)
    return constants, shapes


def _fix_input(model: onnx.ModelProto, input_name: str, shape: Sequence[int]) -> None:
    """Set the shape of the input, and forget what the file says of others that follow from it."""
    del model.graph.value_info[:]
    for tensor in model.graph.output:
        tensor.type.tensor_type.ClearField("shape")
    for tensor in model.graph.input:
        if tensor.name == input_name:
            for dimension, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
                dimension.dim_value = size


def _infer_known_shapes(model: onnx.ModelProto, path: Path) -> dict[str, tuple[int, ...]]:
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except (shape_inference.InferenceError, ValueError) as error:
        raise refused_network(path, f"the shapes of its tensors cannot be inferred ({_first_line(error)})") from error
    shapes = {}
    for tensor in (*inferred.graph.value_info, *inferred.graph.output):
        tensor_type = tensor.type.tensor_type
        sizes = _declared_sizes(tensor_type)
        if tensor_type.elem_type == onnx.TensorProto.FLOAT and sizes and min(sizes) > 0:
            shapes[tensor.name] = sizes
    return shapes


def _fold_constants(model: onnx.ModelProto, constants: dict[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Take out the nodes whose results are constants, and put the results into `constants` and the model's weights."""
    remaining = []
    for node in model.graph.node:
        results = _constant_results(node, model, constants, shapes)
        if results is None:
            remaining.append(node)
            continue
        for name, values in zip(node.output, results, strict=True):
            constants[name] = values
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    del model.graph.node[:]
    model.graph.node.extend(remaining)


def _constant_results(
    node: onnx.NodeProto, model: onnx.ModelProto, constants: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
) -> list[Array] | None:
    """Return the results of a node if they are constants."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Shape" and node.input[0] in shapes:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        shape = shapes[node.input[0]][attributes.get("start", 0) : attributes.get("end")]
        return [np.array(shape, np.int64)]
    if node.op_type == "Constant":
        return _constant_tensor(node)
    if node.op_type not in _SIZE_OPERATORS:
        return None
    names = list(filter(None, node.input))  # an optional input that is left out has no name
    if names_not_in(names, constants):
        return None
    from onnx.reference import ReferenceEvaluator  # here: few files need it

    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    weights = [numpy_helper.from_array(constants[name], name) for name in dict.fromkeys(names)]
    graph = onnx.helper.make_graph([node], "constant", [], outputs, weights)
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return list(map(np.asarray, ReferenceEvaluator(single).run(None, {})))


def _constant_tensor(node: onnx.NodeProto) -> list[Array] | None:
    """Return the tensor of a node Constant; None for one of another form, such as a sparse one."""
    [attribute] = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return [numpy_helper.to_array(value)]
    dtypes = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    if attribute.name in dtypes:
        return [np.asarray(value, dtypes[attribute.name])]
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
