"""Each operator of a frozen network against onnxruntime, and the settings of operators that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from frozen_backbone import export_network
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from ae_models.errors import SpecError
from ae_models.onnx_encoder import FrozenNetwork
from ae_models.onnx_graph import SUPPORTED_OPERATORS, read_onnx_graph
from ae_models.onnx_operators import _BUILDERS
from ae_models.onnx_verification import read_backbone
from ae_models.spec import OnnxEncoderSpec

SHAPE = (4, 12, 10)
RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return (RANDOM.random(shape) + 0.5).astype(np.float32)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


KERNEL = weights(6, 4, 3, 3)
# Operator, its inputs after the image, its attributes.
CASES: list[tuple[str, list[np.ndarray | None], dict[str, Any]]] = [
    ("Add", [weights(4, 1, 1)], {}),
    ("Sub", [weights(4, 1, 1)], {}),
    ("Mul", [weights(1, 4, 1, 1)], {}),
    ("Div", [positive(4, 1, 1)], {}),
    ("Pow", [number(2)], {}),
    ("Conv", [KERNEL, weights(6)], {}),
    ("Conv", [KERNEL], {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
    ("Conv", [KERNEL], {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    ("Conv", [weights(4, 1, 3, 3), weights(4)], {"group": 4, "pads": [1, 1, 1, 1]}),
    ("Conv", [KERNEL], {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3], "strides": [2, 2]}),
    ("Conv", [weights(6, 4, 2, 2)], {"auto_pad": "SAME_LOWER", "kernel_shape": [2, 2]}),
    ("Conv", [KERNEL], {"auto_pad": "VALID"}),
    ("BatchNormalization", [positive(4), weights(4), weights(4), positive(4)], {"epsilon": 1e-3}),
    ("LayerNormalization", [positive(10), weights(10)], {"axis": -1, "epsilon": 1e-3}),
    ("LayerNormalization", [positive(4, 12, 10)], {"axis": 1}),
    ("Relu", [], {}),
    ("LeakyRelu", [], {"alpha": 0.2}),
    ("PRelu", [positive(4, 1, 1)], {}),
    ("Elu", [], {"alpha": 0.7}),
    ("Sigmoid", [], {}),
    ("HardSigmoid", [], {"alpha": 1 / 6}),
    ("HardSwish", [], {}),
    ("Tanh", [], {}),
    ("Softplus", [], {}),
    ("Mish", [], {}),
    ("Erf", [], {}),
    ("Gelu", [], {}),
    ("Gelu", [], {"approximate": "tanh"}),
    ("Clip", [number(0), number(6)], {}),
    ("Clip", [None, number(0.5)], {}),
    ("Clip", [], {}),
    ("Identity", [], {}),
    ("Dropout", [number(0.5)], {}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 0, 2, 1]}),
    ("MaxPool", [], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("Split", [np.array([1, 3], np.int64)], {"axis": 1}),
    ("Slice", [np.array([1, 2]), np.array([9, 2**31 - 1]), np.array([2, 3]), np.array([2, 1])], {}),
    ("Slice", [np.array([-3]), np.array([-1]), np.array([1])], {}),
    ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0]), number(0.25)], {}),
    ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "reflect"}),
    ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "edge"}),
    (
        "Resize",
        [None, np.array([1, 1, 2, 2], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    ("Resize", [None, None, np.array([1, 4, 7, 15])], {"mode": "linear"}),
    (
        "Resize",
        [None, None, np.array([1, 4, 7, 15])],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    ("Reshape", [np.array([0, 2, 24, -1])], {}),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ("ReduceMean", [np.array([2])], {"keepdims": 1}),
    ("MatMul", [weights(10, 7)], {}),
    ("Sqrt", [], {}),
]
# Operators that read two results of nodes, or whose output is no map: with the nodes that they need.
POOLED: dict[str, list[Any]] = {
    "GlobalAveragePool": [helper.make_node("GlobalAveragePool", ["image"], ["pooled"])],
    "GlobalMaxPool": [helper.make_node("GlobalMaxPool", ["image"], ["pooled"])],
    "Flatten": [
        helper.make_node("GlobalMaxPool", ["image"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Reshape", ["flat", "as_map"], ["pooled"]),
    ],
    "Gemm": [
        helper.make_node("GlobalMaxPool", ["image"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "offset"], ["scaled"], alpha=0.5, beta=2.0, transB=1),
        helper.make_node("Reshape", ["scaled", "as_map"], ["pooled"]),
    ],
    "Concat": [
        helper.make_node("GlobalMaxPool", ["image"], ["highest"]),
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Concat", ["highest", "mean"], ["both"], axis=2),
        helper.make_node("ReduceMean", ["both", "rows"], ["pooled"]),
    ],
}


def save_graph(file: Path, nodes: list[Any], constants: dict[str, np.ndarray], **options: Any) -> Path:
    """Write a network of float32 images (1, *SHAPE) with one output, `map`."""
    inputs = [helper.make_tensor_value_info("image", options.get("dtype", TensorProto.FLOAT), [1, *options.get("shape", SHAPE)])]
    outputs = [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, None, None, None])]
    initializers = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", options.get("opset", 20)), helper.make_opsetid("other", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)
    return file


def save_operator(file: Path, operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any]) -> Path:
    constants = {f"constant{index}": values for index, values in enumerate(inputs) if values is not None}
    names = [f"constant{index}" if values is not None else "" for index, values in enumerate(inputs)]
    names = ["positive" if operator in ("Sqrt", "Pow") else "image", *names]
    outputs = ["first", "map"] if operator == "Split" else ["map"]
    nodes = [helper.make_node(operator, names, outputs, **attributes)]
    if operator in ("Sqrt", "Pow"):
        nodes = [helper.make_node("Sigmoid", ["image"], ["positive"]), *nodes]
    return save_graph(file, nodes, constants)


def run_both(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what torch and onnxruntime make of the same image."""
    image = weights(1, *SHAPE)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [expected] = session.run(["map"], {"image": image})
    network = FrozenNetwork(read_onnx_graph(OnnxEncoderSpec(str(file)), SHAPE))
    with torch.inference_mode():
        [actual] = network(torch.from_numpy(image))
        [of_two] = network(torch.from_numpy(np.concatenate([image, image])))
    assert torch.equal(of_two[0], of_two[1])
    np.testing.assert_allclose(of_two[0].numpy(), actual[0].numpy(), rtol=1e-4, atol=1e-5)
    return actual.numpy(), np.asarray(expected)


