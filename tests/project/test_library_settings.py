"""Settings that libraries read when they are loaded: they are there in time, and a user's own stay."""

import os
import subprocess
import sys

import pytest

SHOWN = "import os, sys; sys.argv = ['-m']; import aeops.stages; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),  # libgomp derives the count from it
    ],
)
def test_a_stage_limits_how_long_threads_spin_before_torch_is_loaded(own: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN], env=environment | own, capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.split() == ["False", expected]
