"""`python -m aeops.machine.run_child MODULE ARG...` runs a module that is killed when the process that started it dies.

A run killed with kill -9 would otherwise leave `dvc repro` and its stage behind, still writing into the workspace.

`python -m aeops.machine.run_child --preload MODULE` imports the module, waits for a line on standard input that holds its
arguments as a JSON array, and calls its `main`; when the input ends without such a line, it exits.
"""

import importlib
import json
import runpy
import sys

from aeops.machine.garbage_collection import collect_rarely
from aeops.machine.parent_process import die_with_parent

PRELOAD_OPTION = "--preload"


def _run_preloaded(name: str) -> None:
    module = importlib.import_module(name)
    if line := sys.stdin.readline():
        sys.argv = json.loads(line)
        module.main()


if __name__ == "__main__":
    die_with_parent()  # before the module imports what takes seconds
    collect_rarely()
    sys.path.insert(0, "")
    if sys.argv[1] == PRELOAD_OPTION:
        _run_preloaded(sys.argv[2])
    else:
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
