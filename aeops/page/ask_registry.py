"""`python -m aeops.page.ask_registry`: the page's door to MLflow, a process of its own so that the page holds no MLflow.

Reads one request a line from stdin, answers one line of JSON to stdout, and ends with its stdin:

    {"ask": "snapshot", "recipes": ["digits"]}   -> {"recipes": {"digits": {"versions": [...], "metrics": {...}, ...}}}
    {"ask": "faults", "recipe": "digits"}        -> {"faults": [...]}, as `ae ledger verify digits` finds them

An error that a person can mend is {"fault": "one line"}.
"""

import json
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from aeops.errors import as_ae_error
from aeops.files import read_json
from aeops.project import Project, find_project
from aeops.registry import promotion
from aeops.registry.aliases import CHAMPION
from aeops.registry.database import database_file
from aeops.registry.store import Store, local_store_in_use, open_store
from aeops.registry.versions import VersionInfo

SHOWN = 12  # newest versions that the page's table shows; each costs a question to MLflow


class Asked:
    """Answers requests about one project; the store is opened by the first that needs it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.metrics = cache(lambda run: self.store.metrics(run))
        self.documents = cache(self._document)
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        self._store = self._store or open_store(self.project)
        return self._store

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if local_store_in_use() and not database_file(self.project).is_file():
            return {"recipes": {}, "faults": []}  # whoever only looks makes no database
        if request["ask"] == "faults":
            return {"faults": promotion.find_problems(self.store, request["recipe"])}
        return {"recipes": {name: self.recipe(name) for name in request["recipes"]}, "address": self.store.uri}

    def recipe(self, name: str) -> dict[str, Any]:
        versions = self.store.versions(name)
        champion = next((one for one in versions if CHAMPION in one.aliases), None)
        shown = versions[:SHOWN] + [one for one in versions[SHOWN:] if one.aliases]
        return {
            "count": len(versions),
            "versions": [self.version(one) for one in shown],
            "metrics": self.documents(champion.run_id) if champion else None,
            "page": after_host(self.store.versions_url(name)),
        }

    def version(self, held: VersionInfo) -> dict[str, Any]:
        return {
            "version": held.version,
            "aliases": held.aliases,
            "tags": held.tags,
            "created": held.created_at.isoformat(),
            "metrics": self.metrics(held.run_id),
            "run_page": after_host(self.store.run_url(held.run_id)),
        }

    def _document(self, run: str) -> dict[str, Any] | None:
        """metrics.json of a run, None where it keeps none: a run's files do not change."""
        if "metrics.json" not in self.store.files(run):
            return None
        with tempfile.TemporaryDirectory() as folder:
            return dict(read_json(self.store.download_file(run, "metrics.json", Path(folder))))


def after_host(url: str) -> str:
    """The part of a page's address that stays the same wherever MLflow is served."""
    return url[url.index("/#/") :]


def main() -> None:
    asked = Asked(find_project())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        try:
            told = asked.answer(json.loads(line))
        except Exception as error:
            known = as_ae_error(error)
            if known is None:
                raise
            told = {"fault": str(known)}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
