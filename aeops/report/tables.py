"""The standing measurements as page, card and terminal name them: who was measured, and by what. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL = "autoencoder"


@dataclass(frozen=True)
class Measure:
    """One way to say how good something is.

    Attributes:
        key: in metrics.json.
        name: for a reader.
        digits: after the point.
        best: of several values the one to aim at, `min` or `max`.
    """

    key: str
    name: str
    digits: int
    best: str


RECONSTRUCTION = (
    Measure("mse", "MSE", 5, "min"),
    Measure("psnr", "PSNR (dB)", 2, "max"),
    Measure("ssim", "SSIM", 3, "max"),
    Measure("token_accuracy", "tokens right in place", 3, "max"),
    Measure("token_similarity", "1 - edit distance", 3, "max"),
    Measure("exact", "texts without a fault", 3, "max"),
)
DETECTION = (Measure("auroc", "AUROC", 3, "max"), Measure("average_precision", "average precision", 3, "max"))


def measures(metrics: Mapping[str, Any]) -> list[Measure]:
    """Those by which reconstructions of this kind of sample can be measured: a series has no SSIM."""
    model = metrics["reconstruction"]["model"]
    return [measure for measure in RECONSTRUCTION if model.get(measure.key) is not None]


def pca_name(metrics: Mapping[str, Any]) -> str:
    return f"PCA-{metrics['reconstruction']['pca']['components']}"


def reconstructions(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Who rebuilds: the model, and PCA where the recipe asks for it."""
    made = metrics["reconstruction"]
    return {MODEL: made["model"]} | ({pca_name(metrics): made["pca"]} if "pca" in made else {})


def detectors(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Who ranks: the model and its baselines; nobody where there is no novelty, or the recipe does not ask."""
    found = metrics.get("detection")
    if found is None:
        return {}
    named = {MODEL: found["model"]}
    if "pca_residual" in found:
        named[f"{pca_name(metrics)} residual"] = found["pca_residual"]
    return named | {f"kNN-{found['knn']['neighbours']} distance": found["knn"]}


def best(found: Mapping[str, Mapping[str, Any]], measure: Measure) -> Any:
    """The best value of a measure among `found`; None where none of them has one."""
    values = [one[measure.key] for one in found.values() if one[measure.key] is not None]
    return {"min": min, "max": max}[measure.best](values) if values else None
