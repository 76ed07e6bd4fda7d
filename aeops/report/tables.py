"""Names of metrics and models in report, card and terminal. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL = "autoencoder"


@dataclass(frozen=True)
class QualityMeasure:
    """A metric as tables show it.

    Attributes:
        key: in metrics.json.
        name: for a reader.
        digits: after the point.
        direction: `min` where lower values are better, `max` where higher ones are.
    """

    key: str
    name: str
    digits: int
    direction: str


RECONSTRUCTION_MEASURES = (
    QualityMeasure("mse", "MSE", 5, "min"),
    QualityMeasure("psnr", "PSNR (dB)", 2, "max"),
    QualityMeasure("ssim", "SSIM", 3, "max"),
    QualityMeasure("token_accuracy", "tokens right in place", 3, "max"),
    QualityMeasure("token_similarity", "1 - edit distance", 3, "max"),
    QualityMeasure("exact", "texts without a fault", 3, "max"),
)
DETECTION_MEASURES = (
    QualityMeasure("auroc", "AUROC", 3, "max"),
    QualityMeasure("average_precision", "average precision", 3, "max"),
)


def reconstruction_measures(metrics: Mapping[str, Any]) -> list[QualityMeasure]:
    """Return the measures of reconstruction that metrics.json has for this kind of sample: a series has no SSIM."""
    model = metrics["reconstruction"]["model"]
    return [measure for measure in RECONSTRUCTION_MEASURES if model.get(measure.key) is not None]


def pca_name(metrics: Mapping[str, Any]) -> str:
    return f"PCA-{metrics['reconstruction']['pca']['components']}"


def reconstructions_by_name(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the reconstruction metrics by name: of the model, and of PCA where the recipe asks for it."""
    section = metrics["reconstruction"]
    by_name = {MODEL: section["model"]}
    if "pca" in section:
        by_name[pca_name(metrics)] = section["pca"]
    return by_name


def detectors_by_name(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the detection metrics by name: of the model and its baselines.

    Returns:
        Empty where there is no novelty, or the recipe does not ask for detection.
    """
    section = metrics.get("detection")
    if section is None:
        return {}
    by_name = {MODEL: section["model"]}
    if "pca_residual" in section:
        by_name[f"{pca_name(metrics)} residual"] = section["pca_residual"]
    by_name[f"kNN-{section['knn']['neighbours']} distance"] = section["knn"]
    return by_name


def best_value(rows: Mapping[str, Mapping[str, Any]], measure: QualityMeasure) -> Any:
    """Return the best value of a measure among rows of metrics; None where none of them has one."""
    values = [row[measure.key] for row in rows.values() if row[measure.key] is not None]
    if not values:
        return None
    if measure.direction == "min":
        return min(values)
    return max(values)
