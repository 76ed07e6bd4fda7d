"""A champion for tests that need one and ask nothing about how it came to be."""

import hashlib
from pathlib import Path

from aeops.registry import promotion
from aeops.registry.store import Store


def make_champion(store: Store, recipe: str, version: str) -> None:
    """Promotes the version over whichever is champion."""
    champion = store.champion(recipe)
    evidence = {"sha256": hashlib.sha256(f"{recipe} {version}".encode()).hexdigest()}
    before = champion.version if champion else None
    promotion.promote(store, recipe, version, expected=before, who="a test", why="needs a champion", evidence=evidence)


def stored_bundle(store: Store, recipe: str, version: str) -> Path:
    """The folder in a local MLflow's store that holds the version's bundle."""
    place = store.client.get_model_version_download_uri(recipe, version).removeprefix("file://")
    return Path(place) / "artifacts" / "bundle"
