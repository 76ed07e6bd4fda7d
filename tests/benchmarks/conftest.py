"""A bundle that scores real digits and costs no training, in the folder that `--trained` of the benchmarks reads."""

from pathlib import Path

import pytest
import served_champion


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a benchmark leaves it that has trained a bundle and keeps it."""
    folder = tmp_path_factory.mktemp("trained")
    served_champion.linear_bundle(folder / "bundle")
    return folder
