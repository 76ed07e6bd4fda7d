"""Access to MLflow: runs, registered versions and their aliases. MLflow is imported when a store is opened.

Everything goes through `MlflowClient` with its address, nothing through MLflow's globals: opening a store changes neither
MLFLOW_TRACKING_URI nor the address of another store in the same process.
"""

import functools
import json
import logging
import os
import re
import shlex
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from ae_models.errors import BundleError
from ae_models.mappings import drop_keys, map_values
from ae_models.names import names_of
from aeops.errors import DataError, InfrastructureError, TransientError, UsageError, as_ae_error
from aeops.gate.flattening import flatten_numbers, flatten_text
from aeops.machine.access import may_read, may_write
from aeops.machine.library_settings import configure_libraries
from aeops.machine.lock import file_lock
from aeops.machine.network import HOST
from aeops.machine.scratch import ScratchFolder
from aeops.machine.service_records import read_service_record
from aeops.machine.sqlite import sqlite_uri
from aeops.machine.sqlite_sync import sync_every_commit
from aeops.machine.stack_settings import Settings, read_settings, settings_file
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.aliases import CHAMPION
from aeops.registry.database import artifacts_folder, database_file, database_uri, fingerprint_database, prepare_database
from aeops.registry.locations import is_local_location, local_path, relocate_database, sync_location
from aeops.registry.mlflow_pages import CLASSIC_FACE, experiments_page
from aeops.registry.read_only_copy import copy_database
from aeops.registry.runs import RunInfo, to_run_info
from aeops.registry.versions import EVIDENCE_RUN_TAG, ModelInfo, VersionInfo, to_version_info

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.entities.model_registry import ModelVersion

PARAMS_A_BATCH = 100  # MLflow's limits
MAX_PARAM_LENGTH = 6000  # characters of a value
METRICS_A_BATCH = 1000
DIGEST_LENGTH = 36
DESCRIPTION_LENGTH = 5000
NETWORK_REASONS = ("connection refused", "timed out", "name or service not known", "connection reset", "connection aborted")
NO_SOURCE = "deleted:/"  # of a version that only uses up its number
NEWEST_ALIAS = "latest"  # which MLflow resolves by itself; nobody can set it
NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # a version or model; an alias, or a name that none can have
VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,8}")  # databases hold no larger one
DELETED = "deleted"  # MLflow's lifecycle stage of an experiment or a run that can be restored
# The page of an experiment shows runs and their metrics, and not the face for language models that MLflow opens otherwise. MLflow
# 3.17 looks at the address (mlflow_pages.py) and not at the tag.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
NOTE_TAG = "mlflow.note.content"  # of a run: its description on MLflow's page, Markdown
NOT_METRICS = {"epoch", "step"}  # columns of a loss curve that are its x axis

log = logging.getLogger("aeops.registry")

P = ParamSpec("P")
R = TypeVar("R")


def local_store_in_use() -> bool:
    """Return True if MLFLOW_TRACKING_URI is unset, so that the store lies in this project's state folder."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def other_registry_address() -> str | None:
    """Return MLFLOW_REGISTRY_URI if it names another store than the runs'; None where it is unset or says the same."""
    address = os.environ.get("MLFLOW_REGISTRY_URI")
    if not address or address == os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return address


def import_mlflow() -> None:
    """Import what `open_store` needs, which takes two seconds, ahead of it."""
    configure_libraries()
    from mlflow import MlflowClient as MlflowClient

    if local_store_in_use():
        from mlflow.store.tracking import sqlalchemy_store as sqlalchemy_store


def open_store(project: Project) -> "Store":
    """Open the store that MLFLOW_TRACKING_URI names, else the project's own, created if there is none.

    Versions are in the same store as their runs: MLFLOW_REGISTRY_URI is not used.

    Raises:
        InfrastructureError: it does not answer, or cannot be created.
    """
    configure_libraries()
    store = Store(project, os.environ.get("MLFLOW_TRACKING_URI") or database_uri(project))
    store.connect()
    return store


def translate_errors(method: Callable[Concatenate["Store", P], R]) -> Callable[Concatenate["Store", P], R]:
    """Decorate a method so that it raises our errors.

    An error of MLflow, its database or the network becomes an InfrastructureError with the store's address; a damaged bundle
    becomes a DataError.
    """

    @functools.wraps(method)
    def call_and_translate(self: "Store", /, *args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(self, *args, **kwargs)
        except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, BundleError) as error:
            raise as_ae_error(error) or self.store_error(error) from error

    return call_and_translate


