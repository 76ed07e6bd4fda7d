"""Which version an alias is on, asked again and again, without holding MLflow.

Two signs say that it may have moved. The recipe's ledger in the state folder is a file: its moves are seen at once. An alias
that was moved elsewhere is seen in MLflow, asked slowly: over its REST address with plain HTTP where that is remote, else in a
process of its own (`python -m aeops.registry.watch RECIPE ALIAS`), and only when the local database has changed. Whatever moved
last counts.
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
from pathlib import Path

from aeops.errors import AeError, InfrastructureError
from aeops.machine.child_process import run_module
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.registry import ledger
from aeops.registry.database import database_file

CHAMPION = "champion"
EVERY = 20.0  # seconds between two questions to MLflow where they are cheap: over HTTP, or after a look at a file's time
RARELY = 120.0  # where each of them needs a process that loads MLflow
PATIENCE = 5.0  # seconds for MLflow's answer over HTTP


class Question(threading.Thread):
    """A question to MLflow in a process of its own, which may take long: nobody waits for its `answer`, or `error`.

    Attributes:
        move: the ledger's last one when it was asked.
    """

    def __init__(self, ask: Callable[[], str | None], move: tuple[str, str | None] | None) -> None:
        super().__init__(name="asking MLflow", daemon=True)
        self._ask, self.move = ask, move
        self.answer: str | None = None
        self.error: AeError | None = None

    def run(self) -> None:
        try:
            self.answer = self._ask()
        except AeError as error:
            self.error = error


class Watch:
    """Sees where an alias goes.

    Attributes:
        fault: why the last look did not succeed; None where it did.
    """

    def __init__(self, project: Project, recipe: str, alias: str) -> None:
        """Begins with what the ledger says now: make the watch before the alias is asked for the first time."""
        self.project, self.recipe, self.alias = project, recipe, alias
        self.fault: str | None = None
        self._stamp: tuple[int, int] | None = None
        self._move: tuple[str, str | None] | None = None
        self._broken: AeError | None = None
        self._look_at_ledger()
        self._asked = time.monotonic()
        self._database = self._database_stamp()
        self._aliased: str | None = None
        self._target: str | None = None
        self._question: Question | None = None

    def begin(self, version: str) -> None:
        """Says on which version the alias was found."""
        self._aliased = self._target = version

    def moved(self) -> tuple[str | None] | None:
        """The version that the alias has moved to since the last question, as a tuple; (None,) where it was taken away; None
        where it has not moved or nobody could tell, which `fault` says."""
        try:
            found = self._ledger_move() or self._registry_move()
        except AeError as error:
            self.fault = str(error)
            return None
        self.fault = None
        return found

    def _ledger_move(self) -> tuple[str | None] | None:
        """A move that the ledger has since the last look. Cheap: an unchanged file is not read."""
        if self.alias != CHAMPION:
            return None
        before = self._move
        self._look_at_ledger()
        if self._broken is not None:
            raise self._broken
        if self._move is None or self._move == before:
            return None
        self._target = self._move[1]
        return (self._target,)

    def _look_at_ledger(self) -> None:
        """Reads the ledger where it has changed. Nothing moves by one that does not hold."""
        seen = stamp(ledger.ledger_file(self.project, self.recipe))
        if seen == self._stamp:
            return
        self._stamp = seen
        try:
            self._move, self._broken = self._last_move(), None
        except AeError as error:
            self._broken = error

    def _last_move(self) -> tuple[str, str | None] | None:
        """Hash and new champion of the ledger's last move."""
        line = ledger.last_move(ledger.read(self.project, self.recipe))
        return (line.hash, line.after) if line else None

    def _registry_move(self) -> tuple[str | None] | None:
        """A move of the alias in MLflow since it was last asked. Does not wait for a process that asks."""
        if self._question is not None and not self._question.is_alive():
            question, self._question = self._question, None
            if question.error is not None or question.move != self._move:  # no answer, or one that the ledger has overtaken
                self._database = None  # asked again
            if question.error is not None:
                raise question.error
            return self._found(question.answer) if question.move == self._move else None
        http = tracking().startswith(("http://", "https://"))
        if time.monotonic() - self._asked < (RARELY if tracking() and not http else EVERY):
            return None
        if http:
            self._asked = time.monotonic()
            return self._found(asked_over_http(tracking(), self.recipe, self.alias))
        if self._question is None:
            self._asked, seen = time.monotonic(), self._database_stamp()
            if seen is None or seen != self._database:
                self._database, self._question = seen, Question(self._asked_in_a_process, self._move)
                self._question.start()
        return None

    def _found(self, aliased: str | None) -> tuple[str | None] | None:
        """What it means that MLflow has the alias on that version."""
        before, self._aliased = self._aliased, aliased
        if aliased in (before, self._target):  # it has not moved, or as the ledger has said before
            return None
        self._target = aliased
        return (aliased,)

    def _database_stamp(self) -> tuple[tuple[int, int], ...] | None:
        """Changes with every write to the project's own database; None where MLflow is elsewhere."""
        if tracking():
            return None
        file = database_file(self.project)
        return stamp(file), stamp(file.with_name(f"{file.name}-wal"))

    def _asked_in_a_process(self) -> str | None:
        output = run_module(
            ["aeops.registry.watch", self.recipe, self.alias],
            root=self.project.root,
            home=self.project.home,
            log=self.project.logs / f"watch-{self.recipe}.log",
        )
        version: str | None = json.loads(output.splitlines()[-1])["version"]
        return version


def stamp(file: Path) -> tuple[int, int]:
    """Changes whenever a file is written; (0, 0) where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def tracking() -> str:
    """MLflow's address where it is not the project's own database, else nothing."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")


def asked_over_http(address: str, recipe: str, alias: str) -> str | None:
    """The version that a server's alias is on; None where there is no such alias.

    Raises:
        InfrastructureError: it does not answer.
    """
    query = urllib.parse.urlencode({"name": recipe, "alias": alias})
    url = f"{address}/api/2.0/mlflow/registered-models/alias?{query}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=credentials()), timeout=PATIENCE) as answer:
            return str(json.load(answer)["model_version"]["version"])
    except urllib.error.HTTPError as error:
        if error.code in (400, 404):  # a model without that alias, and no such model
            return None
        raise InfrastructureError(f"MLflow at {address} answers {error.code} {error.reason}") from error
    except (OSError, ValueError, KeyError) as error:
        raise InfrastructureError(f"MLflow at {address} does not answer ({error})") from error


def credentials() -> dict[str, str]:
    """The header that MLflow's own client makes of MLFLOW_TRACKING_TOKEN, or of MLFLOW_TRACKING_USERNAME and _PASSWORD."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{part}") for part in ("USERNAME", "PASSWORD"))
    if name and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    return {}


def main() -> None:
    from aeops.registry.store import open_store

    recipe, alias = sys.argv[1:]
    model = open_store(find_project()).model(recipe)
    print(json.dumps({"version": model.aliases.get(alias) if model else None}))


if __name__ == "__main__":
    run_main(main)
