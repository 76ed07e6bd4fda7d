"""A project in an empty folder, and a bundle of a few bytes: the registry keeps bundles, it does not run them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ae_models.sums import write_sums
from aeops.project import Project
from aeops.registry.database import database_file, prepare_database
from aeops.registry.store import Store, open_store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64, "dvc_md5": "d" * 32}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    return Project(root=tmp_path, home=tmp_path / ".ae")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once and copied: making one takes two seconds."""
    place = tmp_path_factory.mktemp("database")
    made = Project(root=place, home=place)
    prepare_database(made)
    return database_file(made)


@pytest.fixture
def store(project: Project, empty_database: Path) -> Store:
    project.mlflow.mkdir(parents=True)
    shutil.copyfile(empty_database, database_file(project))
    return open_store(project)


@pytest.fixture
def start(store: Store) -> Callable[[], str]:
    return lambda: store.start_run("digits", {"git.commit": "abc"}, {"train": {"epochs": 3, "widths": [1, 2]}}, DATASET)


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle whose content depends on a word."""

    def write(word: str = "one") -> Path:
        place = tmp_path / "bundles" / word
        place.mkdir(parents=True)
        described = {"format": 1, "input": {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255}}
        (place / "bundle.json").write_text(json.dumps(described), encoding="utf-8")
        (place / "model.onnx").write_text(word, encoding="utf-8")
        for name in ("scorer.safetensors", "weights.safetensors"):
            (place / name).write_bytes(b"")
        write_sums(place)
        return place

    return write
