"""`python -m aeops.registry.fetch RECIPE VERSION`: downloads a version's bundle and prints where it lies, as JSON.

A process of its own, so that a scoring service holds neither MLflow nor its 200 MB.
"""

import json
import sys

from aeops.project import find_project
from aeops.registry.store import open_store
from aeops.stage import run_stage


def main() -> None:
    recipe, which = sys.argv[1:]
    store = open_store(find_project())
    version = store.version(recipe, which)
    bundle = store.download_bundle(recipe, version.version)
    print(json.dumps({"version": version.version, "bundle": str(bundle)}))


if __name__ == "__main__":
    run_stage(main)
