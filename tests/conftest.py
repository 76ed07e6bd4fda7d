"""How the suite is spread over processes (`-n`): what shares a costly fixture stays together, the longest starts first. And what
no test may leave behind."""

import os
from collections.abc import Iterator

import pytest
from checkout import FOREIGN

# Two trainings at once share the cores: threads that wait must not spin. Set before torch loads, here and in children.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests that ask onnxruntime themselves, past the door that says so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


# Files whose tests take minutes together, after those of tests/pipeline: begun last, they would leave the other cores idle.
LONGEST = (
    *("test_killed_registering.py", "test_rows_and_memory.py"),
    *("test_killed_scoring.py", "test_scoring_flow.py", "test_codes.py"),
)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """What a command that runs within a test sets for its own process, such as where the state lies, ends with the test."""
    before = {name: os.environ.get(name) for name in FOREIGN}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        shares_run = "first_run" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("first_run" if shares_run else str(item.path)))
    items.sort(key=place)  # stable: within a file the order stays


def place(item: pytest.Item) -> int:
    """When an item's group is begun: what shares the first run is the longest of all, then the rest of tests/pipeline."""
    if "first_run" in getattr(item, "fixturenames", ()):
        return 0
    if "pipeline" in item.path.parts:
        return 1
    return 2 if item.path.name in LONGEST else 3
