"""Watch which version an alias points to, without importing MLflow into this process.

The champion is the one of the recipe's ledger, a file in the state folder, or of the ledger's head (see
aeops/registry/champion_anchor.py): its entries are seen at once, and MLflow's alias only shows whether somebody has changed it
outside `ae`. Every other alias is MLflow's own. MLflow is queried slowly: over its REST API with plain HTTP where it is remote,
else in a separate process (`python -m aeops.registry.alias_watch RECIPE ALIAS`), and only if the local database has changed.
"""

import base64
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from aeops.errors import AeError, InfrastructureError
from aeops.machine.child_process import run_module
from aeops.machine.entry_point import run_main
from aeops.machine.network import open_url
from aeops.project import Project, find_project
from aeops.registry import ledger
from aeops.registry.aliases import CHAMPION
from aeops.registry.champion_anchor import configured_head_file, read_anchor
from aeops.registry.database import FileFingerprint, fingerprint_database, fingerprint_file
from aeops.registry.ledger_signatures import EntrySignature, signatures_file

POLL_SECONDS = 20.0  # between two queries where they are cheap: over HTTP, or after a check of a file's time
PROCESS_POLL_SECONDS = 120.0  # where each of them needs a process that imports MLflow
HTTP_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class AliasChange:
    """A change of an alias.

    Attributes:
        version: the version that the alias points to now; None if the alias was removed.
    """

    version: str | None


@dataclass(frozen=True)
class LedgerMove:
    """The last entry of a ledger that changed the champion: its hash, and the new champion."""

    hash: str
    version: str | None


class RegistryQuery(threading.Thread):
    """A query to MLflow in a separate process, which may take long; nobody waits for it.

    Attributes:
        ledger_move: the ledger's last one when the query started.
        version: the result.
        error: the failure, None where it succeeded.
    """

    def __init__(self, fetch_version: Callable[[], str | None], ledger_move: LedgerMove | None) -> None:
        super().__init__(name="MLflow query", daemon=True)
        self._fetch_version, self.ledger_move = fetch_version, ledger_move
        self.version: str | None = None
        self.error: AeError | None = None

    def run(self) -> None:
        try:
            self.version = self._fetch_version()
        except AeError as error:
            self.error = error


