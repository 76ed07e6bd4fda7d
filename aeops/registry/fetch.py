"""`python -m aeops.registry.fetch RECIPE VERSION`: download a version's bundle and print its folder and its SHA-256, as JSON.

This is a separate process, so that a scoring service does not hold MLflow and its 200 MB.
"""

import json
import sys

from aeops.machine.entry_point import run_main
from aeops.project import find_project
from aeops.recipe.reader import load_recipe
from aeops.registry.store import open_store
from aeops.registry.trust import trusted_bundle


def main() -> None:
    recipe, which = sys.argv[1:]
    project = find_project()
    store = open_store(project)
    bundle = trusted_bundle(project, store, load_recipe(project, recipe), which)
    print(json.dumps({"version": bundle.version, "bundle": str(bundle.folder), "sha256": bundle.sha256}))


if __name__ == "__main__":
    run_main(main)
