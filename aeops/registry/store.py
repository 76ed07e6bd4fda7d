"""The only door to MLflow: runs, registered versions and their aliases. MLflow is imported when a store is opened.

Everything goes through `MlflowClient` with its address, nothing through MLflow's globals: opening a store changes neither
MLFLOW_TRACKING_URI nor what another store in the same process talks to.
"""

import functools
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

from ae_models.errors import BundleError
from aeops.errors import InfrastructureError, UsageError, as_ae_error
from aeops.gate.flattening import flatten_numbers, flatten_text
from aeops.machine.library_settings import configure_libraries
from aeops.machine.lock import file_lock
from aeops.machine.network import HOST
from aeops.machine.stack_settings import Settings, read_settings
from aeops.project import Project
from aeops.registry.database import database_uri, prepare_database
from aeops.registry.versions import EVIDENCE, ModelInfo, VersionInfo, info

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PARAMS_A_BATCH = 100  # MLflow's limits
METRICS_A_BATCH = 1000
DIGEST_LENGTH = 36
DESCRIPTION_LENGTH = 5000
CHAMPION = "champion"  # the alias that only aeops/registry/promotion.py moves
NETWORK_REASONS = ("connection refused", "timed out", "name or service not known", "connection reset", "connection aborted")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")  # of a version; databases hold no larger one
NOT_METRICS = {"epoch", "step"}  # columns of a loss curve that say where, not what

P = ParamSpec("P")
R = TypeVar("R")


