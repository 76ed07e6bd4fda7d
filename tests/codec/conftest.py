"""A project whose recipe `tiny-codec` has a champion: a vq model of real digits, trained for seconds."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from champion_helpers import make_champion
from digits_recipe import single_model_recipe
from shipped_digits import shipped_digits

from ae_models.spec import FitSpec
from aeops.project import Project
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry.store import open_store

REPOSITORY = Path(__file__).parents[2]
MODEL = {
    "corrupt": {"kind": "none"},
    "encode": {"kind": "dense", "widths": [64]},
    "bottleneck": {"kind": "vq", "size": 16, "slots": 8, "words": 32},
    "decode": {"kind": "dense", "widths": [64]},
    "compare": {"kind": "mse"},
}
TRAIN = {"epochs": 4, "batch": 64, "learning_rate": 0.005, "threads": 1, "accelerator": "cpu"}


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """Real digits, uint8 (2000, 1, 28, 28), shuffled."""
    images, _ = shipped_digits()
    return images[np.random.default_rng(0).permutation(len(images))[:2000]]


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two recipes, `digits` and `tiny-codec`, and an empty registry."""
    root = tmp_path_factory.mktemp("project")
    (root / "recipes").mkdir()
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    shutil.copy(REPOSITORY / "recipes" / "digits.yaml", root / "recipes")
    recipe = single_model_recipe()
    recipe |= {"recipe": "tiny-codec", "model": MODEL, "train": TRAIN}
    (root / "recipes" / "tiny-codec.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return Project(root=root, home=root / ".ae")


@pytest.fixture(scope="session")
def recipe(empty_project: Project) -> Recipe:
    return load_recipe(empty_project, "tiny-codec")


@pytest.fixture(scope="session")
def codec_bundle(recipe: Recipe, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(recipe.fit, digits, tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="session")
def later_bundle(recipe: Recipe, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another training of the same recipe."""
    fit = dataclasses.replace(recipe.fit, train=dataclasses.replace(recipe.fit.train, epochs=1))
    return trained(fit, digits, tmp_path_factory.mktemp("later"))


def trained(spec: FitSpec, digits: np.ndarray, place: Path) -> Path:
    """Trains on the first 1,200 digits and calibrates on 200 more; the rest is for tests."""
    from ae_models.fit import fit  # loads torch: only for the tests that need a model

    fit(
        spec,
        digits[:1200],
        digits[1200:1300],
        digits[1300:1500],
        checkpoints=place / "checkpoints",
        content_sha256="c" * 64,
        recipe="tiny-codec",
        bundle=place / "bundle",
        history=place / "history",
        progress_bar=False,
    )
    return place / "bundle"


@pytest.fixture(scope="session")
def project(empty_project: Project, codec_bundle: Path) -> Project:
    """The project, with the model as champion of `tiny-codec`; `digits` has none."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        register(empty_project, codec_bundle, "tiny-codec")
    return empty_project


@pytest.fixture(scope="session", name="register")
def register_of() -> Callable[[Project, Path, str], str]:
    return register


def register(project: Project, bundle: Path, recipe: str) -> str:
    """Registers the bundle as the recipe's champion; returns its version."""
    store = open_store(project)
    run = store.start_run(recipe, {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
    version = store.register(run, recipe, bundle, {"verdict": "accepted"}, "# tiny")
    make_champion(store, recipe, version)
    return version
