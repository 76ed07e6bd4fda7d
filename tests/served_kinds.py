"""A checkout with a recipe of a table and one of a series, small enough for whole runs in a minute each."""

from pathlib import Path
from typing import Any

import machine_series
import numpy as np
import pandas as pd
import wine_table
import yaml
from checkout import Checkout, make_checkout

ROWS, STEPS = 420, 700
EPOCHS = 3


def bottles(rows: int = ROWS) -> pd.DataFrame:
    """Wines of `wine_table` drawn with noise: numbers, whole numbers, booleans, categories, dates and missing values."""
    draw = np.random.default_rng(3)
    frame = wine_table.wines().sample(rows, replace=True, random_state=3, ignore_index=True)
    frame["alcohol"] += draw.normal(0, 0.2, rows).round(3)
    frame["proline"] += draw.integers(-40, 40, rows)
    frame["hue"] += draw.normal(0, 0.05, rows).round(4)
    return frame


def make_kinds_checkout(root: Path) -> Checkout:
    """A checkout whose recipes `wine` and `press` read files of readings and rows."""
    checkout = make_checkout(root)
    (root / "recipes" / "small.yaml").unlink()
    bottles().to_csv(root / "inbox" / "wine.csv", index=False)
    machine_series.readings(STEPS).to_csv(root / "inbox" / "press.csv", index=False)
    for name, sections in (("wine", table_sections()), ("press", series_sections())):
        recipe = {"recipe": name, "about": f"A small {name}.", "purpose": "reconstruct"} | sections
        (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return checkout


def table_sections() -> dict[str, Any]:
    return {
        "data": {
            "dataset": "wine",
            "source": {"kind": "table", "path": "inbox/wine.csv"},
            "split": {"validation": 0.15, "calibration": 0.25, "test": 0.25},
        },
        "validate": {"rows": {"min": 1, "max": 100000}, "mean_drift": 0.5, "quarantine_budget": 0.1, "duplicates": "accept"},
        "input": {"kind": "table", "columns": wine_table.COLUMNS},
        **wine_table.SECTIONS,
        "train": wine_table.SECTIONS["train"] | {"epochs": EPOCHS},
        "evaluate": {},
        "gate": {"served": {"check": "served"}, "logged": {"check": "logged"}},
    }


def series_sections() -> dict[str, Any]:
    return {
        "data": {
            "dataset": "press",
            "source": {"kind": "series", "path": "inbox/press.csv"},
            "split": {"by": "time", "validation": 0.15, "calibration": 0.25, "test": 0.25},
        },
        "validate": {"rows": {"min": 1, "max": 100000}, "mean_drift": 0.5, "quarantine_budget": 0.1, "completeness": 0.9},
        "input": {"kind": "series", "channels": machine_series.CHANNELS, "steps": machine_series.STEPS},
        **machine_series.SECTIONS,
        "train": machine_series.SECTIONS["train"] | {"epochs": EPOCHS},
        "evaluate": {},
        "gate": {"served": {"check": "served"}, "logged": {"check": "logged"}},
    }
