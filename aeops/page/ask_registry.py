"""`python -m aeops.page.ask_registry`: the page's access to MLflow, in a process of its own so that the page loads no MLflow.

Reads one request a line from stdin, answers with one line of JSON on stdout, and ends when stdin does:

    {"query": "snapshot", "recipes": ["digits"]}   -> {"recipes": {"digits": {"versions": [...], "metrics": {...}, ...}}}
    {"query": "problems", "recipe": "digits"}      -> {"problems": [...]}, as `ae ledger verify digits` finds them

An error that a person can repair is {"error": "one line"}.
"""

import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from aeops.errors import as_ae_error
from aeops.machine.scratch import ScratchFolder
from aeops.machine.stored_json import read_json
from aeops.page.registry_snapshot import RecipeEntry, RegistrySnapshot, VersionEntry
from aeops.project import Project, find_project
from aeops.registry import promotion
from aeops.registry.aliases import CHAMPION
from aeops.registry.database import database_file
from aeops.registry.store import Store, local_store_in_use, open_store
from aeops.registry.versions import VersionInfo
from aeops.report.model_card import card_sentence

NEWEST_VERSIONS = 12  # in the page's table; each costs a request to MLflow


class RegistryReader:
    """Answers requests about one project; the first request that needs the store opens it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._run_metrics = cache(lambda run_id: self.store.metrics(run_id))
        self._metrics_document = cache(self._download_metrics)
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        if self._store is None or self._store.is_outdated:
            self._store = open_store(self.project)
        return self._store

    def problems(self, recipe: str) -> list[str]:
        """Return the problems that `ae ledger verify` finds."""
        if not self._has_database():
            return []
        return promotion.find_problems(self.store, recipe)

    def snapshot(self, recipes: list[str]) -> RegistrySnapshot:
        """Return the state of the recipes in the registry."""
        if not self._has_database():
            return {"recipes": {}}
        return {"recipes": {name: self._recipe_entry(name) for name in recipes}, "address": self.store.uri}

    def _has_database(self) -> bool:
        # Opening the store would create the database, and a page that is only read creates nothing.
        return not local_store_in_use() or database_file(self.project).is_file()

    def _recipe_entry(self, name: str) -> RecipeEntry:
        versions = self.store.versions(name)
        metrics = None
        entries = []
        for position, version in enumerate(versions):
            if position < NEWEST_VERSIONS or version.aliases:
                entries.append(self._version_entry(version))
            if CHAMPION in version.aliases:
                metrics = self._metrics_document(version.run_id)
        page = path_after_host(self.store.versions_url(name))
        return {"count": len(versions), "versions": entries, "metrics": metrics, "page": page}

    def _version_entry(self, version: VersionInfo) -> VersionEntry:
        return {
            "version": version.version,
            "aliases": list(version.aliases),
            "tags": dict(version.tags),
            "created_at": version.created_at.isoformat(),
            "metrics": self._run_metrics(version.run_id),
            "run_page": path_after_host(self.store.run_url(version.run_id)),
            "sentence": card_sentence(version.description),
        }

    def _download_metrics(self, run_id: str) -> dict[str, Any] | None:
        """Return metrics.json of a run, None without one; it can be cached because a run's files do not change."""
        if "metrics.json" not in self.store.files(run_id):
            return None
        with ScratchFolder() as folder:
            return dict(read_json(self.store.download_file(run_id, "metrics.json", Path(folder))))


def path_after_host(url: str) -> str:
    """Return the part of a page's address that is the same wherever MLflow is served."""
    return url[url.index("/#/") :]


def build_response(reader: RegistryReader, line: str) -> Any:
    """Return the response to one line of input, an object for JSON."""
    request = json.loads(line)
    try:
        if request["query"] == "problems":
            return {"problems": reader.problems(request["recipe"])}
        return reader.snapshot(request["recipes"])
    except Exception as error:
        ae_error = as_ae_error(error)
        if ae_error is None:
            raise
        return {"error": str(ae_error)}


def main() -> None:
    reader = RegistryReader(find_project())
    response_file = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library's prints must not end among the responses
    for line in sys.stdin:
        response_file.write(json.dumps(build_response(reader, line)) + "\n")
        response_file.flush()


if __name__ == "__main__":
    main()
