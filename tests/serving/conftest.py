"""A bundle whose model is linear: PCA with 16 components of real digits, as an ONNX graph."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from champion_helpers import project_with_champion
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from shipped_digits import shipped_digits

from ae_models.checksums import write_checksums
from aeops.project import Project

COMPONENTS = 16
RATE = 0.05


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """Real digits, uint8 (5000, 1, 28, 28), shuffled."""
    images, _ = shipped_digits()
    return images[np.random.default_rng(0).permutation(len(images))]


@pytest.fixture(scope="session")
def linear_bundle(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_bundle(tmp_path_factory.mktemp("linear") / "bundle", digits[:1000], digits[1000:1200])


@pytest.fixture(scope="session")
def project(linear_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose champion is the linear model."""
    project, store, run = project_with_champion(tmp_path_factory.mktemp("project"), linear_bundle)
    store.log_metrics(run, {"false_alarms": {"threshold": 0.05, "requested": 0.01, "measured": 0.012}})
    return project


def write_linear_bundle(place: Path, train: np.ndarray, calibration: np.ndarray) -> Path:
    """Fits the PCA on `train` and its threshold on `calibration`, both uint8 (n, 1, 28, 28)."""
    place.mkdir(parents=True)
    flat = train.reshape(len(train), -1) / 255
    mean, axes = flat.mean(axis=0), np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:COMPONENTS].T
    scores = np.sort(residual(calibration, mean, axes)).astype(np.float32)
    threshold = float(scores[int(np.ceil((len(scores) + 1) * (1 - RATE))) - 1])
    (place / "model.onnx").write_bytes(graph(mean, axes, scores, threshold).SerializeToString())
    described = {
        "format": 1,
        "recipe": "digits",
        "input": {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255},
        "threshold": {"kind": "split-conformal", "false_alarm_rate": RATE, "value": threshold},
        "code": {"shape": [COMPONENTS]},
    }
    (place / "bundle.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    save_file({"calibration_scores": scores}, place / "scorer.safetensors")
    save_file({"axes": axes.astype(np.float32)}, place / "weights.safetensors")
    write_checksums(place)
    return place


def residual(samples: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The mean squared residual of each sample on the PCA: what the graph computes, by hand."""
    flat = samples.reshape(len(samples), -1) / 255
    return np.asarray(np.square(flat - mean - (flat - mean) @ axes @ axes.T).mean(axis=1))


def graph(mean: np.ndarray, axes: np.ndarray, scores: np.ndarray, threshold: float) -> onnx.ModelProto:
    """Raw input to score, p_value, is_anomaly, reconstruction and code."""
    constants = {
        "scale": np.float32(255),
        "mean": mean.astype(np.float32),
        "axes": axes.astype(np.float32),
        "back": axes.T.astype(np.float32),
        "flat_shape": np.array([0, -1]),
        "image_shape": np.array([-1, 1, 28, 28]),
        "calibration": scores[None],
        "low": np.float32(0),
        "one": np.float32(1),
        "total": np.float32(len(scores) + 1),
        "threshold": np.float32(threshold),
        "last": np.array([1]),
    }
    steps = [
        ("Reshape", ["input", "flat_shape"], "raw"),
        ("Div", ["raw", "scale"], "flat"),
        ("Sub", ["flat", "mean"], "centred"),
        ("MatMul", ["centred", "axes"], "code"),
        ("MatMul", ["code", "back"], "rebuilt"),
        ("Sub", ["centred", "rebuilt"], "rest"),
        ("Mul", ["rest", "rest"], "squares"),
        ("ReduceMean", ["squares", "last"], "score_column"),
        ("Squeeze", ["score_column", "last"], "score"),
        ("GreaterOrEqual", ["calibration", "score_column"], "at_least"),
        ("Cast", ["at_least"], "counted"),
        ("ReduceSum", ["counted", "last"], "count_column"),
        ("Squeeze", ["count_column", "last"], "count"),
        ("Add", ["count", "one"], "count_and_self"),
        ("Div", ["count_and_self", "total"], "p_value"),
        ("Greater", ["score", "threshold"], "is_anomaly"),
        ("Add", ["rebuilt", "mean"], "unit"),
        ("Mul", ["unit", "scale"], "unclipped"),
        ("Clip", ["unclipped", "low", "scale"], "clipped"),
        ("Reshape", ["clipped", "image_shape"], "reconstruction"),
    ]
    nodes = [
        helper.make_node(kind, given, [made], **({"to": TensorProto.FLOAT} if kind == "Cast" else {}))
        for kind, given, made in steps
    ]
    image = ["n", 1, 28, 28]
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("p_value", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("is_anomaly", TensorProto.BOOL, ["n"]),
        helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, image),
        helper.make_tensor_value_info("code", TensorProto.FLOAT, ["n", COMPONENTS]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, image)]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "linear", inputs, outputs, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model
