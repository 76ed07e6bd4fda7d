"""Projects whose recipe `mine` reads real digits, series or texts."""

import numpy as np
import pytest
from data_project import Room, make_room
from shipped_digits import shipped_digits

EACH = 40  # digits of each label


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """400 real digits, uint8 (400, 28, 28), and their labels, sorted by label."""
    images, labels = shipped_digits()
    chosen = np.concatenate([np.flatnonzero(labels == label)[:EACH] for label in range(10)])
    return images[chosen].reshape(-1, 28, 28).astype(np.uint8), labels[chosen].astype(np.int64)


@pytest.fixture
def room(
    tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Room:
    monkeypatch.delenv("AE_HOME", raising=False)
    return make_room(tmp_path_factory.mktemp("audited") / "project", *digits)
