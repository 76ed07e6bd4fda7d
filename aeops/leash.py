"""`python -m aeops.leash MODULE ARG...` runs a module that is killed when the process that started it dies.

A run killed with kill -9 would otherwise leave `dvc repro` and its stage behind, still writing into the workspace.
"""

import runpy
import sys

from aeops.stage import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, "")
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
