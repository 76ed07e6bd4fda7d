"""`ae`: the command line. Light at the top: each verb imports what it needs when it is called."""

import argparse
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

VERBS = (
    *(run, score, serve, embed, compress, decompress, show, approve, reject),
    *(history, ledger, rollback, retire, rebuild, why, monitor, sign, ui, doctor),
    *(up, down, status),
)


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments."""
    top = argparse.ArgumentParser(
        prog="ae",
        description="Retrains autoencoders on a schedule and lets only good ones out.",
        epilog="exit codes: 0 done, 2 usage, 3 data, 4 refused by the gate, 5 infrastructure",
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code. An error that a person can mend is one message, anything else a traceback."""
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    except Exception as error:
        known = as_ae_error(error)
        if known is None:
            raise
        return print_error(known)


if __name__ == "__main__":
    sys.exit(main())
