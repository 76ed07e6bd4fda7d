"""A project in an empty folder, and a bundle of a few bytes: the registry keeps bundles, it does not run them."""

import functools
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ae_models.checksums import write_checksums
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.database import artifacts_folder, database_file, prepare_database
from aeops.registry.ledger import Decision
from aeops.registry.store import Store, open_store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64, "dvc_md5": "d" * 32}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    return Project(root=tmp_path, home=tmp_path / ".ae")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database made once and copied: making one takes two seconds.

    Each store that is opened compares its tables' version with the newest of MLflow, for which that reads all its migrations. The
    newest one stays the same, so it is looked up once.
    """
    place = tmp_path_factory.mktemp("database")
    made = Project(root=place, home=place)
    prepare_database(made)
    from mlflow.store.db import utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_get_latest_schema_revision", functools.cache(utils._get_latest_schema_revision))
        yield database_file(made)


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
    return lambda word="one", weights=None: write_bundle(tmp_path / "bundles" / word, word, weights)


def write_bundle(place: Path, word: str, weights: str | None = None) -> Path:
    """A bundle of those words; the weights' own word is the model's where none is given."""
    place.mkdir(parents=True)
    described = {"format": 1, "input": {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255}}
    (place / "bundle.json").write_text(json.dumps(described), encoding="utf-8")
    (place / "model.onnx").write_text(word, encoding="utf-8")
    (place / "scorer.safetensors").write_bytes(b"")
    (place / "weights.safetensors").write_text(weights or word, encoding="utf-8")
    write_checksums(place)
    return place


@pytest.fixture(scope="session")
def three_versions(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project where digits has the versions 1, 2 and 3, and no champion. Registering them takes seconds."""
    place = tmp_path_factory.mktemp("versions")
    made = Project(root=place, home=place)
    made.mlflow.mkdir()
    shutil.copyfile(empty_database, database_file(made))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(made)
        for word in ("one", "two", "three"):
            run = store.start_run("digits", {}, {}, DATASET)
            store.register(run, "digits", write_bundle(place / "bundles" / word, word), {}, "")
    return made


@pytest.fixture
def registered(project: Project, three_versions: Project) -> Store:
    """A store of its own with the versions 1, 2 and 3."""
    return copied(three_versions, project)


@pytest.fixture(scope="session")
def five_decisions(three_versions: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with a ledger: 1 promoted, 2 refused, 3 promoted, back to 1, 2 promoted."""
    place = tmp_path_factory.mktemp("decisions")
    made = Project(root=place, home=place)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = copied(three_versions, made)
        promotion.promote(store, "digits", "1", expected=None, who="ada", why="better", evidence={"sha256": "1" * 64})
        promotion.record_decision(store, Decision("refusal", "digits", "2", "the gate", "worse", {"sha256": "2" * 64}))
        promotion.promote(store, "digits", "3", expected="1", who="ada", why="better", evidence={"sha256": "3" * 64})
        promotion.rollback(store, "digits", "1", who="grace", why="it flags everything")
        promotion.promote(store, "digits", "2", expected="1", who="ada", why="better", evidence={"sha256": "f" * 64})
    return made


@pytest.fixture
def decided(project: Project, five_decisions: Project) -> Store:
    """A store of its own with those decisions."""
    return copied(five_decisions, project)


@pytest.fixture(scope="session", name="copy_state")
def copy_state_of() -> Callable[[Project, Project], None]:
    return copy_state


def copied(made: Project, project: Project) -> Store:
    copy_state(made, project)
    return open_store(project)


def copy_state(made: Project, project: Project) -> None:
    """Gives the project another's database, files and ledgers."""
    project.mlflow.mkdir(parents=True)
    if artifacts_folder(made).is_dir():
        shutil.copytree(artifacts_folder(made), artifacts_folder(project))
    with closing(sqlite3.connect(database_file(made))) as given, closing(sqlite3.connect(database_file(project))) as copy:
        given.backup(copy)
    if (made.home / "ledger").is_dir():
        shutil.copytree(made.home / "ledger", project.home / "ledger")
