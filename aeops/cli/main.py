"""`ae`: the command line. Its start is fast because each command imports what it needs when it runs."""

import argparse
import signal
import sys
from collections.abc import Sequence

from aeops.cli import (
    approve,
    compress,
    decompress,
    doctor,
    down,
    embed,
    history,
    ledger,
    monitor,
    rebuild,
    reject,
    retire,
    rollback,
    run,
    score,
    serve,
    show,
    sign,
    status,
    ui,
    up,
    why,
)
from aeops.errors import as_ae_error, print_error

COMMAND_MODULES = (
    *(run, score, serve, embed, compress, decompress, show, approve, reject),
    *(history, ledger, rollback, retire, rebuild, why, monitor, sign, ui, doctor),
    *(up, down, status),
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `ae` with every command and its arguments."""
    parser = argparse.ArgumentParser(
        prog="ae",
        description="Retrains autoencoders on a schedule and lets only good ones out.",
        epilog="exit codes: 0 done, 2 usage, 3 data, 4 refused by the gate, 5 infrastructure, 130 stopped by Ctrl-C",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMAND_MODULES:
        module.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error that the user can repair becomes one message; any other error keeps its traceback.
    """
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        from aeops.machine.run_watch import stop_message

        print(stop_message(signal.SIGINT), file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        ae_error = as_ae_error(error)
        if ae_error is None:
            raise
        return print_error(ae_error)


if __name__ == "__main__":
    sys.exit(main())
