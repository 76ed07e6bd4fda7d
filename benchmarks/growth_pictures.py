"""Pictures of 256 x 256 in colours and a model of them that takes no training: what evaluation needs memory for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import yaml
from benchmark_tools import ROOT
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from ae_models.checksums import write_checksums
from aeops.recipe.reader import Recipe, read_recipe

SHAPE = (3, 256, 256)
CODE = 16  # numbers: the first values of a picture, which are all that the model reconstructs
NOVELTY = 4  # of ten labels
CALIBRATION, TRAINING = 400, 400
RATE = 0.01


def write_pictures(root: Path, count: int) -> Recipe:
    """Write prepared pictures of which `count` are tested, a bundle, a history and a recipe; return the recipe.

    Args:
        root: the folder; it gets `prepared`, `bundle` and `training`.
        count: of test pictures.
    """
    rows = {"train": TRAINING, "validation": 20, "calibration": CALIBRATION, "test": count}
    (root / "prepared").mkdir()
    draw = np.random.default_rng(0)
    patterns = draw.integers(0, 180, (10, *SHAPE), dtype=np.uint8)
    for name, size in rows.items():
        file = np.lib.format.open_memmap(root / "prepared" / f"{name}.npy", "w+", np.uint8, (size, *SHAPE))
        for row in range(size):
            file[row] = patterns[row % 10] + draw.integers(0, 70, SHAPE, dtype=np.uint8)
        file.flush()
    labels = np.arange(count) % 10
    ids = [f"picture-{row}" for row in range(count)]
    table = {"id": ids, "label": pd.array(labels, "Int64"), "group": ids, "novelty": labels == NOVELTY}
    pd.DataFrame(table).to_parquet(root / "prepared" / "test.parquet")
    facts = {"rows": rows, "low": 0, "high": 255, "content_sha256": "d" * 64}
    (root / "prepared" / "prepared.json").write_text(json.dumps(facts), encoding="utf-8")
    write_bundle(root / "bundle", np.load(root / "prepared" / "calibration.npy", mmap_mode="r"))
    (root / "training").mkdir()
    lines = ["epoch,step,train_loss,validation_error,learning_rate", "1,10,0.1,0.1,0.001", "2,20,0.1,0.1,0.001"]
    (root / "training" / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return write_recipe(root / "digits.yaml")


def write_recipe(file: Path) -> Recipe:
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    recipe["input"]["shape"] = list(SHAPE)
    recipe["data"]["novelty"] = [NOVELTY]
    recipe["score"] = {"kind": "normalised-residual", "energy": 0.5, "blur": 1}
    recipe["model"] |= {"encode": {"kind": "dense", "widths": [64]}, "decode": {"kind": "dense", "widths": [64]}}
    recipe["train"] = {"epochs": 2}
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return read_recipe(file)


def write_bundle(folder: Path, calibration: np.ndarray) -> None:
    """Write the bundle: its score is the mean squared error of the reconstruction."""
    folder.mkdir()
    save_model(folder / "model.onnx", 0.0)
    scores = np.sort(score_by(folder / "model.onnx", calibration))
    rank = int(np.ceil((len(scores) + 1) * (1 - RATE)))
    save_model(folder / "model.onnx", float(scores[rank - 1]))
    save_file({"calibration_scores": scores}, folder / "scorer.safetensors")
    save_file({"unused": np.zeros(1, np.float32)}, folder / "weights.safetensors")
    threshold = {"kind": "split-conformal", "false_alarm_rate": RATE, "value": float(scores[rank - 1])}
    document = {
        "format": 3,
        "recipe": "digits",
        "input": {"kind": "image", "shape": list(SHAPE), "low": 0.0, "high": 255.0},
        "threshold": threshold | {"calibration_rows": len(scores), "rank": rank},
        "data": {"content_sha256": "d" * 64},
        "given": {"shape": list(SHAPE), "dtype": "float32"},
        "made": {"shape": list(SHAPE)},
        "code": {"shape": [CODE], "dtype": "float32"},
        "export": {"max_difference": 1e-6, "rows": 64},
    }
    (folder / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    write_checksums(folder)


def score_by(model: Path, pictures: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model))
    scores = []
    for start in range(0, len(pictures), 20):
        scores.append(session.run(["score"], {"input": pictures[start : start + 20].astype(np.float32)})[0])
    return np.concatenate(scores)


def save_model(file: Path, threshold: float) -> None:
    """raw input -> score, p_value, is_anomaly, reconstruction, code."""
    size = int(np.prod(SHAPE))
    constants = {
        "range": np.float32(255),
        "flat": np.array([0, -1]),
        "picture": np.array([-1, *SHAPE]),
        "last": np.array([1]),
        "one": np.float32(1),
        "coding": np.eye(size, CODE, dtype=np.float32),
        "decoding": np.eye(CODE, size, dtype=np.float32),
        "threshold": np.float32(threshold),
    }
    steps = [
        ("Reshape", "input flat", "raw"),
        ("Div", "raw range", "x"),
        ("MatMul", "x coding", "code"),
        ("MatMul", "code decoding", "made"),
        ("Sub", "x made", "rest"),
        ("Mul", "rest rest", "squares"),
        ("ReduceMean", "squares last", "column"),
        ("Squeeze", "column last", "score"),
        ("Add", "score one", "more"),
        ("Div", "one more", "p_value"),
        ("Greater", "score threshold", "is_anomaly"),
        ("Mul", "made range", "made_raw"),
        ("Reshape", "made_raw picture", "reconstruction"),
    ]
    shapes: dict[str, list[Any]] = {"reconstruction": ["n", *SHAPE], "code": ["n", CODE]}
    outputs = []
    for name in ("score", "p_value", "is_anomaly", "reconstruction", "code"):
        number = TensorProto.BOOL if name == "is_anomaly" else TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(name, number, shapes.get(name, ["n"])))
    graph = helper.make_graph(
        [helper.make_node(kind, names.split(), [output]) for kind, names, output in steps],
        "first-values",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *SHAPE])],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, file)
