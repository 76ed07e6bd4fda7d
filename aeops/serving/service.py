"""State of the scoring service: the served version, its batcher, journal and metrics."""

import threading
from collections.abc import Callable

from starlette.exceptions import HTTPException

from aeops.errors import AeError
from aeops.predictions.journal import Journal
from aeops.recipe.sections import ServingSpec
from aeops.serving.batch_scoring import BatchScorer, Request
from aeops.serving.batching import Batcher
from aeops.serving.limits import RequestLimits
from aeops.serving.metrics import Metrics
from aeops.serving.rollover import ModelRollover, VersionSource
from aeops.serving.served_version import ServedVersion

JOURNAL_SECONDS = 2.0  # between two checks of the journal


class ScoringService:
    """All parts of the service of one recipe.

    Attributes:
        failure: error that prevented the start; None if there was none.
        in_flight: bytes of bodies that are being read or wait in the queue.
        own_names_only: answer to the names of the loopback address alone, see `web_guard.check_request`.
    """

    def __init__(
        self,
        name: str,
        *,
        journal: Journal | None = None,
        limits: RequestLimits | None = None,
        source: VersionSource | None = None,
        rules: ServingSpec | None = None,
        password: str | None = None,
        own_names_only: bool = False,
    ) -> None:
        self.name, self.limits, self.journal, self.password = name, limits or RequestLimits(), journal, password
        self.address = ""  # for the examples of its pages; set by who listens
        self.own_names_only = own_names_only
        self.metrics = Metrics(queue_length=lambda: self.batcher.queue_length(), journal_bytes=self._journal_bytes)
        self.rollover = ModelRollover(name, source, rules or ServingSpec(), self.metrics)
        batch_scorer = BatchScorer(self.limits, self.metrics, journal, self.rollover.add_batch)
        self.batcher: Batcher[Request] = Batcher(batch_scorer.process_batch, self.limits.queue)
        self.failure: AeError | None = None
        self.in_flight = 0
        self._stop_event = threading.Event()

    def _journal_bytes(self) -> int:
        if self.journal is None:
            return 0
        return self.journal.bytes_written

    def start(self, version_or_alias: str, on_ready: Callable[[ServedVersion], None], on_failure: Callable[[], None]) -> None:
        """Load a version, or the one that the alias points to, and follow the alias, in threads.

        Args:
            on_ready: called once with the version when it is served.
            on_failure: called if it cannot be served; `failure` then holds the error.
        """

        def run_rollover() -> None:
            try:
                self.rollover.load_first(version_or_alias)
            except AeError as error:
                self.failure = error
                on_failure()
                return
            assert self.rollover.current_version is not None
            on_ready(self.rollover.current_version)
            self.rollover.run()

        threading.Thread(target=run_rollover, daemon=True).start()
        threading.Thread(target=self._maintain_journal, daemon=True).start()

    def _maintain_journal(self) -> None:
        while self.journal is not None and not self._stop_event.wait(JOURNAL_SECONDS):
            self.journal.maintain()

    def end(self) -> None:
        """Answer the queued requests, then stop everything."""
        self.batcher.end()
        self._stop_event.set()
        self.rollover.end()
        if self.journal is not None:
            self.journal.close()

    def submit_request(self, request: Request) -> None:
        """Add a request to the queue.

        Raises:
            HTTPException: 503, the queue is full.
        """
        if not self.batcher.try_enqueue(request):
            raise queue_full_error(self.limits)

    def require_ready(self) -> ServedVersion:
        """Return the served version if a request for scores can be answered now.

        Raises:
            HTTPException: 503, there is none, or the queue is full.
            InfrastructureError: predictions cannot be recorded.
        """
        served_version = self.require_version()
        if self.batcher.queue_length() >= self.limits.queue:
            raise queue_full_error(self.limits)
        if self.journal is not None:
            self.journal.require_writable()
        return served_version

    def require_version(self) -> ServedVersion:
        """Return the served version.

        Raises:
            HTTPException: 503, there is none.
        """
        if (served_version := self.rollover.current_version) is not None:
            return served_version
        if self.rollover.last_event is None:
            raise HTTPException(503, f"{self.name} is being loaded; ask /readyz", {"retry-after": "2"})
        next_step = f"make one with `ae run {self.name}`, or restore one with `ae rollback {self.name} --why TEXT`"
        raise HTTPException(503, f"{self.name} has no champion: {next_step}")


def queue_full_error(limits: RequestLimits) -> HTTPException:
    return HTTPException(503, f"{limits.queue} requests wait already; try again", {"retry-after": "1"})
