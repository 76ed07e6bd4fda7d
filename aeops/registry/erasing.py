"""Deletes files of versions that hold forgotten samples: pictures in their runs, examples beside their models, whole bundles."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aeops.registry.packing import BUNDLE_PATH
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

PICTURES = ("report.html", "figures", "studies.json")  # of a run
EXAMPLES = ("input_example.json", "serving_input_example.json")  # of a logged model


def erase_pictures(store: Store, version: VersionInfo) -> list[str]:
    """Delete the report and the figures of a version's run, and the examples of its model; return what there was."""
    erased = []
    if store.has_run(version.run_id):
        address = store.client.get_run(version.run_id).info.artifact_uri
        erased += _erase(_repository(store, address), PICTURES)
    return erased


def erase_examples(store: Store, recipe: str, version: VersionInfo) -> list[str]:
    """Delete the samples that MLflow keeps as examples of a version's requests; return what there was."""
    return _erase(_repository(store, store.client.get_model_version_download_uri(recipe, version.version)), EXAMPLES)


def erase_bundle(store: Store, recipe: str, version: VersionInfo) -> list[str]:
    """Delete the bundle of a version in the registry; return what there was."""
    address = store.client.get_model_version_download_uri(recipe, version.version)
    return _erase(_repository(store, address), [BUNDLE_PATH])


def _repository(store: Store, address: str) -> "ArtifactRepository":
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(address, tracking_uri=store.uri)


def _erase(repository: "ArtifactRepository", paths: Iterable[str]) -> list[str]:
    """Delete files or folders where they are there."""
    erased = []
    for path in paths:
        parent = str(PurePosixPath(path).parent)
        listed = repository.list_artifacts("" if parent == "." else parent)
        if any(entry.path == path for entry in listed):
            repository.delete_artifacts(path)
            erased.append(path)
    return erased
