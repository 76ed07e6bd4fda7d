"""Models that compute some of their outputs alone."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ae_models.onnx_outputs import keep_outputs, list_outputs


def weight(name: str, *values: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def tensor(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """doubled = 2 x; larger = doubled + 1, or doubled where x sums to less than zero; far = 1000 numbers that only it needs."""
    branches = {
        "then_branch": helper.make_graph([helper.make_node("Add", ["doubled", "one"], ["sum"])], "yes", [], [tensor("sum")]),
        "else_branch": helper.make_graph([helper.make_node("Identity", ["doubled"], ["same"])], "no", [], [tensor("same")]),
    }
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["is_positive"]),
        helper.make_node("If", ["is_positive"], ["larger"], **branches),
        helper.make_node("Mul", ["x", "many"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled"], ["far"]),
    ]
    weights = [weight("two", 2), weight("one", 1), weight("many", *np.ones(1000)), numpy_helper.from_array(np.float32(0), "zero")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b"]) for name in ("doubled", "larger", "far")]
    opset = helper.make_opsetid("", 18)
    made = helper.make_model(helper.make_graph(nodes, "small", [x], outputs, weights), opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(made)
    return made


def run(model: bytes, names: list[str], x: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answers: list[np.ndarray] = session.run(names, {"x": x})
    return answers


@pytest.mark.parametrize(
    ("names", "operators", "weights"),
    [
        (["doubled"], ["Mul"], {"two"}),
        (
            ["larger"],
            ["Mul", "ReduceSum", "Greater", "If"],
            {"two", "one", "zero"},
        ),  # `doubled` and `one` are read within If alone
        (["far", "doubled"], ["Mul", "Mul", "ReduceSum"], {"two", "many"}),
    ],
)
def test_what_outputs_need_stays_and_nothing_else(
    names: list[str], operators: list[str], weights: set[str], model: onnx.ModelProto
) -> None:
    whole = model.SerializeToString()
    kept = keep_outputs(whole, names)
    read = onnx.load_model_from_string(kept)
    onnx.checker.check_model(read)
    assert [node.op_type for node in read.graph.node] == operators
    assert {initializer.name for initializer in read.graph.initializer} == weights
    assert set(list_outputs(kept)) == set(names)
    for x in (np.array([[1.5], [2.0]], np.float32), np.array([[-3.0]], np.float32)):
        for got, expected in zip(run(kept, names, x), run(whole, names, x), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_all_outputs_of_a_model_keep_every_byte(model: onnx.ModelProto) -> None:
    whole = model.SerializeToString()
    assert list_outputs(whole) == ["doubled", "larger", "far"]
    assert keep_outputs(whole, ["doubled", "larger", "far"]) == whole


def test_a_file_that_is_no_onnx_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a field of an ONNX file at byte 0, got one of the unknown kind 7"):
        keep_outputs(b"\x0f\x01", ["score"])