@pytest.mark.parametrize(("operator", "inputs", "attributes"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_an_operator_computes_what_onnxruntime_computes(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], tmp_path: Path
) -> None:
    actual, expected = run_both(save_operator(tmp_path / "network.onnx", operator, inputs, attributes))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", POOLED)
def test_a_pooled_vector_weighs_a_map_as_in_onnxruntime(operator: str, tmp_path: Path) -> None:
    nodes = [*POOLED[operator], helper.make_node("Mul", ["image", "pooled"], ["map"])]
    constants = {"as_map": np.array([-1, 4, 1, 1]), "rows": np.array([2]), "matrix": weights(4, 4), "offset": weights(4)}
    actual, expected = run_both(save_graph(tmp_path / "network.onnx", nodes, constants))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_every_operator_that_is_supported_is_tested() -> None:
    tested = {operator for operator, _, _ in CASES} | set(POOLED)
    assert tested == set(SUPPORTED_OPERATORS) == set(_BUILDERS)


# ---------------------------------------------------------------- blocks of known networks, as torch exports them


class SqueezeBlock(nn.Module):
    """An inverted residual with squeeze and excitation (MobileNetV3, Howard et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(4, 16, 1), nn.BatchNorm2d(16), nn.Hardswish(), nn.Conv2d(16, 16, 5, 1, 2, groups=16)]
        self.expand = nn.Sequential(*layers, nn.BatchNorm2d(16), nn.ReLU6())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Hardsigmoid()
        )
        self.project = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.expand(x)
        return x + self.project(h * self.squeeze(h))


class ShuffleBlock(nn.Module):
    """Half of the channels pass, the others are convolved, then both are shuffled (ShuffleNetV2, Ma et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 3, 1, 1), nn.SiLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, 1)
        both = torch.cat([first, self.branch(second)], 1)
        return both.view(-1, 2, 2, *both.shape[2:]).transpose(1, 2).reshape(-1, 4, *both.shape[2:])


class ChannelNormBlock(nn.Module):
    """A depthwise convolution, then layers along the channels of each position (ConvNeXt, Liu et al. 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 7, 1, 3, groups=4)
        self.layers = nn.Sequential(nn.LayerNorm(4, eps=1e-6), nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4))
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.depthwise(x).permute(0, 2, 3, 1)
        return x + (self.scale * self.layers(h)).permute(0, 3, 1, 2)


class PyramidBlock(nn.Module):
    """Pooled, upsampled again and put beside what it was made of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(F.pad(x, [1, 1, 1, 1], mode="reflect"), 2)
        upsampled = F.interpolate(F.leaky_relu(pooled, 0.1), scale_factor=2, mode="nearest")
        return torch.cat([x, upsampled[:, :, 1:-1, 1:-1], F.interpolate(pooled, [12, 10], mode="bilinear")], 1)