def local_store_in_use() -> bool:
    """Whether MLFLOW_TRACKING_URI leaves the store to this project's state folder."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def open_store(project: Project) -> "Store":
    """The store that MLFLOW_TRACKING_URI names, else the project's own, made if there is none.

    Raises:
        InfrastructureError: it does not answer, or cannot be made.
    """
    configure_libraries()
    store = Store(project, os.environ.get("MLFLOW_TRACKING_URI") or database_uri(project))
    store.connect()
    return store


def telling(method: Callable[Concatenate["Store", P], R]) -> Callable[Concatenate["Store", P], R]:
    """Makes what MLflow, its database or the network raises in a method an InfrastructureError with the store's address, and a
    bundle that is not whole a DataError."""

    @functools.wraps(method)
    def told(self: "Store", /, *args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(self, *args, **kwargs)
        except (MlflowException, SQLAlchemyError, OSError, BundleError) as error:
            raise as_ae_error(error) or InfrastructureError(self.explain(error)) from error

    return told


class Store:
    """Runs and versions of every recipe. Every method raises InfrastructureError where MLflow cannot be reached.

    Attributes:
        uri: MLflow's address, as MLFLOW_TRACKING_URI takes it.
        client: MLflow's own face; set by `connect`.
    """

    client: "MlflowClient"

    def __init__(self, project: Project, uri: str) -> None:
        self.project = project
        self.uri = uri

    # ---------------------------------------------------------------- reaching it

    @telling
    def connect(self) -> None:
        """Opens the store; makes the project's own database if there is none."""
        if self.uri == database_uri(self.project):
            prepare_database(self.project)
        from mlflow import MlflowClient

        self.client = MlflowClient(self.uri)
        self.readable()

    @telling
    def readable(self) -> None:
        """Asks both halves of MLflow one cheap question."""
        self.client.search_experiments(max_results=1)
        self.client.search_registered_models(max_results=1)

    @property
    def is_remote(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    def explain(self, error: Exception) -> str:
        """What is wrong with the store, and what to type."""
        reason = brief(error)
        again = "then type the same command again"
        if isinstance(error, OSError) and error.filename:
            return f"cannot use {error.filename} ({error.strerror}): make it yours to write, {again}"
        if self.is_remote and not getattr(error, "json", None):  # a server that answers sends its errors as JSON
            return (
                f"MLflow at {self.uri} does not answer ({reason}): start it, "
                f"or unset MLFLOW_TRACKING_URI to use the local store, {again}"
            )
        if "disk is full" in reason:
            return f"no space left on the disk that holds {self.uri}: free some, or set AE_HOME to a larger disk, {again}"
        if "database is locked" in reason:
            return f"MLflow's database {self.uri} is held by another process: wait for it to end, {again}"
        if "out-of-date database schema" in reason:
            return f"MLflow's database is of an older MLflow: copy it aside, type `mlflow db upgrade {self.uri}`, {again}"
        return f"MLflow at {self.uri} failed: {reason}. Look at it with `ae doctor`, {again}"

    # ---------------------------------------------------------------- runs

    @telling
    def start_run(self, recipe: str, tags: Mapping[str, str], params: Mapping[str, Any], dataset: Mapping[str, str]) -> str:
        """Opens a run in the recipe's experiment.

        Args:
            recipe: names the experiment, made if there is none.
            tags: whatever a rebuild needs to find.
            params: nested as in the recipe; logged flat, `train.epochs` for `{"train": {"epochs": ...}}`.
            dataset: its name as `dataset` and its manifest root as `content_sha256`; the rest is kept beside them.

        Returns:
            The run's id.
        """
        run = self.client.create_run(
            self.experiment(recipe), tags=dict(tags), run_name=f"{recipe} {dataset['content_sha256'][:8]}"
        )
        self.log_params(run.info.run_id, flatten_text(params))
        self.log_dataset(run.info.run_id, dataset)
        return str(run.info.run_id)

    def experiment(self, recipe: str) -> str:
        """The id of the recipe's experiment; its artifacts lie in the state folder unless a server keeps them."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(recipe)
        if found is None:
            place = None if self.is_remote else (self.project.mlflow / "artifacts" / recipe).as_uri()
            try:
                return str(self.client.create_experiment(recipe, artifact_location=place))
            except MlflowException:
                found = self.client.get_experiment_by_name(recipe)  # another process was quicker
                if found is None:
                    raise
        return str(found.experiment_id)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for batch in batches([Param(key, value) for key, value in params.items()], PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=batch)

    def log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        """The dataset as the run's input. MLflow's own digest covers 10,000 rows: ours is the head of the manifest root."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        profile = json.dumps(dict(dataset), sort_keys=True)
        digest = dataset["content_sha256"][:DIGEST_LENGTH]
        entry = Dataset(name=dataset["dataset"], digest=digest, source_type="dvc", source=profile, profile=profile)
        given = [DatasetInput(entry, tags=[InputTag("mlflow.data.context", "training")])]
        try:
            self.client.log_inputs(run_id, datasets=given)
        except MlflowException as error:
            if "IntegrityError" not in str(error):
                raise
            # Between MLflow's look for the dataset and its adding it another run has: now it is found.
            self.client.log_inputs(run_id, datasets=given)

    @telling
    def log_curves(self, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Logs the rows of a training's history, one an epoch, as curves over the epochs."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, int(row["epoch"]))
            for row in rows
            for name, value in flatten_numbers({key: value for key, value in row.items() if key not in NOT_METRICS}).items()
        ]
        for batch in batches(points, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    @telling
    def log_metrics(self, run_id: str, metrics: Mapping[str, Any]) -> None:
        """Logs every number of a nested mapping under its dotted path; items of a list get their place: `interval.0`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for batch in batches([Metric(name, value, now, 0) for name, value in flatten_numbers(metrics).items()], METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    @telling
    def log_files(self, run_id: str, files: Iterable[Path], artifact_path: str | None = None) -> None:
        """Keeps files, and folders under their own names, with the run."""
        for file in files:
            self.client.log_artifact(run_id, str(file), artifact_path)

    @telling
    def files(self, run_id: str, folder: str | None = None) -> list[str]:
        """The paths of the files kept with a run in one of its folders, or beside them; none where it is no such folder."""
        return [entry.path for entry in self.client.list_artifacts(run_id, folder) if not entry.is_dir]

    @telling
    def download_file(self, run_id: str, path: str, place: Path) -> Path:
        """Fetches one of a run's files into the folder `place`, under the same path there."""
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as aside:  # where in it MLflow puts the file is its own affair
            os.replace(self.client.download_artifacts(run_id, path, aside), target)
        return target

    @telling
    def finish_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        self.client.set_terminated(run_id, status)

    @telling
    def open_runs(self, tag: str, most: int) -> list[tuple[str, str]]:
        """Runs that are RUNNING and have the tag: (id, the tag's value)."""
        places = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = self.client.search_runs(places, "attributes.status = 'RUNNING'", max_results=most) if places else []
        return [(str(run.info.run_id), run.data.tags[tag]) for run in found if tag in run.data.tags]

    @telling
    def metrics(self, run_id: str) -> dict[str, float]:
        """The last value of each of a run's metrics."""
        return dict(self.client.get_run(run_id).data.metrics)

    @property
    def page(self) -> str:
        """Where MLflow's pages are; of the local store where `ae up` shows them, or would if it were typed without options."""
        if self.is_remote:
            return self.uri.rstrip("/")
        settings = read_settings(self.project) or Settings()
        return f"http://{HOST}:{settings.mlflow_port}"

    @telling
    def run_url(self, run_id: str) -> str:
        """The run's page; for the local store, where `ae up` will show it."""
        return f"{self.page}/#/experiments/{self.client.get_run(run_id).info.experiment_id}/runs/{run_id}"

    # ---------------------------------------------------------------- versions

    @telling
    def register(self, run_id: str, recipe: str, bundle: Path, tags: Mapping[str, str], description: str) -> str:
        """Registers the bundle as a version of the model `recipe`, unless one with the same bundle is there already.

        Args:
            run_id: the run that made it; of a bundle registered before, the run that holds its evidence from now on.
            bundle: verified before anything is logged.
            tags: kept with the version; bundle_sha256 and weights_sha256 are added.
            description: the model card, Markdown; what exceeds MLflow's 5,000 characters is cut, with a note.

        Returns:
            The version.

        Raises:
            DataError: the bundle is not whole.
        """
        from ae_models.sums import bundle_sha256, verify
        from aeops.registry.packing import log_model

        sums = verify(bundle)
        digest = bundle_sha256(bundle)
        names = {"bundle_sha256": digest, "weights_sha256": sums["weights.safetensors"]}
        with file_lock(self.project, "registry"):
            for version in self.versions(recipe):
                if version.tags.get("bundle_sha256") == digest:
                    self.judge_again(recipe, version, dict(tags) | {EVIDENCE: run_id}, fitting(description))
                    return version.version
            model = log_model(self, run_id, recipe, bundle)
            self.make_model(recipe)
            created = self.client.create_model_version(
                recipe,
                source=model.artifact_location,  # not models:/ID, which MLflow resolves at the address in its globals
                run_id=run_id,
                model_id=model.model_id,
                tags=dict(tags) | names,  # in the same transaction: a version is never without it
                description=fitting(description),
            )
        return str(created.version)

    def judge_again(self, recipe: str, version: VersionInfo, tags: Mapping[str, str], description: str) -> None:
        """Brings a version's tags and card up to a later run that judged the same bundle."""
        for name, value in tags.items():
            if version.tags.get(name) != value:
                self.client.set_model_version_tag(recipe, version.version, name, value)
        if version.description != description:
            self.client.update_model_version(recipe, version.version, description)

    def make_model(self, recipe: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(recipe)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @telling
    def set_tags(self, recipe: str, version: str, tags: Mapping[str, str]) -> None:
        """Writes tags on a version, over those of the same name."""
        for name, value in tags.items():
            self.client.set_model_version_tag(recipe, version, name, value)

    @telling
    def set_alias(self, recipe: str, alias: str, version: str) -> None:
        """Points the alias at the version, wherever it pointed before; any alias but `champion`, which has a ledger."""
        if alias == CHAMPION:
            raise ValueError("the champion moves by aeops/registry/promotion.py alone, which writes it down")
        self.client.set_registered_model_alias(recipe, alias, version)

    @telling
    def move_champion(self, recipe: str, version: str | None) -> None:
        """Points the alias champion at the version, or takes it away. For aeops/registry/promotion.py alone."""
        if version is None:
            self.client.delete_registered_model_alias(recipe, CHAMPION)
        else:
            self.client.set_registered_model_alias(recipe, CHAMPION, version)

    @telling
    def model(self, recipe: str) -> ModelInfo | None:
        """The recipe's model; None where nothing was registered."""
        models = self.client.search_registered_models(filter_string=f"name = '{recipe}'", max_results=1)
        if not models:
            return None
        aliases = {alias: str(version) for alias, version in models[0].aliases.items()}
        return ModelInfo(aliases, dict(models[0].tags))

    @telling
    def set_model_tag(self, recipe: str, name: str, value: str) -> None:
        self.client.set_registered_model_tag(recipe, name, value)

    @telling
    def versions(self, recipe: str) -> list[VersionInfo]:
        """Every version of the recipe's model, newest first; none where nothing was registered."""
        model = self.model(recipe)
        return [] if model is None else self._search(model, f"name = '{recipe}'")

    def _search(self, model: ModelInfo, wanted: str) -> list[VersionInfo]:
        found: list[ModelVersion] = []
        token: str | None = None
        while token != "":
            page = self.client.search_model_versions(wanted, max_results=200, page_token=token)
            found += page
            token = page.token or ""
        return sorted((info(entry, model.aliases) for entry in found), key=lambda version: -int(version.version))

    @telling
    def _version(self, recipe: str, which: str) -> VersionInfo | None:
        """The version of that number or alias, without a look at the others, of which there may be hundreds."""
        model = self.model(recipe)
        number = which if model is None else model.aliases.get(which, which)
        if model is None or not NUMBER.fullmatch(number):
            return None
        return next(iter(self._search(model, f"name = '{recipe}' and version_number = {number}")), None)

    def versions_url(self, recipe: str) -> str:
        """The page of the recipe's model; for the local store, where `ae up` will show it."""
        return f"{self.page}/#/models/{recipe}"

    def champion(self, recipe: str) -> VersionInfo | None:
        return self._version(recipe, CHAMPION)

    def version(self, recipe: str, which: str) -> VersionInfo:
        """The version of that number or alias.

        Raises:
            UsageError: there is none; says which there are.
        """
        if found := self._version(recipe, which):
            return found
        known = self.versions(recipe)
        if not known:
            raise UsageError(f"no version of {recipe} is registered in {self.uri}: make one with `ae run {recipe}`")
        allowed = sorted({alias for version in known for alias in version.aliases})
        raise UsageError(
            f"no version {which!r} of {recipe}; {', '.join([*allowed, *(version.version for version in known)])} allowed"
            + (f": make a champion with `ae run {recipe}`" if which == CHAMPION else "")
        )

    @telling
    def download_bundle(self, recipe: str, which: str) -> Path:
        """The verified bundle of a version in `.ae/serving/<recipe>/<version>/`, downloaded unless it is there.

        Args:
            recipe: the model's name.
            which: a version or an alias.

        Raises:
            UsageError: no such version.
            DataError: what the registry holds is not the bundle that was registered.
        """
        return self.bundle_of(recipe, self.version(recipe, which))

    @telling
    def bundle_of(self, recipe: str, version: VersionInfo) -> Path:
        """As `download_bundle`, of a version that was looked up before."""
        from aeops.registry.packing import fetch_bundle

        place = self.project.home / "serving" / recipe / version.version
        return fetch_bundle(self, recipe, version, place)

    @telling
    def kept_bundle(self, recipe: str, version: VersionInfo) -> str:
        """SHA-256 of the version's bundle as the registry keeps it now: downloaded afresh and verified, and not kept here.

        Raises:
            DataError: it is not whole, or not the bundle that was registered.
        """
        from ae_models.sums import bundle_sha256
        from aeops.registry.packing import fetch_bundle

        with tempfile.TemporaryDirectory() as folder:
            return bundle_sha256(fetch_bundle(self, recipe, version, Path(folder) / "bundle"))


# ---------------------------------------------------------------- small parts


def brief(error: Exception) -> str:
    """An error in a few words, without the SQL, the addresses or the data that MLflow quotes around it."""
    text = str(error).strip() or type(error).__name__
    known = next((words for words in NETWORK_REASONS if words.lower() in text.lower()), None)
    lines = [line for line in text.splitlines() if line.strip()]
    told = lines[-1] if "failures occurred while downloading" in text else lines[0]
    return known or told[:300]


def fitting(description: str) -> str:
    note = "\n\n(The rest did not fit here: the whole card is in the run's report.)"
    return description if len(description) <= DESCRIPTION_LENGTH else description[: DESCRIPTION_LENGTH - len(note)] + note


def batches(items: list[R], size: int) -> list[list[R]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
