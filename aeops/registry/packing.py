"""Store a bundle as an MLflow model and fetch it again: without pickle, and with the same bytes at both ends."""

import json
import logging
import shutil
import tempfile
import time
from importlib.metadata import version as installed_version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ae_models.checksums import CHECKSUM_FILE, bundle_sha256, verify_bundle
from ae_models.errors import BundleError
from aeops.errors import DataError
from aeops.files import atomic_folder, make_folder, replace_folder, set_default_modes
from aeops.kinds import KIND_INFOS
from aeops.kinds.interface import load_kind
from aeops.kinds.results import ColumnSchema, NamedColumn
from aeops.kinds.samples import SampleSpec
from aeops.machine.scratch import ScratchFolder
from aeops.project import Project
from aeops.registry.carried_code import write_carried_code
from aeops.registry.locations import is_local_location, local_path, sync_location

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from aeops.registry.versions import VersionInfo

REQUIREMENTS = ("mlflow", "numpy", "onnxruntime")  # what every served model needs, pinned as installed here
SOURCE_ROOT = Path(__file__).parents[2]
EXAMPLES = 2  # samples in the input example
BUNDLE_PATH = "artifacts/bundle"  # of the bundle inside the logged model


class StoredBundleError(DataError):
    """A version's bundle that MLflow's store holds damaged, or no longer; the message has no advice."""


class OpenStore(Protocol):
    """Part of a connected `aeops.registry.store.Store` that packing needs."""

    client: "MlflowClient"
    project: Project
    uri: str


def log_model(store: OpenStore, run_id: str, recipe: str, bundle: Path) -> "LoggedModel":
    """Log the bundle under the run as a model of MLflow's, and check that it arrived whole.

    Not `mlflow.pyfunc.log_model`: that talks to the address in MLflow's globals, and loads the model in this process.

    Raises:
        DataError: the bundle that MLflow keeps has other bytes.
    """
    from mlflow.entities import LoggedModelOutput

    run = store.client.get_run(run_id)
    model = store.client.create_logged_model(run.info.experiment_id, name=recipe, source_run_id=run_id)
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with ScratchFolder() as folder:
        save_model(Path(folder) / "model", store.project, recipe, bundle, run_id=run_id, model_id=model.model_id)
        set_default_modes(Path(folder) / "model")  # which MLflow's copy of a file keeps
        started_at = time.time()
        store.client.log_model_artifacts(model.model_id, f"{folder}/model")
        sync_location(store.project, model.artifact_location, started_at)
        stored_sha256 = bundle_sha256(download(store, f"{model.artifact_location}/{BUNDLE_PATH}", Path(folder) / "arrived"))
    if stored_sha256 != bundle_sha256(bundle):
        raise DataError(f"MLflow keeps another bundle than {bundle}: nothing was registered; type the same command again")
    return store.client.finalize_logged_model(model.model_id, "READY")


def save_model(folder_path: Path, project: Project, recipe: str, bundle: Path, run_id: str, model_id: str) -> None:
    """Write the model's folder: the bundle, the code that reads it, the signature and an input example."""
    import mlflow.pyfunc
    from mlflow.models import Model

    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    kind, spec = document["input"]["kind"], SampleSpec.from_bundle(document)
    package_names, schema = REQUIREMENTS + KIND_INFOS[kind].packages, load_kind(kind).served_schema(spec)
    _quiet_mlflow_logs()
    with ScratchFolder() as staging_folder:
        bundle_copy = shutil.copytree(bundle, Path(staging_folder) / "bundle")  # MLflow keeps a folder under the name it has
        package, served_model = write_carried_code(SOURCE_ROOT, Path(staging_folder) / "code")
        mlflow.pyfunc.save_model(
            folder_path,
            python_model=str(served_model),
            artifacts={"bundle": str(bundle_copy)},
            code_paths=[str(package)],
            signature=model_signature(schema),
            input_example=(_input_example(project, recipe, kind, spec), dict.fromkeys(schema.params, False)),
            pip_requirements=[f"{name}=={installed_version(name)}" for name in package_names],
            mlflow_model=Model(run_id=run_id, model_id=model_id, artifact_path=recipe),
        )


def _quiet_mlflow_logs() -> None:
    """Hide two messages that MLflow logs for every model: that it reads the example, and that it does not know pip's version."""
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def model_signature(schema: ColumnSchema) -> "ModelSignature":
    """Return the signature: a batch of samples, the answer to each, and what may be asked for beside it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType, Array

    special_types = {"any": AnyType(), "strings": Array(DataType.string)}

    def column_spec(column: NamedColumn) -> ColSpec:
        return ColSpec(special_types.get(column.dtype, column.dtype), column.name, required=column.is_required)

    inputs: list[TensorSpec | ColSpec] = [TensorSpec(np.dtype(schema.dtype), schema.shape)]
    if schema.columns is not None:
        inputs = list(map(column_spec, schema.columns))
    return ModelSignature(
        inputs=Schema(inputs),
        outputs=Schema(list(map(column_spec, schema.answers))),
        params=ParamSchema([ParamSpec(name, DataType.boolean, False) for name in schema.params]),
    )


def _input_example(project: Project, recipe: str, kind: str, spec: SampleSpec) -> "np.ndarray | pd.DataFrame":
    """Return the first prepared test samples as they are served: (EXAMPLES, *shape), or by name where the kind has columns.

    They are made up where none are prepared.
    """
    test_file = project.artifacts(recipe) / "prepared" / "test.npy"
    test_samples = None
    if test_file.is_file():
        test_samples = np.load(test_file, mmap_mode="r")[:EXAMPLES]
    data_kind = load_kind(kind)
    example = data_kind.served_example(test_samples, spec, EXAMPLES)
    columns = data_kind.served_columns(example, spec)
    if columns is None:
        return example
    import pandas as pd

    return pd.DataFrame(columns)


def download(store: OpenStore, address: str, folder_path: Path) -> Path:
    """Download a bundle's folder from MLflow into a new folder; return its path there, verified."""
    from mlflow.artifacts import download_artifacts

    folder_path.mkdir(parents=True)
    bundle = Path(download_artifacts(artifact_uri=address, dst_path=str(folder_path), tracking_uri=store.uri))
    verify_bundle(bundle)
    return bundle


