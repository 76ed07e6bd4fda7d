"""Bundles of today's format with rules for samples that are unlike those of the training, of a trained model of 8x8 digits."""

from pathlib import Path

import numpy as np

from ae_models.bundle import load_bundle, write_bundle
from ae_models.export import AnomalyScorer
from ae_models.spec import SampleRules

TRAINED = Path(__file__).parent / "fixtures" / "bundle-format-3"
EXPECTED = {"blank": (0.0, 0.0), "mean": (0.01, 0.6), "std": (0.05, 0.6)}


def ruled_bundle(folder: Path, missing: str = "flag") -> Path:
    """Write the bundle of the fixtures with this rule for missing values, and the bounds EXPECTED."""
    loaded = load_bundle(TRAINED)
    scorer = AnomalyScorer(
        loaded.scorer.autoencoder, loaded.scorer.score, loaded.scorer.threshold, SampleRules(missing, EXPECTED)
    ).eval()
    document = {key: value for key, value in loaded.document.items() if key not in ("format", "export")}
    document["samples"] = scorer.rules.to_dict()
    write_bundle(folder, document, scorer, strokes(4), tokenizer=None, word_counts=None)
    return folder


def strokes(count: int) -> np.ndarray:
    """Return images that the rules expect, uint8 (count, 1, 8, 8): a bright stroke each."""
    images = np.zeros((count, 1, 8, 8), np.uint8)
    for index, image in enumerate(images):
        image[0, 1:7, 2 + index % 4] = 200
        image[0, index % 8, 1:5] = 90 + index % 100
    return images
