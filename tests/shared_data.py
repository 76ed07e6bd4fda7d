"""Real tables of the folder of sources, for tests that skip where it is absent."""

from pathlib import Path

import numpy as np
import pytest

from aeops.errors import DataError
from aeops.project import find_project

ROOT = Path(__file__).parents[1]


def load_adbench(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, float64 (n, columns), and labels (n,), 1 for an anomaly, of a classical set of ADBench."""
    try:
        folder = find_project(ROOT).find_source("adbench")
    except DataError:
        pytest.skip("the sources have no folder adbench")
    with np.load(folder / "Classical" / f"{name}.npz") as arrays:
        return arrays["X"].astype(np.float64), arrays["y"]
