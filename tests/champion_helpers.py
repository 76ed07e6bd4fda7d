"""A champion for tests that need one and ask nothing about how it came to be."""

import hashlib
import shutil
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.store import Store, open_store


def make_champion(store: Store, recipe: str, version: str) -> None:
    """Promotes the version over whichever is champion."""
    champion = store.champion(recipe)
    evidence = {"sha256": hashlib.sha256(f"{recipe} {version}".encode()).hexdigest()}
    before = champion.version if champion else None
    promotion.promote(store, recipe, version, expected=before, who="a test", why="needs a champion", evidence=evidence)


def project_with_champion(root: Path, bundle: Path) -> tuple[Project, Store, str]:
    """Make a project with the recipe digits and a bundle as its champion; return it, its store and its MLflow run."""
    (root / "recipes").mkdir()
    for name in ("recipes/digits.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        project = Project(root=root, home=root / ".ae")
        store = open_store(project)
        run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
        facts = {"verdict": "accepted", "git.commit": "0123456789", "git.dirty": "true", "data.content_sha256": "c" * 64}
        make_champion(store, "digits", store.register(run, "digits", bundle, facts, "# digits"))
    return project, store, run


def stored_bundle(store: Store, recipe: str, version: str) -> Path:
    """The folder in a local MLflow's store that holds the version's bundle."""
    place = store.client.get_model_version_download_uri(recipe, version).removeprefix("file://")
    return Path(place) / "artifacts" / "bundle"
