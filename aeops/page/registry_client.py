"""What MLflow knows, asked of a child process (aeops/page/ask_registry.py) that is started when first needed."""

import json
import subprocess
import sys
import threading
import time
from typing import Any

from aeops.errors import InfrastructureError
from aeops.machine.child_process import child_environment
from aeops.project import Project
from aeops.recipe.reader import recipe_names
from aeops.registry import ledger

VERIFIED_FOR = 600.0  # seconds: verifying downloads the champion's bundle


class Registry:
    """One child, one question at a time; a child that died is started again by the next question."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._child: subprocess.Popen[str] | None = None
        self._closed = False
        self._one_at_a_time = threading.Lock()
        self._verified: dict[str, tuple[tuple[int, int], float, list[str]]] = {}

    def snapshot(self) -> dict[str, Any]:
        """Versions, aliases, tags and metrics of every recipe: see `ask_registry`."""
        return self._ask({"ask": "snapshot", "recipes": names(self.project)})

    def faults(self) -> dict[str, list[str]]:
        """What `ae ledger verify` finds wrong with each recipe that has a ledger; kept while its file is the same."""
        found = {}
        for name in ledger.recipes_with_ledger(self.project):
            status = ledger.ledger_file(self.project, name).stat()
            state = (status.st_mtime_ns, status.st_size)
            before, when, faults = self._verified.get(name, ((0, 0), 0.0, []))
            if before != state or time.monotonic() - when > VERIFIED_FOR:
                faults = self._ask({"ask": "faults", "recipe": name})["faults"]
                self._verified[name] = (state, time.monotonic(), faults)
            found[name] = faults
        return found

    def close(self) -> None:
        """Ends the child, whatever it is doing: it only reads."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._one_at_a_time:
            if self._closed:
                raise InfrastructureError("the page is being stopped")
            child = self._running()
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()
                line = child.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise InfrastructureError(f"the process that asks MLflow ended; what it printed is in {self._log}")
        answer = dict(json.loads(line))
        if "fault" in answer:
            raise InfrastructureError(answer["fault"])
        return answer

    @property
    def _log(self) -> str:
        return str(self.project.logs / "page-registry.log")

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            self.project.logs.mkdir(parents=True, exist_ok=True)
            with open(self._log, "wb") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "aeops.machine.run_child", "aeops.page.ask_registry"],
                    cwd=self.project.root,
                    env=child_environment(self.project.home),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        return self._child


def names(project: Project) -> list[str]:
    """Every recipe there is a file or a ledger of."""
    return sorted({*recipe_names(project), *ledger.recipes_with_ledger(project)})
