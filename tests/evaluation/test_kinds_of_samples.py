"""Texts, series and images that become other images: evaluated and shown like any other, without what they cannot have."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_models import tokens
from ae_models.faults import inject, standard_faults
from ae_models.fit import fit
from ae_models.power import FAULT_SEED
from ae_models.spec import FAULT_NAMES, FitSpec, InputSpec
from aeops.bundle.detector import Detector
from aeops.evaluation.text_metrics import text_metrics
from aeops.kinds.text import tokens_right
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.sections import EvaluateSpec
from aeops.recipe.studies import PowerStudy
from aeops.stages.evaluate import evaluate

ROOT = Path(__file__).parents[2]
TRAIN = {"epochs": 2, "batch": 32, "threads": 1, "accelerator": "cpu"}
DENSE = {
    "corrupt": {"kind": "none"},
    "encode": {"kind": "dense", "widths": [16]},
    "bottleneck": {"kind": "identity", "size": 4},
    "decode": {"kind": "dense", "widths": [16]},
    "compare": {"kind": "mse"},
}
TOKENS = {
    "corrupt": {"kind": "none"},
    "encode": {"kind": "tokens", "vocabulary": 300, "length": 12, "width": 16, "layers": 1, "heads": 2},
    "bottleneck": {"kind": "identity", "size": 8},
    "decode": {"kind": "tokens", "width": 16, "layers": 1, "heads": 2},
    "compare": {"kind": "cross-entropy"},
}
POWER = {"power": PowerStudy(20)}
ENDS = {"train": 200, "validation": 220, "calibration": 340, "test": 400}


def texts() -> np.ndarray:
    rng = np.random.default_rng(0)
    words = np.array(["a", "cat", "dog", "sees", "hears", "the", "bird", "often"])
    rows = tokens.texts_to_bytes([" ".join(rng.choice(words, 5)) for _ in range(400)])
    return np.pad(rows, ((0, 0), (0, 48 - rows.shape[1])))


def windows() -> np.ndarray:
    rng, time = np.random.default_rng(0), np.arange(40) / 40
    return (0.5 + 0.4 * np.sin(2 * np.pi * (time * rng.uniform(1, 3, (400, 1, 1)) + rng.random((400, 2, 1))))).astype(np.float32)


def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (400, 3, 12, 12), dtype=np.uint8)


KINDS = {
    "text": (texts, {"kind": "text", "shape": [48]}, TOKENS, {"kind": "token-surprise"}, EvaluateSpec(studies=POWER)),
    "series": (
        windows,
        {"kind": "series", "shape": [2, 40], "high": 1.0},
        DENSE,
        {"kind": "normalised-residual"},
        EvaluateSpec(pca_components=4, neighbours=3, studies=POWER),
    ),
    "colours": (
        colours,
        {"shape": [3, 12, 12], "given": "corrupted"},
        DENSE | {"corrupt": {"kind": "grey"}},
        {"kind": "normalised-residual"},
        EvaluateSpec(studies=POWER),
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def report(request, evaluated, tmp_path_factory) -> tuple[str, dict, Path]:
    """(kind, metrics, report folder) of a model of two epochs."""
    made, source, model, score, spec = KINDS[request.param]
    root = tmp_path_factory.mktemp(request.param)
    sections = {"input": source, "model": model, "score": score, "train": TRAIN}
    fitted = FitSpec.from_dict(sections | {"threshold": {"kind": "split-conformal"}}, request.param)
    parts = dict(zip(ENDS, np.split(made(), list(ENDS.values())[:-1]), strict=True))
    write_prepared(root / "prepared", parts, fitted)
    places = {"checkpoints": root / "checkpoints", "bundle": root / "bundle", "history": root / "history"}
    training = {name: parts[name] for name in ("train", "validation", "calibration")}
    fit(fitted, **training, **places, content_sha256="d" * 64, recipe="x", progress_bar=False)
    recipe = replace(read_recipe(evaluated.recipe), fit=fitted, evaluate=spec)
    metrics = evaluate(recipe, find_project(ROOT), root / "prepared", root / "bundle", root / "history", root / "report")
    return request.param, metrics, root / "report"


def write_prepared(folder: Path, parts: dict[str, np.ndarray], fitted: FitSpec) -> None:
    folder.mkdir()
    for name, rows in parts.items():
        np.save(folder / f"{name}.npy", rows)
    count = len(parts["test"])
    ids = [f"x-{i}" for i in range(count)]
    table = {"id": ids, "group": ids, "label": pd.array([None] * count, "Int64"), "novelty": [False] * count}
    pd.DataFrame(table).to_parquet(folder / "test.parquet")
    rows = {name: len(rows) for name, rows in parts.items()}
    facts = {"rows": rows, "low": fitted.input.low, "high": fitted.input.high, "content_sha256": "d" * 64}
    (folder / "prepared.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.slow
def test_each_kind_has_the_measures_that_it_can_have(report):
    kind, metrics, _ = report
    measures = {"text": ["token_accuracy", "token_similarity", "exact"]}.get(kind, ["mse", "psnr", "ssim", "mse_interval"])
    assert list(metrics["reconstruction"]["model"]) == measures
    assert ("pca" in metrics["reconstruction"]) == (kind == "series")
    assert "detection" not in metrics
    if kind == "series":
        assert metrics["reconstruction"]["model"]["ssim"] is None


def test_texts_are_shown_to_be_read_and_all_else_is_drawn(report):
    kind, _, folder = report
    drawn = {file.stem for file in (folder / "figures").iterdir()}
    found = json.loads((folder / "studies.json").read_text(encoding="utf-8"))
    assert ({"samples", "gallery_best"} <= drawn) == (kind != "text")
    assert ("examples" in found) == (kind == "text")
    assert ("power_examples" in drawn) == (kind != "text")
    if kind == "text":
        given = set(tokens.bytes_to_texts(texts()[340:]))
        rows = found["examples"]["rows"]
        assert rows
        assert all(row[0] in given for row in rows)


def test_a_strip_shows_the_target_where_it_is_not_what_was_given(report):
    kind, _, folder = report
    if kind != "text":
        strip = (folder / "figures" / "gallery_best.svg").read_text(encoding="utf-8")
        assert (">target<" in strip) == (kind == "colours")


def test_scores_say_how_well_each_sample_was_rebuilt(report):
    kind, metrics, folder = report
    scores = pd.read_parquet(folder / "scores.parquet")
    if kind == "text":
        assert scores["tokens_right"].between(0, 1).all()
        np.testing.assert_allclose(scores["error"], 1 - scores["tokens_right"], atol=1e-6)
    else:
        np.testing.assert_array_equal(scores["error"], scores["mse"])
        assert scores["mse"].mean() == pytest.approx(metrics["reconstruction"]["model"]["mse"], rel=1e-5)


def test_the_error_of_a_coloured_image_is_that_of_its_three_channels(report):
    kind, metrics, folder = report
    if kind == "colours":
        test = colours()[340:]
        luma = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], test)[:, None]
        made = Detector(folder.parent / "bundle").score(luma.astype(np.float32), reconstruction=True)["reconstruction"]
        assert metrics["reconstruction"]["model"]["mse"] == pytest.approx(np.square((test - made) / 255).mean(), rel=1e-3)


def test_faults_are_injected_into_every_kind_beside_the_baselines_that_it_can_have(report):
    kind, metrics, folder = report
    power = metrics["power"]
    faults = FAULT_NAMES[{"colours": "image"}.get(kind, kind)]
    assert list(power["faults"]) == [name.replace("-", "_") for name in faults]
    assert all(0 <= share <= 1 for share in power["faults"].values())
    assert power["mean_caught"] == pytest.approx(np.mean(list(power["faults"].values())))
    assert len(power["baselines"]) == (5 if kind == "series" else 0)
    assert (power["lead"] is None) == (kind != "series")
    rows = json.loads((folder / "studies.json").read_text(encoding="utf-8"))["power"]["rows"]
    assert len(rows) == len(faults) + 1


def test_a_model_that_is_served_grey_gets_the_fault_in_colour_and_then_its_grey(report):
    kind, metrics, folder = report
    if kind != "colours":
        return
    normals = colours()[340:]
    normals = normals[np.linspace(0, len(normals) - 1, 20).round().astype(int)]
    [fault] = [fault for fault in standard_faults("image") if fault.name == "brightness"]
    shares = []
    for strength in fault.strengths:
        damaged = inject(fault, strength, normals, FAULT_SEED, InputSpec("image", (3, 12, 12)))
        luma = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], damaged)[:, None].astype(np.float32)
        shares.append(Detector(folder.parent / "bundle").score(luma)["is_anomaly"].mean())
    assert metrics["power"]["faults"]["brightness"] == pytest.approx(np.mean(shares), abs=0.02)


def test_tokens_count_where_they_stand_and_padding_never():
    wanted, made = np.array([[5, 6, 1, 0], [7, 1, 0, 0]]), np.array([[5, 8, 1, 0], [7, 1, 9, 9]])
    found = text_metrics(wanted, made)
    assert found["token_accuracy"] == pytest.approx(4 / 5)
    assert found["exact"] == 0
    assert found["token_similarity"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert tokens_right(wanted, made).tolist() == pytest.approx([2 / 3, 1])
