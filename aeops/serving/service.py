"""State of the scoring service: the served version, its batcher, journal and metrics."""

import threading
from collections.abc import Callable

from starlette.exceptions import HTTPException

from aeops.errors import AeError
from aeops.predictions.journal import Journal
from aeops.recipe.sections import ServingSpec
from aeops.serving.batch_scoring import Answering, Request
from aeops.serving.batching import Batcher
from aeops.serving.limits import Limits
from aeops.serving.metrics import Metrics
from aeops.serving.rollover import Sources, Succession
from aeops.serving.served_version import Served

TEND = 2.0  # seconds between two looks after the journal


class Service:
    """All parts of one recipe's service.

    Attributes:
        failure: why it could not begin; None where it could.
    """

    def __init__(
        self,
        name: str,
        *,
        journal: Journal | None = None,
        limits: Limits | None = None,
        sources: Sources | None = None,
        rules: ServingSpec | None = None,
        password: str | None = None,
    ) -> None:
        self.name, self.limits, self.journal, self.password = name, limits or Limits(), journal, password
        self.metrics = Metrics(depth=self._depth, journal_bytes=lambda: journal.written if journal else 0)
        self.succession = Succession(name, sources, rules or ServingSpec(), self.metrics)
        answering = Answering(self.limits, self.metrics, journal, self.succession.answered)
        self.batcher: Batcher[Request] = Batcher(answering.work, self.limits.queue)
        self.failure: AeError | None = None
        self.in_flight = 0  # bytes of bodies that are being read or wait
        self._ending = threading.Event()
        self._keepers: list[threading.Thread] = []

    def _depth(self) -> int:
        return self.batcher.depth()

    def begin(self, which: str, on_ready: Callable[[Served], None], on_failure: Callable[[], None]) -> None:
        """Loads the version, or what the alias is on, and looks after it, in threads."""

        def look_after() -> None:
            try:
                self.succession.begin(which)
            except AeError as error:
                self.failure = error
                on_failure()
                return
            assert self.succession.current is not None
            on_ready(self.succession.current)
            self.succession.run()

        self._keepers = [threading.Thread(target=work, daemon=True) for work in (look_after, self._tend)]
        for keeper in self._keepers:
            keeper.start()

    def _tend(self) -> None:
        """Looks after the journal, in a thread that lives as long as the service."""
        while self.journal is not None and not self._ending.wait(TEND):
            self.journal.tend()

    def end(self) -> None:
        """Answers what waits, then stops everything."""
        self.batcher.end()
        self._ending.set()
        self.succession.end()
        if self.journal is not None:
            self.journal.close()

    def put(self, request: Request) -> None:
        """Lets a request wait for its answer.

        Raises:
            HTTPException: 503, too many wait.
        """
        if not self.batcher.put(request):
            raise HTTPException(503, f"{self.limits.queue} requests wait already; try again", {"retry-after": "1"})

    def served(self) -> Served:
        """The version that answers.

        Raises:
            HTTPException: 503, there is none.
        """
        if (served := self.succession.current) is not None:
            return served
        last = self.succession.last
        if last is None:
            raise HTTPException(503, f"{self.name} is being loaded; ask /readyz", {"retry-after": "2"})
        made = f"make one with `ae run {self.name}`, or put one back with `ae rollback {self.name} --why TEXT`"
        raise HTTPException(503, f"{self.name} has no champion: {made}")
