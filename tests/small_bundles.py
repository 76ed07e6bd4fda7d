"""Bundles that are made in a moment: models of 4x4 images, or of short texts, of a few lines of ONNX; some broken on purpose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from ae_models import tokens
from ae_models.checksums import write_checksums

SIDE = 4
THRESHOLD = 0.2
TEXT_LENGTH = 12  # tokens
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
Step = tuple[str, list[str], str]

# What makes a model answer its own example and fail on bright samples: mean above 0.6 of the range.
FAULTS: dict[str, list[Step]] = {
    "none": [("Identity", ["plain_score"], "score")],
    "nan": [("Sub", ["limit", "mean"], "room"), ("Sqrt", ["room"], "root"), ("Mul", ["root", "plain_score"], "score")],
    "raises": [
        ("Div", ["mean", "limit"], "bright"),
        ("Cast", ["bright"], "place"),  # 0 up to the limit, and from there 1, which is outside
        ("Gather", ["only", "place"], "one_if_dark"),
        ("Mul", ["one_if_dark", "plain_score"], "score"),
    ],
}


def small_bundle(
    place: Path, *, shift: float = 0.0, threshold: float = THRESHOLD, side: int = SIDE, fault: str = "none", **rules: str
) -> Path:
    """A model of images (1, side, side): the score is the mean squared distance from mid-grey in [0, 1], plus `shift`.

    `rules` are further keys of its section input, such as resize.
    """
    size = side * side
    constants = {
        "range": np.float32(255),
        "middle": np.full(size, 0.5, np.float32),
        "flat_shape": np.array([0, -1]),
        "image_shape": np.array([-1, 1, side, side]),
        "last": np.array([1]),
        "shift": np.float32(shift),
        "one": np.float32(1),
        "zero": np.float32(0),
        "threshold": np.float32(threshold),
        "first_two": np.eye(size, 2, dtype=np.float32),
        "limit": np.float32(0.6),
        "only": np.ones(1, np.float32),
    }
    steps: list[Step] = [
        ("Reshape", ["input", "flat_shape"], "raw"),
        ("Div", ["raw", "range"], "flat"),
        ("ReduceMean", ["flat", "last"], "mean_column"),
        ("Squeeze", ["mean_column", "last"], "mean"),
        ("Sub", ["flat", "middle"], "rest"),
        ("Mul", ["rest", "rest"], "squares"),
        ("ReduceMean", ["squares", "last"], "column"),
        ("Squeeze", ["column", "last"], "distance"),
        ("Add", ["distance", "shift"], "plain_score"),
        *FAULTS[fault],
        ("Add", ["score", "one"], "more"),
        ("Div", ["one", "more"], "p_value"),
        ("Greater", ["score", "threshold"], "is_anomaly"),
        ("MatMul", ["flat", "first_two"], "code"),
        ("Mul", ["flat", "zero"], "nothing"),
        ("Add", ["nothing", "middle"], "made"),
        ("Mul", ["made", "range"], "made_raw"),
        ("Reshape", ["made_raw", "image_shape"], "reconstruction"),
    ]
    image = ["n", 1, side, side]
    outputs = [("score", FLOAT, ["n"]), ("p_value", FLOAT, ["n"]), ("is_anomaly", TensorProto.BOOL, ["n"])]
    outputs += [("reconstruction", FLOAT, image), ("code", FLOAT, ["n", 2])]
    model = graph(steps, constants, ("input", FLOAT, image), outputs)
    described = {"input": {"kind": "image", "shape": [1, side, side], "low": 0, "high": 255, **rules}, "code": {"shape": [2]}}
    return write(place, model, described, threshold)


def text_bundle(place: Path) -> Path:
    """A model of texts that takes every token for itself, but `b` for `c`; the score is the share of the places it has wrong."""
    tokenizer = tokens.train_tokenizer(tokens.texts_to_bytes(["a b c", "b c d"]), 300)
    b, c = (tokenizer.encode(letter).ids[0] for letter in "bc")
    constants = {"b": np.int64(b), "c": np.int64(c), "last": np.array([1]), "one": np.float32(1), "threshold": np.float32(0.1)}
    steps: list[Step] = [
        ("Equal", ["input", "b"], "is_b"),
        ("Where", ["is_b", "c", "input"], "reconstruction"),
        ("Cast", ["is_b"], "wrong"),
        ("ReduceMean", ["wrong", "last"], "column"),
        ("Squeeze", ["column", "last"], "score"),
        ("Add", ["score", "one"], "more"),
        ("Div", ["one", "more"], "p_value"),
        ("Greater", ["score", "threshold"], "is_anomaly"),
        ("Identity", ["column"], "code"),
    ]
    text = ["n", TEXT_LENGTH]
    outputs = [("score", FLOAT, ["n"]), ("p_value", FLOAT, ["n"]), ("is_anomaly", TensorProto.BOOL, ["n"])]
    outputs += [("reconstruction", INT, text), ("code", FLOAT, ["n", 1])]
    model = graph(steps, constants, ("input", INT, text), outputs)
    place.mkdir(parents=True)
    (place / "tokenizer.json").write_text(tokens.tokenizer_to_json(tokenizer), encoding="utf-8")
    described = {"input": {"kind": "text", "shape": [64], "low": 0, "high": 255}, "code": {"shape": [1]}}
    shapes = {"given": {"shape": [TEXT_LENGTH]}, "made": {"shape": [TEXT_LENGTH]}}
    return write(place, model, described | shapes, 0.1)


def graph(
    steps: list[Step], constants: dict[str, Any], given: tuple[str, int, list[Any]], outputs: list[tuple[str, int, list[Any]]]
) -> onnx.ModelProto:
    to = {"place": INT, "wrong": FLOAT}
    nodes = [helper.make_node(kind, names, [made], **({"to": to[made]} if kind == "Cast" else {})) for kind, names, made in steps]
    used = {name for _, names, _ in steps for name in names}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    told = [helper.make_tensor_value_info(*output) for output in outputs]
    made = helper.make_graph(nodes, "small", [helper.make_tensor_value_info(*given)], told, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def write(place: Path, model: onnx.ModelProto, described: dict[str, Any], threshold: float) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").write_bytes(model.SerializeToString())
    rule = {"kind": "split-conformal", "false_alarm_rate": 0.05, "value": threshold}
    document = {"format": 1, "recipe": "digits", "threshold": rule} | described
    (place / "bundle.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    save_file({"calibration_scores": np.zeros(1, np.float32)}, place / "scorer.safetensors")
    save_file({"weights": np.zeros(1, np.float32)}, place / "weights.safetensors")
    write_checksums(place)
    return place
