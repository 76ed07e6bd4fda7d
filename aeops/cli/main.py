"""`ae`: the command line. Its start is fast because each command imports what it needs when it runs."""

import argparse
import signal
import sys
from collections.abc import Sequence

from aeops.cli import (
    approve,
    audit,
    compress,
    decompress,
    doctor,
    down,
    embed,
    history,
    ledger,
    monitor,
    prefect,
    rebuild,
    recalibrate,
    reject,
    retire,
    rollback,
    run,
    score,
    seeds,
    serve,
    show,
    sign,
    status,
    ui,
    up,
    why,
)
from aeops.errors import as_ae_error, print_error
from aeops.terminal import escaped_output

COMMAND_MODULES = (
    *(run, recalibrate, seeds, audit, score, serve, embed, compress, decompress, show, approve, reject),
    *(history, ledger, rollback, retire, rebuild, why, monitor, sign, ui, doctor),
    *(up, down, status, prefect),
)


class CommandParser(argparse.ArgumentParser):
    """A parser that takes options before, between and after files.

    argparse by itself gives a group of files all that it gets at its first place, so that FILE in `ae embed X -o F FILE`
    would be one too many. With `--`, after which everything is a file, options stand before it.
    """

    _is_intermixing = False

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """See `argparse.ArgumentParser.parse_known_args`."""
        has_subcommands = any(action.nargs == argparse.PARSER for action in self._actions)
        if self._is_intermixing or has_subcommands or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True  # parse_known_intermixed_args comes back here
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `ae` with every command and its arguments."""
    parser = CommandParser(
        prog="ae",
        description="Retrains autoencoders on a schedule and lets only good ones out.",
        epilog=(
            "exit codes: 0 done, 1 a fault of this package, 2 usage, 3 data, 4 refused by the gate, 5 infrastructure, "
            "130 stopped by Ctrl-C"
        ),
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMAND_MODULES:
        module.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error that the user can repair becomes one message; any other error keeps its traceback.
    """
    with escaped_output():
        return _run_command(build_parser().parse_args(argv))


def _run_command(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        ae_error = as_ae_error(error)
        if ae_error is None:
            raise
        return print_error(ae_error)


if __name__ == "__main__":
    sys.exit(main())