class AliasWatch:
    """Detects changes of an alias.

    Attributes:
        error: why the last `poll` failed, or how MLflow's champion differs from the ledger's; None where neither is so.
    """

    def __init__(self, project: Project, recipe: str, alias: str) -> None:
        """Read the ledger as it is now; create the watch before the alias is read for the first time."""
        self.project, self.recipe, self.alias = project, recipe, alias
        self.error: str | None = None
        self._ledger_fingerprint: tuple[FileFingerprint, ...] | None = None
        self._last_move: LedgerMove | None = None
        self._signature: EntrySignature | None = None
        self._ledger_error: AeError | None = None
        self._read_ledger()
        self._last_query_at = time.monotonic()
        self._database_state = self._fingerprint_database()
        self._registry_version: str | None = None
        self._target_version: str | None = None
        self._foreign_change: AliasChange | None = None
        self._alias_problem: str | None = None
        self._query: RegistryQuery | None = None

    def set_version(self, version: str) -> None:
        """Set the version that the alias points to at the start."""
        self._registry_version = self._target_version = version

    def poll(self) -> AliasChange | None:
        """Return the change since the last poll; None if there is none, or if it could not be determined (see `error`)."""
        try:
            change = self._poll_ledger() or self._poll_registry()
        except AeError as error:
            self.error = str(error)
            return None
        self.error = self._alias_problem
        return change

    def _poll_ledger(self) -> AliasChange | None:
        """Return a change that the ledger shows. Cheap: an unchanged file is not read."""
        if self.alias != CHAMPION:
            return None
        previous_move, previous_signature = self._last_move, self._signature
        self._read_ledger()
        if self._ledger_error is not None:
            raise self._ledger_error
        if self._last_move is None or (self._last_move, self._signature) == (previous_move, previous_signature):
            return None  # a signature may have been added later: a version that was refused without it may be served now
        self._target_version = self._last_move.version
        self._foreign_change = self._alias_problem = None
        return AliasChange(self._target_version)

    def _read_ledger(self) -> None:
        """Read the ledger with its signatures, or its head, if a file has changed. A broken one moves nothing."""
        if self.alias != CHAMPION:
            return
        files = [ledger.ledger_file(self.project, self.recipe), signatures_file(self.project, self.recipe)]
        if head_file := configured_head_file():
            files.append(head_file)
        new_fingerprint = tuple(map(fingerprint_file, files))
        if new_fingerprint == self._ledger_fingerprint:
            return
        self._ledger_fingerprint = new_fingerprint
        try:
            anchor = read_anchor(self.project, self.recipe)
        except AeError as error:
            self._ledger_error = error
            return
        self._ledger_error = None
        self._last_move, self._signature = None, anchor.signature
        if anchor.last_move is not None:
            self._last_move = LedgerMove(anchor.last_move.hash, anchor.last_move.to_version)

    def _poll_registry(self) -> AliasChange | None:
        """Return a change that MLflow shows since the last query. Does not wait for a separate process."""
        if self._query is not None and not self._query.is_alive():
            return self._finish_query()
        uri = tracking_uri()
        is_remote = uri.startswith(("http://", "https://"))
        interval = POLL_SECONDS
        if uri and not is_remote:
            interval = PROCESS_POLL_SECONDS
        if time.monotonic() - self._last_query_at < interval:
            return None
        if is_remote:
            self._last_query_at = time.monotonic()
            return self._compare_version(fetch_alias_version(uri, self.recipe, self.alias))
        if self._query is None:
            self._start_query()
        return None

    def _start_query(self) -> None:
        """Start a separate process, unless the local database is unchanged."""
        self._last_query_at = time.monotonic()
        new_fingerprint = self._fingerprint_database()
        if new_fingerprint is None or new_fingerprint != self._database_state:
            self._database_state = new_fingerprint
            self._query = RegistryQuery(self._fetch_in_process, self._last_move)
            self._query.start()

    def _finish_query(self) -> AliasChange | None:
        """Use the result of a finished query, unless the ledger has changed meanwhile."""
        query, self._query = self._query, None
        assert query is not None
        is_current = query.ledger_move == self._last_move
        if query.error is not None or not is_current:
            self._database_state = None  # so that the next poll queries again
        if query.error is not None:
            raise query.error
        if not is_current:
            return None
        return self._compare_version(query.version)

    def _compare_version(self, version: str | None) -> AliasChange | None:
        """Return the change if MLflow's version differs from its last one; a champion is only compared with the ledger's."""
        if self.alias == CHAMPION:
            self._check_champion(version)
            return None
        previous, self._registry_version = self._registry_version, version
        if version in (previous, self._target_version):
            return None
        self._target_version = version
        return AliasChange(version)

    def _check_champion(self, version: str | None) -> None:
        """Note that MLflow's champion is not the ledger's, once two queries agree: a promotion writes to the ledger first."""
        if self._last_move is None or version == self._last_move.version:
            self._foreign_change = self._alias_problem = None
            return
        self._database_state = None  # so that MLflow is queried again
        change = AliasChange(version)
        if self._foreign_change == change:
            self._alias_problem = (
                f"MLflow's alias {CHAMPION} of {self.recipe} points to {version or 'no version'}, but by the ledger the champion "
                f"is {self._last_move.version or 'none'}, which stays: the alias was changed outside `ae`; "
                f"`ae ledger verify {self.recipe}` says what to type"
            )
        self._foreign_change = change

    def _fingerprint_database(self) -> tuple[FileFingerprint, ...] | None:
        """Fingerprint the project's own database; None where MLflow is elsewhere."""
        if tracking_uri():
            return None
        return fingerprint_database(self.project)

    def _fetch_in_process(self) -> str | None:
        output = run_module(
            ["aeops.registry.alias_watch", self.recipe, self.alias],
            root=self.project.root,
            home=self.project.home,
            log=self.project.logs / f"watch-{self.recipe}.log",
        )
        version: str | None = json.loads(output.splitlines()[-1])["version"]
        return version


def tracking_uri() -> str:
    """Return MLflow's address if MLFLOW_TRACKING_URI sets one, else an empty string."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")


def fetch_alias_version(address: str, recipe: str, alias: str) -> str | None:
    """Ask an MLflow server for the version of an alias; None where there is no such alias.

    Raises:
        InfrastructureError: the server does not answer, or answers with an error.
    """
    query = urllib.parse.urlencode({"name": recipe, "alias": alias})
    url = f"{address}/api/2.0/mlflow/registered-models/alias?{query}"
    request = urllib.request.Request(url, headers=auth_headers())
    try:
        with open_url(request, HTTP_TIMEOUT_SECONDS) as response:
            return str(json.load(response)["model_version"]["version"])
    except urllib.error.HTTPError as error:
        if error.code in (400, 404):  # a model without that alias, and no such model
            return None
        raise InfrastructureError(f"MLflow at {address} answers {error.code} {error.reason}") from error
    except (OSError, ValueError, KeyError) as error:
        raise InfrastructureError(f"MLflow at {address} does not answer ({error})") from error


def auth_headers() -> dict[str, str]:
    """Build the header that MLflow's client sends for MLFLOW_TRACKING_TOKEN, or for MLFLOW_TRACKING_USERNAME and _PASSWORD."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    username, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if username and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"}
    return {}


def main() -> None:
    from aeops.registry.store import open_store

    recipe, alias = sys.argv[1:]
    model = open_store(find_project()).model(recipe)
    version = None
    if model is not None:
        version = model.aliases.get(alias)
    print(json.dumps({"version": version}))


if __name__ == "__main__":
    run_main(main)