@pytest.mark.parametrize("block", [SqueezeBlock, ShuffleBlock, ChannelNormBlock, PyramidBlock])
def test_blocks_of_known_networks_run_as_torch_exports_them(block: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 4, 1), block(), block() if block is not PyramidBlock else nn.ReLU()).eval()
    file = export_network(network, tmp_path / "network.onnx", SHAPE)
    assert read_backbone(OnnxEncoderSpec(str(file)), SHAPE)
    image = torch.from_numpy(weights(3, *SHAPE))
    with torch.inference_mode():
        [actual] = FrozenNetwork(read_onnx_graph(OnnxEncoderSpec(str(file)), SHAPE))(image)
        torch.testing.assert_close(actual, network(image), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "message"),
    [
        ("Pad", [np.ones(8, np.int64)], {}, "expected a padding of height and width"),
        ("Resize", [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "cubic"}, "expected mode nearest or linear, got cubic"),
        ("Resize", [None, np.array([1, 1, 2, 2], np.float32)], {}, "expected nearest_mode floor, got round_prefer_floor"),
        ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}, "expected the same padding before and after"),
        ("Transpose", [], {"perm": [1, 0, 2, 3]}, "expected an order of axes that begins with 0"),
        ("Concat", [weights(1, 4, 12, 10)], {"axis": 0}, "expected an axis after the first"),
        ("Concat", [weights(1, 4, 12, 10)], {"axis": 1}, "expected results of nodes alone, got a constant"),
        ("Reshape", [np.array([4, 1, 12, 10])], {}, "expected samples along the first axis of its output"),
        ("Slice", [np.array([5]), np.array([1]), np.array([2]), np.array([-1])], {}, "expected steps of 1 or more, got -1"),
        ("BatchNormalization", [positive(4)] * 4, {"training_mode": 1}, "expected one output, got map, mean, variance"),
        ("Add", [np.ones((4, 1, 1))], {}, "the weight constant0: expected float32, got float64"),
    ],
)
def test_settings_that_are_not_supported_are_named_with_their_node(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    constants = {f"constant{index}": values for index, values in enumerate(inputs) if values is not None}
    names = ["image", *(f"constant{index}" if values is not None else "" for index, values in enumerate(inputs))]
    outputs = ["map", "mean", "variance"] if operator == "BatchNormalization" else ["map"]
    nodes = [helper.make_node(operator, names, outputs, name="the_node", **attributes)]
    file = save_graph(tmp_path / "network.onnx", nodes, constants)
    with pytest.raises(SpecError) as error:
        FrozenNetwork(read_onnx_graph(OnnxEncoderSpec(str(file), maps=("map",)), SHAPE))
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_a_size_that_is_computed_while_it_runs_is_refused_and_says_how_to_export(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["bound_map"]),
        helper.make_node("ReduceMean", ["bound_map", "axes"], ["bound"], keepdims=0),
        helper.make_node("Clip", ["image", "bound"], ["map"], name="the_clip"),
    ]
    file = save_graph(tmp_path / "network.onnx", nodes, {"axes": np.array([1, 2, 3])})
    graph = read_onnx_graph(OnnxEncoderSpec(str(file), maps=("map",)), SHAPE)
    with pytest.raises(SpecError, match=r"operator Clip of the node the_clip: expected a constant .* export with fixed sizes"):
        FrozenNetwork(graph)


def test_an_unknown_operator_is_named_with_its_node_unless_no_map_is_computed_from_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["image"], ["early"]),
        helper.make_node("Softsign", ["early"], ["odd"], name="odd_node"),
        helper.make_node("Special", ["odd"], ["map"], name="own_node", domain="other"),
    ]
    file = save_graph(tmp_path / "network.onnx", nodes, {})
    with pytest.raises(SpecError) as error:
        read_onnx_graph(OnnxEncoderSpec(str(file), maps=("odd",)), SHAPE)
    assert "the operator Softsign of the node odd_node is not supported; supported: Add, AveragePool" in str(error.value)
    graph = read_onnx_graph(OnnxEncoderSpec(str(file), maps=("early",)), SHAPE)
    assert [node.operator for node in graph.nodes] == ["Relu"]


def test_a_network_of_unknown_operators_alone_names_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("Special", ["image"], ["map"], name="own_node", domain="other")]
    file = save_graph(tmp_path / "network.onnx", nodes, {})
    with pytest.raises(SpecError, match="the operator other::Special of the node own_node is not supported"):
        read_onnx_graph(OnnxEncoderSpec(str(file)), SHAPE)


def test_equal_weights_that_an_exporter_writes_once_are_found(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["weights"], ["same"]),
        helper.make_node("Conv", ["image", "weights"], ["first"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["first", "same"], ["map"], pads=[1, 1, 1, 1]),
    ]
    actual, expected = run_both(save_graph(tmp_path / "network.onnx", nodes, {"weights": weights(4, 4, 3, 3)}))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_torch_computes_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_graph(tmp_path / "network.onnx", [helper.make_node("Relu", ["image"], ["map"])], {})
    assert read_backbone(OnnxEncoderSpec(str(file)), SHAPE) == file.read_bytes()
    monkeypatch.setitem(_BUILDERS, "Relu", lambda settings: lambda x: 1.01 * torch.relu(x))
    with pytest.raises(SpecError, match="the map map differs from that of onnxruntime by"):
        read_backbone(OnnxEncoderSpec(str(file)), SHAPE)
