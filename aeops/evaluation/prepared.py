"""The prepared samples of a recipe, as evaluation needs them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.errors import DataError
from aeops.files import read_json


@dataclass(frozen=True)
class Prepared:
    """Samples set aside by their use.

    Attributes:
        folder: where they lie, with validation.npy and calibration.npy beside those that are loaded here.
        train: (n, ...) in raw units, memory-mapped: the samples that the model was trained on.
        test: (n, ...) in raw units: normals that neither training nor calibration saw, and novelty.
        table: one row a test sample: id, label (may be missing), group (its id where there are none), novelty.
        rows: how many samples each split holds.
        low, high: the range of raw values.
    """

    folder: Path
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

    @property
    def labels(self) -> np.ndarray:
        """The label of each test sample, int64 (n,); -1 where it has none."""
        return self.table["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)

    @cached_property
    def source(self) -> dict[str, Any]:
        """Where the samples come from, as dataset.json says: kind, origin, sha256, and facts where the source tells some."""
        found: dict[str, Any] = read_json(self.folder / "prepared.json")["source"]
        return found

    @cached_property
    def train_labels(self) -> np.ndarray:
        """The label of each training sample, int64 (n,); -1 where it has none.

        Raises:
            DataError: samples that were prepared before labels were kept.
        """
        file = self.folder / "train_labels.npy"
        if not file.is_file():
            raise DataError(f"{file} is missing: an older version prepared these samples; prepare them again")
        return np.asarray(np.load(file, allow_pickle=False))

    def scaled(self, samples: np.ndarray) -> np.ndarray:
        """Raw values as float32 in [0, 1]."""
        return np.asarray((samples.astype(np.float32) - self.low) / (self.high - self.low), dtype=np.float32)


def load_prepared(folder: Path) -> Prepared:
    facts: dict[str, Any] = read_json(folder / "prepared.json")
    table = pd.read_parquet(folder / "test.parquet")
    novelty = int(table["novelty"].sum())
    rows = {name: int(facts["rows"][name]) for name in ("train", "validation", "calibration")}
    return Prepared(
        folder=folder,
        train=np.load(folder / "train.npy", mmap_mode="r"),
        test=np.load(folder / "test.npy", mmap_mode="r"),
        table=table,
        rows=rows | {"test_normal": len(table) - novelty, "test_novelty": novelty},
        low=float(facts["low"]),
        high=float(facts["high"]),
    )