class ReadOnlyCopy:
    """A copy of the project's database, deleted with this object; see `aeops.registry.read_only_copy`."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._folder = ScratchFolder()
        self._fingerprint = fingerprint_database(project)
        self.uri = sqlite_uri(copy_database(project, Path(self._folder.name)))

    def is_outdated(self) -> bool:
        return fingerprint_database(self._project) != self._fingerprint


class Store:
    """Runs and versions of every recipe. Every method raises InfrastructureError where MLflow cannot be reached.

    Attributes:
        uri: MLflow's address, as MLFLOW_TRACKING_URI takes it.
        client: MLflow's own client; set by `connect`.
    """

    client: "MlflowClient"

    def __init__(self, project: Project, uri: str) -> None:
        self.project = project
        self.uri = uri
        self._copy: ReadOnlyCopy | None = None

    # ---------------------------------------------------------------- connection

    @translate_errors
    def connect(self) -> None:
        """Open the store; create the project's own database if there is none.

        The paths in a database that was moved or copied with its state folder are repaired first. A person who may not write in
        the state folder reads a copy of the database.
        """
        client_uri = self.uri
        if not self.is_remote:
            sync_every_commit()
        if self.is_local:
            if may_write(self.project.mlflow) and may_write(database_file(self.project)):
                prepare_database(self.project)
                if relocation := relocate_database(self.project):
                    print(relocation.describe(self.project), file=sys.stderr)
            else:
                self._copy = ReadOnlyCopy(self.project)
                logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a write is our error, in one line
                client_uri = self._copy.uri
        from mlflow import MlflowClient

        self.client = MlflowClient(client_uri, registry_uri=client_uri)  # else MLFLOW_REGISTRY_URI puts the versions elsewhere
        self.require_readable()

    @property
    def is_read_only(self) -> bool:
        """Whether it is a copy of the project's own database, of a person who may not write in the state folder."""
        return self._copy is not None

    @property
    def is_outdated(self) -> bool:
        """Whether it is a copy, and the database was written since: open another store to see that."""
        return self._copy is not None and self._copy.is_outdated()

    @translate_errors
    def require_readable(self) -> None:
        """Query MLflow's runs and its models once, cheaply."""
        self.client.search_experiments(max_results=1)
        self.client.search_registered_models(max_results=1)

    @property
    def is_local(self) -> bool:
        """Whether it is the project's own store, in its state folder."""
        return self.uri == database_uri(self.project)

    @property
    def is_remote(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    def store_error(self, error: Exception) -> InfrastructureError:
        """Return our error for one of MLflow, its database or the network."""
        is_silent = self.is_remote and not getattr(error, "json", None) and not getattr(error, "filename", None)
        if is_silent or "database is locked" in shorten_error(error):
            return TransientError(self.explain(error))
        return InfrastructureError(self.explain(error))

    def explain(self, error: Exception) -> str:
        """Return a message that says what is wrong with the store, and what to type."""
        reason = shorten_error(error)
        retry_hint = "then type the same command again"
        if isinstance(error, OSError) and error.filename:
            return f"cannot use {error.filename} ({error.strerror}): make it yours to write, {retry_hint}"
        if self.is_remote and not getattr(error, "json", None):  # a server that answers sends its errors as JSON
            return (
                f"MLflow at {self.uri} does not answer ({reason}): start it, "
                f"or unset MLFLOW_TRACKING_URI to use the local store, {retry_hint}"
            )
        if "readonly database" in reason:
            return (
                f"you may only read the state folder {self.project.home}: ask its owner to do this, or for access to write there"
            )
        if "must be in the 'active' state" in reason:
            return f"it was deleted on MLflow's page while it was needed ({reason}): type the same command again for a new run"
        if "disk is full" in reason:
            return f"no space left on the disk that holds {self.uri}: free some, or set AE_HOME to a larger disk, {retry_hint}"
        if "database is locked" in reason:
            return f"MLflow's database {self.uri} is held by another process: wait for it to end, {retry_hint}"
        if "out-of-date database schema" in reason:
            upgrade = f"mlflow db upgrade {shlex.quote(self.uri)}"
            return f"MLflow's database is of an older MLflow: copy it aside, type `{upgrade}`, {retry_hint}"
        return f"MLflow at {self.uri} failed: {reason}. Look at it with `ae doctor`, {retry_hint}"

    # ---------------------------------------------------------------- runs

    @translate_errors
    def start_run(
        self,
        recipe: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        dataset: Mapping[str, Any],
        started_at: float | None = None,
    ) -> str:
        """Open a run in the recipe's experiment.

        Args:
            recipe: name of the experiment, created if there is none.
            tags: all that a rebuild needs.
            params: nested as in the recipe; logged flat, `train.epochs` for `{"train": {"epochs": ...}}`.
            dataset: its name as `dataset` and its manifest root as `content_sha256`; the rest, such as `num_rows`, is stored with
                them and shown on MLflow's page.
            started_at: when the run started, in seconds since 1970; None: now.

        Returns:
            The run's id.
        """
        start_time = None if started_at is None else round(1000 * started_at)
        name = f"{recipe} {dataset['content_sha256'][:8]}"
        run = self.client.create_run(self.experiment(recipe), start_time=start_time, tags=dict(tags), run_name=name)
        self.log_params(run.info.run_id, flatten_text(params))
        self.log_dataset(run.info.run_id, dataset)
        return str(run.info.run_id)

    def experiment(self, recipe: str) -> str:
        """Return the id of the recipe's experiment; its artifacts lie in the state folder unless a server stores them."""
        from mlflow.exceptions import MlflowException

        if existing := self.client.get_experiment_by_name(recipe):
            return self._usable_experiment(existing)
        artifact_location = None
        if not self.is_remote:
            artifact_location = (artifacts_folder(self.project) / recipe).as_uri()
        try:
            return str(self.client.create_experiment(recipe, artifact_location=artifact_location, tags=EXPERIMENT_TAGS))
        except MlflowException:
            existing = self.client.get_experiment_by_name(recipe)  # another process was quicker
            if existing is None:
                raise
            return self._usable_experiment(existing)

    def _usable_experiment(self, experiment: "Experiment") -> str:
        """Return the id of an experiment to which a run can be added; restore one that was deleted on MLflow's page.

        Raises:
            DataError: its files would be written outside the state folder.
        """
        location = experiment.artifact_location
        folder = artifacts_folder(self.project)
        if self.is_local and is_local_location(location) and not local_path(location).is_relative_to(folder):
            raise DataError(
                f"the experiment {experiment.name} in {self.uri} stores its files in {location}, outside the state folder: "
                f"rename it on MLflow's page, and the next run makes one in {folder}"
            )
        if experiment.lifecycle_stage == DELETED:
            self.client.restore_experiment(experiment.experiment_id)
            print(f"the experiment {experiment.name} was deleted in MLflow: it is restored with its runs", file=sys.stderr)
        for name, value in EXPERIMENT_TAGS.items():
            if name not in experiment.tags:  # made by an older version, or by hand
                self.client.set_experiment_tag(experiment.experiment_id, name, value)
        return str(experiment.experiment_id)

    @translate_errors
    def describe_run(self, run_id: str, name: str, description: str) -> None:
        """Give a run the name and the description, Markdown, that MLflow's page shows."""
        self.client.update_run(run_id, name=name)
        self.client.set_tag(run_id, NOTE_TAG, description)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters; of a longer one than MLflow takes, such as the columns of a wide table, the beginning."""
        from mlflow.entities import Param

        entries = []
        for name, value in params.items():
            shown = value if len(value) <= MAX_PARAM_LENGTH else f"{value[: MAX_PARAM_LENGTH - 4]} ..."
            entries.append(Param(name, shown))
        for batch in split_batches(entries, PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=batch)

    @translate_errors
    def log_dataset(self, run_id: str, dataset: Mapping[str, Any], context: str = "training") -> None:
        """Log a dataset as the run's input. MLflow's own digest covers 10,000 rows; ours is the head of the manifest root.

        Args:
            dataset: as `start_run` takes it.
            context: what it was used for, in MLflow's words: training or evaluation.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        profile = json.dumps(dict(dataset), sort_keys=True)
        digest = dataset["content_sha256"][:DIGEST_LENGTH]
        entry = Dataset(name=dataset["dataset"], digest=digest, source_type="dvc", source=profile, profile=profile)
        inputs = [DatasetInput(entry, tags=[InputTag("mlflow.data.context", context)])]
        try:
            self.client.log_inputs(run_id, datasets=inputs)
        except MlflowException as error:
            if "IntegrityError" not in str(error):
                raise
            # Another run added the same dataset after MLflow had looked for it; the second call finds it.
            self.client.log_inputs(run_id, datasets=inputs)

    @translate_errors
    def log_curves(self, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log the rows of a training's history, one an epoch, as curves over the epochs."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = []
        for row in rows:
            for name, value in flatten_numbers(drop_keys(row, NOT_METRICS)).items():
                points.append(Metric(name, value, now, int(row["epoch"])))
        for batch in split_batches(points, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    @translate_errors
    def log_metrics(self, run_id: str, metrics: Mapping[str, Any]) -> None:
        """Log every number of a nested mapping under its path; items of a list by their position: `detection/interval.0`.

        The first part is set off by `/`, by which MLflow groups its charts; `metrics` returns dotted paths.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name.replace(".", "/", 1), value, now, 0) for name, value in flatten_numbers(metrics).items()]
        for batch in split_batches(points, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    @translate_errors
    def log_files(self, run_id: str, files: Iterable[Path], artifact_path: str | None = None) -> None:
        """Store files, and folders under their own names, with the run.

        Raises:
            DataError: the run was deleted for good.
        """
        run = self._require_run(run_id, f"{artifact_path or 'its files'} cannot be stored with it")
        started_at = time.time()
        for file in files:
            self.client.log_artifact(run_id, str(file), artifact_path)
        sync_location(self.project, run.info.artifact_uri, started_at)

    @translate_errors
    def has_run(self, run_id: str) -> bool:
        """Return False where the run was deleted for good, as `mlflow gc` does; one in MLflow's trash is still there."""
        return self._find_run(run_id) is not None

    def _find_run(self, run_id: str) -> "Run | None":
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _require_run(self, run_id: str, purpose: str) -> "Run":
        """Return the run; raise DataError where it was deleted for good."""
        run = self._find_run(run_id)
        if run is None:
            raise DataError(
                f"the MLflow run {run_id} was deleted for good, and {purpose}: restore MLflow from a backup, or type "
                "`ae run RECIPE` for a new run of the same bundle with evidence of its own"
            )
        return run

    @translate_errors
    def files(self, run_id: str, folder: str | None = None) -> list[str]:
        """Return the paths of the files in a folder of a run, or at its root; an empty list without such a folder or run."""
        if self._find_run(run_id) is None:
            return []
        return [entry.path for entry in self.client.list_artifacts(run_id, folder) if not entry.is_dir]

    @translate_errors
    def download_file(self, run_id: str, path: str, folder: Path) -> Path:
        """Download one of a run's files into `folder`, under the same path, and return the local file.

        Raises:
            DataError: the run was deleted for good.
        """
        self._require_run(run_id, f"{path} with it")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as tmp_path:  # MLflow chooses where in it the file lies
            os.replace(self.client.download_artifacts(run_id, path, tmp_path), target)
        return target

    @translate_errors
    def finish_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        self.client.set_terminated(run_id, status)

    @translate_errors
    def open_runs(self, tag: str, max_runs: int) -> list[tuple[str, str]]:
        """Return the id, and the tag's value, of each run that is RUNNING and has the tag."""
        experiment_ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        if not experiment_ids:
            return []
        runs = self.client.search_runs(experiment_ids, "attributes.status = 'RUNNING'", max_results=max_runs)
        found = []
        for run in runs:
            if tag in run.data.tags:
                found.append((str(run.info.run_id), run.data.tags[tag]))
        return found

    @translate_errors
    def runs(self, recipe: str, count: int) -> list[RunInfo]:
        """Return the recipe's newest runs, the newest first, with the versions that they made; none without an experiment."""
        experiment = self.client.get_experiment_by_name(recipe)
        if experiment is None:
            return []
        versions: dict[str, VersionInfo] = {}
        for version in self.versions(recipe):
            versions.setdefault(version.run_id, version)
        found = self.client.search_runs([experiment.experiment_id], max_results=count, order_by=["attributes.start_time DESC"])
        return [to_run_info(recipe, run, versions.get(str(run.info.run_id))) for run in found]

    @translate_errors
    def metrics(self, run_id: str) -> dict[str, float]:
        """Return the last values of a run's metrics by dotted path; none of a run that was deleted for good (`has_run`)."""
        run = self._find_run(run_id)
        if run is None:
            return {}
        return {name.replace("/", ".", 1): value for name, value in run.data.metrics.items()}

    @property
    def page_url(self) -> str:
        """Address of MLflow's pages; for the local store, where `ae up` shows them, or would without options."""
        if self.is_remote:
            return self.uri.rstrip("/")
        record = read_service_record(self.project, "mlflow")
        if record is not None and record.address:
            return record.address
        settings = Settings()
        if may_read(settings_file(self.project)):
            settings = read_settings(self.project) or settings
        return f"http://{HOST}:{settings.mlflow_port}"

    @translate_errors
    def run_url(self, run_id: str, file: str = "") -> str:
        """Return the address of the run's page, or of one of its files there; for the local store, where `ae up` will show it.

        Of a run that was deleted for good it is the page of all experiments.
        """
        run = self._find_run(run_id)
        if run is None:
            return experiments_page(self.page_url)
        path = f"/artifacts/{file}" if file else ""
        return f"{self.page_url}/#/experiments/{run.info.experiment_id}/runs/{run_id}{path}{CLASSIC_FACE}"

    def picture_markdown(self, run_id: str, file: str, text: str) -> str:
        """Return Markdown that shows one of the run's pictures in a description on MLflow's page.

        The address is relative to that page, whose filter leaves out pictures that are written into a description.
        """
        return f"![{text}](get-artifact?path={quote(file, safe='')}&run_uuid={run_id})"

    # ---------------------------------------------------------------- versions

    @translate_errors
    def register(self, run_id: str, recipe: str, bundle: Path, tags: Mapping[str, str], description: str) -> str:
        """Register the bundle as a version of the model `recipe`, unless a version with the same bundle exists.

        Args:
            run_id: the run that made the bundle; of a bundle registered before, the run that holds its evidence from now on.
            bundle: verified before anything is logged.
            tags: tags of the version; bundle_sha256 and weights_sha256 are added.
            description: the model card, Markdown; what exceeds MLflow's 5,000 characters is cut, with a note.

        Returns:
            The number of the version.

        Raises:
            DataError: the bundle is damaged.
        """
        from ae_models.checksums import bundle_sha256, verify_bundle
        from aeops.registry.packing import log_model

        file_checksums = verify_bundle(bundle)
        digest = bundle_sha256(bundle)
        content_tags = {"bundle_sha256": digest, "weights_sha256": file_checksums["weights.safetensors"]}
        with file_lock(self.project, "registry"):
            for version in self.versions(recipe):
                if version.tags.get("bundle_sha256") == digest:
                    self._restore_if_damaged(recipe, version, bundle, digest)
                    self.update_version(recipe, version, dict(tags) | {EVIDENCE_RUN_TAG: run_id}, fit_description(description))
                    return version.version
            model = log_model(self, run_id, recipe, bundle)
            self.create_model(recipe)
            self._skip_used_numbers(recipe)
            model_version = self.client.create_model_version(
                recipe,
                source=model.artifact_location,  # not models:/ID, which MLflow resolves at the address in its globals
                run_id=run_id,
                model_id=model.model_id,
                tags=dict(tags) | content_tags,  # in the same transaction: a version is never without it
                description=fit_description(description),
            )
        return str(model_version.version)

    def _restore_if_damaged(self, recipe: str, version: VersionInfo, bundle: Path, digest: str) -> None:
        """Upload the bundle of a version that exists again, where MLflow's store has lost or damaged it."""
        try:
            stored_sha256 = self.stored_bundle_sha256(recipe, version.version)
            reason = f"the stored one has SHA-256 {stored_sha256}"
        except DataError as error:  # any other error says nothing about the bundle: it must not be written over
            stored_sha256, reason = None, str(error)
        if stored_sha256 != digest:
            self.restore_bundle(recipe, version, bundle, digest, reason)

    @translate_errors
    def restore_bundle(self, recipe: str, version: VersionInfo, bundle: Path, sha256: str, reason: str) -> None:
        """Upload a version's bundle over the stored one, and log that. aeops/registry/bundle_repair.py verifies the result.

        Args:
            sha256: of the bundle; also written to the version's tag.
            reason: what is wrong with the stored one.
        """
        from aeops.registry.packing import upload_bundle

        upload_bundle(self, recipe, version.version, bundle)
        self.client.set_model_version_tag(recipe, version.version, "bundle_sha256", sha256)
        log.warning("uploaded the bundle of %s %s to MLflow again, from %s: %s", recipe, version.version, bundle, reason)

    @translate_errors
    def update_version(self, recipe: str, version: VersionInfo, tags: Mapping[str, str], description: str) -> None:
        """Update a version's tags and card after a later run that evaluated the same bundle."""
        for name, value in tags.items():
            if version.tags.get(name) != value:
                self.client.set_model_version_tag(recipe, version.version, name, value)
        if version.description != description:
            self.client.update_model_version(recipe, version.version, description)

    def _skip_used_numbers(self, recipe: str) -> None:
        """Use up the numbers of versions that the ledger names: once a model was deleted, MLflow begins at 1 again.

        A model that still has a version is that of before: MLflow then counts on, also past a version that was deleted.
        """
        if self.versions(recipe):
            return
        entries = ledger.read_content(self.project, recipe).entries
        used_numbers = [int(entry.version) for entry in entries if VERSION_NUMBER.fullmatch(entry.version)]
        newest = 0
        while newest < max(used_numbers, default=0):
            placeholder = self.client.create_model_version(recipe, source=NO_SOURCE)
            newest = int(placeholder.version)
            self.client.delete_model_version(recipe, placeholder.version)

    @translate_errors
    def has_version(self, recipe: str, number: str) -> bool:
        """Return True if the registry has the version of that number."""
        return self._find_version(recipe, number) is not None

    @translate_errors
    def create_model(self, recipe: str, tags: Mapping[str, str] | None = None) -> None:
        """Create the recipe's model with its tags at once; leave one that is there as it is."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(recipe, tags=dict(tags or {}))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @translate_errors
    def set_tags(self, recipe: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version; tags of the same name are overwritten."""
        for name, value in tags.items():
            self.client.set_model_version_tag(recipe, version, name, value)

    @translate_errors
    def set_alias(self, recipe: str, alias: str, version: str) -> None:
        """Point any alias but `champion` to the version; the champion has a ledger."""
        if alias == CHAMPION:
            raise ValueError("the champion is moved only by aeops/registry/promotion.py, which records it in the ledger")
        self.client.set_registered_model_alias(recipe, alias, version)

    @translate_errors
    def remove_alias(self, recipe: str, alias: str, version: str) -> None:
        """Remove any alias but `champion` where it points to the version; one that points elsewhere stays."""
        if alias == CHAMPION:
            raise ValueError("the champion is retired only by aeops/registry/promotion.py, which records it in the ledger")
        if alias in self.version(recipe, version).aliases:
            self.client.delete_registered_model_alias(recipe, alias)

    @translate_errors
    def move_champion(self, recipe: str, version: str | None) -> None:
        """Point the alias champion to the version; None removes it. Only for aeops/registry/promotion.py."""
        if version is None:
            self.client.delete_registered_model_alias(recipe, CHAMPION)
        else:
            self.client.set_registered_model_alias(recipe, CHAMPION, version)

    @translate_errors
    def model(self, recipe: str) -> ModelInfo | None:
        """Return the recipe's model; None where nothing was registered."""
        from mlflow.exceptions import MlflowException

        try:
            model = self.client.get_registered_model(recipe)
        except MlflowException as error:
            if error.error_code not in NOT_FOUND:
                raise
            return None
        return ModelInfo(map_values(str, model.aliases), dict(model.tags))

    @translate_errors
    def describe_model(self, recipe: str, description: str) -> None:
        """Give the recipe's model the description, Markdown, that MLflow's page shows."""
        self.client.update_registered_model(recipe, description=fit_description(description))

    @translate_errors
    def set_model_tag(self, recipe: str, name: str, value: str) -> None:
        self.client.set_registered_model_tag(recipe, name, value)

    @translate_errors
    def model_names(self) -> list[str]:
        """Return the names of all registered models: those of recipes that are gone, too."""
        names: list[str] = []
        token: str | None = None
        while token != "":
            page = self.client.search_registered_models(max_results=200, page_token=token)
            names += names_of(page)
            token = page.token or ""
        return sorted(names)

    @translate_errors
    def versions(self, recipe: str) -> list[VersionInfo]:
        """Return every version of the recipe's model, newest first; an empty list where nothing was registered."""
        model = self.model(recipe)
        if model is None:
            return []
        entries: list[ModelVersion] = []
        token: str | None = None
        while token != "":
            page = self.client.search_model_versions(f"name = '{recipe}'", max_results=200, page_token=token)
            entries += page
            token = page.token or ""
        versions = [to_version_info(entry, model.aliases) for entry in entries]
        return sorted(versions, key=lambda version: -int(version.version))

    @translate_errors
    def _find_version(self, recipe: str, which: str) -> VersionInfo | None:
        """Return the version of that number or alias without reading the others, of which there may be hundreds."""
        from mlflow.exceptions import MlflowException

        try:
            if VERSION_NUMBER.fullmatch(which):
                entry = self.client.get_model_version(recipe, which)
            elif which.lower() == NEWEST_ALIAS:
                return None
            else:
                entry = self.client.get_model_version_by_alias(recipe, which)
        except MlflowException as error:
            if error.error_code not in NOT_FOUND:
                raise
            return None
        return to_version_info(entry, dict.fromkeys(entry.aliases, str(entry.version)))

    def versions_url(self, recipe: str, version: str = "") -> str:
        """Return the address of the page of the recipe's model, or a version; for the local store, where `ae up` will show it."""
        path = f"/versions/{version}" if version else ""
        return f"{self.page_url}/#/models/{recipe}{path}{CLASSIC_FACE}"

    def champion(self, recipe: str) -> VersionInfo | None:
        return self._find_version(recipe, CHAMPION)

    def champion_version(self, recipe: str) -> str | None:
        """Return the number of the champion, None where there is none."""
        champion = self.champion(recipe)
        if champion is None:
            return None
        return champion.version

    def version(self, recipe: str, which: str) -> VersionInfo:
        """Return the version of that number or alias.

        Raises:
            UsageError: there is none; the message names those that exist.
        """
        if version := self._find_version(recipe, which):
            return version
        versions = self.versions(recipe)
        if not versions:
            raise UsageError(f"no version of {recipe} is registered in {self.uri}: make one with `ae run {recipe}`")
        aliases: set[str] = set()
        for version in versions:
            aliases.update(version.aliases)
        allowed = [*sorted(aliases), *(version.version for version in versions)]
        message = f"no version {which!r} of {recipe}; expected one of {', '.join(allowed)}"
        if which == CHAMPION:
            message += f": make a champion with `ae run {recipe}`"
        raise UsageError(message)

    @translate_errors
    def download_bundle(self, recipe: str, which: str) -> Path:
        """Return the verified bundle of a version in `.ae/serving/<recipe>/<version>/`, downloaded unless it is there.

        Args:
            recipe: the model's name.
            which: a number or an alias.

        Raises:
            UsageError: no such version.
            DataError: the registry's bundle is not the one that was registered.
        """
        return self.bundle_of(recipe, self.version(recipe, which))

    @translate_errors
    def bundle_of(self, recipe: str, version: VersionInfo) -> Path:
        """Return the bundle as `download_bundle` does, of a version that was looked up before.

        A person who may not write in the state folder gets the registry's own copy.
        """
        from aeops.registry.packing import fetch_bundle, stored_bundle

        if self.is_read_only:
            return stored_bundle(self, recipe, version)
        folder = self.project.home / "serving" / recipe / version.version
        return fetch_bundle(self, recipe, version, folder)

    @translate_errors
    def stored_bundle_sha256(self, recipe: str, version: str) -> str:
        """Download and verify the registry's bundle of a version, and return its SHA-256; the download is deleted.

        Raises:
            DataError: it is damaged, or gone.
        """
        from ae_models.checksums import bundle_sha256
        from aeops.registry.packing import download_stored

        with ScratchFolder() as folder:
            return bundle_sha256(download_stored(self, recipe, version, Path(folder) / "download"))


# ---------------------------------------------------------------- small parts


def shorten_error(error: Exception) -> str:
    """Shorten an error to its reason, without the SQL, the addresses or the data that MLflow quotes."""
    text = str(error).strip() or type(error).__name__
    for reason in NETWORK_REASONS:
        if reason in text.lower():
            return reason
    lines = list(filter(str.strip, text.splitlines()))
    if "failures occurred while downloading" in text:
        return lines[-1][:300]
    return lines[0][:300]


def fit_description(description: str) -> str:
    """Cut a description to the length that MLflow stores, with a note where something is missing."""
    if len(description) <= DESCRIPTION_LENGTH:
        return description
    note = "\n\n(The rest did not fit here: the whole card is in the run's report.)"
    return description[: DESCRIPTION_LENGTH - len(note)] + note


def split_batches(items: list[R], size: int) -> list[list[R]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
