"""`python -m aeops.serving.smoke_test BUNDLE`: loads a bundle and lets it answer its own example, in a process of its own.

A model that crashes its process then does so here, and not in the service.
"""

import sys
from pathlib import Path

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.machine.entry_point import run_main
from aeops.serving.served_version import Served


def main() -> None:
    [bundle] = sys.argv[1:]
    if fault := Served("rehearsed", "0", Detector(Path(bundle))).warm():
        raise DataError(f"the model in {bundle} does not answer its own example: {fault}")


if __name__ == "__main__":
    run_main(main)
