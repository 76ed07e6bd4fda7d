"""Real digits and a real bundle that takes no training: PCA as an ONNX graph, with calibrated scores."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import yaml
from digits_recipe import single_model_recipe
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from shipped_digits import shipped_digits

from ae_models.checksums import write_checksums
from aeops.evaluation.study import EvaluationContext
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.stages.compare import Champion, compare
from aeops.stages.evaluate import build_context, evaluate
from aeops.stages.gate import gate

CODE = 24  # numbers in a code: more than the baseline's 16, so that the bundle beats it
RATE = 0.05
ROWS = {"train": 700, "validation": 60, "calibration": 199, "test": 260}
NOVELTY = 4
SMALL = {
    "encode": {"kind": "dense", "widths": [64]},
    "bottleneck": {"kind": "identity", "size": 8},
    "decode": {"kind": "dense", "widths": [64]},
}
BRIEFLY = {"epochs": 3, "batch": 32, "learning_rate": 0.003, "threads": 1, "accelerator": "cpu"}
RECIPES = Path(__file__).parents[2] / "recipes"


@dataclass(frozen=True)
class Evaluated:
    """A recipe with everything that its stages up to the report have written."""

    recipe: Path
    prepared: Path
    bundle: Path
    training: Path
    report: Path


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 1, 28, 28) uint8 and labels, shuffled."""
    images, labels = shipped_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order], labels[order]


@pytest.fixture(scope="session")
def writers() -> SimpleNamespace:
    """The functions below, for tests that need another recipe, other samples or another model."""
    return SimpleNamespace(
        recipe=write_recipe, prepared=write_prepared, bundle=write_bundle, model=save_model, sums=write_checksums
    )


