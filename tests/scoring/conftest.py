"""A project whose champion is the linear model, with an inbox that files can be put in."""

import io
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.conftest import digits, linear_bundle, project  # the same real bundle, made once a process

from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.scoring.inbox_run import score_inbox

__all__ = ["digits", "linear_bundle", "project"]

AGO = 60.0  # seconds: older than what may still be written


@dataclass
class Room:
    """The project with an empty inbox and nothing recorded."""

    project: Project

    @property
    def inbox(self) -> Path:
        return self.project.home / "inbox" / "digits"

    @property
    def folder(self) -> Path:
        return self.project.home / "scoring" / "digits"

    def put(self, name: str, samples: np.ndarray, ago: float = AGO) -> Path:
        """A .npy file in the inbox, last written to so many seconds ago."""
        return self.put_bytes(name, npy_bytes(samples), ago)

    def put_bytes(self, name: str, content: bytes, ago: float = AGO) -> Path:
        place = self.inbox / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        age(place, ago)
        return place

    def run(self, **settings: Any) -> dict[str, Any]:
        return score_inbox(self.project, load_recipe(self.project, "digits", with_keys=True), **settings)

    def rows(self) -> list[tuple[str, str]]:
        """(sample, its hash) of everything that batches have recorded, sorted."""
        table = prediction_store.read_predictions(self.project, "digits", channels=["batch"])
        return sorted(zip(table["sample"].to_pylist(), table["sample_sha256"].to_pylist(), strict=True))

    def calls(self) -> list[Path]:
        return sorted((self.project.home / "predictions" / "digits").glob("*/*.parquet"))

    def clear(self) -> None:
        for name in ("inbox", "scoring", "predictions"):
            shutil.rmtree(self.project.home / name, ignore_errors=True)
        self.inbox.mkdir(parents=True)


def npy_bytes(samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, samples)
    return stream.getvalue()


def age(place: Path, ago: float = AGO) -> None:
    then = time.time() - ago
    os.utime(place, (then, then))


@pytest.fixture
def room(project: Project, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME", "AE_SOURCES"):
        monkeypatch.delenv(name, raising=False)
    made = Room(project)
    made.clear()
    return made
