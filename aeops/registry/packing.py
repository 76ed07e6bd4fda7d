"""A bundle as an MLflow model and back: no pickle on the way, and the same bytes at both ends."""

import json
import logging
import shutil
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ae_models.checksums import bundle_sha256, verify_bundle
from ae_models.errors import BundleError
from aeops.errors import DataError
from aeops.files import replace_folder
from aeops.kinds import KINDS
from aeops.kinds.interface import load_kind
from aeops.kinds.results import ColumnSchema
from aeops.kinds.samples import SampleSpec
from aeops.project import Project
from aeops.registry.carried_code import write_carried_code

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

    from aeops.registry.versions import VersionInfo

REQUIREMENTS = ("mlflow", "numpy", "onnxruntime")  # what every served model needs, pinned as installed here
SOURCES = Path(__file__).parents[2]
EXAMPLES = 2  # samples in the input example
WHERE = "artifacts/bundle"  # of the bundle inside the logged model


class OpenStore(Protocol):
    """What packing needs of a connected `aeops.registry.store.Store`."""

    client: "MlflowClient"
    project: Project
    uri: str


def log_model(store: OpenStore, run_id: str, recipe: str, bundle: Path) -> "LoggedModel":
    """Logs the bundle under the run as a model of MLflow's, and makes sure that it arrived whole.

    Not `mlflow.pyfunc.log_model`: that talks to the address in MLflow's globals, and loads the model in this process.

    Raises:
        DataError: what MLflow keeps is not what was given.
    """
    from mlflow.entities import LoggedModelOutput

    run = store.client.get_run(run_id)
    model = store.client.create_logged_model(run.info.experiment_id, name=recipe, source_run_id=run_id)
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "model", store.project, recipe, bundle, run_id=run_id, model_id=model.model_id)
        store.client.log_model_artifacts(model.model_id, f"{folder}/model")
        arrived = bundle_sha256(download(store, f"{model.artifact_location}/{WHERE}", Path(folder) / "arrived"))
    if arrived != bundle_sha256(bundle):
        raise DataError(f"MLflow keeps another bundle than {bundle}: nothing was registered; type the same command again")
    return store.client.finalize_logged_model(model.model_id, "READY")


def save_model(place: Path, project: Project, recipe: str, bundle: Path, run_id: str, model_id: str) -> None:
    """Writes the model's folder: the bundle, the code that reads it, the signature and an input example."""
    import mlflow.pyfunc
    from mlflow.models import Model

    document = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    kind, spec = document["input"]["kind"], SampleSpec.from_bundle(document)
    requirements = REQUIREMENTS + KINDS[kind].packages
    quiet_logs()
    with tempfile.TemporaryDirectory() as staged:
        named = shutil.copytree(bundle, Path(staged) / "bundle")  # MLflow keeps a folder under the name it has
        package, served_model = write_carried_code(SOURCES, Path(staged) / "code")
        mlflow.pyfunc.save_model(
            place,
            python_model=str(served_model),
            artifacts={"bundle": str(named)},
            code_paths=[str(package)],
            signature=signature(load_kind(kind).served_schema(spec)),
            input_example=(examples(project, recipe, kind, spec), {"reconstruction": False, "code": False}),
            pip_requirements=[f"{name}=={installed(name)}" for name in requirements],
            mlflow_model=Model(run_id=run_id, model_id=model_id, artifact_path=recipe),
        )


def quiet_logs() -> None:
    """Leaves out what MLflow says about every model: that it looks at the example, and that it cannot tell pip's version."""
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def signature(schema: ColumnSchema) -> "ModelSignature":
    """A batch of samples in; a score, p-value and flag a sample out, and two things on request."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    takes = TensorSpec(np.dtype(schema.dtype), schema.shape)
    answer = [("double", "score"), ("double", "p_value"), ("boolean", "is_anomaly")]
    return ModelSignature(
        inputs=Schema([takes]),
        outputs=Schema([ColSpec(kind, name) for kind, name in answer]),
        params=ParamSchema([ParamSpec(name, DataType.boolean, False) for name in ("reconstruction", "code")]),
    )


def examples(project: Project, recipe: str, kind: str, spec: SampleSpec) -> np.ndarray:
    """The first prepared test samples as they are served; where none are prepared, made-up ones."""
    prepared = project.artifacts(recipe) / "prepared" / "test.npy"
    stored = np.load(prepared, mmap_mode="r")[:EXAMPLES] if prepared.is_file() else None
    return load_kind(kind).served_example(stored, spec, EXAMPLES)


def download(store: OpenStore, address: str, place: Path) -> Path:
    """Downloads a bundle's folder from MLflow into the new folder `place`; returns where it lies there, verified."""
    from mlflow.artifacts import download_artifacts

    place.mkdir(parents=True)
    found = Path(download_artifacts(artifact_uri=address, dst_path=str(place), tracking_uri=store.uri))
    verify_bundle(found)
    return found


def fetch_bundle(store: OpenStore, recipe: str, version: "VersionInfo", place: Path) -> Path:
    """Makes `place` the version's bundle, whole or not at all.

    Raises:
        BundleError: the bundle that the registry holds is altered.
        DataError: it is another one than was registered.
    """
    expected = version.tags.get("bundle_sha256")
    if place.is_dir() and is_whole(place, expected):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        address = store.client.get_model_version_download_uri(recipe, version.version)
        found = download(store, f"{address}/{WHERE}", Path(folder) / "download")
        if bundle_sha256(found) != expected:
            raise DataError(
                f"{recipe} {version.version} in {store.uri} is not the bundle {expected} it was registered as: do not serve it"
            )
        replace_folder(found, place)
    return place


def is_whole(bundle: Path, expected: str | None) -> bool:
    try:
        verify_bundle(bundle)
    except BundleError:
        return False  # an interrupted or altered copy: downloaded again
    return bundle_sha256(bundle) == expected
