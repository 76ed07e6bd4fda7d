"""Bundles whose scores explain themselves: combined scores with banks, of untrained models of tiny images, series and texts.

Each goes through the calibration of the product, which takes a second.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ae_models import tokens
from ae_models.autoencoder import Autoencoder
from ae_models.calibration import calibrate
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.spec import FitSpec, SampleRules
from ae_models.training_result import TrainingFacts, write_training

CONTENT = "0" * 64
TRAIN, VALIDATION, CALIBRATION = 60, 20, 40
WORDS = ["a", "cat", "dog", "sees", "hears", "the", "bird", "often"]
DENSE = {
    "corrupt": {"kind": "none"},
    "encode": {"kind": "dense", "widths": [16]},
    "bottleneck": {"kind": "identity", "size": 4},
    "decode": {"kind": "dense", "widths": [16]},
    "compare": {"kind": "mse"},
}
RESIDUAL = {"kind": "normalised-residual", "energy": 0.5, "blur": 0.0}
HULL = {"kind": "local-hull", "neighbours": 4}
KNN = {"kind": "knn", "neighbours": 2}
SHARED = {
    "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.05},
    "train": {"epochs": 1, "batch": 32, "threads": 1, "accelerator": "cpu"},
}
IMAGES = {"kind": "image", "shape": [1, 8, 8], "low": 0, "high": 255}
SERIES = {"kind": "series", "shape": [2, 16], "low": -1, "high": 1}
EDGES = {"kind": "image", "shape": [4, 8, 8], "low": 0, "high": 255, "target_channels": 1}
TEXTS = {"kind": "text", "shape": [64]}
TOKENS = {
    "corrupt": {"kind": "none"},
    "encode": {"kind": "tokens", "vocabulary": 300, "length": 12, "width": 16, "layers": 0},
    "bottleneck": {"kind": "identity", "size": 8},
    "decode": {"kind": "tokens", "width": 16, "layers": 0},
    "compare": {"kind": "cross-entropy"},
}


def image_bundle(folder: Path, missing: str = "flag") -> Path:
    """A model of 8x8 images, whose score has a residual, a hull, and two nearest-neighbour distances of one kind."""
    score = {"kind": "combined", "scores": [RESIDUAL, HULL, KNN, KNN | {"space": "code"}]}
    return calibrated_bundle(folder, IMAGES, DENSE, score, images(TRAIN + VALIDATION + CALIBRATION), missing=missing)


def series_bundle(folder: Path) -> Path:
    """A model of windows of two channels."""
    score = {"kind": "combined", "scores": [RESIDUAL, KNN]}
    return calibrated_bundle(folder, SERIES, DENSE, score, windows(TRAIN + VALIDATION + CALIBRATION))


def edges_bundle(folder: Path) -> Path:
    """A model that makes one channel of three, so that nothing of it is compared with its sample."""
    colours = np.concatenate([images(TRAIN + VALIDATION + CALIBRATION)] * 4, axis=1)
    return calibrated_bundle(folder, EDGES, DENSE, KNN, colours)


def text_bundle(folder: Path) -> Path:
    """A model of texts of a few words."""
    score = {"kind": "combined", "scores": [{"kind": "token-surprise"}, KNN | {"space": "code"}]}
    rng = np.random.default_rng(0)
    rows = tokens.texts_to_bytes([" ".join(rng.choice(WORDS, 5)) for _ in range(TRAIN + VALIDATION + CALIBRATION)])
    rows = np.pad(rows, ((0, 0), (0, 64 - rows.shape[1])))
    tokenizer = tokens.tokenizer_to_json(tokens.train_tokenizer(rows, 300))
    return calibrated_bundle(folder, TEXTS, TOKENS, score, rows, tokenizer)


def calibrated_bundle(
    folder: Path,
    source: dict[str, Any],
    model: dict[str, Any],
    score: dict[str, Any],
    samples: np.ndarray,
    tokenizer: str | None = None,
    missing: str = "flag",
) -> Path:
    """Calibrate a model before its training; return the bundle."""
    spec = FitSpec.from_dict({"input": source, "model": model, "score": score, **SHARED}, "spec.json")
    torch.manual_seed(0)
    facts = TrainingFacts("digits", spec.weights, 1, CONTENT, torch.__version__)
    autoencoder = Autoencoder(spec.model, spec.input).eval()
    write_training(folder / "training", facts, autoencoder, history="", weight_hashes="", tokenizer=tokenizer, backbone=None)
    parts = np.split(samples, [TRAIN, TRAIN + VALIDATION])
    roles = SampleRoles(*map(ArraySampleSet, parts))
    rules = SampleRules(missing, {})
    calibrate(spec, folder / "training", roles, content_sha256=CONTENT, bundle=folder / "bundle", rules=rules)
    return folder / "bundle"


def images(count: int) -> np.ndarray:
    """Return images uint8 (count, 1, 8, 8): a bright stroke each, somewhere else, on a little noise."""
    drawn = np.random.default_rng(0).integers(0, 40, (count, 1, 8, 8), dtype=np.uint8)
    for index, image in enumerate(drawn):
        image[0, 1:7, 2 + index % 4] = 200
        image[0, index % 8, 1:5] = 90 + index % 100
    return drawn


def windows(count: int) -> np.ndarray:
    """Return windows float32 (count, 2, 16): a sine and a cosine of some phase."""
    phases = np.linspace(0, 6, count)[:, None] + np.linspace(0, 6, 16)
    return (0.8 * np.stack([np.sin(phases), np.cos(phases)], axis=1)).astype(np.float32)
