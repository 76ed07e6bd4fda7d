"""Rollover: replace the served version by a new champion while requests are answered.

    fetch and verify (own process) -> smoke test (another process) -> load, compare with the ledger, warm up -> shadow trial
    -> take over

A new version may be refused at every step: the old one then stays, and the reason appears in the log, in /model and in /metrics.
Taking over is one assignment: a request keeps the version that it started with. If the alias is removed, no version is served.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from aeops.errors import AeError, DataError, InfrastructureError
from aeops.recipe.sections import ServingSpec
from aeops.serving.metrics import Metrics
from aeops.serving.served_version import ServedVersion, find_incompatibility
from aeops.serving.shadow import AnsweredBatch, ShadowTrial

POLL_SECONDS = 0.5
RETRY_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)  # delays before each new attempt to fetch a version; the last one repeats

log = logging.getLogger("aeops.serving")


class VersionChange(Protocol):
    """A change of the alias: the version that it points to now, None if it was removed."""

    @property
    def version(self) -> str | None: ...


class AliasWatcher(Protocol):
    """Detects changes of the alias; see aeops/registry/alias_watch.py."""

    error: str | None

    def set_version(self, version: str) -> None: ...

    def poll(self) -> VersionChange | None: ...


class ChampionSource(Protocol):
    """Knows the champion without asking the registry, which others may write to; see aeops/registry/champion_anchor.py."""

    def find_problem(self, version: str, bundle_sha256: str) -> str | None:
        """Return why this bundle is not to be served as the champion; None if it is the champion."""


@dataclass(frozen=True)
class FetchedBundle:
    """A bundle that was fetched and verified.

    Attributes:
        sha256: of the bundle that was verified; no other one is loaded from the folder.
    """

    version: str
    folder: Path
    sha256: str


@dataclass(frozen=True)
class VersionSource:
    """Functions that provide versions.

    Attributes:
        fetch: takes a version or an alias; returns its verified bundle.
        smoke_test: lets the bundle answer its example in a process of its own; raises AeError if it fails.
        load: loads a bundle that was fetched.
        alias_watcher: None to stay with one version.
        champion: checks each version that is loaded; None where the served alias is not that of the champion.
    """

    fetch: Callable[[str], FetchedBundle]
    smoke_test: Callable[[Path], None]
    load: Callable[[FetchedBundle], ServedVersion]
    alias_watcher: AliasWatcher | None
    champion: ChampionSource | None = None


@dataclass(frozen=True)
class Retry:
    """A later attempt to fetch a version.

    Attributes:
        at: from `time.monotonic`.
        attempt: number of attempts before it.
    """

    at: float
    attempt: int
    version: str


@dataclass(frozen=True)
class RolloverEvent:
    """A change of the served version or of the trial, or a refusal.

    Attributes:
        event: serves, shadow, dropped, refused, waits or retired.
        time: ISO 8601, UTC.
    """

    event: str
    version: str
    reason: str
    time: str


class ModelRollover:
    """The served version, its possible successor, and the thread that manages both.

    Args:
        source: None if `current_version` is set once and stays.

    Attributes:
        current_version: the served version; None before the first one and while there is no champion.
        shadow_trial: trial of the successor.
        last_event: None before the first one.
    """

    def __init__(self, name: str, source: VersionSource | None, rules: ServingSpec, metrics: Metrics) -> None:
        self.name, self.rules, self.metrics = name, rules, metrics
        self.current_version: ServedVersion | None = None
        self.shadow_trial: ShadowTrial | None = None
        self.last_event: RolloverEvent | None = None
        self._source = source
        self._alias_watcher: AliasWatcher | None = None
        if source is not None:
            self._alias_watcher = source.alias_watcher
        self._retry: Retry | None = None
        self._stop_event = threading.Event()

    # ---------------------------------------------------------------- called by the scoring threads and by requests

    def add_batch(self, served_version: ServedVersion, batch: AnsweredBatch) -> None:
        """Pass a batch that was answered to the shadow trial, if there is one."""
        shadow_trial = self.shadow_trial
        if shadow_trial is not None and shadow_trial.old is served_version:
            shadow_trial.add_batch(batch)

    def state(self) -> dict[str, Any]:
        """Return the state as the key `serving` of /model."""
        state: dict[str, Any] = {"watched": False, "watch_fault": None, "shadow": None, "last": None}
        shadow_trial, last_event = self.shadow_trial, self.last_event
        if self._alias_watcher is not None:
            state |= {"watched": True, "watch_fault": self._alias_watcher.error}
        if shadow_trial is not None:
            state["shadow"] = {"version": shadow_trial.new.version, **asdict(shadow_trial.counts)}
        if last_event is not None:
            state["last"] = {
                "event": last_event.event,
                "version": last_event.version,
                "why": last_event.reason,
                "time": last_event.time,
            }
        return state

    # ---------------------------------------------------------------- called by the rollover thread

    def load_first(self, version_or_alias: str) -> None:
        """Fetch, load and warm up the first version.

        Raises:
            AeError: it does not exist, is not the champion in the ledger, or does not answer its example.
        """
        assert self._source is not None
        bundle = self._source.fetch(version_or_alias)
        version, served_version = bundle.version, self._source.load(bundle)
        if problem := self._find_champion_problem(served_version):
            raise DataError(problem)
        if problem := served_version.check_example():
            message = f"{self.name} {version} does not answer its own example: {problem}; serve another --version"
            raise InfrastructureError(message)
        if self._alias_watcher is not None:
            self._alias_watcher.set_version(version)
        self._take_over(served_version, "first")

    def run(self) -> None:
        """Manage the rollover until `end` is called."""
        while not self._stop_event.wait(POLL_SECONDS):
            self.step()

    def end(self) -> None:
        self._stop_event.set()
        if self.shadow_trial is not None:
            self.shadow_trial.end()

    def step(self) -> None:
        """Poll the alias once, start a due retry, and finish the trial if it can be decided."""
        change = None
        if self._alias_watcher is not None:
            change = self._alias_watcher.poll()
        if change is not None:
            self._retry = None
            self._follow_alias(change.version, attempt=0)
        elif self._retry is not None and time.monotonic() >= self._retry.at:
            self._follow_alias(self._retry.version, self._retry.attempt)
        self._finish_trial()

    def _follow_alias(self, version: str | None, attempt: int) -> None:
        self._drop_trial(version)
        if version is None:
            self._stop_serving()
        elif self.current_version is None or version != self.current_version.version:
            self._prepare_version(version, attempt)

    def _drop_trial(self, new_version: str | None) -> None:
        if self.shadow_trial is not None:
            self.shadow_trial.end()
            self._report_event("dropped", self.shadow_trial.new.version, f"the alias moved on to {new_version or 'nothing'}")
            self.shadow_trial = None

    def _stop_serving(self) -> None:
        if self.current_version is not None:
            self._report_event("retired", self.current_version.version, "the alias was removed; no version is served")
            self.current_version = None
            self.metrics.set_version(None)

    def _prepare_version(self, version: str, attempt: int) -> None:
        """Prepare a version up to its trial. An InfrastructureError is retried; any other error is a refusal."""
        assert self._source is not None
        self._retry = None
        try:
            bundle = self._source.fetch(version)
            self._source.smoke_test(bundle.folder)
            served_version = self._source.load(bundle)
            problem = self._find_problem(served_version)
        except InfrastructureError as error:
            delay = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
            self._retry = Retry(time.monotonic() + delay, attempt + 1, version)
            self._report_event("waits", version, f"{error}; next attempt in {delay:g} s")
            return
        except AeError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  # any exception of a broken model refuses it
            problem = f"it raises {type(error).__name__}: {error}"
        if problem is not None:
            self._refuse_version(version, problem)
        elif self.current_version is None:
            self._take_over(served_version, "first")
        else:
            self.shadow_trial = ShadowTrial(served_version, self.current_version, on_scored=self.metrics.record_shadow)
            self.shadow_trial.start()
            self._report_event("shadow", version, f"scores the requests to {self.current_version.version}, too")

    def _find_problem(self, served_version: ServedVersion) -> str | None:
        if problem := self._find_champion_problem(served_version) or served_version.check_example():
            return problem
        if self.current_version is None:
            return None
        return find_incompatibility(served_version.detector, self.current_version.detector)

    def _find_champion_problem(self, served_version: ServedVersion) -> str | None:
        """Compare what was loaded with the ledger, whatever the registry says."""
        if self._source is None or self._source.champion is None:
            return None
        return self._source.champion.find_problem(served_version.version, served_version.detector.sha256)

    def _finish_trial(self) -> None:
        shadow_trial = self.shadow_trial
        if shadow_trial is None:
            return
        requests = shadow_trial.counts.requests
        if shadow_trial.problem is not None:
            self._refuse_version(shadow_trial.new.version, shadow_trial.problem)
        elif requests >= self.rules.shadow_requests:
            self._take_over(shadow_trial.new, f"after {requests} requests in the shadow of {shadow_trial.old.version}")
        elif time.monotonic() - shadow_trial.started_at >= self.rules.shadow_seconds:
            self._take_over(shadow_trial.new, f"after {self.rules.shadow_seconds:g} s and {requests} requests in the shadow")

    def _take_over(self, served_version: ServedVersion, reason: str) -> None:
        if self.shadow_trial is not None:
            self.shadow_trial.end()
        self.current_version, self.shadow_trial = served_version, None
        self.metrics.set_version(served_version)
        self._report_event("serves", served_version.version, reason)

    def _refuse_version(self, version: str, reason: str) -> None:
        if self.shadow_trial is not None:
            self.shadow_trial.end()
            self.shadow_trial = None
        self._report_event("refused", version, reason)

    def _report_event(self, event: str, version: str, reason: str) -> None:
        """Report an event in the log, in /model and in /metrics."""
        reason = " ".join(reason.split())
        self.last_event = RolloverEvent(event, version, reason, datetime.now(UTC).isoformat(timespec="seconds"))
        self.metrics.record_event(event)
        level = logging.INFO
        if event in ("refused", "waits", "retired"):
            level = logging.WARNING
        log.log(level, "%s %s: %s (%s)", self.name, version, event, reason)
