"""Access to MLflow through a child process (aeops/page/ask_registry.py), which is started when first needed."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from aeops.errors import InfrastructureError
from aeops.files import make_folder
from aeops.machine.child_process import child_environment
from aeops.page.registry_snapshot import RegistrySnapshot
from aeops.project import Project
from aeops.recipe.reader import recipe_names
from aeops.registry import ledger

VERIFIED_FOR = 600.0  # seconds: verifying downloads the champion's bundle


@dataclass(frozen=True)
class LedgerCheck:
    """The result of verifying a ledger.

    Attributes:
        file_state: mtime in nanoseconds and size of the ledger's file.
        checked_at: on the monotonic clock.
    """

    file_state: tuple[int, int]
    checked_at: float
    problems: list[str]

    def is_valid_for(self, file_state: tuple[int, int]) -> bool:
        return self.file_state == file_state and time.monotonic() - self.checked_at <= VERIFIED_FOR


class RegistryClient:
    """Sends one request at a time to one child; a child that died is replaced at the next request."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._child: subprocess.Popen[str] | None = None
        self._closed = False
        self._request_lock = threading.Lock()
        self._ledger_checks: dict[str, LedgerCheck] = {}

    def snapshot(self) -> RegistrySnapshot:
        """Return versions, aliases, tags and metrics of every recipe.

        Raises:
            InfrastructureError: the registry does not answer.
        """
        request = {"query": "snapshot", "recipes": find_recipe_names(self.project)}
        snapshot: RegistrySnapshot = self._send_request(request)
        return snapshot

    def ledger_problems(self) -> dict[str, list[str]]:
        """Return the problems that `ae ledger verify` finds, for each recipe with a ledger.

        A result is used again while the ledger's file is the same, for at most `VERIFIED_FOR` seconds.

        Raises:
            InfrastructureError: the registry does not answer.
        """
        return {name: self._verify_ledger(name) for name in ledger.recipes_with_ledger(self.project)}

    def close(self) -> None:
        """End the child, whatever it is doing: it only reads."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _verify_ledger(self, name: str) -> list[str]:
        status = ledger.ledger_file(self.project, name).stat()
        file_state = (status.st_mtime_ns, status.st_size)
        last_check = self._ledger_checks.get(name)
        if last_check is not None and last_check.is_valid_for(file_state):
            return last_check.problems
        problems: list[str] = self._send_request({"query": "problems", "recipe": name})["problems"]
        self._ledger_checks[name] = LedgerCheck(file_state, time.monotonic(), problems)
        return problems

    def _send_request(self, request: dict[str, Any]) -> Any:
        with self._request_lock:
            if self._closed:
                raise InfrastructureError("the page is being stopped")
            line = self._exchange_line(json.dumps(request))
        if not line:
            raise InfrastructureError(f"the registry process of the page ended; see its output in {self._log_file}")
        response = json.loads(line)
        if "error" in response:
            raise InfrastructureError(response["error"])
        return response

    def _exchange_line(self, line: str) -> str:
        child = self._running_child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(line + "\n")
            child.stdin.flush()
            return child.stdout.readline()
        except BrokenPipeError:
            return ""

    @property
    def _log_file(self) -> str:
        return str(self.project.logs / "page-registry.log")

    def _running_child(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            make_folder(self.project.logs)
            with open(self._log_file, "ab") as log:
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


def find_recipe_names(project: Project) -> list[str]:
    """Return the names of all recipes with a file or a ledger, sorted."""
    return sorted({*recipe_names(project), *ledger.recipes_with_ledger(project)})
