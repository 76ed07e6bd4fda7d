"""The main function of a child process: it dies with its parent and reports errors to a person and to the parent.

A stage is started as a process (by DVC, by a flow, by hand). Its exit code is the error's kind; where AE_ERROR_FILE is
set, the error is written there too, so that the process that started it can raise it again, whatever ran in between.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aeops.errors import ERRORS_BY_KIND, AeError, TransientError, as_ae_error
from aeops.machine.parent_process import die_with_parent
from aeops.machine.stored_json import read_json_if_whole
from aeops.machine.terminal import escaped_output

ERROR_FILE_VARIABLE = "AE_ERROR_FILE"


def run_main(main: Callable[[], None]) -> None:
    """Run a process's main function: return, or exit with the error's code after one clear message."""
    die_with_parent()
    with escaped_output():
        _run_and_report(main)


def _run_and_report(main: Callable[[], None]) -> None:
    try:
        main()
    except Exception as error:
        ae_error = as_ae_error(error)
        if ae_error is None:
            raise
        if path := os.environ.get(ERROR_FILE_VARIABLE):
            Path(path).write_text(json.dumps(describe_error(ae_error)), encoding="utf-8")
        print(f"{ae_error.kind} error: {ae_error}", file=sys.stderr)
        sys.exit(ae_error.exit_code)


def raise_child_error(error_file: Path) -> None:
    """Raise the error that a child process has written to `error_file`, if it has written one.

    Raises:
        AeError: of the kind that the child raised.
    """
    document = read_json_if_whole(error_file, "kind", "message")
    if document is not None:
        raise described_error(document)


def describe_error(error: AeError) -> dict[str, Any]:
    """Return an error as plain values, for another process."""
    return {"kind": error.kind, "message": str(error), "transient": isinstance(error, TransientError)}


def described_error(document: Mapping[str, Any]) -> AeError:
    """Return the error that `describe_error` has described in another process."""
    if document.get("transient"):  # an older version's child does not say it
        return TransientError(document["message"])
    return ERRORS_BY_KIND.get(document["kind"], AeError)(document["message"])
