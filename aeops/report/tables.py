"""Names of metrics and models in report, card and terminal. Standard library only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from aeops.drawing.words import format_share
from aeops.recipe.metric_names import (
    AT_REQUESTED_RATE,
    ISOLATION_FOREST,
    KNN,
    LOCAL_HULLS,
    MODEL_DETECTOR,
    PCA_RESIDUAL,
    TABLE_RATES,
)

MODEL = "model"


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


def describe_normals(alarms: Mapping[str, Any], one: str, *, is_labelled: bool = True) -> str:
    """Return what the normals of the section false_alarms are: `one`, such as normals, or blocks of windows of a series.

    Without labels nobody knows that they are normal, and the blocks are not called so.
    """
    block = alarms.get("block", 1)
    if block == 1:
        return one
    return f"blocks of {block} normal windows" if is_labelled else f"blocks of {block} windows"


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
    names = detector_names(metrics)
    return {names[key]: section[key] for key in names if key in section}


def detector_names(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the model and of every baseline that detects, by their keys in metrics.json, the model's first."""
    pca = "PCA"
    if "pca" in metrics["reconstruction"]:
        pca = pca_name(metrics)
    knn = "kNN"
    neighbours = metrics.get("detection", {}).get(KNN, {}).get("neighbours")
    if neighbours is not None:
        knn = f"kNN-{neighbours}"
    return {
        MODEL_DETECTOR: MODEL,
        PCA_RESIDUAL: f"{pca} residual",
        KNN: f"{knn} distance",
        **{key: f"hull-{neighbours} residual" for key, neighbours in LOCAL_HULLS.items()},
        ISOLATION_FOREST: "IsolationForest score",
    }


@dataclass(frozen=True)
class RateCell:
    """What a detector flags at one rate of false alarms.

    Attributes:
        text: the share of the novelty and, in parentheses, of the normals; a dash where the calibration samples are too few.
        is_best: whether no other detector catches more.
    """

    text: str
    is_best: bool


@dataclass(frozen=True)
class RateTable:
    """Shares of the novelty that each detector catches at several rates of false alarms.

    Attributes:
        head: the first column names the detector, the others a rate.
        rows: the cells of each detector by its name, the model's first.
        note: what the shares are of, and which rates the calibration samples are too few for.
    """

    head: list[str]
    rows: dict[str, list[RateCell]]
    note: str


def rate_table(metrics: Mapping[str, Any]) -> RateTable | None:
    """Return the table of metrics.json; None where nothing was ranked, or by an older version."""
    detectors = detectors_by_name(metrics)
    if "caught" not in detectors.get(MODEL, {}):
        return None
    rates = _table_rates(metrics)
    rows: dict[str, list[RateCell]] = {name: [] for name in detectors}
    missing_rates = []
    for key, rate in rates.items():
        shares = _defined_values(map(itemgetter("caught"), detectors.values()), key)
        if not shares:
            missing_rates.append(rate)
        for name, row in detectors.items():
            caught = row["caught"][key]
            is_best = caught is not None and caught == max(shares)
            rows[name].append(RateCell(_describe_flagged(caught, row["false_alarms"][key]), is_best))
    head = ["caught at false alarms of", *(f"{100 * rate:g} %" for rate in rates.values())]
    return RateTable(head, rows, _rate_note(metrics["rows"], missing_rates))


def _table_rates(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the rates of the table by their names, from low to high; the recipe's own is one of them, if it is of samples."""
    rates = dict(TABLE_RATES)
    requested = None if "block" in metrics["false_alarms"] else metrics["false_alarms"]["requested"]
    if requested is not None and requested not in rates.values():
        rates[AT_REQUESTED_RATE] = requested
    return dict(sorted(rates.items(), key=lambda item: item[1]))


def _describe_flagged(caught: float | None, false_alarms: float | None) -> str:
    if caught is None:
        return "–"
    return f"{format_share(caught)} ({format_share(false_alarms)})"


def _rate_note(rows: Mapping[str, int], missing_rates: list[float]) -> str:
    from ae_models.threshold_interface import conformal_rows  # here: it loads numpy, which a flow does without

    note = (
        f"Share of {rows['test_novelty']:,} samples of the novelty, and in parentheses of {rows['test_normal']:,} normals. Each "
        f"detector has a split-conformal threshold of its own, from the same {rows['calibration']:,} calibration samples."
    )
    for rate in missing_rates:
        note += f" A rate of {100 * rate:g} % needs {conformal_rows(rate):,} of them or more."
    return note


def describe_lead(metrics: Mapping[str, Any]) -> str:
    """Return the model's lead over the best baseline, and how the baselines were made; empty where it was not measured."""
    section = metrics.get("detection", {})
    if "lead_interval" not in section:
        return ""
    interval = "too few groups of test samples for an interval"
    if section["lead_interval"] is not None:
        low, high = section["lead_interval"]
        interval = f"95 % interval {low:+.3f} to {high:+.3f}, on the same samples"
    lead = f"{section['lead']:+.3f} in AUROC over the best baseline ({interval})"
    shrunk = ""
    if "baseline_shape" in section:
        shrunk = f", all samples shrunk to {' x '.join(map(str, section['baseline_shape']))},"
    return (
        f"Lead: {lead}. Baselines are fitted to {section['baseline_rows']:,} training samples{shrunk} and have the preprocessing "
        "of the model's score: see docs/gates.md."
    )


def best_value(rows: Mapping[str, Mapping[str, Any]], measure: QualityMeasure) -> Any:
    """Return the best value of a measure among rows of metrics; None where none of them has one."""
    values = _defined_values(rows.values(), measure.key)
    if not values:
        return None
    if measure.direction == "min":
        return min(values)
    return max(values)


def _defined_values(rows: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """Return the values of a metric, without those that are not defined."""
    return [row[key] for row in rows if row[key] is not None]
