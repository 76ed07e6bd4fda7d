"""Files that are made once for all processes of pytest-xdist."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the scratch folder that all processes of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def make_once(file: Path, make: Callable[[Path], None]) -> None:
    """Make a file in the shared folder unless another process has; `make` writes it under the name that it gets."""
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.is_file():
            unfinished = file.with_name(f"unfinished-{file.name}")
            make(unfinished)
            unfinished.rename(file)
