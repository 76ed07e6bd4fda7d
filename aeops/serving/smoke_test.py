"""Load a bundle and let it answer its own example: `python -m aeops.serving.smoke_test BUNDLE`.

Runs in a process of its own, so that a model that crashes its process does not crash the service.
"""

import sys
from pathlib import Path

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.machine.entry_point import run_main
from aeops.serving.served_version import ServedVersion


def main() -> None:
    [bundle_path] = sys.argv[1:]
    if problem := ServedVersion("smoke-test", "0", Detector(Path(bundle_path))).check_example():
        raise DataError(f"the model in {bundle_path} does not answer its own example: {problem}")


if __name__ == "__main__":
    run_main(main)
