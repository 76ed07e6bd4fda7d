"""Run commands side by side, as many at a time as the cores of a place hold.

How a command is started is one function: `StageCommand.start` starts it as a process here, and another place has another
`StartCommand` (`aeops.places.open_place`). The pool itself is the same everywhere: its order, its retries and its deadline.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from ae_models.names import names_of
from aeops.data.stage_runs import StageCommand
from aeops.errors import DataError, TransientError, UsageError
from aeops.machine.child_process import POLL_SECONDS

MAX_STARTS = 3  # of a process that was killed: it goes on from its checkpoint


class RunningCommand(Protocol):
    """A command at work, here or elsewhere."""

    def is_running(self) -> bool:
        """Return False once it has ended."""

    def wait(self) -> str:
        """Return its output at its end; raise the AeError that it reported, or a TransientError where it was killed."""

    def close(self) -> None:
        """End it where it has not ended."""


StartCommand = Callable[[StageCommand], RunningCommand]


@dataclass(frozen=True)
class Job:
    """Commands that run one after another, such as those of a trial.

    Attributes:
        name: for messages.
        commands: each a stage.
        on_poll: called now and then while one of them runs, and at its end.
    """

    name: str
    commands: tuple[StageCommand, ...]
    on_poll: Callable[[], None] = lambda: None


@dataclass
class _Progress:
    """A job under way."""

    job: Job
    running: RunningCommand
    index: int = 0
    starts: int = 1


@dataclass(frozen=True)
class PoolResult:
    """What became of jobs.

    Attributes:
        failures: name of a job -> why it failed by itself: its settings or its data, such as a loss that is not finite.
        not_started: names of jobs that the deadline left out.
    """

    failures: dict[str, str] = field(default_factory=dict)
    not_started: list[str] = field(default_factory=list)


def choose_workers(requested: int | None, threads: int, cores: int) -> int:
    """Return how many trials train at a time.

    Args:
        requested: as it is typed; None: as many as have cores for their threads.
        threads: of each.
        cores: of the place where they train.

    Raises:
        UsageError: so many would share cores.
    """
    fitting = max(1, cores // threads)
    if requested is None:
        return fitting
    if requested < 1:
        raise UsageError(f"--workers: expected 1 or more, got {requested}")
    if requested > fitting:
        hint = ", or add --threads 1" if threads > 1 else ""
        raise UsageError(
            f"--workers: expected at most {fitting}, as a training has {threads} threads and there are {cores} cores, got "
            f"{requested}: leave it out{hint}"
        )
    return requested


def run_command(command: StageCommand, start: StartCommand) -> str:
    """Run a command until it ends, again where it is killed; return its output.

    Raises:
        AeError: the error that it reported; a TransientError where it was killed `MAX_STARTS` times.
    """
    for attempt in range(1, MAX_STARTS + 1):
        running = start(command)
        try:
            return running.wait()
        except TransientError:
            if attempt == MAX_STARTS:
                raise
        finally:
            running.close()
    raise AssertionError("the last attempt has returned or raised")


def run_jobs(jobs: Sequence[Job], start: StartCommand, workers: int, deadline: float | None) -> PoolResult:
    """Run jobs until all have ended.

    Args:
        jobs: in the order in which they are started.
        start: starts a command.
        workers: how many jobs run at a time.
        deadline: of `time.monotonic`, after which none is started; those at work go on to their ends.

    Raises:
        AeError: a fault of the machine or of this package; the jobs at work are ended then.
    """
    result = PoolResult()
    waiting = list(jobs)
    at_work: list[_Progress] = []
    with ExitStack() as closing:
        closing.callback(_close_all, at_work)
        while waiting or at_work:
            if deadline is not None and waiting and time.monotonic() >= deadline:
                result.not_started.extend(names_of(waiting))
                waiting.clear()
            while waiting and len(at_work) < workers:
                job = waiting.pop(0)
                at_work.append(_Progress(job, start(job.commands[0])))
            ended = [progress for progress in at_work if not progress.running.is_running()]
            for progress in at_work:
                progress.job.on_poll()
            for progress in ended:
                if _has_ended(progress, start, result):
                    at_work.remove(progress)
            if not ended and at_work:
                time.sleep(POLL_SECONDS)
    return result


def _close_all(at_work: Sequence[_Progress]) -> None:
    for progress in at_work:
        progress.running.close()


def _has_ended(progress: _Progress, start: StartCommand, result: PoolResult) -> bool:
    """Collect a command that has ended; return False where the job goes on with another one, or the same again."""
    try:
        progress.running.wait()
        progress.index += 1
        progress.starts = 0
    except TransientError:
        if progress.starts == MAX_STARTS:
            raise
    except (UsageError, DataError) as error:
        result.failures[progress.job.name] = str(error)
        return True
    finally:
        progress.running.close()
    if progress.index == len(progress.job.commands):
        return True
    progress.starts += 1
    progress.running = start(progress.job.commands[progress.index])
    return False
