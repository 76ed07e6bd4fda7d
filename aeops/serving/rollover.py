"""Which version answers, and how a new champion takes over while requests come.

    fetched and verified (a process of its own) -> rehearsed (another) -> loaded, warmed -> in the shadow -> takes over

At every step it may be refused: then the old one stays, and the reason is told in the log, in /model and in /metrics. Taking over
is one assignment: a request keeps the version that it began with. Where the alias is gone, nothing answers.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from aeops.errors import AeError, InfrastructureError
from aeops.recipe.sections import ServingSpec
from aeops.serving.metrics import Metrics
from aeops.serving.served_version import Served, misfit
from aeops.serving.shadow import Batch, Shadow

PERIOD = 0.5  # seconds between two looks
AGAIN = (5.0, 10.0, 20.0, 40.0, 60.0)  # seconds until what was in the way of fetching is tried again; the last one for good

log = logging.getLogger("aeops.serving")


class VersionChange(Protocol):
    """A change of the alias: the version that it points to now, None if it was removed."""

    @property
    def version(self) -> str | None: ...


class Watched(Protocol):
    """Detects changes of the alias; see aeops/registry/alias_watch.py."""

    error: str | None

    def set_version(self, version: str) -> None: ...

    def poll(self) -> VersionChange | None: ...


@dataclass(frozen=True)
class Sources:
    """Where versions come from.

    Attributes:
        fetch: the number of a version or alias, and its verified bundle.
        rehearse: lets the bundle answer its example in a process of its own; raises AeError where it does not.
        load: the version, ready to be warmed.
        watch: None where the service stays with one version.
    """

    fetch: Callable[[str], tuple[str, Path]]
    rehearse: Callable[[Path], None]
    load: Callable[[str, Path], Served]
    watch: Watched | None


class Succession:
    """The version that answers, its possible successor, and the work of a thread that looks after them.

    Args:
        sources: None where `current` is set once and stays.

    Attributes:
        current: who answers; None before the first and where there is no champion.
        shadow: the successor on trial.
        last: the last change or refusal, as /model tells it.
    """

    def __init__(self, name: str, sources: Sources | None, rules: ServingSpec, metrics: Metrics) -> None:
        self.name, self.rules, self.metrics = name, rules, metrics
        self.current: Served | None = None
        self.shadow: Shadow | None = None
        self.last: dict[str, Any] | None = None
        self._sources = sources
        self._due: tuple[float, int, str] | None = None  # when, for the how manieth time, and which version is tried again
        self._ending = threading.Event()

    @property
    def _watch(self) -> Watched | None:
        return self._sources.watch if self._sources else None

    # ---------------------------------------------------------------- for those who answer

    def answered(self, served: Served, batch: Batch) -> None:
        """Shows the successor what was answered."""
        shadow = self.shadow
        if shadow is not None and shadow.old is served:
            shadow.show(batch)

    def state(self) -> dict[str, Any]:
        shadow, watch = self.shadow, self._watch
        on_trial = {"version": shadow.served.version, **asdict(shadow.seen)} if shadow else None
        return {
            "watched": watch is not None,
            "watch_fault": watch.error if watch else None,
            "shadow": on_trial,
            "last": self.last,
        }

    # ---------------------------------------------------------------- the thread's work

    def begin(self, which: str) -> None:
        """Fetches, loads and warms the first version.

        Raises:
            AeError: there is none, or it does not answer.
        """
        assert self._sources is not None
        version, bundle = self._sources.fetch(which)
        served = self._sources.load(version, bundle)
        if fault := served.warm():
            raise InfrastructureError(f"{self.name} {version} does not answer its own example: {fault}; serve another --version")
        if self._watch is not None:
            self._watch.set_version(version)
        self._take_over(served, "first")

    def run(self) -> None:
        """Looks after the succession until `end`."""
        while not self._ending.wait(PERIOD):
            self.step()

    def end(self) -> None:
        self._ending.set()
        if self.shadow is not None:
            self.shadow.end()

    def step(self) -> None:
        """One look: has the alias moved, is something to be tried again, what became of the trial?"""
        if (change := self._watch.poll() if self._watch else None) is not None:
            self._due = None
            self._follow(change.version, attempt=0)
        elif self._due is not None and time.monotonic() >= self._due[0]:
            _, attempt, version = self._due
            self._follow(version, attempt)
        self._judge()

    def _follow(self, version: str | None, attempt: int) -> None:
        """Goes where the alias went."""
        self._drop_trial(version)
        if version is None:
            self._retire()
        elif self.current is None or version != self.current.version:
            self._prepare(version, attempt)

    def _drop_trial(self, version: str | None) -> None:
        if self.shadow is not None:
            self.shadow.end()
            self._tell("dropped", self.shadow.served.version, f"the alias went on to {version or 'nothing'}")
            self.shadow = None

    def _retire(self) -> None:
        if self.current is not None:
            self._tell("retired", self.current.version, "the alias is gone: nothing answers until there is a champion again")
            self.current = None
            self.metrics.serves(None)

    def _prepare(self, version: str, attempt: int) -> None:
        """Everything up to the trial; a machine or a server that is in the way is tried again, all else is a refusal."""
        assert self._sources is not None
        self._due = None
        try:
            version, bundle = self._sources.fetch(version)
            self._sources.rehearse(bundle)
            served = self._sources.load(version, bundle)
            fault = served.warm() or (misfit(served.detector, self.current.detector) if self.current else None)
        except InfrastructureError as error:
            wait = AGAIN[min(attempt, len(AGAIN) - 1)]
            self._due = (time.monotonic() + wait, attempt + 1, version)
            self._tell("waits", version, f"{error}; tried again in {wait:g} s")
            return
        except AeError as error:
            fault = str(error)
        except Exception as error:  # noqa: BLE001  # whatever a broken model raises while it is loaded is what is wanted to be known
            fault = f"it raises {type(error).__name__}: {error}"
        if fault is not None:
            self._refuse(version, fault)
        elif self.current is None:
            self._take_over(served, "first")
        else:
            self.shadow = Shadow(served, self.current, on_seen=self.metrics.shadowed)
            self.shadow.start()
            self._tell("shadow", version, f"answers beside {self.current.version}")

    def _judge(self) -> None:
        """Ends the trial where it has an end."""
        shadow = self.shadow
        if shadow is None:
            return
        if shadow.fault is not None:
            self._refuse(shadow.served.version, shadow.fault)
        elif shadow.seen.requests >= self.rules.shadow_requests:
            self._take_over(shadow.served, f"after {shadow.seen.requests} requests in the shadow of {shadow.old.version}")
        elif time.monotonic() - shadow.began >= self.rules.shadow_seconds:
            self._take_over(
                shadow.served, f"after {self.rules.shadow_seconds:g} s and {shadow.seen.requests} requests in the shadow"
            )

    def _take_over(self, served: Served, why: str) -> None:
        if self.shadow is not None:
            self.shadow.end()
        self.current, self.shadow = served, None
        self.metrics.serves(served)
        self._tell("serves", served.version, why)

    def _refuse(self, version: str, why: str) -> None:
        if self.shadow is not None:
            self.shadow.end()
            self.shadow = None
        self._tell("refused", version, why)

    def _tell(self, event: str, version: str, why: str) -> None:
        """Says it in the log, in /model and in /metrics."""
        why = " ".join(why.split())
        self.last = {"event": event, "version": version, "why": why, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        self.metrics.succession(event)
        level = logging.WARNING if event in ("refused", "waits", "retired") else logging.INFO
        log.log(level, "%s %s: %s (%s)", self.name, version, event, why)
