"""What a person sees of a step while it works: what it does, how far it is and how long it may take; then what came of it.

    validate ...
    validate 1.6 s · 5,000 accepted, 3 set aside

On a terminal a line below the first one is drawn again and again; in a pipe, as in CI, a line is printed every 30 seconds. What
the step knows of itself it says by `say_progress` and `say_result`, which are heard wherever it calls them in its own thread.
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from aeops.machine.terminal import escape_line, is_quiet, raw_stream

TERMINAL_SECONDS, PIPE_SECONDS = 0.5, 30.0  # between two lines about a step that works
FALLBACK_COLUMNS = 80
CLEAR_LINE = "\r\x1b[2K"


class StepReport:
    """Prints the lines of one step to stderr.

    Args:
        name: of the step, one word.
        description: what it does, such as "checks every sample".
        expected_seconds: what it took the last time; None where that is not known.
        stream: where to print.
        interval: seconds between two lines about the work; by default as the module says.
    """

    def __init__(
        self,
        name: str,
        description: str,
        expected_seconds: float | None = None,
        stream: TextIO | None = None,
        interval: float | None = None,
    ) -> None:
        self.name, self.description, self.expected_seconds = name, description, expected_seconds
        self._stream = raw_stream(stream or sys.stderr)
        self._is_terminal = self._stream.isatty()
        self._interval = interval or (TERMINAL_SECONDS if self._is_terminal else PIPE_SECONDS)
        self._started_at = time.monotonic()
        self._progress = ""
        self._result = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw_repeatedly, name=f"report {name}", daemon=True)

    def start(self) -> None:
        """Print the first line and begin to draw the others."""
        if is_quiet():
            return
        self._print(f"{self.name} ...\n")
        self._thread.start()

    def end(self, is_done: bool) -> str:
        """Stop drawing and print the last line of a step that is done; return it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        line = f"{self.name} {self.seconds:.1f} s"
        if self._result:
            line += f" · {self._result}"
        if not is_quiet():
            clear = CLEAR_LINE if self._is_terminal else ""
            self._print(f"{clear}{escape_line(line)}\n" if is_done else clear)
        return line

    @property
    def result(self) -> str:
        """What came of the step, in a few words; empty where it has not said so."""
        return self._result

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_at

    def say_progress(self, text: str) -> None:
        """Set how far the step is, such as `epoch 3 of 50, 5,600 samples/s, 2 min left`."""
        self._progress = text

    def say_result(self, text: str) -> None:
        """Set what came of the step."""
        self._result = text

    def _draw_repeatedly(self) -> None:
        while not self._ended.wait(self._interval):
            if self._is_terminal:
                columns = shutil.get_terminal_size((FALLBACK_COLUMNS, 24)).columns
                self._print(f"{CLEAR_LINE}{escape_line(self.status_line())[: columns - 1]}")
            else:
                self._print(f"{self.name}: {escape_line(self.status_line().strip())}\n")

    def status_line(self) -> str:
        """Return what the step does, how far it is and, where nothing better is known, what it took the last time."""
        parts = [self.description, format_seconds(self.seconds)]
        if self._progress:
            parts = [self.description, self._progress]
        elif self.expected_seconds is not None:
            left = self.expected_seconds - self.seconds
            estimate = f"about {format_seconds(left)} left"
            if left <= 0:
                estimate = f"last time {format_seconds(self.expected_seconds)}"
            parts.append(estimate)
        return f"  {' · '.join(parts)}"

    def _print(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


_current_report: ContextVar[StepReport | None] = ContextVar("current_report", default=None)


@contextmanager
def report_step(
    name: str, description: str, expected_seconds: float | None = None, on_end: Callable[[str], None] = lambda line: None
) -> Iterator[StepReport]:
    """Report the step inside; `on_end` gets the last line of one that is done."""
    report = StepReport(name, description, expected_seconds)
    token = _current_report.set(report)
    report.start()
    is_done = False
    try:
        yield report
        is_done = True
    finally:
        _current_report.reset(token)
        line = report.end(is_done)
        if is_done:
            on_end(line)


def say_progress(text: str) -> None:
    """Say how far the step under way is; nothing where there is none."""
    if report := _current_report.get():
        report.say_progress(text)


def say_result(text: str) -> None:
    """Say what came of the step under way; nothing where there is none."""
    if report := _current_report.get():
        report.say_result(text)


def format_seconds(seconds: float) -> str:
    """Return a duration as a person says it.

    >>> [format_seconds(value) for value in (0.4, 42.4, 61, 3725)]
    ['0 s', '42 s', '1 min 1 s', '1 h 2 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
