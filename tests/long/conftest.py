"""What the tests of this folder share: the story of benchmarks/quarter.py, and the built wheel in an environment of its own."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from checkout import ROOT
from installed_wheel import build_wheel, install_wheel


@pytest.fixture(scope="session")
def quarter() -> ModuleType:
    """benchmarks/quarter.py, which tells the story with a record and a picture."""
    spec = importlib.util.spec_from_file_location("quarter", ROOT / "benchmarks" / "quarter.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["quarter"] = found  # its dataclasses ask for it
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(wheel, tmp_path_factory.mktemp("clean") / "environment")
