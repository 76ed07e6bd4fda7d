"""How the suite is spread over processes (`-n`): what shares a costly fixture stays together, the longest starts first."""

import os

import pytest

# Two trainings at once share the cores: threads that wait must not spin. Set before torch loads, here and in children.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests that ask onnxruntime themselves, past the door that says so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        shares_run = "first_run" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("first_run" if shares_run else str(item.path)))
    items.sort(key=lambda item: "pipeline" not in item.path.parts)  # stable: within a folder the order stays
