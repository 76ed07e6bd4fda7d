"""The prepared samples of a recipe, as evaluation needs them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.dataset import read_json


@dataclass(frozen=True)
class Prepared:
    """Samples set aside by their use.

    Attributes:
        train: (n, c, h, w) in raw units, memory-mapped: the samples that the model was trained on.
        test: (n, c, h, w) in raw units: normals that neither training nor calibration saw, and all novelty.
        table: one row a test sample: id, label (may be missing), novelty.
        rows: how many samples each split holds.
        low, high: the range of raw values.
    """

    train: np.ndarray
    test: np.ndarray
    table: pd.DataFrame
    rows: dict[str, int]
    low: float
    high: float

    @property
    def novelty(self) -> np.ndarray:
        """Whether each test sample is novelty, bool (n,)."""
        return self.table["novelty"].to_numpy(dtype=bool)

    def scaled(self, samples: np.ndarray) -> np.ndarray:
        """Raw values as float32 in [0, 1]."""
        return np.asarray((samples.astype(np.float32) - self.low) / (self.high - self.low), dtype=np.float32)


def load_prepared(folder: Path) -> Prepared:
    facts: dict[str, Any] = read_json(folder / "prepared.json")
    table = pd.read_parquet(folder / "test.parquet")
    novelty = int(table["novelty"].sum())
    rows = {name: int(facts["rows"][name]) for name in ("train", "validation", "calibration")}
    return Prepared(
        train=np.load(folder / "train.npy", mmap_mode="r"),
        test=np.load(folder / "test.npy", mmap_mode="r"),
        table=table,
        rows=rows | {"test_normal": len(table) - novelty, "test_novelty": novelty},
        low=float(facts["low"]),
        high=float(facts["high"]),
    )
