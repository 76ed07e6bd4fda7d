"""A project whose champion is the linear model of tests/serving, with its reference, and how to score real digits on a day."""

import importlib.util
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from champion_helpers import make_champion
from monitored_project import ROOT, Score, make_project, on_day, promotion_of, scoring

from aeops.bundle.detector import Detector
from aeops.evaluation.reference import write_reference
from aeops.monitoring import paths
from aeops.project import Project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.registry import ledger
from aeops.registry.store import open_store


def neighbour(path: str) -> ModuleType:
    """A conftest of another folder of tests, which has what is needed here, too."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), ROOT / "tests" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serving = neighbour("serving/conftest.py")
digits, linear_bundle = serving.digits, serving.linear_bundle


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return read_recipe(ROOT / "recipes" / "digits.yaml")


@pytest.fixture(scope="session")
def reference(linear_bundle: Path, digits: np.ndarray, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """reference.parquet of the linear model."""
    place = tmp_path_factory.mktemp("reference") / "reference.parquet"
    write_reference(place, recipe.fit, digits[1000:1200], Detector(linear_bundle))
    return place


@pytest.fixture
def project(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """By its ledger the champion is version 1, whose reference was fetched before; nothing is scored, and there is no MLflow."""
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    made = make_project(tmp_path / "project")
    decision = ledger.Decision("promotion", "digits", "1", who="a test", why="needs a champion", to_version="1")
    ledger.append_entry(made, decision)
    paths.monitoring_folder(made, "digits").mkdir(parents=True)
    shutil.copy(reference, paths.monitoring_folder(made, "digits") / "reference-1.parquet")
    return made


@pytest.fixture(scope="session")
def registered(linear_bundle: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose registry holds the champion, and the reference in its run."""
    made = make_project(tmp_path_factory.mktemp("registered") / "project")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        store = open_store(made)
        run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
        store.log_files(run, [reference], "monitoring")
        make_champion(store, "digits", store.register(run, "digits", linear_bundle, {"verdict": "accepted"}, "# digits"))
    return made


@pytest.fixture
def promoted(project: Project) -> datetime:
    return promotion_of(project)


@pytest.fixture(scope="session")
def normal(digits: np.ndarray) -> np.ndarray:
    """Digits that the model has not seen, (3800, 1, 28, 28)."""
    return digits[1200:]


@pytest.fixture
def score(project: Project, linear_bundle: Path) -> Score:
    """score(day, samples, channel="service", version="1"): records predictions, `day` days after the promotion at noon."""
    return scoring(project, linear_bundle)


@pytest.fixture
def at(promoted: datetime) -> Callable[[int], datetime]:
    """at(day): the evening of that day after the promotion."""
    return lambda day: on_day(promoted, day) + timedelta(hours=11)