@pytest.fixture(scope="session")
def evaluated(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Prepared digits, a bundle, a history and their report."""
    root = tmp_path_factory.mktemp("evaluated")
    made = Evaluated(root / "digits.yaml", *(root / name for name in ("prepared", "bundle", "training", "report")))
    write_recipe(made.recipe)
    parts = write_prepared(made.prepared, *digits)
    write_bundle(made.bundle, parts["train"], parts["calibration"])
    write_training(made.training)
    evaluate(read_recipe(made.recipe), find_project(RECIPES), made.prepared, made.bundle, made.training, made.report)
    return made


@pytest.fixture(scope="session")
def verdict(evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return gate(evaluated.recipe, evaluated.bundle, evaluated.report, tmp_path_factory.mktemp("gate") / "verdict.json")


@pytest.fixture(scope="session")
def comparison(evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Where there is no champion yet."""
    out = tmp_path_factory.mktemp("comparison") / "comparison.json"
    return compare(read_recipe(evaluated.recipe), evaluated.prepared, evaluated.bundle, None, 1, out)


@pytest.fixture(scope="session")
def worse(evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A model that saw 40 samples, beside the evaluated one as champion 3."""
    root = tmp_path_factory.mktemp("worse")
    unasked = {"not_worse_than_champion": {"switched_off": "the rule beside it is to be judged alone"}}
    write_recipe(root / "digits.yaml", gate={"keeps_its_error": {"champion": "error", "margin": 0.1}} | unasked)
    train, calibration = (np.load(evaluated.prepared / f"{name}.npy") for name in ("train", "calibration"))
    write_bundle(root / "bundle", train[:40], calibration)
    champion = Champion("3", evaluated.bundle)
    return compare(read_recipe(root / "digits.yaml"), evaluated.prepared, root / "bundle", champion, 5, root / "comparison.json")


@pytest.fixture(scope="session")
def blind(evaluated: Evaluated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of axes that are learned from images of one grey each: its score is little more than the energy."""
    folder = tmp_path_factory.mktemp("blind") / "bundle"
    greys = np.zeros((60, 1, 28, 28), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None, None]
    write_bundle(folder, greys, np.load(evaluated.prepared / "calibration.npy"))
    return folder


@pytest.fixture(scope="session")
def scene(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., EvaluationContext]:
    """What a study may look at, of a small dense model that is trained for seconds: scene(model={...}, source={...})."""
    root = tmp_path_factory.mktemp("scenes")
    write_prepared(root / "prepared", *digits)

    def made(model: dict | None = None, source: dict | None = None) -> EvaluationContext:
        from ae_models.fit import fit  # takes seconds: only for the tests that need it

        folder = root / hashlib.sha256(json.dumps([model, source]).encode()).hexdigest()[:12]
        folder.mkdir(exist_ok=True)
        given = single_model_recipe()
        sections = {
            "input": given["input"] | (source or {}),
            "model": given["model"] | SMALL | (model or {}),
            "train": BRIEFLY,
            "evaluate": {},
        }
        unasked = {"beats_pca_and_knn": {"switched_off": "no baseline is measured here"}}
        write_recipe(folder / "digits.yaml", gate={"answers": {"check": "served"}} | unasked, **sections)
        recipe = read_recipe(folder / "digits.yaml")
        if not (folder / "bundle").exists():
            parts = {part: np.load(root / "prepared" / f"{part}.npy") for part in ("train", "validation", "calibration")}
            places = {"checkpoints": folder / "checkpoints", "bundle": folder / "bundle", "history": folder / "history"}
            fit(recipe.fit, **parts, **places, content_sha256="d" * 64, recipe="digits", progress_bar=False)
        return build_context(recipe, find_project(RECIPES), root / "prepared", folder / "bundle", folder / "history")

    return made


@pytest.fixture
def validation() -> dict:
    """A validation.json with a sample in quarantine and drift not judged."""
    blank = {"name": "blank", "allowed": "samples whose values differ", "applicable": True, "success": False}
    drift = {"name": "drift", "applicable": False, "success": True, "why": "no version has been accepted yet"}
    return {
        "rows": {"given": 5000, "accepted": 4999, "quarantined": 1},
        "expectations": [blank | {"observed": {"judged": 5000, "unexpected": 1}}, drift],
        "quarantined": [{"id": "digit-17", "reasons": ["blank: expected samples whose values differ, got yes"]}],
        "quarantine": "quarantine/digits/0123abcd",
    }


def write_recipe(file: Path, gate: dict | None = None, **changes: object) -> dict:
    """The digits recipe, changed; its gate asks of this bundle what it can give, and faults are injected into few samples."""
    recipe = single_model_recipe()
    recipe["evaluate"]["studies"] = {"power": {"samples": 20}}
    recipe["gate"] = gate or {
        "beats_pca_reconstruction": {"metric": "reconstruction.gain_over_pca", "at_least": 0.05},
        "answers_when_served": {"check": "served"},
        "beats_pca_and_knn": {"switched_off": "the bundle is a PCA itself"},
        "catches_the_novelty": {"switched_off": "the samples have another novelty than the recipe"},
    }
    recipe |= changes
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return recipe


def write_prepared(folder: Path, images: np.ndarray, labels: np.ndarray, novelty: int | None = NOVELTY) -> dict[str, np.ndarray]:
    folder.mkdir()
    normal = np.flatnonzero(labels != novelty)
    ends = np.cumsum(list(ROWS.values()))
    chosen = {name: normal[end - ROWS[name] : end] for name, end in zip(ROWS, ends, strict=True)}
    chosen["test"] = np.sort(np.concatenate([chosen["test"], np.flatnonzero(labels == novelty)[:100]]))
    for name, rows in chosen.items():
        np.save(folder / f"{name}.npy", images[rows])
    np.save(folder / "train_labels.npy", labels[chosen["train"]].astype(np.int64))
    of_test = labels[chosen["test"]]
    ids = [f"digit-{row}" for row in chosen["test"]]
    table = {"id": ids, "label": pd.array(of_test, "Int64"), "group": ids, "novelty": of_test == novelty}
    pd.DataFrame(table).to_parquet(folder / "test.parquet")
    rows = {name: len(rows) for name, rows in chosen.items()}
    facts = {"rows": rows, "low": 0, "high": 255, "content_sha256": "d" * 64}
    (folder / "prepared.json").write_text(json.dumps(facts), encoding="utf-8")
    return {name: images[rows] for name, rows in chosen.items()}


def write_training(folder: Path) -> None:
    folder.mkdir()
    lines = [f"{epoch},{epoch * 10},{0.1 / epoch},{0.11 / epoch},0.001" for epoch in range(1, 6)]
    head = "epoch,step,train_loss,validation_error,learning_rate"
    (folder / "history.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


def write_bundle(folder: Path, train: np.ndarray, calibration: np.ndarray) -> None:
    """A bundle as training writes it, of PCA with CODE components."""
    folder.mkdir()
    flat = train.reshape(len(train), -1) / 255.0
    axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:CODE]
    save_model(folder / "model.onnx", flat.mean(axis=0), axes, np.zeros(1), 0.0)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    scores = np.sort(session.run(["score"], {"input": calibration.astype(np.float32)})[0])
    rank = int(np.ceil(round((len(scores) + 1) * (1 - RATE), 6)))
    save_model(folder / "model.onnx", flat.mean(axis=0), axes, scores, scores[rank - 1])
    save_decoder(folder / "decoder.onnx", flat.mean(axis=0), axes)
    save_file({"calibration_scores": scores}, folder / "scorer.safetensors")
    save_file({"axes": axes.astype(np.float32)}, folder / "weights.safetensors")
    document = {
        "format": 3,
        "recipe": "digits",
        "input": {"kind": "image", "shape": [1, 28, 28], "low": 0.0, "high": 255.0},
        "threshold": {
            "kind": "split-conformal",
            "false_alarm_rate": RATE,
            "value": float(scores[rank - 1]),
            "calibration_rows": len(scores),
            "rank": rank,
        },
        "data": {"content_sha256": "d" * 64},
        "given": {"shape": [1, 28, 28], "dtype": "float32"},
        "made": {"shape": [1, 28, 28]},
        "code": {"shape": [CODE], "dtype": "float32"},
        "export": {"max_difference": 1e-6, "rows": 64},
    }
    (folder / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    write_checksums(folder)


def numbers_of(mean: np.ndarray, axes: np.ndarray) -> dict[str, np.ndarray]:
    """The constants that model and decoder share."""
    return {
        "range": np.float32(255),
        "image": np.array([-1, 1, 28, 28]),
        "mean": mean.astype(np.float32),
        "axes": axes.astype(np.float32),
        "zero": np.float32(0),
        "one": np.float32(1),
    }


DECODING = [
    ("MatMul", "code axes", "linear"),
    ("Add", "linear mean", "unclipped"),
    ("Clip", "unclipped zero one", "made"),
    ("Mul", "made range", "made_raw"),
    ("Reshape", "made_raw image", "reconstruction"),
]


def save_decoder(file: Path, mean: np.ndarray, axes: np.ndarray) -> None:
    """code -> reconstruction."""
    code = helper.make_tensor_value_info("code", TensorProto.FLOAT, ["n", CODE])
    made = helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, ["n", 1, 28, 28])
    save_graph(file, DECODING, numbers_of(mean, axes), code, [made])


def save_graph(file: Path, steps: list, numbers: dict, given: onnx.ValueInfoProto, outputs: list) -> None:
    settings = {"Cast": {"to": TensorProto.FLOAT}}
    graph = helper.make_graph(
        [helper.make_node(kind, names.split(), [out], **settings.get(kind, {})) for kind, names, out in steps],
        "pca",
        [given],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def save_model(file: Path, mean: np.ndarray, axes: np.ndarray, calibration: np.ndarray, threshold: float) -> None:
    """raw input -> score, p_value, is_anomaly, reconstruction, code."""
    numbers = numbers_of(mean, axes) | {
        "flat": np.array([-1, 784]),
        "axes_turned": axes.T.astype(np.float32),
        "tiny": np.float32(1e-6),
        "half": np.float32(0.5),
        "last": np.array([1]),
        "calibration": calibration.astype(np.float32)[None],
        "calibration_rows_and_one": np.float32(len(calibration) + 1),
        "threshold": np.float32(threshold),
    }
    steps = [
        ("Reshape", "input flat", "raw"),
        ("Div", "raw range", "x"),
        ("Sub", "x mean", "centred"),
        ("MatMul", "centred axes_turned", "code"),
        *DECODING,
        ("Sub", "x made", "left"),
        ("Mul", "left left", "left_squared"),
        ("ReduceSum", "left_squared last", "residual"),
        ("Mul", "x x", "x_squared"),
        ("ReduceSum", "x_squared last", "energy"),
        ("Add", "residual tiny", "residual_safe"),
        ("Add", "energy tiny", "energy_safe"),
        ("Log", "residual_safe", "log_residual"),
        ("Log", "energy_safe", "log_energy"),
        ("Mul", "log_energy half", "log_energy_half"),
        ("Sub", "log_residual log_energy_half", "score_column"),
        ("Squeeze", "score_column last", "score"),
        ("GreaterOrEqual", "calibration score_column", "above"),
        ("Cast", "above", "above_number"),
        ("ReduceSum", "above_number last", "count_column"),
        ("Squeeze", "count_column last", "count"),
        ("Add", "count one", "count_and_one"),
        ("Div", "count_and_one calibration_rows_and_one", "p_value"),
        ("Greater", "score threshold", "is_anomaly"),
    ]
    reals, names = ("score", "p_value", "reconstruction", "code"), ("score", "p_value", "is_anomaly", "reconstruction", "code")
    ranks = {"reconstruction": ["n", 1, 28, 28], "code": ["n", CODE]}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT if name in reals else TensorProto.BOOL, ranks.get(name, ["n"]))
        for name in names
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 28, 28])
    save_graph(file, steps, numbers, given, outputs)
