"""The prepared samples of a recipe, for evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeops.errors import DataError
from aeops.machine.stored_json import read_json


@dataclass(frozen=True)
class PreparedSamples:
    """Samples by their use.

    Attributes:
        folder: of the files; validation.npy and calibration.npy are in it, too.
        train: (n, ...) in raw units, memory-mapped: the samples that the model was trained on.
        test: (n, ...) in raw units: normals that neither training nor calibration saw, and novelty.
        table: one row a test sample: id, label (may be missing), group (its id where there are none), novelty.
        rows: how many samples each split holds.
        low, high: the range of raw values; float64 (channels, 1) where each channel has its own.
    """

    folder: Path
    train: np.ndarray
    test: np.ndarray
    table: pd.DataFrame
    rows: dict[str, int]
    low: Any
    high: Any

    @property
    def novelty(self) -> np.ndarray:
        """True for each test sample that is novelty, bool (n,)."""
        return self.table["novelty"].to_numpy(dtype=bool)

    @property
    def labels(self) -> np.ndarray:
        """Label of each test sample, int64 (n,); -1 where it has none."""
        return self.table["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)

    @cached_property
    def source(self) -> dict[str, Any]:
        """Origin of the samples as in dataset.json: kind, origin, sha256, and facts where the source has some."""
        source: dict[str, Any] = read_json(self.folder / "prepared.json", "source")["source"]
        return source

    @cached_property
    def train_labels(self) -> np.ndarray:
        """Label of each training sample, int64 (n,); -1 where it has none.

        Raises:
            DataError: the samples were prepared by a version that did not store labels.
        """
        file = self.folder / "train_labels.npy"
        if not file.is_file():
            raise DataError(f"{file} is missing: an older version prepared these samples; prepare them again")
        return np.asarray(np.load(file, allow_pickle=False))

    def scale(self, samples: np.ndarray) -> np.ndarray:
        """Return raw values as float32 in [0, 1]."""
        return np.asarray((samples.astype(np.float32) - self.low) / (self.high - self.low), dtype=np.float32)


def load_prepared(folder: Path) -> PreparedSamples:
    """Return the samples that stage prepare wrote to a folder."""
    metadata: dict[str, Any] = read_json(folder / "prepared.json", "rows")
    table = pd.read_parquet(folder / "test.parquet")
    novelty = int(table["novelty"].sum())
    low, high = _raw_range(metadata)
    rows = {}
    for split in ("train", "validation", "calibration"):
        rows[split] = int(metadata["rows"][split])
    return PreparedSamples(
        folder=folder,
        train=np.load(folder / "train.npy", mmap_mode="r"),
        test=np.load(folder / "test.npy", mmap_mode="r"),
        table=table,
        rows=rows | {"test_normal": len(table) - novelty, "test_novelty": novelty},
        low=low,
        high=high,
    )


def _raw_range(metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the range of raw values in a prepared.json."""
    if "ranges" not in metadata:
        return float(metadata["low"]), float(metadata["high"])
    ranges = np.array(list(metadata["ranges"].values()), np.float64)
    return ranges[:, :1], ranges[:, 1:]
