"""The detectors of benchmarks/anomaly_tables.py: PyOD's with their defaults, a local hull, and this project's estimators.

Each is fitted to the same rows. Rows are standardised by the mean and standard deviation of the training rows' columns for all
of PyOD's and the hull; this project's estimators take them as they are.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aeops.evaluation.baselines import HULL_RIDGES, FittedBaselines, ResidualTreatment
from aeops.recipe.metric_names import LOCAL_HULLS

__all__ = ["DETECTORS", "OWN_DETECTORS", "FittedDetector", "TableDetector"]

RATE = 0.1  # of false alarms: what PyOD's `contamination` is by default, and the smallest set has calibration rows enough
HULL_NEIGHBOURS = 10
OWN_VERSION = 4  # of this project's estimators: raise it where their scores change, so that old cells do not count
Scorer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FittedDetector:
    """A detector that has seen the training rows.

    Attributes:
        score: of rows (n, columns), as they are stored: (n,), higher for anomalies.
        threshold: above which a row is an anomaly, at the rate RATE; None for a detector without one.
    """

    score: Scorer
    threshold: float | None


@dataclass(frozen=True)
class TableDetector:
    """A detector with its settings.

    Attributes:
        fit: takes training rows (n, columns) and a seed.
        settings: whatever decides its scores beside rows and seed: other settings are other cells.
    """

    fit: Callable[[np.ndarray, int], FittedDetector]
    settings: Mapping[str, Any] = field(default_factory=dict)


def standardiser(train: np.ndarray) -> Scorer:
    """Return the function that standardises rows by the columns of the training rows; a constant column keeps its unit."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, 1.0)
    return lambda rows: (rows - mean) / deviation


def pyod_detector(module: str, name: str, **settings: Any) -> TableDetector:
    """Return a detector of PyOD with its defaults but for `settings`; its threshold is its own, at `contamination` RATE."""

    def fit(train: np.ndarray, seed: int) -> FittedDetector:
        import importlib

        detector_class = getattr(importlib.import_module(f"pyod.models.{module}"), name)
        standardise = standardiser(train)
        arguments = dict(settings)
        if "random_state" in detector_class.__init__.__code__.co_varnames:
            arguments["random_state"] = seed
        if name == "DeepSVDD":
            arguments["n_features"] = train.shape[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = detector_class(contamination=RATE, **arguments).fit(standardise(train))
        return FittedDetector(lambda rows: detector.decision_function(standardise(rows)), float(detector.threshold_))

    return TableDetector(fit, {"library": f"pyod {version('pyod')}", **settings})


def fit_hull(train: np.ndarray, seed: int) -> FittedDetector:
    """Fit the local hull that stands beside every model of this project (`aeops.evaluation.baselines`)."""
    standardise = standardiser(train)
    baselines = FittedBaselines(standardise(train)[:, np.newaxis], min(5, len(train)), ResidualTreatment(), None)
    [name] = [name for name, neighbours in LOCAL_HULLS.items() if neighbours == HULL_NEIGHBOURS]

    def score(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            return baselines.score(standardise(rows)[:, np.newaxis])[name]

    return FittedDetector(score, None)


def own_detector(name: str, **parameters: Any) -> TableDetector:
    """Return an estimator of ae_models.sklearn with its defaults but for `parameters` and the rate of false alarms."""

    def fit(train: np.ndarray, seed: int) -> FittedDetector:
        import ae_models.sklearn

        detector_class = getattr(ae_models.sklearn, name)
        detector = detector_class(false_alarm_rate=RATE, random_state=seed, **parameters).fit(train)
        return FittedDetector(lambda rows: -detector.score_samples(rows), -detector.offset_)

    return TableDetector(fit, {"version": OWN_VERSION, **parameters})


DETECTORS: dict[str, TableDetector] = {
    "MemoryDetector": own_detector("MemoryDetector"),
    "MemoryDetector, trim 0.2": own_detector("MemoryDetector", trim=0.2),
    "AutoencoderDetector": own_detector("AutoencoderDetector"),
    "PyOD kNN": pyod_detector("knn", "KNN"),
    "PyOD IForest": pyod_detector("iforest", "IForest"),
    "PyOD ECOD": pyod_detector("ecod", "ECOD"),
    "PyOD PCA": pyod_detector("pca", "PCA"),
    "local hull": TableDetector(fit_hull, {"neighbours": HULL_NEIGHBOURS, "ridge": HULL_RIDGES[HULL_NEIGHBOURS]}),
    "PyOD AutoEncoder": pyod_detector("auto_encoder", "AutoEncoder", verbose=0),
    "PyOD VAE": pyod_detector("vae", "VAE", verbose=0),
    "PyOD DeepSVDD": pyod_detector("deep_svdd", "DeepSVDD", verbose=0),
}
OWN_DETECTORS = tuple(name for name in DETECTORS if name.split(",")[0].endswith("Detector"))