def download_stored(store: OpenStore, recipe: str, version: str, folder_path: Path) -> Path:
    """Download the bundle that MLflow stores for a version into a new folder; return its path there, verified.

    Raises:
        StoredBundleError: it is damaged, or MLflow's store answers and holds no file of it.
        MlflowException: it cannot be downloaded for another reason, such as a full disk here or a store that does not answer.
    """
    from mlflow.exceptions import MlflowException

    address = store.client.get_model_version_download_uri(recipe, version)
    try:
        return download(store, f"{address}/{BUNDLE_PATH}", folder_path)
    except BundleError as error:
        raise StoredBundleError(f"the bundle of {recipe} {version} in {store.uri} is damaged: {error.reason}") from error
    except MlflowException as error:
        if _artifact_repository(store, address).list_artifacts(BUNDLE_PATH):
            raise
        raise StoredBundleError(f"the bundle of {recipe} {version} is not in the store of {store.uri}") from error


def fetch_bundle(store: OpenStore, recipe: str, version: "VersionInfo", folder_path: Path) -> Path:
    """Make a folder the version's bundle, whole or not at all.

    Raises:
        DataError: the bundle that the registry holds is damaged, or another one than was registered.
    """
    expected = version.tags.get("bundle_sha256")
    if folder_path.is_dir() and _is_whole(folder_path, expected):
        return folder_path
    make_folder(folder_path.parent)
    with tempfile.TemporaryDirectory(dir=folder_path.parent) as folder:
        try:
            downloaded_bundle = download_stored(store, recipe, version.version, Path(folder) / "download")
        except StoredBundleError as error:
            raise DataError(
                f"{error}. Nothing of it was loaded. `ae run {recipe}` uploads the champion's bundle again, if a copy is left "
                f"here; of another version, take another one: `ae show {recipe}` lists them"
            ) from error
        _require_registered(store, recipe, version, downloaded_bundle)
        replace_folder(downloaded_bundle, folder_path)
    return folder_path


def stored_bundle(store: OpenStore, recipe: str, version: "VersionInfo") -> Path:
    """Return the version's bundle where the project's own MLflow keeps it, without a copy.

    Raises:
        BundleError: it is altered.
        DataError: it is another one than was registered.
    """
    bundle = local_path(store.client.get_model_version_download_uri(recipe, version.version)) / BUNDLE_PATH
    verify_bundle(bundle)
    _require_registered(store, recipe, version, bundle)
    return bundle


def _require_registered(store: OpenStore, recipe: str, version: "VersionInfo", bundle: Path) -> None:
    expected = version.tags.get("bundle_sha256")
    if expected is None:
        raise DataError(
            f"{recipe} {version.version} in {store.uri} has no tag bundle_sha256: it was deleted there. "
            f"`ae run {recipe}` sets the champion's again; of another version, take another one: `ae show {recipe}` lists them"
        )
    if bundle_sha256(bundle) != expected:
        raise DataError(
            f"{recipe} {version.version} in {store.uri} is not the bundle {expected} it was registered as: do not serve it"
        )


def upload_bundle(store: OpenStore, recipe: str, version: str, bundle: Path) -> None:
    """Replace the bundle in the logged model of a version.

    Wherever this is interrupted, a reader finds the old bundle, the new one, none, or one that its checksums show to be damaged.
    On this machine the new one is written beside the old one and takes its place as a whole.
    """
    address = store.client.get_model_version_download_uri(recipe, version)
    if not is_local_location(address):
        upload_files(_artifact_repository(store, address), bundle)
        return
    with atomic_folder(local_path(address) / BUNDLE_PATH) as new_folder:
        for file in bundle.iterdir():
            shutil.copyfile(file, new_folder / file.name)


def upload_files(repository: "ArtifactRepository", bundle: Path) -> None:
    """Upload a bundle's files one by one, `SHA256SUMS` last: until then the stored ones do not match their checksums."""
    names = sorted(file.name for file in bundle.iterdir() if file.name != CHECKSUM_FILE)
    stored_paths = [entry.path for entry in repository.list_artifacts(BUNDLE_PATH)]
    for path in stored_paths:
        if PurePosixPath(path).name not in (*names, CHECKSUM_FILE):
            repository.delete_artifacts(path)
    for name in (*names, CHECKSUM_FILE):
        repository.log_artifact(str(bundle / name), BUNDLE_PATH)


def _artifact_repository(store: OpenStore, address: str) -> "ArtifactRepository":
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(address, tracking_uri=store.uri)


def _is_whole(bundle: Path, expected: str | None) -> bool:
    try:
        verify_bundle(bundle)
    except BundleError:
        return False  # an interrupted or altered copy: downloaded again
    return bundle_sha256(bundle) == expected
