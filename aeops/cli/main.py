"""`ae`: the command line. Its start is fast because each command imports what it needs when it runs."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aeops.cli import (
    alarm,
    approve,
    audit,
    compare,
    completion,
    compress,
    decompress,
    docs,
    doctor,
    down,
    embed,
    forget,
    history,
    init,
    ledger,
    logs,
    monitor,
    new,
    notify,
    plan,
    prefect,
    prune,
    quarantine,
    rebuild,
    recalibrate,
    recipe,
    recipes,
    reject,
    retire,
    rollback,
    run,
    runs,
    score,
    seeds,
    serve,
    show,
    sign,
    status,
    suite,
    sweep,
    ui,
    up,
    why,
)
from aeops.cli.command_parser import CommandParser, add_commands, add_common_parts
from aeops.cli.examples import EXAMPLES
from aeops.errors import as_ae_error, print_error
from aeops.machine.terminal import VOLUME_VARIABLE, escaped_output, is_verbose

OUTPUT = 1  # file descriptor
COMMAND_GROUPS = {
    "train": (init, new, run, plan, recipes, recipe, recalibrate, seeds, sweep, audit, quarantine, suite, forget),
    "use": (score, serve, embed, compress, decompress),
    "versions": (show, compare, approve, reject, rollback, retire, rebuild, sign),
    "why and when": (why, history, ledger),
    "operate": (up, down, status, runs, logs, ui, monitor, alarm, notify, doctor, docs, prune, prefect, completion),
}


class _ShowVersion(argparse.Action):
    """Prints the version; it is looked up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"ae {version('ae-pipeline')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `ae` with every command and its arguments."""
    parser = CommandParser(
        prog="ae",
        description="Retrains autoencoders on a schedule and lets only good ones out.",
        epilog=(
            "exit codes: 0 done, 1 a fault of this package, 2 usage, 3 data,\n"
            "4 refused by the gate, 5 infrastructure, 130 stopped by Ctrl-C"
        ),
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version")
    add_commands(parser, COMMAND_GROUPS)
    add_common_parts(parser, EXAMPLES)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error that the user can repair becomes one message; any other error keeps its traceback.
    """
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks, by the code that `ae completion` printed
        completion.complete(parser)
    arguments = parser.parse_args(argv)
    with _volume(arguments), escaped_output():
        return _run_command(arguments)


@contextmanager
def _volume(arguments: argparse.Namespace) -> Iterator[None]:
    """Say to all that runs inside, also in child processes, how much it may print beside results and errors."""
    before = os.environ.get(VOLUME_VARIABLE)
    for volume in ("quiet", "verbose"):
        if getattr(arguments, volume, False):
            os.environ[VOLUME_VARIABLE] = volume
    if is_verbose():
        import logging

        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        yield
    finally:
        os.environ.pop(VOLUME_VARIABLE, None)
        if before is not None:
            os.environ[VOLUME_VARIABLE] = before


def _run_command(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        if not _output_is_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), OUTPUT)  # what is still to be written at the end goes nowhere
        return 128 + signal.SIGPIPE
    except Exception as error:
        ae_error = as_ae_error(error)
        if ae_error is None:
            raise
        if is_verbose():
            import traceback

            traceback.print_exception(error)
        return print_error(ae_error)


def _output_is_unread() -> bool:
    """Return whether the program that read the output has ended, as `head` does."""
    poll = select.poll()
    poll.register(OUTPUT, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
