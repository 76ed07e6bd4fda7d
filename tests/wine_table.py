"""A table of real wines (scikit-learn's, of UCI) with a column of each type, and a model of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_wine

from ae_models.fit import fit
from ae_models.spec import FitSpec, InputSpec, SampleRules
from aeops.kinds.table import KIND
from aeops.kinds.table_rows import columns_of_frame, dataset_rows

COLUMNS: list[dict[str, Any]] = [
    {"name": "alcohol", "min": 5, "max": 20},
    {"name": "proline", "type": "integer"},
    {"name": "hue", "missing": True},
    {"name": "is strong", "type": "boolean"},
    {"name": "cultivar", "type": "category"},
    {"name": "bottled", "type": "date"},
]
SECTIONS: dict[str, Any] = {
    "model": {
        "corrupt": {"kind": "none"},
        "encode": {"kind": "table", "widths": [16], "embedding": 2},
        "bottleneck": {"kind": "identity", "size": 3},
        "decode": {"kind": "dense", "widths": [16]},
        "compare": {"kind": "mixed"},
    },
    "score": {
        "kind": "combined",
        "choose": "networks-by-power",
        "scores": [
            {"kind": "knn", "neighbours": 3},
            {"kind": "local-hull", "neighbours": 5},
            {"kind": "normalised-residual", "energy": 0},
        ],
    },
    "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.1},
    "train": {"epochs": 2, "batch": 32, "threads": 1, "accelerator": "cpu"},
}


def wines() -> pd.DataFrame:
    """178 wines; every ninth hue is missing."""
    data = load_wine(as_frame=True)
    frame = data.data
    hue = frame["hue"].where(np.arange(len(frame)) % 9 != 4)
    return pd.DataFrame(
        {
            "alcohol": frame["alcohol"],
            "proline": frame["proline"].astype(int),
            "hue": hue,
            "is strong": frame["alcohol"] > 13,
            "cultivar": np.array(["barolo", "grignolino", "barbera"])[data.target],
            "bottled": pd.Timestamp("1988-01-01") + pd.to_timedelta(np.arange(len(frame)) % 60, unit="D"),
        }
    ).sample(frac=1, random_state=0, ignore_index=True)


def wine_input() -> InputSpec:
    """The section input, with the categories that a dataset of all wines teaches."""
    spec = FitSpec.from_dict({"input": {"kind": "table", "columns": COLUMNS}, **SECTIONS}, "wine").input
    return KIND.learn_input([wine_dataset()], spec)


def wine_dataset(frame: pd.DataFrame | None = None) -> np.ndarray:
    """The wines as a dataset's rows."""
    spec = FitSpec.from_dict({"input": {"kind": "table", "columns": COLUMNS}, **SECTIONS}, "wine").input
    return dataset_rows(columns_of_frame(wines() if frame is None else frame, spec.columns), spec.columns, from_text=False)


def wine_rows() -> np.ndarray:
    """The wines as a model's rows, float64 (178, 6)."""
    return KIND.prepared_form(wine_dataset(), wine_input())


def fit_wines(folder: Path, nulls: Mapping[str, tuple[str, ...]] | None = None, **rules: str) -> Path:
    """A bundle of 100 wines, calibrated on 58; `nulls` are marks of missing values by column."""
    from ae_models.calibration import calibrate
    from ae_models.sample_sets import ArraySampleSet, SampleRoles

    given = wine_input()
    columns = [replace(column, nulls=(nulls or {}).get(column.name, ())) for column in given.columns]
    spec = FitSpec(replace(given, columns=tuple(columns)), *_other_sections())
    rows = wine_rows()
    places = {"checkpoints": folder / "checkpoints", "bundle": folder / "bundle", "history": folder / "history"}
    fit(spec, rows[:100], rows[100:120], rows[120:], **places, content_sha256="d" * 64, recipe="wine", progress_bar=False)
    roles = SampleRoles(*map(ArraySampleSet, (rows[:100], rows[100:120], rows[120:])))
    for name, rule in rules.items():
        sample_rules = SampleRules(**{name: rule, "expected": {"blank": (0.0, 0.0)}})
        calibrate(spec, folder / "history", roles, content_sha256="d" * 64, bundle=folder / f"{name}-{rule}", rules=sample_rules)
    return folder / "bundle"


def _other_sections() -> tuple[Any, ...]:
    spec = FitSpec.from_dict({"input": {"kind": "table", "columns": COLUMNS}, **SECTIONS}, "wine")
    return spec.model, spec.score, spec.threshold, spec.train
