"""Projects whose recipe `mine` reads 600 real digits from .npy files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from data_project import CHECKOUT, EACH, Room, make_room

from aeops.data.sources.catalogue import read_source
from aeops.project import find_project
from aeops.recipe.reader import load_recipe


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """600 real digits and their labels, sorted by label."""
    project = find_project(CHECKOUT)
    samples = read_source(load_recipe(project, "digits"), project)
    chosen = np.concatenate([np.flatnonzero(samples.labels == label)[:EACH] for label in range(10)])
    return samples.array[chosen, 0], samples.labels[chosen]


@pytest.fixture
def room(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.delenv("AE_HOME", raising=False)
    return make_room(tmp_path / "project", *digits)


@pytest.fixture(scope="session")
def accepted_once(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A project whose digits were accepted; tests take copies of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AE_HOME", raising=False)
        room = make_room(tmp_path_factory.mktemp("accepted") / "project", *digits)
        room.save()
        room.accept()
    return room.root


@pytest.fixture
def accepted(room: Room, accepted_once: Path) -> Room:
    """A room whose digits were accepted once."""
    shutil.copytree(accepted_once, room.root, dirs_exist_ok=True)
    return room
