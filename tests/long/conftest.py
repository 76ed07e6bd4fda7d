"""The story of benchmarks/quarter.py, in which the tests of this folder take part."""

import importlib.util
import sys
from types import ModuleType

import pytest
from checkout import ROOT


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
