"""End a run at once and in order: by Ctrl-C, SIGTERM or SIGHUP, or because a server that it needs is gone.

A run may be killed at any moment, and the next one continues (docs/reliability.md). So a run that is to stop is not unwound by an
exception, which libraries in between would retry, log and turn into others for minutes. A thread does what is needed: it kills
the child processes, closes the records of the run, prints one line and ends this process.
"""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

from aeops.errors import InfrastructureError
from aeops.machine.child_process import kill_children

CONTINUE_HINT = "type the same command to continue from the last finished step"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)  # Prefect takes the last one's handler while a flow runs
_CLOSING_TIMEOUT = 2.5  # seconds for all closing steps together
_CHECK_INTERVAL = 1.0  # seconds between two calls of `find_problem`

_closing_steps: list[Callable[[], object]] = []  # of this process


@contextmanager
def closing_step(step: Callable[[], object]) -> Iterator[None]:
    """Call `step`, in a thread, if a `RunWatch` ends this process while the block runs; it has 2.5 s at most."""
    _closing_steps.append(step)
    try:
        yield
    finally:
        _closing_steps.remove(step)


class RunWatch:
    """A watch over the run in this process, made by its main thread. Use as a context manager."""

    def __init__(self, on_terminate: Callable[[], object] | None = None) -> None:
        """
        Args:
            on_terminate: a closing step where SIGTERM ends the run: whoever pressed Ctrl-C or closed the terminal knows of it.
        """
        self._on_terminate = on_terminate
        self._find_problem: Callable[[], str | None] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._signal_reader, self._signal_writer = os.pipe()
        self._old_wakeup_descriptor = -1
        self._is_over = threading.Event()
        self._is_ending = threading.Lock()

    def __enter__(self) -> "RunWatch":
        os.set_blocking(self._signal_writer, False)
        # The C handler writes a signal's number here at once, also where the main thread is inside a library's C code.
        self._old_wakeup_descriptor = signal.set_wakeup_fd(self._signal_writer, warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup, or of a job in the background
                self._handlers[number] = signal.signal(number, self._handle_signal)
        threading.Thread(target=self._wait_for_signal, name="run-signals", daemon=True).start()
        threading.Thread(target=self._look_for_problem, name="run-problems", daemon=True).start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup_descriptor)
        os.close(self._signal_writer)  # ends the thread that reads

    def end_with_error(self, message: str) -> NoReturn:
        """End this process with the exit code of an InfrastructureError and this message."""
        self._end(InfrastructureError.exit_code, f"ae: {InfrastructureError.kind} error: {message}")

    @contextmanager
    def checking(self, find_problem: Callable[[], str | None]) -> Iterator[None]:
        """Call `find_problem` once a second, in a thread, while the block runs; end the process where it returns a problem."""
        self._find_problem = find_problem
        try:
            yield
        finally:
            self._find_problem = None

    # ---------------------------------------------------------------- threads

    def _wait_for_signal(self) -> None:
        with os.fdopen(self._signal_reader, "rb", buffering=0) as reader:
            while numbers := reader.read(1):
                if numbers[0] in self._handlers:
                    if numbers[0] == signal.SIGTERM and self._on_terminate is not None:
                        _closing_steps.append(self._on_terminate)
                    self._end(128 + numbers[0], stop_message(signal.Signals(numbers[0])))

    def _look_for_problem(self) -> None:
        while not self._is_over.wait(_CHECK_INTERVAL):
            find_problem = self._find_problem
            if find_problem is None:
                continue
            problem = find_problem()
            if problem is not None and self._find_problem is find_problem:  # else the block has ended meanwhile
                self.end_with_error(problem)

    def _handle_signal(self, number: int, frame: FrameType | None) -> NoReturn:
        """Hold the main thread where it is, so that it cannot go on without its children; another thread ends the process."""
        _sleep_forever()

    def _end(self, exit_code: int, message: str) -> NoReturn:
        if not self._is_ending.acquire(blocking=False):
            _sleep_forever()  # another thread does so
        if self._handlers and threading.current_thread() is not threading.main_thread():
            _thread.interrupt_main(next(iter(self._handlers)))
        kill_children()
        _run_closing_steps()
        if os.isatty(2):
            message = f"\r\x1b[K{message}"  # over a progress bar
        with suppress(OSError):  # the terminal is closed, or whoever read the output is gone
            os.write(2, f"{message}\n".encode())
        os._exit(exit_code)


def _sleep_forever() -> NoReturn:
    while True:
        time.sleep(3600)


def stop_message(number: signal.Signals) -> str:
    """Return the last line of a run that a signal has ended."""
    if number == signal.SIGINT:
        return f"stopped; {CONTINUE_HINT}"
    return f"stopped by {number.name}; {CONTINUE_HINT}"


def _run_closing_steps() -> None:
    """Run all steps at the same time, for `_CLOSING_TIMEOUT` at most: one that hangs holds up neither the others nor the end."""
    threads = []
    for step in _closing_steps:
        thread = threading.Thread(target=_run_closing_step, args=(step,), daemon=True)
        thread.start()
        threads.append(thread)
    deadline = time.monotonic() + _CLOSING_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _run_closing_step(step: Callable[[], object]) -> None:
    with suppress(Exception):  # of a server that is gone, or another: the next run closes what this one could not
        step()
